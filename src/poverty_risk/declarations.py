"""What users declare in YAML (schemas, catalogues, rules, configs): one way to read it, one error."""

from __future__ import annotations

import difflib
import json
import keyword
import reprlib
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from poverty_risk.exceptions import DeclarationError, Fault

__all__ = [
    "Declared",
    "Words",
    "find_unusable_names",
    "parse_declaration",
    "read_declaration",
    "read_yaml",
    "rewrite_section",
]

MAX_DECLARATION_BYTES = 4_000_000
"""A catalogue of a thousand features is under one megabyte; more is not a declaration."""

MAX_DEPTH = 100
"""Levels of lists and mappings; some ten thousand would exhaust the stack of the YAML library."""


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
            field = _fields_by_key(current).get(str(step))
            current = field.annotation if field is not None else None
        else:
            # Of dict[str, Table] the value type, of tuple[Condition, ...] the item type.
            arguments = [kind for kind in get_args(current) if kind is not Ellipsis]
            current = arguments[-1] if arguments else None
    current = _without_none(current)
    return list(_fields_by_key(current)) if _is_model(current) else []


def _fields_by_key(model: type[BaseModel]) -> dict[str, Any]:
    """Fields by the key that a file writes, which is the alias where there is one."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


def find_unusable_names(names: Iterable[str]) -> list[str]:
    """Names that no expression can use, and those that a database takes for an earlier one.

    Examples
    --------
    >>> find_unusable_names(["loss", "net income", "class", "_row", "Loss"])
    ['net income', 'class', '_row', 'Loss']
    """
    seen: set[str] = set()
    unusable = []
    for name in names:
        plain = name.isidentifier() and not keyword.iskeyword(name) and not name.startswith("_")
        if not plain or name.casefold() in seen:
            unusable.append(name)
        seen.add(name.casefold())
    return unusable


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _without_none(annotation: Any) -> Any:
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    return kinds[0] if type(None) in get_args(annotation) and len(kinds) == 1 else annotation


def _fault(model: type[BaseModel], error: Mapping[str, Any], place: str) -> Fault:
    location = tuple(error["loc"])
    where = ".".join(str(step) for step in location) or "top level"
    section = ".".join(str(step) for step in location[:-1]) or "top level"
    if error["type"] == "extra_forbidden":
        valid = _fields_at(model, location)
        near = difflib.get_close_matches(str(location[-1]), valid, n=1, cutoff=0.4)
        remedy = f"Did you mean '{near[0]}'?" if near else "Remove it or correct its name."
        return Fault(
            f"{place}, section '{section}'",
            f"unknown key '{location[-1]}'",
            f"one of {', '.join(valid)}" if valid else "no such key",
            remedy,
        )
    if error["type"] == "missing":
        return Fault(f"{place}, section '{section}'", "no such key", f"'{location[-1]}'", "Add it.")
    # Not `repr`: what aliases of a small file unfold to may be longer than memory.
    found = _SHORT.repr(error.get("input"))
    if len(found) > 80:
        found = found[:77] + "..."
    if error["type"] == "value_error":
        expected = str(error["ctx"]["error"])
        if not location:  # what is there is the whole file
            return Fault(place, "keys that do not go together", expected, "Correct one of them.")
        return Fault(f"{place}, '{where}'", found, expected, "Correct the value.")
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
        The file is missing, too large, not YAML, names a key twice, or is not a mapping.
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
        text = path.read_text(encoding="utf-8")
        _check_depth(text)
        content = yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, ValueError, RecursionError, OSError) as error:
        reason = str(error).replace("\n", " ")
        raise DeclarationError(
            Fault(str(path), reason, "valid YAML in UTF-8", "Correct the file.")
        ) from None
    if not isinstance(content, dict):
        raise DeclarationError(
            Fault(str(path), type(content).__name__, "keys and values", "Correct the file.")
        )
    return content


def _check_depth(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            message = f"more than {MAX_DEPTH} levels"
            raise ValueError(message)


# The C loader reads a large catalogue ten times faster; both are the safe subset.
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_SafeLoader):  # type: ignore[misc]
    """The safe loader that takes no key twice: of two such entries YAML drops the first silently."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key, _ in node.value:
            if keys.count(key.value) > 1 and key.tag != "tag:yaml.org,2002:merge":
                problem = f"key '{key.value}' twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep=deep)
        return mapping


def read_declaration(model: type[DeclaredType], path: str | Path) -> DeclaredType:
    """Read a YAML file into a declaration (see `parse_declaration`, `read_yaml`)."""
    return parse_declaration(model, read_yaml(path), str(Path(path).name))


def rewrite_section(text: str, section: str, values: Mapping[str, Any], place: str) -> str:
    r"""A YAML text with other values in one section, all else as it was, comments too.

    Parameters
    ----------
    text
        The file's text.
    section
        A key of its first level.
    values
        New values by key; a key that is not there is added at the section's start.
    place
        Where the text comes from, for the error.

    Returns
    -------
    str
        The new text.

    Raises
    ------
    DeclarationError
        There is no such section, or it stands in one line.

    Examples
    --------
    >>> print(rewrite_section("model:\n  trees: 9  # few\n", "model", {"trees": 12}, "a.yaml"), end="")
    model:
      trees: 12  # few
    """
    root: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    found = {key.value: value for key, value in root.value}.get(section)
    if not isinstance(found, yaml.MappingNode) or found.flow_style:
        expected = f"a section '{section}' with one key a line"
        raise DeclarationError(Fault(place, "none", expected, "Write one."))
    written = {key.value: value for key, value in found.value}
    changes = []
    for name, value in values.items():
        plain = json.dumps(value)
        if name in written:
            node = written[name]
            changes.append((node.start_mark.index, node.end_mark.index, plain))
        else:
            start = found.start_mark.index
            changes.append((start, start, f"{name}: {plain}\n{' ' * found.start_mark.column}"))
    for start, end, plain in sorted(changes, reverse=True):
        text = text[:start] + plain + text[end:]
    return text
