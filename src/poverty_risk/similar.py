"""What became of similar earlier households: those that fall into the same leaves of the forest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from poverty_risk.exceptions import Fault, FeatureError, ModelFolderError
from poverty_risk.explain import explain_risk
from poverty_risk.model import RiskModel
from poverty_risk.privacy import hash_id
from poverty_risk.whole_files import PRIVATE, replacing
from poverty_risk.windows import Horizon
from poverty_risk.wording import load_locale

__all__ = ["SimilarHouseholds", "SimilarIndex", "build_similar_index", "find_similar"]

MOST_ROWS = 20_000
"""Earlier households that are compared with: enough for 50 close ones, small enough for every card."""

SHARED = 0.5
"""A theme is shared if it raised the risk of at least this part of those that got into trouble."""


@dataclass(frozen=True)
class SimilarIndex:
    """Leaves and outcomes of earlier households, without their ids; stays in the office.

    Parameters
    ----------
    leaves
        Leaf of each row in each tree, shape (n, trees).
    labels
        Outcome of each row, 0 or 1.
    raised
        Whether a theme raised the risk of a row by more than a token, shape (n, themes); only
        computed for rows with the outcome.
    themes
        Names of the themes.
    model_id
        The model that the leaves belong to.
    known_from
        First day on which all outcomes were known, such as ``2024-03-01``; empty when nobody can tell.
    owners, salt
        Keyed hash of whose each row is and its key, so that no household is compared with itself.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from poverty_risk import SimilarIndex
    >>> leaves = np.array([[0, 1], [2, 1]], dtype=np.uint8)
    >>> raised = np.array([[True], [False]])
    >>> index = SimilarIndex(leaves, np.array([1, 0], dtype=np.uint8), raised, ("health",), "m1")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     SimilarIndex.read(index.write(f"{folder}/similar.npz")).themes
    ('health',)
    """

    leaves: np.ndarray
    labels: np.ndarray
    raised: np.ndarray
    themes: tuple[str, ...]
    model_id: str
    known_from: str = ""
    owners: tuple[str, ...] = ()
    salt: str = ""

    def write(self, path: str | Path) -> Path:
        """Write it as a NumPy archive without pickle."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, PRIVATE) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                leaves=self.leaves,
                labels=self.labels,
                raised=self.raised,
                themes=np.array(self.themes, dtype=np.str_),
                model_id=np.array(self.model_id, dtype=np.str_),
                known_from=np.array(self.known_from, dtype=np.str_),
                owners=np.array(self.owners, dtype=np.str_),
                salt=np.array(self.salt, dtype=np.str_),
            )
        return path

    @classmethod
    def read(cls, path: str | Path) -> SimilarIndex:
        """Read what `write` wrote.

        Raises
        ------
        ModelFolderError
            The file is not there, damaged or foreign.
        """
        try:
            with np.load(path, allow_pickle=False) as content:
                return cls(
                    content["leaves"],
                    content["labels"],
                    content["raised"],
                    tuple(str(theme) for theme in content["themes"]),
                    str(content["model_id"]),
                    str(content["known_from"]),
                    tuple(str(owner) for owner in content["owners"]),
                    str(content["salt"]),
                )
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise ModelFolderError(
                Fault(
                    Path(path).name,
                    f"no index of similar households ({type(error).__name__})",
                    "a file written by SimilarIndex.write",
                    "Build it again with build_similar_index.",
                )
            ) from None


@dataclass(frozen=True)
class SimilarHouseholds:
    """What became of the earlier households most like one.

    Parameters
    ----------
    number
        How many were looked at.
    in_trouble
        How many of them got into trouble within the horizon.
    themes
        Themes that raised the risk of at least half of those, the most shared first.
    likeness
        Mean share of trees in which they fall into the same leaf.
    text
        The sentence.
    """

    number: int
    in_trouble: int
    themes: tuple[str, ...]
    likeness: float
    text: str


def build_similar_index(
    model: RiskModel, features: pd.DataFrame, labels: pd.Series, *, seed: int = 0
) -> SimilarIndex:
    """Build the index that `find_similar` searches.

    Parameters
    ----------
    model
        The model whose leaves decide who is alike.
    features
        Features of earlier points, index (household_id, as_of_date); of several dates of a household
        the latest is kept, so that nobody is counted twice.
    labels
        Their outcomes, same index; missing ones are left out.
    seed
        Of the draw, where there are more than 20,000 points.

    Returns
    -------
    SimilarIndex
        A random sample, so that its share in trouble is that of all.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from poverty_risk import RiskModel, build_similar_index
    >>> index = pd.MultiIndex.from_product([[f"h{i}" for i in range(400)],
    ...     pd.to_datetime(["2021-01-01"])], names=["household_id", "as_of_date"])
    >>> features = pd.DataFrame({"income": np.linspace(-2, 2, 400)}, index=index)
    >>> labels = pd.Series((features["income"] < -1).astype(float), index=index)
    >>> model = RiskModel(n_estimators=9, calibration=None, early_stopping_rounds=None)
    >>> build_similar_index(model.fit(features, labels), features, labels).leaves.shape
    (400, 9)
    """
    known = labels.dropna()
    rows = features.loc[known.index].sort_index(level="as_of_date", sort_remaining=False)
    last = ~rows.index.get_level_values("household_id").duplicated(keep="last")
    rows = rows[last]
    if len(rows) > MOST_ROWS:
        chosen = np.random.default_rng(seed).choice(len(rows), MOST_ROWS, replace=False)
        rows = rows.iloc[np.sort(chosen)]
    outcome = known.loc[rows.index].to_numpy() == 1.0
    leaves = model.forest_.leaves(model.columns_.matrix(rows))
    explanation = explain_risk(model, rows[outcome])
    themes = tuple(explanation.by_theme.columns)
    raised = np.zeros((len(rows), len(themes)), dtype=bool)
    raised[outcome] = _raises(explanation.by_theme.to_numpy())
    # A key of the index's own, so that its hashes fit nothing else; from the seed, so that it repeats.
    salt = np.random.default_rng([seed, len(rows)]).bytes(16).hex()
    smallest = np.uint8 if leaves.max(initial=0) < 256 else np.uint16
    return SimilarIndex(
        leaves.astype(smallest),
        outcome.astype(np.uint8),
        raised,
        themes,
        getattr(model, "model_id_", None) or "unsaved",
        _known_from(model, rows.index.get_level_values("as_of_date").max()),
        tuple(hash_id(str(h), salt.encode(), 16) for h in _households(rows)),
        salt,
    )


