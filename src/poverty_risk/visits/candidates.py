"""Who can be visited, and in which order: the input of a visit list, checked and made plain."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from poverty_risk.baselines.rules import SEVERITIES
from poverty_risk.exceptions import DeclarationError, Fault, FeatureError
from poverty_risk.windows import Lookback

__all__ = ["DEADLINES", "Candidates", "check_settings", "read_candidates"]

DEADLINES: Mapping[str, int] = {"red": 5, "orange": 10, "yellow": 15, "green": 30}
"""Days until a visit is due, worst tier first: three-colour practice, identification in 15 days."""

TIERS = tuple(DEADLINES)
SEVERITY_NAMES = tuple(sorted(SEVERITIES, key=SEVERITIES.__getitem__))
EXEMPT = "red"
"""Hits of this severity are visited again at once, however recent the last visit was."""

LARGEST_RANDOM_SHARE = 0.5
"""More would no longer be a list by priority."""


@dataclass(frozen=True)
class Candidates:
    """One entry per household, in the order of the input.

    Parameters
    ----------
    index
        Household ids.
    risk
        Probability, missing without one.
    severity
        3 red, 2 orange, 1 yellow, 0 grey, -1 no rule hit.
    codes
        Lists of rule codes.
    turn
        Position of its severity among those that go first, their number for all others.
    goes_first
        Whether its severity goes first.
    tier
        0 red to 3 green.
    left_out
        Why a household cannot be visited, None where it can; quotas come later.
    tie
        Random-looking number that orders equal households.
    """

    index: pd.Index
    risk: np.ndarray
    severity: np.ndarray
    codes: np.ndarray
    turn: np.ndarray
    goes_first: np.ndarray
    tier: np.ndarray
    left_out: np.ndarray
    tie: np.ndarray

    @property
    def eligible(self) -> np.ndarray:
        """Whether a household can be visited, quotas aside."""
        return np.array([reason is None for reason in self.left_out], dtype=bool)

    @property
    def expected(self) -> np.ndarray:
        """Expected returns found by visiting each household; 0 without a risk."""
        return np.where(np.isnan(self.risk), 0.0, self.risk)

    def order(self, rows: np.ndarray, by_rules: bool = True) -> np.ndarray:
        """Rows in the order of the list: severities that go first, then risk, then severity."""
        risk, turn = self.risk[rows], self.turn[rows]
        falling = np.where(np.isnan(risk), 1.0, -risk)
        keys = (self.tie[rows], -self.severity[rows], falling, turn if by_rules else turn * 0)
        return np.asarray(rows[np.lexsort(keys)])

    def rule_key(self) -> np.ndarray:
        """Order of the rules alone: the worst colour, then the number of rules hit."""
        hits = np.array([len(codes) for codes in self.codes], dtype=np.int64)
        return np.asarray(self.severity * (hits.max(initial=0) + 1) + hits)


def check_settings(
    *,
    cool_down: int,
    random_share: float,
    reserve: int,
    first: Sequence[str],
    tiers: Mapping[str, int],
    seed: int,
    key: bytes,
) -> None:
    """Check the settings of a visit list; all that is wrong in one error.

    Parameters
    ----------
    cool_down, random_share, reserve, first, tiers, seed, key
        See `build_visit_list`.

    Raises
    ------
    DeclarationError
        Numbers out of bounds, unknown severities or tiers, deadlines that fall.
    """
    faults = [
        Fault(name, repr(value)[:40], "a whole number, zero or more", "Correct it.")
        for name, value in (("cool_down", cool_down), ("reserve", reserve))
        if not _is_whole(value)
    ]
    number = isinstance(random_share, int | float | np.floating)
    if not number or not 0 <= random_share <= LARGEST_RANDOM_SHARE:
        expected = f"a share from 0 to {LARGEST_RANDOM_SHARE}"
        faults.append(Fault("random_share", repr(random_share)[:40], expected, "Correct it."))
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool):
        faults.append(Fault("seed", repr(seed)[:40], "a whole number", "Correct it."))
    if not isinstance(key, bytes):
        # Its value is a secret.
        faults.append(Fault("key", type(key).__name__, "bytes", "Read it with read_or_make_key."))
    known = ", ".join(SEVERITIES)
    if isinstance(first, str) or not set(first) <= set(SEVERITIES):
        faults.append(Fault("first", repr(first)[:60], f"a list of {known}", "Correct it."))
    elif len(set(first)) != len(first):
        faults.append(Fault("first", repr(first)[:60], "each severity once", "Drop the repeats."))
    if set(tiers) != set(TIERS) or not all(map(_is_whole, tiers.values())):
        expected = f"days for each of {', '.join(TIERS)}"
        faults.append(Fault("tiers", repr(dict(tiers))[:80], expected, "Correct the deadlines."))
    elif any(tiers[worse] > tiers[better] for worse, better in itertools.pairwise(TIERS)):
        expected = "no later deadline for a worse tier"
        faults.append(Fault("tiers", repr(dict(tiers))[:80], expected, "Correct the deadlines."))
    if faults:
        raise DeclarationError(faults)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= 0)


def read_candidates(
    risk: pd.DataFrame,
    as_of: pd.Timestamp,
    *,
    cool_down: int,
    first: Sequence[str],
    salt: bytes,
) -> Candidates:
    """Check the input of `build_visit_list`.

    Parameters
    ----------
    risk
        See `build_visit_list`.
    as_of
        The as-of date.
    cool_down, first
        See `build_visit_list`.
    salt
        What ties are broken with, beside the id.

    Returns
    -------
    Candidates
        Arrays in the order of `risk`.

    Raises
    ------
    FeatureError
        Ids that are missing or repeated, risks that are no probabilities, unknown severities or
        tiers, visits on or after the as-of date.
    """
    faults: list[Fault] = []
    if not isinstance(risk, pd.DataFrame) or "risk" not in risk.columns:
        found = type(risk).__name__ if not isinstance(risk, pd.DataFrame) else "no column 'risk'"
        expected = "a DataFrame by household_id with a column 'risk'"
        raise FeatureError(Fault("risk", found, expected, "Give the table of risks."))
    if not risk.index.is_unique or risk.index.hasnans:
        found = "missing or repeated households"
        faults.append(Fault("risk, index", found, "each household once", "Correct the index."))
    probability = _read_risk(risk["risk"], faults)
    severity = _read_codes(risk, "severity", SEVERITIES, -1, faults)
    model_tier = _read_codes(risk, "tier", {n: i for i, n in enumerate(TIERS)}, 3, faults)
    cooled = _read_cooled(risk, as_of, cool_down, faults)
    if faults:
        raise FeatureError(faults)
    exempt = severity == SEVERITIES[EXEMPT]
    left_out = np.full(len(risk), None, dtype=object)
    left_out[cooled & ~exempt] = "cooled_down"
    left_out[np.isnan(probability) & (severity < 0)] = "no_risk"
    turn = np.full(len(risk), len(first))
    for position, name in enumerate(first):
        turn[severity == SEVERITIES[name]] = position
    # Grey is about the data, not the household.
    of_severity = np.array([3, 2, 1, 0, 3])[severity]
    return Candidates(
        index=risk.index,
        risk=probability,
        severity=severity,
        codes=_read_rule_codes(risk),
        turn=turn,
        goes_first=turn < len(first),
        tier=np.minimum(model_tier, of_severity),
        left_out=left_out,
        tie=_tie_breaks(risk.index, salt),
    )


def _read_risk(column: pd.Series, faults: list[Fault]) -> np.ndarray:
    try:
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    except (ValueError, TypeError):
        faults.append(Fault("risk", f"values of {column.dtype}", "numbers", "Give probabilities."))
        return np.full(len(column), np.nan)
    if outside := int(((values < 0.0) | (values > 1.0)).sum()):
        expected = "probabilities from 0 to 1, or missing"
        faults.append(
            Fault("risk", f"{outside} values outside", expected, "Give calibrated risks.")
        )
    return values


def _read_codes(
    risk: pd.DataFrame, name: str, known: Mapping[str, int], otherwise: int, faults: list[Fault]
) -> np.ndarray:
    if name not in risk.columns:
        return np.full(len(risk), otherwise)
    codes, values = pd.factorize(risk[name])
    if odd := sorted({str(value) for value in values} - set(known)):
        expected = f"one of {', '.join(known)}, or missing"
        faults.append(Fault(name, f"{odd[:3]}", expected, "Correct or translate the values."))
    of_value = np.array([*(known.get(str(value), otherwise) for value in values), otherwise])
    return of_value[codes]  # missing has code -1: the last


def _read_cooled(
    risk: pd.DataFrame, as_of: pd.Timestamp, cool_down: int, faults: list[Fault]
) -> np.ndarray:
    none = np.zeros(len(risk), dtype=bool)
    if "last_visit" not in risk.columns:
        if cool_down:
            remedy = "Add the date of the last visit, missing where there was none."
            faults.append(Fault("risk", "no column 'last_visit'", "it, to cool down", remedy))
        return none
    try:
        visits = pd.to_datetime(risk["last_visit"])
    except (ValueError, TypeError):
        faults.append(Fault("last_visit", "values that are no dates", "dates", "Correct them."))
        return none
    if visits.dt.tz is not None:
        faults.append(Fault("last_visit", "a time zone", "plain dates", "Give the day."))
        return none

    def contains(lookback: Lookback) -> np.ndarray:
        inside = lookback.contains(visits, as_of, lambda days: pd.Timedelta(days=days))
        return np.asarray(inside, dtype=bool)

    if late := int((visits.notna().to_numpy() & ~contains(Lookback(None))).sum()):
        remedy = "Leave out what the office did not know on that date."
        found = f"{late} visits on or after the as-of date"
        faults.append(Fault("last_visit", found, "earlier visits", remedy))
    return contains(Lookback(cool_down)) if cool_down else none


def _read_rule_codes(risk: pd.DataFrame) -> np.ndarray:
    given = risk["rule_codes"] if "rule_codes" in risk.columns else [None] * len(risk)
    codes = np.empty(len(risk), dtype=object)
    for row, one in enumerate(given):
        # Own lists: whoever changes the visit list must not change the input.
        codes[row] = list(one) if isinstance(one, list | tuple | np.ndarray) else []
    return codes


def _tie_breaks(index: pd.Index, salt: bytes) -> np.ndarray:
    salted = hashlib.blake2b(salt, digest_size=8)
    digests = []
    for household in index:
        digest = salted.copy()
        digest.update(str(household).encode())
        digests.append(digest.digest())
    return np.frombuffer(b"".join(digests), dtype=">u8").astype(np.uint64)
