"""Mapping files: loading them, and finding which of them a sheet belongs to."""

from __future__ import annotations

import functools
from collections.abc import Mapping as MappingABC
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poverty_risk.declarations import parse_declaration, read_yaml
from poverty_risk.exceptions import DeclarationError, Fault
from poverty_risk.sources.header_matching import assign_headers, plain_header
from poverty_risk.sources.kinds import Mapping
from poverty_risk.sources.raw import RawSheet

__all__ = ["Mapping", "Match", "find_mapping", "list_mappings", "load_mapping", "match_sheet"]

_FOLDER = Path(__file__).parent / "mappings"
_SHARED = "_shared.yaml"
_NO_MAPPINGS = frozenset({"words"})
"""Files of the folder that declare something else than a kind of file."""


@dataclass(frozen=True)
class Match:
    """How a sheet fits a kind of file.

    Parameters
    ----------
    mapping
        The kind.
    headers
        Header of the sheet by field.
    missing
        What the kind needs and the sheet does not have: fields, alternatives with a stroke between.
    unmapped
        Headers of the sheet that the kind has no field for.
    titled
        Whether the name of the file or sheet speaks of the kind.
    """

    mapping: Mapping
    headers: MappingABC[str, str]
    missing: tuple[str, ...]
    unmapped: tuple[str, ...]
    titled: bool

    @property
    def complete(self) -> bool:
        """Whether everything that the kind needs was found."""
        return not self.missing

    @property
    def confidence(self) -> float:
        """Between 0 and 1: what was found of what the kind needs, and explained of the sheet."""
        mapping = self.mapping
        needed = len(_needs(mapping))
        told = len(self.headers) / max(len(self.headers) + len(self.unmapped), 1)
        met = (needed - len(self.missing)) / needed
        return round(met * (0.5 + 0.4 * told + 0.1 * self.titled), 3)


def _needs(mapping: Mapping) -> list[tuple[str, ...]]:
    """Groups of fields of which a sheet must have one each."""
    required = [(name,) for name, field in mapping.fields.items() if field.required]
    return list(dict.fromkeys([*required, *mapping.one_of, *mapping.signature]))


def match_sheet(sheet: RawSheet, mapping: Mapping) -> Match:
    """How a sheet fits one kind of file.

    Parameters
    ----------
    sheet
        A sheet as it was read.
    mapping
        The kind.

    Returns
    -------
    Match
        Which header is which field, and what is missing.

    Examples
    --------
    >>> import pyarrow as pa
    >>> from poverty_risk.sources.raw import RawSheet
    >>> sheet = RawSheet("a.csv", "", pa.table({"b": ["c"]}), pa.array([2]))
    >>> match_sheet(sheet, load_mapping("microcredit")).unmapped
    ('b',)
    """
    names = sheet.cells.column_names
    aliases = {name: field.headers for name, field in mapping.fields.items()}
    headers = assign_headers(names, aliases)
    missing = tuple(
        "|".join(group) for group in _needs(mapping) if not any(name in headers for name in group)
    )
    serial = {plain_header(name).text for name in mapping.serial}
    used = set(headers.values())
    unmapped = tuple(n for n in names if n not in used and plain_header(n).text not in serial)
    title = plain_header(f"{sheet.file} {sheet.sheet}").text
    titled = any(plain_header(word).text in title for word in mapping.titles)
    return Match(mapping, headers, missing, unmapped, titled)


@functools.cache
def _shared() -> dict[str, Any]:
    return read_yaml(_FOLDER / _SHARED)


def _resolve(content: dict[str, Any], place: str, depth: int = 0) -> dict[str, Any]:
    """Content of a file with what it takes from the shared fields and from the kind it extends."""
    content = dict(content)
    base_name = content.pop("extends", None)
    if base_name is not None:
        if depth > 5:
            raise DeclarationError(
                Fault(place, f"extends '{base_name}'", "at most five steps", "Break the circle.")
            )
        base_path = _find_path(str(base_name))
        base = _resolve(read_yaml(base_path), base_path.name, depth + 1)
        fields = _merge_fields(base.get("fields", {}), content.pop("fields", None) or {}, place)
        return base | _with_shared_tables(content, place) | {"fields": fields}
    shared = _shared()
    taken = content.pop("shared", None) or []
    if not isinstance(taken, list):
        taken = [taken]
    if unknown := [name for name in taken if str(name) not in shared["fields"]]:
        raise DeclarationError(
            Fault(
                f"{place}, 'shared'",
                ", ".join(map(str, unknown)),
                f"one of {', '.join(shared['fields'])}",
                "Correct the name, or declare the field here.",
            )
        )
    fields = {name: shared["fields"][name] for name in taken}
    content["fields"] = _merge_fields(fields, content.get("fields") or {}, place)
    content = _with_shared_tables(content, place)
    return {"serial": shared["serial"], "units": shared["units"]} | content