def _households(rows: pd.DataFrame) -> pd.Index:
    return rows.index.get_level_values("household_id")


def _known_from(model: RiskModel, last: pd.Timestamp) -> str:
    """The day from which on outcomes within the horizon of the last date are on record."""
    if model.task is None or pd.isna(last):
        return ""
    task = model.task
    lag = pd.Timedelta(days=task.schema.reporting_lag_days(task.label))
    end = Horizon.parse(task.horizon).end(pd.DatetimeIndex([last]))[0]
    return f"{(end + lag).date()}"


def _raises(sums: np.ndarray) -> np.ndarray:
    """Themes that are more than a tenth of all that raises a row's risk."""
    up = np.maximum(sums, 0.0)
    return np.asarray(up > 0.1 * up.sum(axis=1, keepdims=True))


def find_similar(
    model: RiskModel,
    household: pd.DataFrame,
    index: SimilarIndex,
    *,
    number: int = 50,
    locale: str = "zh",
) -> list[SimilarHouseholds]:
    """Find what became of the earlier households most like each household.

    Parameters
    ----------
    model
        The model that the index was built with.
    household
        Features, one row per household.
    index
        From `build_similar_index`.
    number
        Earlier households to look at.
    locale
        Language of the sentence.

    Returns
    -------
    list of SimilarHouseholds
        One per row.

    Raises
    ------
    FeatureError
        The index belongs to another model.

    Notes
    -----
    Likeness is the share of trees in which two households fall into the same leaf; equal likeness is
    ordered by the index's own order. It is a description of the past, not a second prediction: with
    50 households it is rough.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from poverty_risk import RiskModel
    >>> from poverty_risk.similar import build_similar_index, find_similar
    >>> index = pd.MultiIndex.from_product([[f"h{i}" for i in range(400)],
    ...     pd.to_datetime(["2021-01-01"])], names=["household_id", "as_of_date"])
    >>> features = pd.DataFrame({"income": np.linspace(-2, 2, 400)}, index=index)
    >>> labels = pd.Series((features["income"] < -1).astype(float), index=index)
    >>> model = RiskModel(n_estimators=9, calibration=None, early_stopping_rounds=None)
    >>> found = build_similar_index(model.fit(features, labels), features, labels)
    >>> find_similar(model, features.iloc[:1], found, locale="en")[0].in_trouble
    50
    """
    if index.model_id != (getattr(model, "model_id_", None) or "unsaved"):
        raise FeatureError(
            Fault(
                "index of similar households",
                f"model {index.model_id}",
                f"model {getattr(model, 'model_id_', 'unsaved')}",
                "Build the index again with this model.",
            )
        )
    leaves = model.forest_.leaves(model.columns_.matrix(household))
    number = min(number, len(index.leaves))
    owners = np.array(index.owners, dtype=np.str_)
    found = []
    for household_id, row in zip(_households(household), leaves, strict=True):
        own = np.zeros(len(index.leaves), dtype=bool)
        if len(owners):
            own = owners == hash_id(str(household_id), index.salt.encode(), 16)
        found.append(_describe(index, row, own, number, locale))
    return found


def _describe(
    index: SimilarIndex, leaves: np.ndarray, own: np.ndarray, number: int, locale: str
) -> SimilarHouseholds:
    alike = np.count_nonzero(index.leaves == leaves, axis=1)
    # Last of all, and then left out: nobody is like itself by merit.
    nearest = np.argsort(np.where(own, 1, -alike), kind="stable")[: min(number, int((~own).sum()))]
    number = len(nearest)
    trouble = nearest[index.labels[nearest] == 1]
    shares = index.raised[trouble].mean(axis=0) if len(trouble) else np.zeros(len(index.themes))
    shared = [k for k in np.argsort(-shares, kind="stable") if shares[k] >= SHARED and len(trouble)]
    themes = tuple(index.themes[k] for k in shared)
    words = load_locale(locale)
    texts = words["similar"]
    text = str(texts["sentence"]).format(number=number, count=len(trouble))
    if themes:
        named = str(words["list_separator"]).join(words["themes"].get(t, t) for t in themes[:3])
        text += str(texts["shared"]).format(themes=named)
    likeness = float(alike[nearest].mean() / max(index.leaves.shape[1], 1)) if number else 0.0
    return SimilarHouseholds(number, len(trouble), themes, likeness, text)
