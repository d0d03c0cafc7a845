"""Words and numbers as the readers of each language write them; the texts stand in ``locales/``."""

from __future__ import annotations

import datetime as dt
import functools
import math
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Protocol

import pandas as pd
from pydantic import Field

from poverty_risk.declarations import Declared, parse_declaration, read_yaml
from poverty_risk.exceptions import DeclarationError, Fault

__all__ = [
    "LOCALES",
    "format_date",
    "format_horizon",
    "format_value",
    "load_locale",
    "round_size",
    "write_sentence",
]

LOCALES = ("zh", "en")

NEARLY = 1e-9
"""Steps begin at round numbers; 0.1 must not miss its step by the last bit of a float."""


HALVES = 1e-12
"""Numbers so near below a half, as a share of themselves, are rounded up with it."""


class Step(Declared):
    """How numbers are written from a size on.

    Parameters
    ----------
    least
        Smallest absolute size, as it would be shown, that is written this way.
    per
        What the number is divided by: 0.01 for per cent, 10000 for ten thousands.
    decimals
        Decimals at most; zeros at the end are left out.
    positive
        Only for numbers above zero.
    text
        Text around ``{n}``.
    one
        The same where exactly 1 is shown.
    negative, negative_one
        The same for a number below zero, when its sign is told in words.
    zero
        Text where 0 is shown.
    tiny
        Text for a number above zero of which 0 would be shown.
    """

    least: float = 0.0
    per: float = 1.0
    decimals: int = 0
    positive: bool = False
    text: str
    one: str | None = None
    negative: str | None = None
    negative_one: str | None = None
    zero: str | None = None
    tiny: str | None = None


class Unit(Declared):
    """How the values of a unit are written in a language: named values, otherwise steps by size.

    Parameters
    ----------
    steps
        From small to large.
    values
        Numbers that have a name, such as the level of a disability.
    beside
        Unit that is used in brackets behind a sentence which has told this one.
    through_zero
        Zero and less are values like any other, so a sentence needs no other words for them.
    """

    steps: tuple[Step, ...] = Field(min_length=1)
    values: dict[float, str] = Field(default_factory=dict)
    beside: str | None = None
    through_zero: bool = False


