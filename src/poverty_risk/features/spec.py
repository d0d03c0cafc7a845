"""The feature catalogue: one entry per feature, read by everything that touches the feature."""

from __future__ import annotations

import functools
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from poverty_risk.declarations import Declared, parse_declaration, read_yaml
from poverty_risk.exceptions import DeclarationError, Fault
from poverty_risk.features.words import FeatureWords
from poverty_risk.language import find_names
from poverty_risk.schema import Schema
from poverty_risk.windows import Lookback

__all__ = ["AGGREGATORS", "Catalog", "FeatureSpec", "FeatureWords", "load_catalog"]

Aggregator = Literal[
    "last",
    "first",
    "sum",
    "mean",
    "min",
    "max",
    "std",
    "cv",
    "slope",
    "delta",
    "count",
    "nunique",
    "share",
    "days_since_last",
    "exists",
]
AGGREGATORS: tuple[str, ...] = Aggregator.__args__  # type: ignore[attr-defined]
"""How the records of a window become one value."""

ZERO_WHEN_EMPTY = frozenset({"sum", "count", "nunique", "exists"})
"""Aggregators of nothing that are 0; every other aggregator of nothing is missing."""

WITHOUT_VALUE = frozenset({"count", "exists", "days_since_last"})
TREATMENT_LAG_DAYS = 90
"""Help given within this time may be the consequence of the outcome itself (domain notes, section 4)."""


class FeatureSpec(Declared):
    """One feature: what it is computed from, which way it should point, and its words.

    An entry either aggregates records (`table` and `aggregator`) or combines other features
    (`formula`). Names are derived: ``<stem>_<aggregator>_<lookback>`` for the first kind (with
    ``_lag<days>d`` when lagged), the stem itself for the second.

    Parameters
    ----------
    stem
        First part of the name.
    table
        Declared history table.
    value
        Expression over its columns.
    where
        Filter over its columns.
    latest_per
        First keep, of each point's known records in the window, only the latest per these columns.
    aggregator
        How the records of the window become one value.
    lookback
        ``"365d"`` or ``"ever"``.
    lag
        Days directly before the as-of date that are left out, as ``"90d"``.
    formula
        Expression over other features by name.
    theme
        Group in which contributions are summed and told.
    direction
        +1: a higher value means a higher risk; -1: a lower one; 0: unconstrained.
    unit
        Unit of the value, for formatting.
    risk_type
        Official risk type that a reason of this feature points to.
    role
        ``model``, or ``ingredient``: computed, but not given to the model.
    kind
        ``number``, ``flag`` (0 or 1) or ``category``.
    compare
        What tells a reader whether the value is high or low: ``own`` (the household's value a year
        earlier), ``place`` (the median of its village), ``both``, or ``none``.
    changeable
        Whether the household or an office could change it within the horizon: income, a job,
        insurance, a repair; never age, the past, or who lives there.
    words
        Words by language.

    Examples
    --------
    >>> from poverty_risk import FeatureSpec
    >>> FeatureSpec(stem="flood", table="shock", where="kind == 'flood'", aggregator="count",
    ...             lookback="730d", theme="shock", direction=1).name
    'flood_count_730d'
    """

    stem: str = Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=80)
    table: str | None = None
    value: str | None = None
    where: str | None = None
    latest_per: tuple[str, ...] = ()
    aggregator: Aggregator | None = None
    lookback: str = "ever"
    lag: str = "0d"
    formula: str | None = None
    theme: str
    direction: Literal[-1, 0, 1] = 0
    unit: str = "ratio"
    risk_type: str = "other"
    role: Literal["model", "ingredient"] = "model"
    kind: Literal["number", "flag", "category"] = "number"
    compare: Literal["own", "place", "both", "none"] = "both"
    changeable: bool = False
    words: dict[Literal["zh", "en"], FeatureWords] = Field(default_factory=dict)

    @field_validator("lookback", "lag")
    @classmethod
    def _is_length(cls, text: str) -> str:
        try:
            Lookback.parse(text)
        except DeclarationError as error:
            raise ValueError(str(error)) from None
        return text

    @field_validator("lookback")
    @classmethod
    def _holds_something(cls, text: str) -> str:
        if Lookback.parse(text).days == 0:
            message = "a lookback of 0 days holds nothing"
            raise ValueError(message)
        return text

    @model_validator(mode="after")
    def _one_kind_of_entry(self) -> FeatureSpec:
        if (self.formula is None) == (self.table is None):
            message = "an entry has either 'table' with 'aggregator', or 'formula'"
            raise ValueError(message)
        if self.table is not None and self.aggregator is None:
            message = "an entry with 'table' needs an 'aggregator'"
            raise ValueError(message)
        needs_value = self.table is not None and self.aggregator not in WITHOUT_VALUE
        if needs_value != (self.value is not None):
            message = (
                f"aggregator '{self.aggregator}' {'needs' if needs_value else 'takes no'} value"
            )
            raise ValueError(message)
        if self.kind == "category" and (self.aggregator not in ("last", "first") or self.direction):
            message = "a category is the last or first value and has no direction"
            raise ValueError(message)
        if self.changeable and not self.direction:
            message = "a feature that can be changed needs a direction"
            raise ValueError(message)
        return self

    @functools.cached_property
    def name(self) -> str:
        """The derived name."""
        if self.formula is not None:
            return self.stem
        window = Lookback.parse(self.lookback, self.lag)
        lagged = f"_lag{window.lag}d" if window.lag else ""
        return f"{self.stem}_{self.aggregator}_{window}{lagged}"

    def label(self, locale: str) -> str:
        """Its short name in a language; the derived name when it has no words."""
        words = self.words.get(locale)  # type: ignore[call-overload]
        return words.label if words is not None else self.name


