"""The office's rules over single indicators, as a file declares them."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field

from poverty_risk.array_expressions import compute_expressions
from poverty_risk.declarations import Declared, read_declaration
from poverty_risk.exceptions import DeclarationError, Fault, FeatureError
from poverty_risk.expressions import find_names

__all__ = ["OfficeRules", "Rule", "check_columns"]

SEVERITIES = {"red": 3, "orange": 2, "yellow": 1, "grey": 0}
"""Severities of rules and their order; grey tells of the data, not of the household."""


class Rule(Declared):
    """One rule: a condition over features, with its colour and its words.

    Parameters
    ----------
    code
        Permanent code.
    severity
        ``red``, ``orange``, ``yellow``, or ``grey`` (about the data, not the household).
    when
        Condition over feature names and the named thresholds.
    zh, en
        What it says.
    """

    code: str
    severity: Literal["red", "orange", "yellow", "grey"]
    when: str
    zh: str
    en: str


class _RuleFile(Declared):
    name: str
    parameters: dict[str, float] = Field(default_factory=dict)
    rules: tuple[Rule, ...]


class OfficeRules:
    """The office's rules over single indicators.

    Any hit flags a household; its colour is the worst severity among its hits.

    Parameters
    ----------
    rules
        The rules in order.
    parameters
        Thresholds that their conditions name.
    place
        Where they come from, for errors.

    Raises
    ------
    DeclarationError
        No rule, a code twice, conditions that are no expressions: all in one error.

    Examples
    --------
    >>> from poverty_risk.baselines import OfficeRules
    >>> rules = OfficeRules.load()
    >>> rules.rules[0].code, rules.rules[0].severity
    ('R1', 'red')
    """

    def __init__(
        self, rules: tuple[Rule, ...], parameters: dict[str, float], place: str = "rules"
    ) -> None:
        self.rules, self.parameters, self.place = tuple(rules), dict(parameters), place
        self._levels = np.array([SEVERITIES[rule.severity] for rule in self.rules], dtype=int)
        self.features = self._find_features()

    def _find_features(self) -> tuple[str, ...]:
        codes = [rule.code for rule in self.rules]
        faults = [
            Fault(self.place, f"rule '{code}' twice", "unique codes", "Rename.")
            for code in sorted({code for code in codes if codes.count(code) > 1})
        ]
        if not codes:
            faults = [Fault(self.place, "no rule", "one at least", "Add a rule.")]
        names: set[str] = set()
        for rule in self.rules:
            try:
                names |= find_names(rule.when, f"{self.place}, rule '{rule.code}'")
            except DeclarationError as error:
                faults += error.faults
        if faults:
            raise DeclarationError(faults)
        return tuple(sorted(names - set(self.parameters)))

    @classmethod
    def load(cls, path: str | Path | None = None) -> OfficeRules:
        """Load rules from a YAML file; the shipped twelve by default.

        Parameters
        ----------
        path
            File with the keys of the shipped ``rules.yaml``.

        Returns
        -------
        OfficeRules
            The rules in the order of the file.

        Raises
        ------
        DeclarationError
            Faults in the file.
        """
        shipped = Path(str(resources.files("poverty_risk") / "rules.yaml"))
        path = shipped if path is None else Path(path)
        file = read_declaration(_RuleFile, path)
        return cls(file.rules, file.parameters, path.name)

    def hits(self, features: pd.DataFrame) -> pd.DataFrame:
        """Which rules each household hits.

        Parameters
        ----------
        features
            Features with the columns that the rules name; a missing value is no hit.

        Returns
        -------
        DataFrame
            One boolean column per rule, index of `features`.

        Raises
        ------
        FeatureError
            Columns that are not there, all in one error.
        """
        check_columns(features, self.features, self.place)
        base = features[list(self.features)].assign(**self.parameters)
        conditions = {rule.code: rule.when for rule in self.rules}
        return compute_expressions(base, conditions, self.place) == 1.0

    def severity(self, features: pd.DataFrame) -> pd.Series:
        """The worst colour of each household.

        Parameters
        ----------
        features
            As for `hits`.

        Returns
        -------
        Series
            Colour, index of `features`; missing where no rule is hit.
        """
        worst = np.where(self.hits(features).to_numpy(), self._levels, -1).max(axis=1)
        names = {level: colour for colour, level in SEVERITIES.items()}
        return pd.Series([names.get(level) for level in worst], index=features.index, dtype="str")

    def margin(self, features: pd.DataFrame) -> pd.Series:
        """An order of households, not a probability: worst colour first, then the number of hits.

        Grey hits do not count: they tell of the data, not of the household.

        Parameters
        ----------
        features
            As for `hits`.

        Returns
        -------
        Series
            Named ``margin``, float64, index of `features`; many households are tied, at 0 all those
            that no rule (or a grey one alone) hits.
        """
        hits = self.hits(features).to_numpy()
        worst = np.where(hits, self._levels, 0).max(axis=1)
        number = hits[:, self._levels > 0].sum(axis=1)
        # Less than 1 is added, so that no number of hits outweighs a colour.
        values = worst + number / (len(self.rules) + 1)
        return pd.Series(values, index=features.index, name="margin", dtype="float64")


def check_columns(features: pd.DataFrame, names: Iterable[str], place: str) -> None:
    """Check that features are there.

    Raises
    ------
    FeatureError
        Features that are not, all in one error.
    """
    if absent := [name for name in names if name not in features.columns]:
        raise FeatureError(
            [
                Fault(place, f"no feature '{name}'", "a column of that name", "Build or rename it.")
                for name in absent
            ]
        )
