"""All checks of a date, causes first: what they explain is then told as a tip, not as another issue."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pandas as pd
from sklearn.utils.validation import check_is_fitted

from poverty_risk.cohort import find_groups
from poverty_risk.exceptions import DeclarationError, Fault, FeatureError
from poverty_risk.model import RiskModel
from poverty_risk.monitoring.alerts import check_yield, measure_lists
from poverty_risk.monitoring.catalog import load_monitoring_catalog
from poverty_risk.monitoring.columns import check_schema, measure_columns
from poverty_risk.monitoring.features import check_drift, check_missing, measure_features
from poverty_risk.monitoring.findings import CheckResult, MonitoringReport
from poverty_risk.monitoring.freshness import check_feeds, check_places, measure_feeds
from poverty_risk.monitoring.performance import (
    check_calibration,
    check_estimate,
    check_estimate_error,
    check_realised,
    measure_rounds,
)
from poverty_risk.monitoring.risks import check_last_round, check_risks, measure_tiers
from poverty_risk.monitoring.round import Causes, WatchedRound
from poverty_risk.monitoring.settings import MonitoringSettings
from poverty_risk.monitoring.units import check_units, measure_amounts
from poverty_risk.privacy import suppress_small_counts
from poverty_risk.tables import HistoryTables
from poverty_risk.windows import parse_as_of_dates

__all__ = ["run_monitoring"]

SMALL = {
    "feeds": ("recent", "usual", "expected"),
    "places": ("recent", "usual", "expected"),
    "amounts": ("recent", "earlier"),
    "rounds": ("n", "labelled", "positives"),
    "lists": ("visits", "known", "found", "random_known"),
}
"""Counts of households or of their records; small ones are not told."""


def run_monitoring(
    model: RiskModel,
    tables: HistoryTables,
    as_of_date: str | pd.Timestamp,
    *,
    earlier_answers: Mapping[Any, pd.DataFrame] | None = None,
    visit_lists: Mapping[Any, pd.DataFrame] | None = None,
    settings: MonitoringSettings | None = None,
) -> MonitoringReport:
    """Check whether a model can still be trusted on the records of today.

    Parameters
    ----------
    model
        A fitted or loaded model that knows its task and catalogue.
    tables
        The history; only what was known before `as_of_date` is used, for outcomes too.
    as_of_date
        The day of the round.
    earlier_answers
        Answers of `predict_risk` by as-of date (index household_id, column risk), of earlier rounds.
        Without them calibration and performance are not applicable. Dates on which the model was
        trained would flatter it: leave them out.
    visit_lists
        Past visit lists by as-of date: the ``visits`` of each list (index household_id, columns risk,
        why), with a column ``outcome`` where the visits told.
    settings
        Limits; the default ones without.

    Returns
    -------
    MonitoringReport
        One result per check, each with one of five outcomes and a reason, and the tables behind them.

    Raises
    ------
    DeclarationError
        The model does not know its task, or the date is none.
    FeatureError
        The history is of another schema, or an earlier answer has no risks by household.

    Examples
    --------
    >>> from poverty_risk import RiskModel, make_household_history
    >>> from poverty_risk.monitoring import run_monitoring
    >>> tables = make_household_history(100, seed=1).tables
    >>> run_monitoring(RiskModel(), tables, "2024-01-01")
    Traceback (most recent call last):
    ...
    sklearn.exceptions.NotFittedError: This RiskModel instance is not fitted yet. ...
    """
    watched = _start(model, tables, as_of_date, settings or MonitoringSettings())
    answers = _read_answers(earlier_answers, watched.as_of)
    lists = _read_lists(visit_lists, watched.as_of)
    found, details, causes = _check_records(watched)
    details["features"] = measure_features(watched, causes)
    found += [check_missing(watched, details["features"])]
    found += [check_drift(watched, details["features"])]
    causes = dataclasses.replace(causes, codes=_find_cause_codes(found))
    details["tiers"] = measure_tiers(watched, causes)
    details["rounds"] = measure_rounds(watched, causes, answers)
    details["lists"] = measure_lists(watched, lists)
    symptoms = [
        check_risks(watched, causes, details["tiers"]),
        check_last_round(watched, causes, answers),
        check_calibration(watched, causes, details["rounds"]),
        check_realised(watched, causes, details["rounds"]),
        check_estimate(watched, details["rounds"]),
        check_estimate_error(watched, causes, details["rounds"]),
        check_yield(watched, causes, details["lists"]),
    ]
    found += [_explain(one, causes.codes) for one in symptoms]
    return MonitoringReport(
        watched.as_of,
        str(getattr(model, "model_id_", "unsaved")),
        tuple(sorted(found, key=lambda one: one.code)),
        _suppress(details),
        load_monitoring_catalog(),
    )


def _start(
    model: RiskModel,
    tables: HistoryTables,
    as_of_date: str | pd.Timestamp,
    settings: MonitoringSettings,
) -> WatchedRound:
    check_is_fitted(model, "forest_")
    if model.task is None or model.catalog is None:
        remedy = "Train it with RiskModel(catalog=..., task=...)."
        fault = Fault("model", "no task or no feature catalogue", "both", remedy)
        raise DeclarationError(fault)
    if tables.schema.name != model.task.schema.name:
        expected = f"schema '{model.task.schema.name}', which the model was trained on"
        remedy = "Use the model of this archive."
        fault = Fault("history tables", f"schema '{tables.schema.name}'", expected, remedy)
        raise FeatureError(fault)
    dates = parse_as_of_dates(as_of_date)
    if len(dates) != 1:
        fault = Fault("as_of_date", f"{len(dates)} dates", "one date", "Call it once per date.")
        raise DeclarationError(fault)
    if tables.line is None and model.task.line is not None:
        tables = tables.with_line(model.task.line)
    known = tables.known_before(dates[0])
    return WatchedRound(known, model, model.task, dates[0], settings)


def _read_answers(
    answers: Mapping[Any, pd.DataFrame] | None, as_of: pd.Timestamp
) -> dict[pd.Timestamp, pd.Series]:
    found = _by_date(answers, as_of, "earlier answers")
    return {date: table["risk"].dropna().astype(float) for date, table in found.items()}


def _read_lists(
    lists: Mapping[Any, pd.DataFrame] | None, as_of: pd.Timestamp
) -> dict[pd.Timestamp, pd.DataFrame]:
    return _by_date(lists, as_of, "visit lists")


def _by_date(
    given: Mapping[Any, pd.DataFrame] | None, as_of: pd.Timestamp, place: str
) -> dict[pd.Timestamp, pd.DataFrame]:
    """Tables by their date, those before the as-of date."""
    found, faults = {}, []
    for key, table in (given or {}).items():
        date = parse_as_of_dates(key)[0]
        if "risk" not in table or table.index.name != "household_id" or not table.index.is_unique:
            told = f"columns {list(table.columns)[:5]}, index '{table.index.name}'"
            expected = "a column risk and each household once, index household_id"
            faults.append(Fault(f"{place} of {date.date()}", told, expected, "Correct the table."))
        elif date < as_of:
            found[date] = table
    if faults:
        raise FeatureError(faults)
    return found


def _check_records(
    watched: WatchedRound,
) -> tuple[list[CheckResult], dict[str, pd.DataFrame], Causes]:
    """Checks of the records themselves, their tables, and what they explain."""
    feeds = measure_feeds(watched)
    households = pd.MultiIndex.from_product(
        [watched.tables.households, [watched.as_of]], names=["household_id", "as_of_date"]
    )
    groups = find_groups(watched.tables, households).droplevel("as_of_date")
    amounts = measure_amounts(watched, groups.get(watched.settings.place))
    columns = measure_columns(watched)
    found = [
        check_schema(watched, columns),
        check_feeds(watched, feeds),
        check_places(watched, feeds),
        check_units(watched, amounts),
    ]
    county = feeds["place"].isna()
    late = feeds["status"] == "late"
    stopped = set(feeds.loc[county & late, "table"])
    tables = dict.fromkeys(amounts.loc[amounts["power"] != 0, "table"], "M008")
    tables |= dict.fromkeys(stopped, "M006")
    places = frozenset(feeds.loc[~county & late & ~feeds["table"].isin(stopped), "place"])
    details = {
        "feeds": feeds[county].drop(columns="place"),
        "places": feeds[~county],
        "amounts": amounts,
        "columns": columns,
    }
    return found, details, Causes(tables, places)


def _find_cause_codes(found: list[CheckResult]) -> tuple[str, ...]:
    checks = load_monitoring_catalog().checks
    return tuple(
        sorted(one.code for one in found if one.outcome == "issue" and checks[one.code].is_cause)
    )


def _explain(result: CheckResult, causes: tuple[str, ...]) -> CheckResult:
    """An issue that causes explain, as a tip that names them: one fault, one alarm."""
    if result.outcome != "issue" or not causes:
        return result
    return dataclasses.replace(
        result, outcome="tip", reason="explained", values={**result.values, "codes": causes}
    )


def _suppress(details: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    lists, tiers = details["lists"], details["tiers"]
    # A share of a count that is told gives the hidden count away.
    shares = {
        "lists": lists.assign(
            **{
                "yield": _hide(lists["yield"], lists["known"]),
                "random_yield": _hide(lists["random_yield"], lists["random_known"]),
            }
        ),
        "tiers": tiers.assign(
            now=_hide(tiers["now"], tiers["n"]), year_ago=_hide(tiers["year_ago"], tiers["n"])
        ),
    }
    details = {**details, **shares}
    return {
        name: table.assign(
            **{column: suppress_small_counts(table[column]) for column in SMALL.get(name, ())}
        )
        for name, table in details.items()
    }


def _hide(shares: pd.Series, sizes: pd.Series) -> pd.Series:
    return shares.mask(suppress_small_counts((shares * sizes).round()).isna())
