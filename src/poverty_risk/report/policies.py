"""The policy table: options by risk type, for officers to consider; not output of the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path

from poverty_risk.declarations import Declared, Words, read_declaration
from poverty_risk.report.facts import MeasureOption
from poverty_risk.wording import load_locale

__all__ = ["PolicyTable"]

MOST_OPTIONS = 5
PER_TYPE = 3


class Option(Declared):
    """One option: what can be done, and which department does it."""

    text: Words
    department: Words


class PolicyTable(Declared):
    """Options by risk type; an office edits a copy of ``policies.yaml``.

    Parameters
    ----------
    name
        Whose table it is, and as of when.
    options
        Options by official risk type, the most usual first.
    """

    name: Words
    risk_types: Mapping[str, tuple[Option, ...]]

    @classmethod
    def load(cls, path: str | Path | None = None) -> PolicyTable:
        """Load a table; the shipped one by default.

        Raises
        ------
        DeclarationError
            Faults in the file.
        """
        shipped = Path(str(resources.files("poverty_risk") / "report" / "policies.yaml"))
        return read_declaration(cls, shipped if path is None else path)

    def options(self, risk_types: Iterable[str], locale: str) -> tuple[MeasureOption, ...]:
        """Options for some risk types, main one first, in a language."""
        names = load_locale(locale)["risk_types"]
        found = [
            MeasureOption(str(names[kind]), option.text[locale], option.department[locale])
            for kind in risk_types
            for option in self.risk_types.get(kind, ())[:PER_TYPE]
        ]
        return tuple(found[:MOST_OPTIONS])