class Catalog:
    """Features in a fixed order, found by name.

    Parameters
    ----------
    specs
        The entries; names must be unique.
    schema_name
        Schema that the entries are written for.
    place
        Where they come from, for errors.

    Raises
    ------
    DeclarationError
        Repeated names, a formula over unknown features or in a circle: all in one error.

    Examples
    --------
    >>> from poverty_risk import Catalog, FeatureSpec
    >>> floods = FeatureSpec(stem="flood", table="shock", where="kind == 'flood'",
    ...                      aggregator="count", lookback="730d", theme="shock", direction=1)
    >>> flooded = FeatureSpec(stem="flooded", formula="flood_count_730d > 0", theme="shock")
    >>> Catalog([floods, flooded], "archive", "my features").names
    ('flood_count_730d', 'flooded')
    """

    def __init__(self, specs: Iterable[FeatureSpec], schema_name: str, place: str) -> None:
        self.specs = tuple(specs)
        self.schema_name = schema_name
        self.place = place
        self._by_name = {spec.name: spec for spec in self.specs}
        faults = self._find_faults()
        if faults:
            raise DeclarationError(faults)

    def _find_faults(self) -> list[Fault]:
        names = [spec.name for spec in self.specs]
        faults = [
            Fault(f"{self.place}, '{name}'", "this name twice", "unique names", "Rename the stem.")
            for name in sorted({name for name in names if names.count(name) > 1})
        ]
        for spec in self.specs:
            if spec.formula is None:
                continue
            unknown = find_names(spec.formula, f"{self.place}, '{spec.name}'") - set(names)
            faults += [
                Fault(
                    f"{self.place}, '{spec.name}'",
                    f"'{name}' in its formula",
                    "a feature of this catalogue",
                    "Correct the name or add the feature.",
                )
                for name in sorted(unknown)
            ]
        return faults or self._find_circles()

    def _find_circles(self) -> list[Fault]:
        try:
            _ = self.formula_stages
        except RecursionError:
            return [Fault(self.place, "formulas in a circle", "none", "Break the circle.")]
        return []

    @functools.cached_property
    def formula_stages(self) -> tuple[tuple[FeatureSpec, ...], ...]:
        """Formulas in the order in which they can be computed."""
        done = {spec.name for spec in self.specs if spec.formula is None}
        waiting = [spec for spec in self.specs if spec.formula is not None]
        stages: list[tuple[FeatureSpec, ...]] = []
        while waiting:
            ready = tuple(s for s in waiting if find_names(str(s.formula)) <= done)
            if not ready:
                raise RecursionError
            stages.append(ready)
            done |= {spec.name for spec in ready}
            waiting = [spec for spec in waiting if spec.name not in done]
        return tuple(stages)

    def __len__(self) -> int:
        return len(self.specs)

    def __getitem__(self, name: str) -> FeatureSpec:
        if name not in self._by_name:
            raise DeclarationError(
                Fault(self.place, f"feature '{name}'", "a feature of the catalogue", "Check it.")
            )
        return self._by_name[name]

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all features in order."""
        return tuple(self._by_name)

    @property
    def model_names(self) -> tuple[str, ...]:
        """Names of the features that a model is given, in order."""
        return tuple(spec.name for spec in self.specs if spec.role == "model")

    def tables_of(self, name: str) -> tuple[str, ...]:
        """History tables that a feature is computed from, through all its formulas."""
        return self._tables[self[name].name]

    @functools.cached_property
    def _tables(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {
            spec.name: (spec.table,) for spec in self.specs if spec.table is not None
        }
        for spec in (spec for stage in self.formula_stages for spec in stage):
            used = find_names(str(spec.formula))
            parts = [part for part in self.names if part in used]
            found[spec.name] = tuple(dict.fromkeys(t for part in parts for t in found[part]))
        return found

    @property
    def themes(self) -> tuple[str, ...]:
        """Themes in the order in which they first appear."""
        return tuple(dict.fromkeys(spec.theme for spec in self.specs))

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of all entries: the same features, the same hash."""
        entries = json.dumps(self.to_list(), sort_keys=True, ensure_ascii=True)
        return hashlib.blake2b(entries.encode(), digest_size=16).hexdigest()

    def to_list(self) -> list[dict[str, Any]]:
        """Plain entries as in a catalogue file."""
        return [spec.model_dump(exclude_defaults=True) for spec in self.specs]

    def extended(self, specs: Iterable[FeatureSpec]) -> Catalog:
        """A catalogue with further features at its end."""
        return Catalog([*self.specs, *specs], self.schema_name, self.place)

    def select(self, names: Iterable[str]) -> Catalog:
        """Only the named features and what their formulas need (as ingredients)."""
        wanted = set(names)
        needed, queue = set(wanted), list(wanted)
        while queue:
            spec = self[queue.pop()]
            found = find_names(spec.formula) - needed if spec.formula else frozenset()
            needed |= found
            queue.extend(found)
        return Catalog(
            [
                s if s.name in wanted else s.model_copy(update={"role": "ingredient"})
                for s in self.specs
                if s.name in needed
            ],
            self.schema_name,
            self.place,
        )

    def codes(self, spec: FeatureSpec, schema: Schema) -> tuple[str, ...]:
        """The codes of a category feature, pinned by the schema."""
        column = schema.tables[str(spec.table)].all_columns.get(str(spec.value))
        return column.codes if column is not None else ()

    def find_columns(self, schema: Schema) -> dict[str, set[str]]:
        """Columns of tables that the features read, by table; without the dates of records."""
        columns: dict[str, set[str]] = defaultdict(set)
        for spec in self.specs:
            if spec.table is not None:
                read = {*schema.tables[spec.table].id_columns[:1], *spec.latest_per}
                texts = [text for text in (spec.value, spec.where) if text is not None]
                columns[spec.table] |= read.union(*(find_names(text) for text in texts))
        if any(schema.tables[name].entity == "village" for name in columns):
            lives = schema.groups["village"]
            columns[lives.table].add(lives.column)
        return dict(columns)

    def check(self, schema: Schema) -> None:
        """Check every entry against a schema.

        Raises
        ------
        DeclarationError
            Unknown tables or columns, blocked columns, help that is not lagged or is constrained,
            a category without codes: all in one error.
        """
        faults: list[Fault] = []
        for spec in self.specs:
            if spec.table is not None:
                faults += _check_entry(spec, schema, f"{self.place}, '{spec.name}'")
        if faults:
            raise DeclarationError(faults)


