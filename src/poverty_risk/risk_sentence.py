"""A risk as a sentence about households like this one, with how sure it is."""

from __future__ import annotations

import numpy as np

from poverty_risk.risk_intervals import count_between
from poverty_risk.wording import format_horizon, load_locale, round_size

__all__ = ["WIDEST_RANGE", "describe_risk"]

WIDEST_RANGE = 0.5
"""Between ends further apart a risk may be almost anything: numbers would look like knowledge."""


def describe_risk(
    risk: float,
    horizon: str,
    locale: str = "zh",
    outcome: str = "",
    between: tuple[float, float] | None = None,
) -> str:
    """A risk in words: of 100 (or 1,000) such households about so many.

    Parameters
    ----------
    risk
        Calibrated probability.
    horizon
        How far ahead it looks.
    locale
        Language.
    outcome
        Name of the outcome, which is told as what it is: being identified is no return to poverty.
    between
        Ends of the risk's interval, told in brackets as a rough range, or as a guess where it is so wide
        that its ends say nothing; None or missing ends: no range.

    Examples
    --------
    >>> describe_risk(0.12, "12mo", "en", "newly identified as a monitored household")
    'About 12 of 100 such households will have this outcome within 12 months: newly identified as a monitored household'
    >>> describe_risk(0.12, "6mo", "en", "dibao", between=(0.07, 0.19))
    'About 12 of 100 such households (rough range: 7 to 19) will have this outcome within 6 months: dibao'
    >>> describe_risk(0.42, "6mo", "en", "dibao", between=(0.07, 0.89))
    'About 42 of 100 such households (a very rough guess) will have this outcome within 6 months: dibao'
    """
    words = load_locale(locale)["reasons"]
    key, base = ("of_hundred", 100) if risk >= 0.02 else ("of_hundred_rare", 1000)
    count, beside = int(round_size(risk * base)), ""
    if between is not None and not np.isnan(between).any():
        low, high = count_between(*between, base)
        wide = between[1] - between[0] > WIDEST_RANGE
        beside = str(words["between_wide" if wide else "between"]).format(low=low, high=high)
    return str(words[key if count else "fewer_than_one"]).format(
        count=count,
        between=beside,
        horizon=format_horizon(horizon, locale),
        outcome=outcome or words["some_outcome"],
    )
