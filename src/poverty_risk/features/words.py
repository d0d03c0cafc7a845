"""The words of a feature in one language."""

from __future__ import annotations

from poverty_risk.declarations import Declared

__all__ = ["FeatureWords"]


class FeatureWords(Declared):
    """What a feature is called and how it is told, in one language.

    Parameters
    ----------
    label
        Short noun phrase.
    raises, lowers
        Sentence for when its contribution raises or lowers the assessed risk; may hold ``{value}``.
        What the value is compared with is added behind it (see `compare`).
    either
        One sentence for both directions, where the value alone says it.
    raises_true, raises_false, lowers_true, lowers_false, either_true, either_false
        The same for a flag, by its value. A ``_false`` sentence also tells a number that is zero or
        less (unless its unit goes through zero), and a missing number that nobody needs to ask for.
    ask
        What to ask for when the value is missing.
    """

    label: str
    raises: str | None = None
    lowers: str | None = None
    either: str | None = None
    raises_true: str | None = None
    raises_false: str | None = None
    lowers_true: str | None = None
    lowers_false: str | None = None
    either_true: str | None = None
    either_false: str | None = None
    ask: str | None = None

    def sentence(self, *, raises: bool, flag: bool | None) -> str | None:
        """The sentence for a direction and, for a flag, its value; None when there is none."""
        direction = "raises" if raises else "lowers"
        by_value = "" if flag is None else f"_{str(flag).lower()}"
        for name in (f"{direction}{by_value}", f"either{by_value}", direction, "either"):
            text: str | None = getattr(self, name)
            if text is not None:
                return text
        return None
