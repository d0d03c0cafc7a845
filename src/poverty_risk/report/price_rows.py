"""What each arrangement of a visit list costs, as rows of words and numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["PriceRow", "PriceRows", "write_prices"]

MOST_ROWS = 8
"""Rows shown at once; the others stand behind a click."""

SMALLEST_PRICE = 0.05
"""Prices that would be written as 0.0 are counted as none."""

Show = Callable[[Any, str], str]
"""Writes a value with its unit."""


@dataclass(frozen=True)
class PriceRow:
    """One arrangement: its name and place, its number, and what it costs."""

    name: str
    bound: str
    price: str
    rule_hits: str


@dataclass(frozen=True)
class PriceRows:
    """Rows to show at once, the rows after them, and how many arrangements cost nothing."""

    shown: tuple[PriceRow, ...]
    more: tuple[PriceRow, ...]
    free: int


def write_prices(
    prices: Sequence[Mapping[str, Any]], page: Mapping[str, Any], show: Show
) -> PriceRows:
    """Put the prices of the arrangements into words, the dearest first.

    Parameters
    ----------
    prices
        Rows of `VisitList.quota_prices`, the dearest first.
    page
        Words of the page.
    show
        Writes a value with its unit.

    Returns
    -------
    PriceRows
        Those that cost nothing are counted alone.

    Examples
    --------
    >>> from poverty_risk.wording import format_value, load_locale
    >>> price = {"constraint": "cool_down", "level": "county", "group": None, "bound": 90.0,
    ...          "price": 1.2, "rule_hits": 0.0}
    >>> rows = write_prices([price], load_locale("en")["page"], lambda v, u: format_value(v, u, "en"))
    >>> rows.shown[0].bound, rows.shown[0].price
    ('90 days', '1.2')
    """
    dear = [row for row in prices if _costs(row)]
    written = tuple(_write(row, page, show) for row in dear)
    return PriceRows(written[:MOST_ROWS], written[MOST_ROWS:], len(prices) - len(dear))


def _costs(row: Mapping[str, Any]) -> bool:
    return any(abs(float(row[name])) >= SMALLEST_PRICE for name in ("price", "rule_hits"))


def _write(row: Mapping[str, Any], page: Mapping[str, Any], show: Show) -> PriceRow:
    constraint = str(row["constraint"])
    name = str(page["prices"]["names"].get(constraint, constraint))
    where = _write_place(constraint, str(row["level"]), row["group"], page["prices"])
    return PriceRow(
        name=f"{name}{page['colon']}{where}" if where else name,
        bound=str(page["no_value"])
        if _is_missing(row["bound"])
        else show(row["bound"], _unit(constraint)),
        price=show(row["price"], "number"),
        rule_hits=show(row["rule_hits"], "number"),
    )


def _write_place(constraint: str, level: str, group: Any, texts: Mapping[str, Any]) -> str:
    if not _is_missing(group):
        return str(group)
    name = str(texts["levels"].get(level, level))
    if level != "county":
        return str(texts["everywhere"]).format(level=name)
    # All others are for the whole county or not at all.
    return name if constraint in ("capacity", "minimum") else ""


def _unit(constraint: str) -> str:
    return {"random_share": "share", "cool_down": "days"}.get(constraint, "number")


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
