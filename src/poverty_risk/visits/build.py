"""The visit list: whom to visit first within the capacity of the offices."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from poverty_risk.exceptions import DeclarationError, Fault
from poverty_risk.visits.candidates import (
    DEADLINES,
    SEVERITY_NAMES,
    TIERS,
    Candidates,
    check_settings,
    read_candidates,
)
from poverty_risk.visits.draw import DrawPlan, draw_visits, plan_draw
from poverty_risk.visits.outcomes import compare_ways
from poverty_risk.visits.prices import compute_quota_prices
from poverty_risk.visits.quotas import COUNTY, Quotas, QuotaTree, build_quota_tree
from poverty_risk.visits.selection import Lineup, line_up, select, split_by_leaf
from poverty_risk.windows import parse_as_of_dates

__all__ = ["VisitList", "build_visit_list"]

PLACES = ("township_id", "village_id", "team_id")
"""Columns that are carried over to the list where they are there, beside those of quotas."""

LEFT_OUT = ("no_risk", "cooled_down", "no_capacity")


@dataclass(frozen=True)
class VisitList:
    """Whom to visit, who stands by, and what the list reaches.

    Parameters
    ----------
    as_of_date
        Day from which deadlines count.
    visits
        Index household_id, in the order of the list. order : 1 for the first. why : ``rule`` (its
        severity goes first), ``risk``, ``minimum`` (only a minimum brings it here) or ``random``.
        tier, due_date, risk, severity, rule_codes, the groups. propensity : probability with which
        the household was to be visited, before the draw. weight : one over it.
    reserve
        The next households in the order of the list, no group with more of them than its capacity;
        same columns without propensity and weight. They stand in for visits that fail; what they
        show is not weighted.
    households
        Every household of the input, in its order. left_out : why it could not be visited, missing
        where it could. order : position among those that could. visited, propensity (0 where left
        out), risk, severity, tier, rule_key (order of the rules alone), the groups.
    eligible
        Number of households that could be visited.
    left_out
        Number of the others by reason. no_risk : neither a risk nor a rule hit. cooled_down :
        visited recently, no red rule hit. no_capacity : quotas leave no visit for its group.
    summary
        Index way: visit_list, rules_alone, at_random, best_possible; columns visits,
        expected_returns (sum of risk), share (of the expected returns of all households of the
        input). The other ways make the same number of visits among the same households and keep to
        no quota. Rules: worst colour, then number of rules hit, ties averaged.
    quota_prices
        One row per constraint, the dearest first. constraint : ``capacity``, ``minimum``,
        ``cool_down``, ``random_share``, ``rules_first``. level, group : where; the group is missing
        for the county and for all groups of a level together. bound : its number. visits : in that
        group, without a random share. price : expected returns of the best list without this one
        constraint minus those of the best list with it; below zero where more rule hits are reached
        instead. rule_hits : the same for households whose severity goes first. The price of the
        random share is the difference between the best list without it and the expected list;
        all other prices are between lists without a random share.

    Examples
    --------
    >>> import pandas as pd
    >>> from poverty_risk import build_visit_list
    >>> ids = pd.Index(["H1", "H2"], name="household_id")
    >>> risk = pd.DataFrame({"risk": [0.2, 0.3]}, index=ids)
    >>> visits = build_visit_list(risk, capacity=1, as_of_date="2024-01-01", random_share=0)
    >>> list(visits.visits.index), visits.eligible
    (['H2'], 2)
    """

    as_of_date: pd.Timestamp
    visits: pd.DataFrame
    reserve: pd.DataFrame
    households: pd.DataFrame
    eligible: int
    left_out: pd.Series
    summary: pd.DataFrame
    quota_prices: pd.DataFrame


def build_visit_list(
    risk: pd.DataFrame,
    *,
    capacity: Quotas,
    as_of_date: str | dt.date | pd.Timestamp,
    minimum: Quotas | None = None,
    cool_down: int = 0,
    random_share: float = 0.05,
    reserve: int = 0,
    first: Sequence[str] = ("red",),
    tiers: Mapping[str, int] = DEADLINES,
    seed: int = 0,
    key: bytes = b"",
) -> VisitList:
    """Build the list of households to visit first within the capacity of the offices.

    The list may only add visits: it takes no household out of routine screening, and whoever is not
    on it is screened as before. It decides no benefit and appraises no one.

    Parameters
    ----------
    risk
        One row per household, index household_id, each once; never changed. risk : calibrated
        probability, missing without one. Optional: severity : worst colour of the office's rules
        (red, orange, yellow, grey), missing without a hit; rule_codes : list of str; tier : the
        model's (red, orange, yellow, green); last_visit : date of the last visit known before the
        as-of date, missing without one; columns of groups, such as township_id, village_id,
        team_id, missing where a household is in none.
    capacity
        Most visits: a number for the county, or numbers by level: ``"county"`` or a column of
        `risk`, with one number for each of its groups or numbers by group, as in
        ``{"county": 400, "township_id": {"T01": 30}, "village_id": 5}``. Groups with a quota must
        be nested. Group names are compared as text.
    as_of_date
        Day from which deadlines count.
    minimum
        Fewest visits, in the same form; a group with fewer households that can be visited needs
        only those.
    cool_down
        Days after a visit in which a household is not visited again, 0: none. The last visit counts
        if it was in [as_of_date - cool_down, as_of_date). Red rule hits are exempt.
    random_share
        Share of the visits that is left to chance, at most 0.5. 0: none, and nothing can then be
        said about households that were not visited.
    reserve
        Households on the reserve list.
    first
        Severities that go before all risks, in this order.
    tiers
        Days until a visit is due, by tier; red, orange, yellow and green.
    seed
        Of ties and of the draw.
    key
        Secret that ties and draw depend on as well, so that nobody can work them out beforehand.

    Returns
    -------
    VisitList
        The list, the reserve, and what they reach.

    Raises
    ------
    DeclarationError
        Settings out of bounds, unknown groups, groups that are not nested, minima that do not fit
        into the capacities.
    FeatureError
        A table of risks that is not as described.

    Notes
    -----
    *Order.* Severities of `first`, in that order; within them and after them the higher risk; equal
    risks by worse severity, then by a hash of the id with seed, key and as-of date, so that the
    order of rows does not matter. Households with a rule hit but no risk come last in their group,
    with an expected return of 0.

    *Selection.* As many visits as the capacities allow. Of all lists that keep to the quotas it has
    the most households of the first severity, then of the next, then the highest sum of risk; it is
    exact, because lower and upper bounds on nested groups form a matroid.

    *Tier.* The worse of the model's tier and the severity; grey hits are about the data and leave
    the tier as it is. Neither: green.

    *Random share.* Its size is `random_share` of the visits, rounded to whole visits if that is at
    least one. It falls on groups as visits would if all households were alike (minima met, the rest
    in proportion to households, within the capacities); rank decides over the rest of every quota,
    and meets the minima in full where there is room. Within a group all households that rank did
    not reach have the same chance. Whoever is chosen by rank has propensity 1, with one necessary
    exception: where a quota is too small to keep a whole slot for the draw, its last slot is drawn
    between the next by rank and the others, with the propensities recorded. (A village with two
    households and one visit: both can only have a known chance if neither is certain.) In groups
    whose households are all visited nothing is left to chance. The draw keeps every quota, and its
    chances are exact, so that weights of one over the propensity are valid. Where rule hits alone
    fill the capacity, the share takes visits from them: see ``rule_hits`` in the prices.

    References
    ----------
    Murota (2003), Discrete Convex Analysis, on bounds over nested sets; Deville and Tillé (1998) on
    the draw.

    Examples
    --------
    >>> import pandas as pd
    >>> from poverty_risk.visits import build_visit_list
    >>> risk = pd.DataFrame(
    ...     {
    ...         "risk": [0.30, 0.20, 0.10, 0.02, 0.01],
    ...         "severity": [None, None, "yellow", "red", None],
    ...         "village_id": ["V1", "V1", "V1", "V1", "V2"],
    ...     },
    ...     index=pd.Index(["H1", "H2", "H3", "H4", "H5"], name="household_id"),
    ... )
    >>> visits = build_visit_list(
    ...     risk, capacity=3, minimum={"village_id": 1}, as_of_date="2024-01-01", random_share=0
    ... )
    >>> visits.visits["why"].to_dict()
    {'H4': 'rule', 'H1': 'risk', 'H5': 'minimum'}
    >>> visits.visits["due_date"].astype(str).tolist()
    ['2024-01-06', '2024-01-31', '2024-01-31']
    >>> visits.summary["expected_returns"].round(2).to_dict()
    {'visit_list': 0.33, 'rules_alone': 0.29, 'at_random': 0.38, 'best_possible': 0.6}
    """
    check_settings(
        cool_down=cool_down,
        random_share=random_share,
        reserve=reserve,
        first=first,
        tiers=tiers,
        seed=seed,
        key=key,
    )
    as_of = _one_date(as_of_date)
    salt = hashlib.blake2b(b"%d|%s|" % (seed, str(as_of.date()).encode()) + key).digest()
    candidates = read_candidates(risk, as_of, cool_down=cool_down, first=first, salt=salt)
    tree = build_quota_tree(risk, capacity, minimum)
    rows = candidates.order(np.flatnonzero(candidates.eligible))
    lineup = line_up(candidates, rows, tree)
    plan = plan_draw(lineup, random_share)
    drawn = draw_visits(lineup, plan, np.random.default_rng(int.from_bytes(salt)))
    households = _households(lineup, plan, drawn)
    places = risk[[name for name in _places(tree) if name in risk.columns]]
    due = _due_dates(as_of, tiers)
    visits = _with_places(_list_rows(lineup, drawn, _why(lineup, plan), due), places)
    visits["propensity"] = plan.propensity[drawn]
    visits["weight"] = 1.0 / visits["propensity"]
    return VisitList(
        as_of_date=as_of,
        visits=visits,
        reserve=_with_places(
            _list_rows(lineup, _stand_by(lineup, plan, drawn, reserve), _why(lineup), due), places
        ),
        households=_with_places(households, places),
        eligible=int(households["left_out"].isna().sum()),
        left_out=households["left_out"].value_counts().reindex(LEFT_OUT, fill_value=0),
        summary=_summarise(candidates, households),
        quota_prices=compute_quota_prices(
            lineup, plan.propensity, cool_down=cool_down, random_share=random_share
        ),
    )


def _one_date(as_of_date: str | dt.date | pd.Timestamp) -> pd.Timestamp:
    dates = parse_as_of_dates(as_of_date)
    if len(dates) != 1:
        found = f"{len(dates)} dates"
        raise DeclarationError(Fault("as_of_date", found, "one date", "Make one list per date."))
    return dates[0]


def _due_dates(as_of: pd.Timestamp, tiers: Mapping[str, int]) -> list[pd.Timestamp]:
    return [as_of + pd.Timedelta(days=int(tiers[tier])) for tier in TIERS]


def _places(tree: QuotaTree) -> list[str]:
    levels = [level for level in tree.level if level not in {"", COUNTY}]
    return list(dict.fromkeys([*PLACES, *levels]))


def _with_places(table: pd.DataFrame, places: pd.DataFrame) -> pd.DataFrame:
    # A quota may be on a column that the table has anyway, such as severity.
    return table.join(places[[name for name in places.columns if name not in table.columns]])


def _households(lineup: Lineup, plan: DrawPlan, drawn: np.ndarray) -> pd.DataFrame:
    candidates, rows = lineup.candidates, lineup.rows
    left_out = candidates.left_out.copy()
    left_out[rows[~plan.reachable[lineup.tree.leaf[rows]]]] = "no_capacity"
    can = np.array([reason is None for reason in left_out], dtype=bool)
    ordered = rows[can[rows]]
    position = np.zeros(len(can), dtype=np.int64)
    position[ordered] = np.arange(1, len(ordered) + 1)
    visited, propensity = np.zeros(len(can), dtype=bool), np.zeros(len(can))
    visited[rows], propensity[rows] = drawn, plan.propensity
    return pd.DataFrame(
        {
            "left_out": pd.Index(left_out, dtype="str"),
            "position": pd.array(position, dtype="Int64"),
            "visited": visited,
            "propensity": propensity,
            "risk": candidates.risk,
            "severity": _names(candidates.severity, SEVERITY_NAMES),
            "tier": _names(candidates.tier, TIERS),
            "rule_key": candidates.rule_key(),
        },
        index=candidates.index.rename("household_id"),
    ).assign(position=lambda frame: frame["position"].mask(frame["left_out"].notna()))


def _names(codes: np.ndarray, names: Sequence[str]) -> pd.Index:
    """Names of codes; -1 is missing."""
    known = np.array([*names, None], dtype=object)
    return pd.Index(pd.Series(known[codes], dtype="str"))


def _why(lineup: Lineup, plan: DrawPlan | None = None) -> np.ndarray:
    """Why each position is visited if it is; without a plan only its rank counts."""
    first = lineup.candidates.goes_first[lineup.rows]
    why = np.where(first, "rule", "risk").astype(object)
    if plan is not None:
        by_rank = (plan.ranked > 0) | (plan.propensity == 1.0)
        why[plan.for_minimum & ~first] = "minimum"
        why[~by_rank] = "random"
    return why


def _list_rows(
    lineup: Lineup, chosen: np.ndarray, why: np.ndarray, due: list[pd.Timestamp]
) -> pd.DataFrame:
    """Rows of chosen positions, in the order of the list."""
    candidates, rows = lineup.candidates, lineup.rows[chosen]
    tier = candidates.tier[rows]
    columns = {
        "order": np.arange(1, len(rows) + 1),
        "why": pd.Index(why[chosen], dtype="str"),
        "tier": _names(tier, TIERS),
        "due_date": pd.DatetimeIndex(due)[tier],
        "risk": candidates.risk[rows],
        "severity": _names(candidates.severity[rows], SEVERITY_NAMES),
    }
    table = pd.DataFrame(columns, index=candidates.index[rows].rename("household_id"))
    table["rule_codes"] = pd.Series(candidates.codes[rows], index=table.index, dtype=object)
    return table


def _stand_by(lineup: Lineup, plan: DrawPlan, drawn: np.ndarray, reserve: int) -> np.ndarray:
    """The best list among those not visited, under the same capacities."""
    leaf = lineup.tree.leaf[lineup.rows]
    waiting = np.flatnonzero(~drawn & plan.reachable[leaf])
    upper = lineup.bounds.upper.copy()
    upper[-1] = min(reserve, len(waiting))
    members = split_by_leaf(leaf[waiting], len(upper))
    amounts = select(lineup.tree, members, np.zeros_like(upper), upper).amounts
    chosen = np.zeros(len(drawn), dtype=bool)
    chosen[waiting[amounts > 0]] = True
    return chosen


def _summarise(candidates: Candidates, households: pd.DataFrame) -> pd.DataFrame:
    ways = compare_ways(
        candidates.expected,
        households["visited"].to_numpy(),
        households["left_out"].isna().to_numpy(),
        households["rule_key"].to_numpy(),
    )
    return ways[["visits", "returns", "recall"]].rename(
        columns={"returns": "expected_returns", "recall": "share"}
    )
