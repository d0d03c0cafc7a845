"""What would have to be different for the model to put a household in a lower tier."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from poverty_risk.exceptions import Fault, FeatureError
from poverty_risk.features.spec import Catalog, FeatureSpec
from poverty_risk.model import RiskModel
from poverty_risk.wording import format_value, load_locale

__all__ = ["Alternative", "Change", "find_alternatives"]

SHOWN_IN_PERCENT = ("ratio", "share", "change", "variation")
"""Units that sentences round to a hundredth."""

RARE = 0.05
"""Share of training households at each end whose values are not proposed."""

FARTHEST = 0.5
"""Share of training households that may lie between now and what is proposed: to pass more than half
of all households within a horizon is nothing that somebody could work towards."""

ROWS_AT_ONCE = 200_000
"""Changed households that are put to the trees in one call: some hundred megabytes."""

SMALLEST_MARGIN, LARGEST_MARGIN = -30.0, 30.0
"""Log-odds between which the target of a tier is searched; nothing real lies outside."""


@dataclass(frozen=True)
class Change:
    """One feature that would have to be different: at least (or at most) `value`."""

    feature: str
    before: float
    value: float


@dataclass(frozen=True)
class Alternative:
    """Changes at which the model would put a household in a lower tier.

    Parameters
    ----------
    changes
        One or two.
    cost
        How far they are, as the sum of the shares of households that lie between now and then.
    risk, tier
        What the model would say.
    text
        The sentence, worded as what the model would say.
    """

    changes: tuple[Change, ...]
    cost: float
    risk: float
    tier: str
    text: str


def find_alternatives(
    model: RiskModel, household: pd.DataFrame, *, locale: str = "zh", most: int = 3
) -> list[list[Alternative]]:
    """Find the smallest changes that would put households in a lower tier.

    Parameters
    ----------
    model
        A fitted model with monotone constraints.
    household
        Features, one row per household.
    locale
        Language of the sentences.
    most
        Alternatives at most per household.

    Returns
    -------
    list of list of Alternative
        One list per row, the smallest change first. Empty for a household in the lowest tier, and
        where no two such changes suffice.

    Raises
    ------
    FeatureError
        The model has no catalogue, or no monotone constraints.

    Notes
    -----
    Only features that the catalogue calls changeable are changed, only towards a lower risk, only
    those that are known, and none past more than half of the training households. The trees' own
    split points are the only places where a risk can change, and with monotone constraints it only
    falls on the way: bisection over them finds the smallest change of each feature exactly. Where no
    single change suffices, each pair is searched: for every value of the first, the smallest value of
    the second. It is what the model would say; features that belong together in life are changed one
    by one here, and nothing promises that a changed life would have the changed risk.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from poverty_risk import Catalog, FeatureSpec, RiskModel, find_alternatives
    >>> spec = FeatureSpec(stem="income", formula="0", theme="income", direction=-1,
    ...                    changeable=True)
    >>> index = pd.MultiIndex.from_product([[f"h{i}" for i in range(400)],
    ...     pd.to_datetime(["2021-01-01"])], names=["household_id", "as_of_date"])
    >>> features = pd.DataFrame({"income": np.linspace(0, 4, 400)}, index=index)
    >>> labels = pd.Series((features["income"] < 1).astype(float), index=index)
    >>> model = RiskModel(Catalog([spec], "none", "example"), n_estimators=30,
    ...     min_child_samples=10, calibration=None, early_stopping_rounds=None)
    >>> found = find_alternatives(model.fit(features, labels), features.iloc[:1], locale="en")
    >>> found[0][0].changes[0].value > 0.0
    True
    """
    catalog = model.catalog
    if catalog is None or not model.monotone:
        raise FeatureError(
            Fault(
                "model",
                "no catalogue" if catalog is None else "monotone=False",
                "a catalogue with changeable features, and monotone constraints",
                "Train it with RiskModel(catalog, monotone=True).",
            )
        )
    search = _Search(model, catalog, household)
    singles = search.find_singles()
    pairs = search.find_pairs([row for row in search.rows if row not in singles])
    writer = _Writer(catalog, locale)
    found: list[list[Alternative]] = [[] for _ in range(len(household))]
    for row, solutions in (singles | pairs).items():
        # A change that rounds to nothing in words cannot be told.
        told = [solution for solution in solutions if writer.tells(solution[0])]
        chosen = sorted(told, key=lambda s: (s[1], [c.feature for c in s[0]]))[:most]
        for changes, cost in chosen:
            risk, tier = search.judge(row, changes)
            text = writer.write(changes, risk, tier)
            found[row].append(Alternative(changes, cost, risk, tier, text))
    return found


Solution = tuple[tuple[Change, ...], float]


class _Lever:
    """A changeable feature: the values at which trees change their mind, and how far they are."""

    def __init__(
        self, position: int, spec: FeatureSpec, points: np.ndarray, quantiles: Sequence[float]
    ) -> None:
        self.position, self.spec = position, spec
        self.up = spec.direction < 0
        grid = np.asarray(quantiles, dtype=float)
        whole = spec.kind == "flag" or bool(np.all(grid == np.round(grid)))
        # A split asks "at most t?": the smallest step over it, or onto it.
        if whole:
            self.values = np.unique(np.floor(points) + (1.0 if self.up else 0.0))
        elif spec.unit in SHOWN_IN_PERCENT:
            # In steps that a sentence can tell: what it says must reach the tier, too.
            steps = np.floor(points * 100 + 1e-9) + (1.0 if self.up else 0.0)
            self.values = np.unique(np.round(steps / 100, 2))
        else:
            self.values = np.nextafter(points, np.inf) if self.up else points
        # What hardly any household has is no alternative that somebody could work towards.
        low, high = np.interp([RARE, 1 - RARE], np.linspace(0, 1, len(grid)), grid)
        self.values = self.values[(self.values >= low) & (self.values <= high)]
        self.grid = grid

    def count(self, now: np.ndarray) -> np.ndarray:
        """Number of values on the way to a lower risk, as far as may be proposed."""
        shares, here = self._share_below(self.values), self._share_below(now)
        if self.up:
            end = np.searchsorted(shares, here + FARTHEST, side="right")
            return np.asarray((end - np.searchsorted(self.values, now, side="right")).clip(0))
        end = np.searchsorted(shares, here - FARTHEST, side="left")
        return np.asarray((np.searchsorted(self.values, now, side="left") - end).clip(0))

    def value(self, now: np.ndarray, step: np.ndarray) -> np.ndarray:
        """The value `step` steps on, 0 the nearest."""
        if self.up:
            at = np.searchsorted(self.values, now, side="right") + step
        else:
            at = np.searchsorted(self.values, now, side="left") - 1 - step
        return np.asarray(self.values[at])

    def cost(self, now: np.ndarray, value: np.ndarray) -> np.ndarray:
        """Share of households that lie between now and the value."""
        return np.asarray(abs(self._share_below(value) - self._share_below(now)))

    def _share_below(self, values: np.ndarray) -> np.ndarray:
        return np.asarray(np.interp(values, self.grid, np.linspace(0, 1, len(self.grid))))


class _Search:
    """The search over all households at once."""

    def __init__(self, model: RiskModel, catalog: Catalog, household: pd.DataFrame) -> None:
        self.model = model
        self.matrix = model.columns_.matrix(household)
        risk = model.risk_of_margin(pd.Series(model.forest_.margins(self.matrix)))
        tiers = model.tier(risk)
        targets = {name: self._target(lowest) for name, lowest in model.tiers_.items()}
        self.target = np.array([targets.get(tier, -np.inf) for tier in tiers])
        self.rows = [int(row) for row in np.flatnonzero(np.isfinite(self.target))]
        points = model.forest_.thresholds()
        self.levers = [
            _Lever(position, catalog[name], points[position], model.reference_[name]["quantiles"])
            for position, name in enumerate(model.columns_.names)
            if position in points
            and catalog[name].changeable
            and "quantiles" in model.reference_[name]
        ]

    def _target(self, lowest: float) -> float:
        """The highest margin whose risk lies under the threshold of a tier."""
        low, high = SMALLEST_MARGIN, LARGEST_MARGIN
        for _ in range(80):
            middle = (low + high) / 2
            below = float(self.model.risk_of_margin(pd.Series([middle])).iloc[0]) < lowest
            low, high = (middle, high) if below else (low, middle)
        return low if low > SMALLEST_MARGIN else -np.inf

    def _reaches(
        self, rows: np.ndarray, changes: Sequence[tuple[np.ndarray, np.ndarray]]
    ) -> np.ndarray:
        """Whether rows with changed columns (position, value of each row) reach their target."""
        reached = np.zeros(len(rows), dtype=bool)
        for start in range(0, len(rows), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            matrix = self.matrix[rows[part]]
            for positions, values in changes:
                matrix[np.arange(len(matrix)), positions[part]] = values[part]
            reached[part] = self.model.forest_.margins(matrix) <= self.target[rows[part]]
        return reached

    def _now(self, rows: np.ndarray, levers: np.ndarray) -> np.ndarray:
        positions = np.array([lever.position for lever in self.levers])[levers]
        return np.asarray(self.matrix[rows, positions])

    def _values(
        self, rows: np.ndarray, levers: np.ndarray, steps: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Position and value of each task's lever, `steps` on from now."""
        positions, values = np.empty(len(rows), dtype=int), np.empty(len(rows))
        now = self._now(rows, levers)
        for number, lever in enumerate(self.levers):
            mine = levers == number
            positions[mine] = lever.position
            values[mine] = lever.value(now[mine], steps[mine])
        return positions, values

    def _counts(self, rows: np.ndarray, levers: np.ndarray) -> np.ndarray:
        counts, now = np.zeros(len(rows), dtype=int), self._now(rows, levers)
        for number, lever in enumerate(self.levers):
            mine = (levers == number) & ~np.isnan(now)
            counts[mine] = lever.count(now[mine])
        return counts

    def _costs(self, rows: np.ndarray, levers: np.ndarray, values: np.ndarray) -> np.ndarray:
        costs, now = np.zeros(len(rows)), self._now(rows, levers)
        for number, lever in enumerate(self.levers):
            mine = levers == number
            costs[mine] = lever.cost(now[mine], values[mine])
        return costs

    def _bisect(
        self,
        rows: np.ndarray,
        levers: np.ndarray,
        counts: np.ndarray,
        fixed: Sequence[tuple[np.ndarray, np.ndarray]] = (),
    ) -> np.ndarray:
        """Fewest steps that reach the target; the last step is known to reach it."""
        low, high = np.zeros(len(rows), dtype=int), counts - 1
        while len(open_ := np.flatnonzero(low < high)):
            middle = (low[open_] + high[open_]) // 2
            change = self._values(rows[open_], levers[open_], middle)
            kept = [(positions[open_], values[open_]) for positions, values in fixed]
            reached = self._reaches(rows[open_], [*kept, change])
            high[open_[reached]] = middle[reached]
            low[open_[~reached]] = middle[~reached] + 1
        return low

    def find_singles(self) -> dict[int, list[Solution]]:
        """The smallest change of each feature that suffices alone, by household."""
        rows = np.repeat(np.array(self.rows, dtype=int), len(self.levers))
        levers = np.tile(np.arange(len(self.levers)), len(self.rows))
        counts = self._counts(rows, levers)
        kept = counts > 0
        rows, levers, counts = rows[kept], levers[kept], counts[kept]
        kept = self._reaches(rows, [self._values(rows, levers, counts - 1)])
        rows, levers, counts = rows[kept], levers[kept], counts[kept]
        _, values = self._values(rows, levers, self._bisect(rows, levers, counts))
        costs = self._costs(rows, levers, values)
        found: dict[int, list[Solution]] = {}
        for row, lever, value, cost in zip(rows, levers, values, costs, strict=True):
            change = self._change(int(row), int(lever), float(value))
            found.setdefault(int(row), []).append(((change,), float(cost)))
        return found

    def find_pairs(self, wanted: Sequence[int]) -> dict[int, list[Solution]]:
        """The smallest pair of changes of each two features, by household."""
        both = np.array(list(itertools.combinations(range(len(self.levers)), 2)), dtype=int)
        if not len(both) or not len(wanted):
            return {}
        rows = np.repeat(np.array(wanted, dtype=int), len(both))
        first, second = (np.tile(both[:, side], len(wanted)) for side in (0, 1))
        counts = self._counts(rows, first), self._counts(rows, second)
        kept = (counts[0] > 0) & (counts[1] > 0)
        rows, first, second = rows[kept], first[kept], second[kept]
        most = [count[kept] for count in counts]
        farthest = [
            self._values(rows, levers, count - 1)
            for levers, count in zip((first, second), most, strict=True)
        ]
        kept = self._reaches(rows, farthest)
        rows, first, second = rows[kept], first[kept], second[kept]
        most = [count[kept] for count in most]
        farthest = [(positions[kept], values[kept]) for positions, values in farthest]
        # The fewest steps of each when the other goes all the way: nothing below them can suffice.
        least = self._bisect(rows, first, most[0], [farthest[1]])
        return self._walk(rows, first, second, most, least)

    def _walk(
        self,
        rows: np.ndarray,
        first: np.ndarray,
        second: np.ndarray,
        most: list[np.ndarray],
        least: np.ndarray,
    ) -> dict[int, list[Solution]]:
        """Every value of the first that can suffice, with the smallest value of the second."""
        task = np.repeat(np.arange(len(rows)), most[0] - least)
        start = np.cumsum(most[0] - least) - (most[0] - least)
        step = np.arange(len(task)) - start[task] + least[task]
        change = self._values(rows[task], first[task], step)
        needed = self._bisect(rows[task], second[task], most[1][task], [change])
        _, values = self._values(rows[task], second[task], needed)
        costs = self._costs(rows[task], first[task], change[1])
        costs = costs + self._costs(rows[task], second[task], values)
        order = np.lexsort([costs, task])
        best = order[np.unique(task[order], return_index=True)[1]]
        found: dict[int, list[Solution]] = {}
        for at in best:
            row = int(rows[task[at]])
            changes = (
                self._change(row, int(first[task[at]]), float(change[1][at])),
                self._change(row, int(second[task[at]]), float(values[at])),
            )
            found.setdefault(row, []).append((changes, float(costs[at])))
        return found

    def _change(self, row: int, lever: int, value: float) -> Change:
        spec = self.levers[lever]
        return Change(spec.spec.name, float(self.matrix[row, spec.position]), value)

    def judge(self, row: int, changes: Sequence[Change]) -> tuple[float, str]:
        """Risk and tier with the changes."""
        matrix = self.matrix[[row]].copy()
        for change in changes:
            matrix[0, self.model.columns_.names.index(change.feature)] = change.value
        risk = self.model.risk_of_margin(pd.Series(self.model.forest_.margins(matrix)))
        return float(risk.iloc[0]), str(self.model.tier(risk).iloc[0])


