"""What consistency findings mean for one household's card."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from poverty_risk.consistency.run import ConsistencyReport

__all__ = ["HouseholdQuality", "summarise_quality"]


@dataclass(frozen=True)
class HouseholdQuality:
    """How far the records of one household can be relied upon.

    Parameters
    ----------
    codes
        Codes of the rules that found something, worst first.
    texts
        What is wrong, in words, one per code.
    errors, warnings, notes
        How many of these rules are of each severity.
    """

    codes: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    errors: int = 0
    warnings: int = 0
    notes: int = 0


def summarise_quality(
    report: ConsistencyReport, household_ids: Iterable[str], locale: str = "zh"
) -> dict[str, HouseholdQuality]:
    """What is wrong with the records of some households, in plain words.

    Parameters
    ----------
    report
        From `check_consistency`.
    household_ids
        The households to tell of.
    locale
        Language of the words.

    Returns
    -------
    dict
        A `HouseholdQuality` by household_id, empty for households without a finding.

    Examples
    --------
    >>> from poverty_risk import make_household_history
    >>> from poverty_risk.consistency import check_consistency, summarise_quality
    >>> report = check_consistency(make_household_history(100, seed=1).tables)
    >>> summarise_quality(report, ["nobody"], "en")["nobody"].codes
    ()
    """
    wanted = list(dict.fromkeys(str(household) for household in household_ids))
    findings = report.findings
    listed = findings[findings["household_id"].isin(wanted)]
    order = {"error": 0, "warning": 1, "note": 2}
    listed = listed.drop_duplicates(["household_id", "code"])
    # Within a severity the order of the catalogue, in which findings stand already.
    listed = listed.sort_values("severity", key=lambda names: names.map(order), kind="stable")
    summary = dict.fromkeys(wanted, HouseholdQuality())
    for household, found in listed.groupby("household_id", sort=False):
        codes = tuple(found["code"])
        counts = found["severity"].value_counts()
        summary[str(household)] = HouseholdQuality(
            codes,
            tuple(report.catalog.describe(code, locale) for code in codes),
            *(int(counts.get(severity, 0)) for severity in order),
        )
    return summary