def _check_entry(spec: FeatureSpec, schema: Schema, place: str) -> list[Fault]:
    if spec.table not in schema.tables:
        known = ", ".join(schema.tables)
        return [Fault(place, f"table '{spec.table}'", f"one of {known}", "Correct the name.")]
    table = schema.tables[str(spec.table)]
    columns = table.all_columns
    used = set(spec.latest_per)
    for text in (spec.value, spec.where):
        used |= find_names(text, place) if text is not None else set()
    faults = [
        Fault(place, f"column '{name}'", f"one of {', '.join(columns)}", "Correct the name.")
        for name in sorted(used - set(columns))
    ]
    faults += [
        Fault(
            place,
            f"column '{name}'",
            f"no feature on it: {columns[name].blocked}",
            "Remove the feature.",
        )
        for name in sorted(used & set(columns))
        if columns[name].blocked
    ]
    lag = Lookback.parse("ever", spec.lag).lag
    if table.treatment and (lag < TREATMENT_LAG_DAYS or spec.direction):
        faults.append(
            Fault(
                place,
                f"lag {lag}d, direction {spec.direction}",
                f"lag >= {TREATMENT_LAG_DAYS}d and direction 0 on '{spec.table}'",
                "Help given follows the outcome: lag it and leave it unconstrained.",
            )
        )
    if spec.kind == "category" and not getattr(columns.get(str(spec.value)), "codes", ()):
        faults.append(
            Fault(place, f"value '{spec.value}'", "a column with codes", "Name the column alone.")
        )
    return faults


class _CatalogFile(Declared):
    schema_name: str = Field(alias="schema")
    features: tuple[FeatureSpec, ...]


def parse_catalog(content: Mapping[str, Any], place: str) -> Catalog:
    """Read a catalogue from plain values (keys ``schema`` and ``features``)."""
    file = parse_declaration(_CatalogFile, content, place)
    return Catalog(file.features, file.schema_name, place)


def load_catalog(name: str | Path = "archive", extra: str | Path | None = None) -> Catalog:
    """Load a shipped feature catalogue by name, or one of your own by path.

    Parameters
    ----------
    name
        ``"archive"``, ``"eph"``, or a YAML file.
    extra
        YAML file with further features to add.

    Returns
    -------
    Catalog
        The features in order.

    Raises
    ------
    DeclarationError
        No such catalogue, or faults in the file, all in one error.

    Examples
    --------
    >>> from poverty_risk import load_catalog
    >>> "shock" in load_catalog("archive").themes
    True
    """
    shipped = resources.files("poverty_risk.features") / "catalogs"
    path = Path(str(shipped / f"{name}.yaml"))
    if not path.is_file():
        path = Path(name)
    catalog = parse_catalog(read_yaml(path), path.name)
    if extra is None:
        return catalog
    return catalog.extended(parse_catalog(read_yaml(extra), Path(extra).name).specs)
