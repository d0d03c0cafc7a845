"""What a visit list reaches, compared with other ways to make the same number of visits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from poverty_risk.exceptions import Fault, FeatureError

if TYPE_CHECKING:
    from poverty_risk.visits.build import VisitList

__all__ = ["VisitOutcomes", "collect_looks", "compare_ways", "evaluate_visit_list"]


@dataclass(frozen=True)
class VisitOutcomes:
    """What visits found, once outcomes are known.

    Parameters
    ----------
    ways
        Index ``way``: visit_list, rules_alone, at_random, best_possible. Columns visits, returns,
        precision (returns per visit) and recall (share of all known returns, those of households
        that were left out included). Only households with a known outcome are counted, the other
        ways make as many visits as the list made to such households.
    visits
        Index household_id; columns why, outcome (1, 0 or missing), propensity, weight.
    estimated_returns
        Returns among all households that could be visited, estimated from the visits alone: the sum
        of weight times outcome. Missing when a visit's outcome is unknown or nothing was left to
        chance.
    unknown_visits
        Visits whose outcome is not known.
    others
        Households with an outcome that the list does not know; they are not counted.
    """

    ways: pd.DataFrame
    visits: pd.DataFrame
    estimated_returns: float
    unknown_visits: int
    others: int


def compare_ways(
    values: np.ndarray, visited: np.ndarray, eligible: np.ndarray, rule_key: np.ndarray
) -> pd.DataFrame:
    """Returns of a list and of other ways to make as many visits.

    Parameters
    ----------
    values
        Return of each household: expected, or known.
    visited, eligible
        Whether a household is on the list, and whether it could be.
    rule_key
        Order of the rules alone, highest first.

    Returns
    -------
    DataFrame
        Index way, columns visits, returns, precision, recall. The other ways keep to no quota;
        households that the rules do not tell apart are visited in any order (the mean over all).
    """
    number = int(visited.sum())
    pool = values[eligible]
    reached = {
        "visit_list": float(values[visited].sum()),
        "rules_alone": _first_by(rule_key[eligible], pool, number),
        "at_random": number * float(pool.mean()) if len(pool) else 0.0,
        "best_possible": float(np.sort(pool)[::-1][:number].sum()),
    }
    returns = pd.Series(reached, dtype=float)
    table = pd.DataFrame({"visits": number, "returns": returns}).rename_axis("way")
    everywhere = float(values.sum())
    table["precision"] = returns / number if number else np.nan
    table["recall"] = returns / everywhere if everywhere else np.nan
    return table


def _first_by(key: np.ndarray, values: np.ndarray, number: int) -> float:
    if not number:
        return 0.0
    last = np.sort(key)[::-1][number - 1]
    above, tied = key > last, key == last
    return float(values[above].sum() + (number - above.sum()) * values[tied].mean())


def evaluate_visit_list(visit_list: VisitList, outcomes: pd.Series) -> VisitOutcomes:
    """Compare a visit list with other ways to visit, once outcomes are known.

    Parameters
    ----------
    visit_list
        From `build_visit_list`.
    outcomes
        1, 0 or missing (not known) by household_id. The comparison with other ways needs outcomes
        of households that were not visited as well; where outcomes are recorded only by visits, use
        ``estimated_returns``.

    Returns
    -------
    VisitOutcomes
        The comparison, the visits with their weights, and an estimate from the visits alone.

    Raises
    ------
    FeatureError
        Outcomes that are no Series by household, repeated households, values that are not 0 or 1,
        or no known outcome at all.

    Notes
    -----
    Returns are recorded where somebody looked. Every household that could be visited had a known
    propensity above zero (unless ``random_share`` was 0), so that weighting each visit by one over
    its propensity estimates what all households would have shown (Horvitz-Thompson): without bias,
    with a large variance, because the weights of the random visits are large.

    References
    ----------
    Horvitz and Thompson (1952), A generalization of sampling without replacement from a finite
    universe.

    Examples
    --------
    >>> import pandas as pd
    >>> from poverty_risk.visits import build_visit_list, evaluate_visit_list
    >>> risk = pd.DataFrame({"risk": [0.9, 0.5, 0.2, 0.1]}, index=["a", "b", "c", "d"])
    >>> visits = build_visit_list(risk, capacity=2, as_of_date="2024-01-01", random_share=0)
    >>> found = evaluate_visit_list(visits, pd.Series([1, 0, 1, 0], index=list("abcd")))
    >>> found.ways["returns"].tolist()
    [1.0, 1.0, 1.0, 2.0]
    """
    _check_outcomes(outcomes)
    households = visit_list.households
    outcome = outcomes.reindex(households.index).to_numpy(dtype=np.float64, na_value=np.nan)
    known = ~np.isnan(outcome)
    if not known.any():
        remedy = "Index them by household_id."
        raise FeatureError(Fault("outcomes", "no household of the list", "known outcomes", remedy))
    visited = households["visited"].to_numpy()
    eligible = households["left_out"].isna().to_numpy()
    ways = compare_ways(
        outcome[known],
        visited[known],
        eligible[known],
        households["rule_key"].to_numpy()[known],
    )
    visits = visit_list.visits[["why", "propensity", "weight"]].copy()
    visits.insert(1, "outcome", pd.Series(outcome, index=households.index).reindex(visits.index))
    estimable = bool((households["propensity"].to_numpy()[eligible] > 0).all())
    estimate = (visits["weight"] * visits["outcome"]).sum(skipna=False) if estimable else np.nan
    return VisitOutcomes(
        ways=ways,
        visits=visits,
        estimated_returns=float(estimate),
        unknown_visits=int(visits["outcome"].isna().sum()),
        others=len(outcomes.index.difference(households.index)),
    )


def collect_looks(visit_lists: Iterable[VisitList]) -> pd.DataFrame:
    """Who was visited by several lists, and with which chance: what weighting needs.

    Parameters
    ----------
    visit_lists
        From `build_visit_list`, one for each as-of date.

    Returns
    -------
    DataFrame
        Index (household_id, as_of_date), every household of each list; columns visited, propensity (0
        where it was left out). For `select_seen` and `evaluate_seen`.

    Raises
    ------
    FeatureError
        No list, or two of one date.

    Examples
    --------
    >>> import pandas as pd
    >>> from poverty_risk import build_visit_list, collect_looks
    >>> risk = pd.DataFrame({"risk": [0.9, 0.5]}, index=pd.Index(["a", "b"], name="household_id"))
    >>> visits = build_visit_list(risk, capacity=1, as_of_date="2024-01-01", random_share=0)
    >>> collect_looks([visits])["propensity"].tolist()
    [1.0, 0.0]
    """
    lists = list(visit_lists)
    dates = [one.as_of_date for one in lists]
    if not lists or len(set(dates)) < len(dates):
        found = f"{len(dates)} lists of {len(set(dates))} dates"
        raise FeatureError(Fault("visit_lists", found, "one list a date", "Give each list once."))
    parts = [one.households[["visited", "propensity"]] for one in lists]
    return pd.concat(parts, keys=dates, names=["as_of_date"]).swaplevel()


def _check_outcomes(outcomes: pd.Series) -> None:
    if not isinstance(outcomes, pd.Series):
        found = type(outcomes).__name__
        remedy = "Give the index: values are matched by key."
        raise FeatureError(Fault("outcomes", found, "a Series by household_id", remedy))
    faults = []
    if not outcomes.index.is_unique:
        faults.append(Fault("outcomes", "repeated households", "each once", "Drop the repeats."))
    values = outcomes.to_numpy(dtype=np.float64, na_value=np.nan)
    if odd := sorted(set(np.unique(values[~np.isnan(values)]).tolist()) - {0.0, 1.0}):
        faults.append(Fault("outcomes", f"{odd[:5]}", "1, 0 or missing", "Correct them."))
    if faults:
        raise FeatureError(faults)