class SentenceWords(Protocol):
    """What `write_sentence` reads of the words of a catalogue entry."""

    @property
    def label(self) -> str:
        """Short noun phrase."""

    @property
    def ask(self) -> str | None:
        """What to ask for when the value is missing."""

    def sentence(self, *, raises: bool, flag: bool | None) -> str | None:
        """The sentence for a direction and, for a flag, its value."""


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

    Examples
    --------
    >>> load_locale("en")["themes"]["income"]
    'income'
    """
    if locale not in LOCALES:
        raise DeclarationError(
            Fault("locale", repr(locale), f"one of {', '.join(LOCALES)}", "Choose one of them.")
        )
    return read_yaml(Path(str(resources.files("poverty_risk") / "locales" / f"{locale}.yaml")))


@functools.cache
def _load_units(locale: str) -> dict[str, Unit]:
    written = load_locale(locale)["units"]
    return {
        name: parse_declaration(Unit, unit, f"{locale}.yaml, unit '{name}'")
        for name, unit in written.items()
    }


def _unit(name: str, locale: str) -> Unit:
    units = _load_units(locale)
    return units.get(name, units["number"])


def format_value(value: Any, unit: str, locale: str, *, beside: bool = False) -> str:
    """A value with its unit, as readers of the language write it.

    Parameters
    ----------
    value
        Number, code of a category, or missing.
    unit
        Unit of the catalogue entry; an unknown one is written as a plain number.
    locale
        ``"zh"`` or ``"en"``.
    beside
        Whether it stands in brackets behind a sentence that has told the unit already: "2" instead of
        "2 hospital stays".

    Returns
    -------
    str
        For example ``82%``, ``1.35 times``, ``12,500 yuan``, ``2 visits``, ``about 3 years``.

    Examples
    --------
    >>> format_value(0.35, "ratio", "en"), format_value(12500.0, "yuan", "en")
    ('35%', '12,500 yuan')
    >>> [format_value(n, "visits", "en") for n in (1, 2)], format_value(2, "visits", "en", beside=True)
    (['1 visit', '2 visits'], '2')
    >>> format_value(-1.0, "change", "en"), format_value(1095, "days", "en")
    ('fell by 100%', 'about 3 years')
    """
    words = load_locale(locale)
    if unit == "date":
        return format_date(value, locale)
    if value is None or pd.isna(value):
        return str(words["missing"])
    if isinstance(value, str):
        return str(words["codes"].get(value, value))
    number = float(value)
    if math.isinf(number):
        return str(words["missing"])
    if unit == "flag":
        return str(words["flag_true" if number else "flag_false"])
    written = _unit(unit, locale)
    if beside and written.beside is not None:
        written = _unit(written.beside, locale)
    if number in written.values:
        return written.values[number]
    step = _choose_step(number, written.steps)
    return _fill(step, number, str(words["thousands"]))


def _choose_step(number: float, steps: tuple[Step, ...]) -> Step:
    """The step for a size as it would be shown: 9,999.6 yuan are ten thousand, 9,999 are not."""
    chosen = steps[0]
    for step in steps[1:]:
        if step.positive and number < 0:
            continue
        shown = round_size(number / chosen.per, chosen.decimals) * chosen.per
        if shown >= step.least - NEARLY:
            chosen = step
    return chosen


def round_size(number: float, decimals: int = 0) -> float:
    """The size of a number as it is told, halves up.

    A half that arithmetic missed by its last bits is one: engines that add in another order tell the same.
    """
    return round(abs(number) * (1.0 + HALVES), decimals)


def _fill(step: Step, number: float, thousands: str) -> str:
    shown = round_size(number / step.per, step.decimals)
    if shown == 0:
        special = step.tiny if number > 0 and step.tiny else step.zero
        return special or step.text.format(n="0")
    digits = f"{shown:,.{step.decimals}f}"
    digits = digits.rstrip("0").rstrip(".") if "." in digits else digits
    digits = digits.replace(",", thousands)
    one = shown == 1
    if number < 0 and step.negative is not None:
        text = (step.negative_one if one else None) or step.negative
        return text.format(n=digits)
    text = (step.one if one else None) or step.text
    return text.format(n=f"-{digits}" if number < 0 else digits)


def write_sentence(
    words: SentenceWords,
    value: Any,
    unit: str,
    locale: str,
    *,
    raises: bool,
    kind: str = "number",
) -> str:
    """What a value says, as a sentence of its catalogue entry.

    Parameters
    ----------
    words
        Words of the entry in the language.
    value
        Number, flag, code, or missing.
    unit
        Unit of the entry.
    locale
        ``"zh"`` or ``"en"``.
    raises
        Whether it raises the assessed risk.
    kind
        ``number``, ``flag`` or ``category``.

    Returns
    -------
    str
        The sentence, without a full stop: brackets with comparators may follow.

    Notes
    -----
    The ``_false`` sentences of an entry tell what is not there: a flag that is false, a number that is
    not above zero ("no hospital stay" instead of "0 hospital stays"), unless its unit goes through zero
    as a change does, and a missing number that nobody needs to ask for (no loan, hence no due date).
    A missing value with something to `ask` for is a data gap.

    Examples
    --------
    >>> from poverty_risk import load_catalog
    >>> spec = load_catalog("archive")["inpatient_count_365d"]
    >>> [write_sentence(spec.words["en"], n, spec.unit, "en", raises=True) for n in (0, 1)]
    ['no hospital stay in the last 12 months', '1 hospital stay in the last 12 months']
    """
    texts = load_locale(locale)
    if value is None or pd.isna(value):
        return _write_missing(words, texts["reasons"], raises=raises, kind=kind)
    flag = None
    if kind == "flag":
        flag = bool(value)
    elif kind == "number" and float(value) <= 0 and not _unit(unit, locale).through_zero:
        flag = False
    template = words.sentence(raises=raises, flag=flag) or str(texts["reasons"]["plain"])
    sentence = template.format(label=words.label, value=format_value(value, unit, locale))
    for apart, joined in texts["contractions"].items():
        sentence = sentence.replace(apart, joined)
    return sentence


def _write_missing(words: SentenceWords, texts: dict[str, Any], *, raises: bool, kind: str) -> str:
    if words.ask is not None:
        return str(texts["gap_ask"]).format(ask=words.ask)
    absent = words.sentence(raises=raises, flag=False) if kind == "number" else None
    if absent is not None and "{value}" not in absent:
        return absent
    return str(texts["gap"]).format(label=words.label)


def format_date(
    date: dt.date | str | None, locale: str, style: Literal["day", "month", "short"] = "day"
) -> str:
    """A date as readers of the language write it.

    Parameters
    ----------
    date
        Date, time stamp, ISO text, or missing.
    locale
        ``"zh"`` or ``"en"``.
    style
        ``"day"`` as 15 March 2024, ``"month"`` as March 2024, ``"short"`` as 2024-03.

    Returns
    -------
    str
        The text; "no record" for a missing date.

    Raises
    ------
    DeclarationError
        Not a date, or no such style.

    Examples
    --------
    >>> format_date("2024-03-15", "en"), format_date("2024-03-15", "en", "short")
    ('15 March 2024', '2024-03')
    """
    words = load_locale(locale)
    if date is None or pd.isna(date):
        return str(words["missing"])
    if style not in words["dates"]:
        expected = f"one of {', '.join(words['dates'])}"
        raise DeclarationError(Fault("style", repr(style), expected, "Choose one of them."))
    if isinstance(date, str):
        try:
            date = dt.date.fromisoformat(date[:10])
        except ValueError:
            raise DeclarationError(
                Fault("date", "a text that is none", "a date such as 2024-03-15", "Correct it.")
            ) from None
    name = words["months"][date.month - 1]
    template = str(words["dates"][style])
    return template.format(year=date.year, month=date.month, name=name, day=date.day)


def format_horizon(horizon: str, locale: str) -> str:
    """A horizon such as ``"12mo"`` in words.

    Parameters
    ----------
    horizon
        ``"12mo"`` or ``"365d"``.
    locale
        ``"zh"`` or ``"en"``.

    Returns
    -------
    str
        ``12 months``.

    Examples
    --------
    >>> format_horizon("12mo", "en"), format_horizon("1mo", "en")
    ('12 months', '1 month')
    """
    unit = "mo" if horizon.endswith("mo") else "d"
    return format_value(float(horizon.removesuffix(unit)), f"horizon_{unit}", locale)
