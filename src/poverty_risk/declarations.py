"""What users declare in YAML (schemas, catalogues, rules, configs): one way to read it, one error."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from poverty_risk.exceptions import DeclarationError, Fault

__all__ = ["Declared", "Words", "parse_declaration", "read_declaration", "read_yaml"]

MAX_DECLARATION_BYTES = 4_000_000
"""A catalogue of a thousand features is under one megabyte; more is not a declaration."""


class Declared(BaseModel):
    """A frozen declaration in which an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class Words(Declared):
    """One text in the two languages of the package."""

    zh: str
    en: str

    def __getitem__(self, locale: str) -> str:
        return self.zh if locale == "zh" else self.en


DeclaredType = TypeVar("DeclaredType", bound=Declared)


def _fields_at(model: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    """Names of the keys that are valid where an unknown key was found."""
    current: Any = model
    for step in location[:-1]:
        current = _without_none(current)
        if _is_model(current):
            field = current.model_fields.get(str(step))
            current = field.annotation if field is not None else None
        else:
            # Of dict[str, Table] the value type, of tuple[Condition, ...] the item type.
            arguments = [kind for kind in get_args(current) if kind is not Ellipsis]
            current = arguments[-1] if arguments else None
    current = _without_none(current)
    return list(current.model_fields) if _is_model(current) else []


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _without_none(annotation: Any) -> Any:
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    return kinds[0] if type(None) in get_args(annotation) and len(kinds) == 1 else annotation


def _fault(model: type[BaseModel], error: Mapping[str, Any], place: str) -> Fault:
    location = tuple(error["loc"])
    where = ".".join(str(step) for step in location)
    if error["type"] == "extra_forbidden":
        valid = _fields_at(model, location)
        near = difflib.get_close_matches(str(location[-1]), valid, n=1, cutoff=0.4)
        section = ".".join(str(step) for step in location[:-1]) or "top level"
        remedy = f"Did you mean '{near[0]}'?" if near else "Remove it or correct its name."
        return Fault(
            f"{place}, section '{section}'",
            f"unknown key '{location[-1]}'",
            f"one of {', '.join(valid)}" if valid else "no such key",
            remedy,
        )
    found = repr(error.get("input"))
    if len(found) > 80:
        found = found[:77] + "..."
    return Fault(f"{place}, '{where}'", found, error["msg"], "Correct the value.")


def parse_declaration(
    model: type[DeclaredType], mapping: Mapping[str, Any], place: str
) -> DeclaredType:
    """Turn a mapping into a declaration, or raise one error with all that is wrong.

    Parameters
    ----------
    model
        The declaration class.
    mapping
        Plain values as YAML gives them.
    place
        Where the mapping comes from, for the error.

    Returns
    -------
    Declared
        The frozen declaration.

    Raises
    ------
    DeclarationError
        Unknown keys (with the nearest valid one), missing keys, wrong values.
    """
    try:
        return model.model_validate(dict(mapping))
    except ValidationError as error:
        faults = [_fault(model, item, place) for item in error.errors(include_url=False)]
        raise DeclarationError(faults) from None


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file safely into a mapping.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    dict
        Its top level.

    Raises
    ------
    DeclarationError
        The file is missing, too large, not YAML, or not a mapping.
    """
    path = Path(path)
    if not path.is_file():
        raise DeclarationError(Fault(str(path), "no such file", "a YAML file", "Check the path."))
    if path.stat().st_size > MAX_DECLARATION_BYTES:
        raise DeclarationError(
            Fault(
                str(path),
                f"{path.stat().st_size:,} bytes",
                f"at most {MAX_DECLARATION_BYTES:,}",
                "Is this really a declaration?",
            )
        )
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_SAFE_LOADER)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = str(error).replace("\n", " ")
        raise DeclarationError(
            Fault(str(path), reason, "valid YAML in UTF-8", "Correct the file.")
        ) from None
    if not isinstance(content, dict):
        raise DeclarationError(
            Fault(str(path), type(content).__name__, "keys and values", "Correct the file.")
        )
    return content


# The C loader reads a large catalogue ten times faster; both are the safe subset.
_SAFE_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_declaration(model: type[DeclaredType], path: str | Path) -> DeclaredType:
    """Read a YAML file into a declaration (see `parse_declaration`, `read_yaml`)."""
    return parse_declaration(model, read_yaml(path), str(Path(path).name))