def _with_shared_tables(content: dict[str, Any], place: str) -> dict[str, Any]:
    """Content in which names among its tables became the shared rules of that name."""
    if not isinstance(content.get("tables"), list):
        return content
    shared = _shared()["tables"]
    rules: list[Any] = []
    for rule in content["tables"]:
        if isinstance(rule, str) and rule not in shared:
            raise DeclarationError(
                Fault(
                    f"{place}, 'tables'",
                    f"'{rule}'",
                    f"a rule, or one of {', '.join(shared)}",
                    "Correct the name.",
                )
            )
        rules += shared[rule] if isinstance(rule, str) else [rule]
    return content | {"tables": rules}


def _merge_fields(base: MappingABC[str, Any], own: Any, place: str) -> dict[str, Any]:
    """Fields of two files: own headers first, own codes added, all else replaced."""
    if not isinstance(own, MappingABC) or not all(isinstance(f, MappingABC) for f in own.values()):
        raise DeclarationError(
            Fault(f"{place}, 'fields'", type(own).__name__, "fields by name", "Correct the file.")
        )
    merged = dict(base)
    for name, field in own.items():
        before = merged.get(name, {})
        merged[name] = {**before, **field}
        # What is of the wrong kind stays as it is, for the declaration to refuse.
        headers, codes = field.get("headers", []), field.get("codes", {})
        if "headers" in before and isinstance(headers, list):
            merged[name]["headers"] = [
                *headers,
                *(h for h in before["headers"] if h not in headers),
            ]
        if "codes" in before and isinstance(codes, dict):
            merged[name]["codes"] = {**before["codes"], **codes}
    return merged


def _find_path(name: str | Path) -> Path:
    shipped = _FOLDER / f"{name}.yaml"
    if str(name) in list_mappings():
        return shipped
    path = Path(name)
    if not path.is_file():
        raise DeclarationError(
            Fault(
                "mapping",
                f"'{name}'",
                f"a YAML file or one of {', '.join(list_mappings())}",
                "Check the name.",
            )
        )
    return path


@functools.cache
def list_mappings() -> tuple[str, ...]:
    """Names of the shipped mappings.

    Examples
    --------
    >>> "national_person" in list_mappings()
    True
    """
    names = sorted(path.stem for path in _FOLDER.glob("*.yaml"))
    return tuple(name for name in names if name[0] != "_" and name not in _NO_MAPPINGS)


def load_mapping(name: str | Path) -> Mapping:
    """Load a shipped mapping by name, or one of your own by path.

    An own one may start with ``extends: <shipped name>`` and then say only what differs: further
    headers and codes of fields are added, everything else takes the place of what the shipped one
    says.

    Parameters
    ----------
    name
        Name as in `list_mappings`, or a YAML file.

    Returns
    -------
    Mapping
        The declared kind of file.

    Raises
    ------
    DeclarationError
        No such mapping, or faults in the file, all in one error.

    Examples
    --------
    >>> load_mapping("medical_bills").reporting_lag
    '35d'
    """
    path = _find_path(name)
    if path.parent == _FOLDER:
        return _load_shipped(path.stem)
    return parse_declaration(Mapping, _resolve(read_yaml(path), path.name), path.name)


@functools.cache
def _load_shipped(name: str) -> Mapping:
    path = _FOLDER / f"{name}.yaml"
    return parse_declaration(Mapping, _resolve(read_yaml(path), path.name), path.name)


def find_mapping(sheet: RawSheet, mappings: Sequence[Mapping] = ()) -> list[Match]:
    """Which kinds of file a sheet can be, the best first.

    Parameters
    ----------
    sheet
        A sheet as it was read.
    mappings
        Mappings of your own; they go before a shipped one of the same name.

    Returns
    -------
    list of Match
        Complete matches (every column that the kind needs was found) before incomplete ones, then
        by how much of the sheet a kind explains. Kinds of which nothing was found are left out.

    Examples
    --------
    >>> import pyarrow as pa
    >>> from poverty_risk.sources.raw import RawSheet
    >>> cells = pa.table({name: pa.array([], pa.string()) for name in ("loan_id", "bank")})
    >>> sheet = RawSheet("unknown.csv", "", cells, pa.array([], pa.int64()))
    >>> find_mapping(sheet)
    []
    """
    own = {mapping.name: mapping for mapping in mappings}
    shipped = {name: _load_shipped(name) for name in list_mappings() if name not in own}
    matches = [match_sheet(sheet, mapping) for mapping in [*own.values(), *shipped.values()]]
    return sorted((match for match in matches if match.headers), key=_rank)


def _rank(match: Match) -> tuple[bool, float, float, str]:
    told = len(match.headers) + 2 * match.titled
    # Of two kinds that explain as much, the one of which more was found.
    share = len(match.headers) / len(match.mapping.fields)
    return not match.complete, -told, -share, match.mapping.name
