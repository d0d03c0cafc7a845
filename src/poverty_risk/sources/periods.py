"""Periods of income accounts, and sums told for a time as amounts a month."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import numpy as np
import pyarrow as pa

from poverty_risk.sources.kinds import Account, Monthly

__all__ = ["compute_monthly", "find_account_periods"]

_MONTH = "datetime64[M]"
_NO_MONTH = np.datetime64("NaT", "M")
_ONE_MONTH, _ONE_DAY = np.timedelta64(1, "M"), np.timedelta64(1, "D")


def _months(column: pa.Array | None, size: int) -> np.ndarray:
    if column is None:
        return np.full(size, _NO_MONTH)
    return np.asarray(column.to_numpy(zero_copy_only=False)).astype(_MONTH)


def _years(column: pa.Array | None, size: int) -> np.ndarray:
    """September of each year."""
    if column is None:
        return np.full(size, _NO_MONTH)
    given = column.is_valid().to_numpy(zero_copy_only=False)
    years = column.fill_null(1970).to_numpy(zero_copy_only=False).astype(np.int64)
    sane = given & (years >= 1900) & (years < 2200)
    months = ((np.where(sane, years, 1970) - 1970) * 12 + 8).astype(_MONTH)
    return np.where(sane, months, _NO_MONTH)


def find_account_periods(
    account: Account, fields: Mapping[str, pa.Array], size: int, exported: date
) -> tuple[pa.Array, pa.Array, pa.Array]:
    """First and last day of each income account, and whether it is yearly or rolling.

    Parameters
    ----------
    account
        Which fields tell.
    fields
        Typed columns by name, of `size` rows.
    size
        Number of rows.
    exported
        Day of the export.

    Returns
    -------
    tuple
        Columns of start, end (date32) and ``annual`` or ``rolling`` (string); null where nothing
        tells.

    Notes
    -----
    A yearly account of year Y covers 1 October Y-1 to 30 September Y. A rolling one covers the twelve
    months before the month of identification: identified in June 2021, June 2020 to May 2021.

    Examples
    --------
    >>> fields = {"identified": pa.array([date(2021, 6, 30)])}
    >>> start, end, window = find_account_periods(
    ...     Account(identified="identified"), fields, 1, date(2021, 7, 15))
    >>> str(start[0]), str(end[0]), str(window[0])
    ('2020-06-01', '2021-05-31', 'rolling')
    """
    column = {name: fields.get(field) for name, field in account if field is not None}
    first, last = _months(column.get("first_month"), size), _months(column.get("last_month"), size)
    september = _years(column.get("year"), size)
    identified = _months(column.get("identified"), size)
    told = column.get("kind")
    said = pa.nulls(size, pa.string()) if told is None else told
    said = said.fill_null("").to_numpy(zero_copy_only=False)

    own = ~np.isnat(first) & ~np.isnat(last)
    has_year, has_month = ~np.isnat(september), ~np.isnat(identified)
    day, month = np.datetime64(exported, "D"), np.datetime64(exported, "M")
    complete = has_year & (_last_day(september) <= day)
    rolling = has_month & ((said == "rolling") | ((said == "") & ~(has_year & complete)))
    # Identified too long ago, an incomplete yearly account is just that.
    recent = identified >= month - 12 * _ONE_MONTH
    rolling &= ~has_year | (said == "rolling") | recent
    yearly = has_year & ~rolling & (said != "rolling")
    start = np.full(size, _NO_MONTH)
    end = start.copy()
    start[rolling] = identified[rolling] - 12 * _ONE_MONTH
    end[rolling] = identified[rolling] - _ONE_MONTH
    start[yearly], end[yearly] = september[yearly] - 11 * _ONE_MONTH, september[yearly]
    is_annual = yearly.copy()
    start[own], end[own] = first[own], last[own]
    october = start.astype(np.int64) % 12 == 9
    is_annual[own] = october[own] & (end[own] - start[own] == 11 * _ONE_MONTH)
    none = np.isnat(end)
    window = pa.array(np.where(is_annual, "annual", "rolling"), pa.string(), mask=none)
    return _days(start.astype("datetime64[D]")), _days(_last_day(end)), window


def _last_day(months: np.ndarray) -> np.ndarray:
    return np.asarray((months + _ONE_MONTH).astype("datetime64[D]") - _ONE_DAY)


def _days(days: np.ndarray) -> pa.Array:
    return pa.array(days, pa.date32(), mask=np.isnat(days))


def compute_monthly(monthly: Monthly, fields: Mapping[str, pa.Array], size: int) -> pa.Array:
    """A sum spread over the months for which it was paid, both ends counted.

    Parameters
    ----------
    monthly
        Which fields tell.
    fields
        Typed columns by name, of `size` rows.
    size
        Number of rows.

    Returns
    -------
    pyarrow.Array
        Amount a month (double); null where the sum or the start is.

    Examples
    --------
    >>> fields = {"sum": pa.array([1200.0]), "from": pa.array([date(2023, 1, 5)]),
    ...     "to": pa.array([date(2023, 12, 31)])}
    >>> compute_monthly(Monthly(amount="sum", start="from", end="to"), fields, 1).to_pylist()
    [100.0]
    """
    start, end = _months(fields.get(monthly.start), size), _months(fields.get(monthly.end), size)
    end = np.where(np.isnat(end), start, end)
    known = ~np.isnat(start)
    months = np.ones(size)
    months[known] = np.maximum((end[known] - start[known]).astype(np.int64) + 1, 1)
    amounts = fields[monthly.amount].to_numpy(zero_copy_only=False).astype(np.float64)
    values = amounts / months
    return pa.array(values, pa.float64(), mask=np.isnan(values) | ~known)
