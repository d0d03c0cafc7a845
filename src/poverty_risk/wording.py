"""Words and numbers as the readers of each language write them; the texts stand in ``locales/``."""

from __future__ import annotations

import functools
import math
from importlib import resources
from pathlib import Path
from typing import Any

from poverty_risk.declarations import read_yaml
from poverty_risk.exceptions import DeclarationError, Fault

__all__ = ["LOCALES", "format_horizon", "format_value", "load_locale"]

LOCALES = ("zh", "en")
TEN_THOUSAND = 10_000


@functools.cache
def load_locale(locale: str) -> dict[str, Any]:
    """Texts of a language.

    Parameters
    ----------
    locale
        ``"zh"`` or ``"en"``.

    Returns
    -------
    dict
        Texts by key; do not change it.

    Raises
    ------
    DeclarationError
        Another language.
    """
    if locale not in LOCALES:
        raise DeclarationError(
            Fault("locale", repr(locale), f"one of {', '.join(LOCALES)}", "Choose one of them.")
        )
    return read_yaml(Path(str(resources.files("poverty_risk") / "locales" / f"{locale}.yaml")))


def _number(value: float, decimals: int) -> str:
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def format_value(value: Any, unit: str, locale: str) -> str:
    """A value with its unit, as readers of the language write it.

    Parameters
    ----------
    value
        Number, code of a category, or missing.
    unit
        Unit of the catalogue entry.
    locale
        ``"zh"`` or ``"en"``.

    Returns
    -------
    str
        For example ``125%``, ``12,500 yuan``, ``2 years``.

    Examples
    --------
    >>> format_value(0.35, "share", "en"), format_value(12500.0, "yuan", "en")
    ('35%', '12,500 yuan')
    """
    words = load_locale(locale)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return str(words["missing"])
    if isinstance(value, str):
        return str(words["codes"].get(value, value))
    number = float(value)
    if unit == "flag":
        return str(words["flag_true" if number else "flag_false"])
    template = words["units"].get(unit, "{n}")
    if unit == "yuan":
        large = locale == "zh" and abs(number) >= TEN_THOUSAND
        shown = _number(number / TEN_THOUSAND, 2) if large else _number(number, 0)
        return str(template["large" if large else "small"]).format(n=shown)
    if unit == "ratio":
        # "4.2 times" wants no "of" in English; per cent reads well in every sentence.
        large = locale == "zh" and abs(number) >= 1
        shown = _number(number, 2) if large else _number(100 * number, 0)
        return str(template["large" if large else "small"]).format(n=shown)
    if unit in ("share", "percent"):
        return str(template).format(n=_number(100 * number, 0))
    decimals = 0 if unit in ("days", "points", "level", "age") else 1
    return str(template).format(n=_number(number, decimals))


def format_horizon(horizon: str, locale: str) -> str:
    """A horizon such as ``"12mo"`` in words."""
    unit = "mo" if horizon.endswith("mo") else "d"
    number = horizon.removesuffix(unit)
    return str(load_locale(locale)["horizon"][unit]).format(n=number)