class _Writer:
    """Words of alternatives."""

    def __init__(self, catalog: Catalog, locale: str) -> None:
        self.catalog, self.locale = catalog, locale
        self.words = load_locale(locale)
        self.texts = self.words["alternatives"]

    def write(self, changes: Sequence[Change], risk: float, tier: str) -> str:
        """One sentence: what would be different, and what the model would say then."""
        parts = str(self.texts["and"]).join(self._tell(change) for change in changes)
        return str(self.texts["sentence"]).format(
            changes=parts,
            tier=self.words["tiers"][tier],
            risk=format_value(risk, "share", self.locale),
        )

    def tells(self, changes: Sequence[Change]) -> bool:
        """Whether each change still is one in words."""
        return all(len(set(self._values(change))) == 2 for change in changes)

    def _values(self, change: Change) -> tuple[str, str]:
        unit = self.catalog[change.feature].unit
        before, after = (
            format_value(value, unit, self.locale, beside=True)
            for value in (change.before, change.value)
        )
        return before, after

    def _tell(self, change: Change) -> str:
        spec = self.catalog[change.feature]
        before, after = self._values(change)
        kind = "flag" if spec.kind == "flag" else "up" if change.value > change.before else "down"
        return str(self.texts[kind]).format(
            label=spec.label(self.locale),
            before=before,
            after=after,
        )
