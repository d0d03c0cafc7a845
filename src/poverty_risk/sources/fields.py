"""The columns of a sheet as a mapping names them: typed, ids hashed, and what is made of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from poverty_risk.privacy import hash_id
from poverty_risk.schema import ARROW_TYPES
from poverty_risk.sources.certificates import Certificates, read_certificates
from poverty_risk.sources.combining import to_array
from poverty_risk.sources.faults import HIDDEN, FaultLog
from poverty_risk.sources.header_matching import plain_header
from poverty_risk.sources.kinds import BUILT_IN, SourceField
from poverty_risk.sources.kinds import Mapping as Kind
from poverty_risk.sources.periods import compute_monthly, find_account_periods
from poverty_risk.sources.raw import RawSheet
from poverty_risk.sources.values import read_values
from poverty_risk.sources.words import load_source_words, normalise_text

__all__ = ["Fields", "find_context", "hash_texts", "read_fields"]

_ORDER = ("first", "second", "third")
"""Codes of a cell in the order in which it has them."""

_OF_CERTIFICATE = {
    "birth_date": pa.date32(),
    "sex": pa.string(),
    "disability_category": pa.int64(),
    "disability_level": pa.int64(),
}
_TYPES = ARROW_TYPES | {"month": pa.date32()}


@dataclass(frozen=True)
class Fields:
    """What was read of a sheet.

    Parameters
    ----------
    rows
        Number of each row in the file.
    columns
        Typed columns by the names that expressions use, one value per row.
    is_month
        For date columns, whether each value stands for a month of which only the month is known.
    certificates
        What the certificate numbers tell, hashed ones under ``columns``.
    headers
        Header by field.
    """

    rows: np.ndarray
    columns: dict[str, pa.Array]
    is_month: dict[str, np.ndarray]
    certificates: dict[str, Certificates]
    headers: Mapping[str, str]


def find_context(kind: Kind) -> dict[str, tuple[str, pa.DataType]]:
    """The names that expressions of a mapping may use: the field behind each, and its type.

    Examples
    --------
    >>> from poverty_risk.sources.mapping import load_mapping
    >>> find_context(load_mapping("national_person"))["health_chronic"]
    ('health', DataType(bool))
    """
    context: dict[str, tuple[str, pa.DataType]] = dict.fromkeys(BUILT_IN, ("", pa.date32()))
    for name, field in kind.fields.items():
        if field.privacy == "drop":
            continue
        if field.kind == "codes":
            codes = dict.fromkeys(code for code in field.codes.values() if code)
            context |= {f"{name}_{code}": (name, pa.bool_()) for code in codes}
            context |= {f"{name}_{place}": (name, pa.string()) for place in _ORDER}
        elif field.kind == "certificate":
            context[name] = (name, pa.string())
            context |= {f"{name}_{part}": (name, t) for part, t in _OF_CERTIFICATE.items()}
        else:
            context[name] = (name, _TYPES[field.kind])
    for name, item in kind.derived.items():
        source = item.names[-1]
        if item.account is not None:
            context |= {f"{name}_{end}": (source, pa.date32()) for end in ("start", "end")}
            context[f"{name}_window"] = (source, pa.string())
        else:
            context[name] = (source, pa.float64() if item.monthly else pa.string())
    return context


def hash_texts(texts: pa.Array, key: bytes) -> pa.Array:
    """Keyed hashes of texts, each distinct one hashed once; null stays null.

    Examples
    --------
    >>> hash_texts(pa.array(["H0000123", None]), b"0123456789abcdef")[0].as_py()[:6]
    '19b9b8'
    """
    coded = pc.dictionary_encode(texts)
    hashes = [hash_id(text, key) for text in coded.dictionary.to_pylist()]
    return pa.array(hashes, pa.string()).take(coded.indices)


def read_fields(
    sheet: RawSheet,
    kind: Kind,
    headers: Mapping[str, str],
    used: Iterable[str],
    sensitive: Iterable[str],
    key: bytes,
    exported: date,
    log: FaultLog,
) -> Fields:
    """Read the columns of a sheet that a mapping needs.

    Parameters
    ----------
    sheet
        The sheet, without repeated rows.
    kind
        Its mapping.
    headers
        Header by field.
    used
        Fields that something is made of; the others are not read.
    sensitive
        Fields whose cells are not told where they are wrong, but for words that many rows share.
    key
        The office's key.
    exported
        Day of the export or delivery.
    log
        Takes a fault for each cell that cannot be read.

    Returns
    -------
    Fields
        All names of `find_context`; null where the sheet has no such column.
    """
    size = sheet.cells.num_rows
    rows = sheet.rows.to_numpy(zero_copy_only=False)
    context = find_context(kind)
    fields = Fields(rows, {}, {}, {}, headers)
    wanted, hidden = set(used), set(sensitive)
    for name, field in kind.fields.items():
        if name in wanted and name in headers and field.privacy != "drop":
            _read(sheet, name, field, kind, fields, key, log, hidden=name in hidden)
    for name, (_, type_) in context.items():
        if name not in fields.columns:
            fields.columns[name] = pa.nulls(size, type_)
    _add_built_in(fields, exported, size)
    _add_derived(fields, kind, key, exported)
    return fields


def _read(
    sheet: RawSheet,
    name: str,
    field: SourceField,
    kind: Kind,
    fields: Fields,
    key: bytes,
    log: FaultLog,
    *,
    hidden: bool,
) -> None:
    header = fields.headers[name]
    cells = to_array(sheet.cells[header])
    if field.kind == "certificate":
        _read_certificates(name, header, cells, fields, key, log)
        return
    read_as = "category" if field.codes and field.kind == "integer" else field.kind
    codes = field.codes or None
    unit = _find_factor(header, field, kind)
    read = read_values(cells, read_as, codes=codes, unit=unit, month=field.day)
    values, faulty = read.values, read.faults
    if field.kind in ("date", "month"):
        is_month = np.full(len(cells), field.kind == "month")
        if field.or_month and faulty.num_rows:
            at = faulty["index"].to_numpy()
            months = read_values(cells.take(pa.array(at)), "month", month=field.day)
            given = months.values.is_valid()
            is_month[at[given.to_numpy(zero_copy_only=False)]] = True
            values = _fill(values, at, months.values)
            faulty = faulty.filter(pc.invert(given))
        fields.is_month[name] = is_month & (field.day == "last")
    at = faulty["index"].to_numpy()
    hidden &= not (field.codes and field.privacy == "keep")
    found = HIDDEN if hidden else cells.take(pa.array(at)).to_pylist()
    log.add(fields.rows[at], header, faulty["expected"].to_pylist(), found)
    if field.kind == "codes":
        _split_codes(name, field, cells, values, fields)
    elif field.privacy == "hash":
        fields.columns[name] = hash_texts(values, key)
    else:
        if read_as != field.kind:
            values = pc.if_else(pc.equal(values, ""), None, values).cast(pa.int64())
        elif field.kind == "category":
            values = pc.if_else(pc.equal(values, ""), None, values)
        fields.columns[name] = values


def _fill(values: pa.Array, at: np.ndarray, others: pa.Array) -> pa.Array:
    mask = np.zeros(len(values), dtype=bool)
    mask[at] = True
    return pc.replace_with_mask(values, pa.array(mask), others.cast(values.type))


def _find_factor(header: str, field: SourceField, kind: Kind) -> float:
    """Factor from the unit in the header's brackets to that of the field."""
    if field.unit is None:
        return 1.0
    brackets = plain_header(header).brackets
    factors = {word.casefold(): factor for word, factor in kind.units[field.unit].items()}
    for word in sorted(factors, key=len, reverse=True):
        if word in brackets:
            return factors[word]
    return 1.0


def _split_codes(
    name: str, field: SourceField, cells: pa.Array, values: pa.Array, fields: Fields
) -> None:
    """Whether each code is there, and the first three in the order of the cell."""
    size = len(values)
    parents = pc.list_parent_indices(values).to_numpy(zero_copy_only=False)
    flat = pc.list_flatten(values).to_numpy(zero_copy_only=False)
    told = values.is_valid().to_numpy(zero_copy_only=False)
    for code in dict.fromkeys(code for code in field.codes.values() if code):
        has = np.zeros(size, dtype=bool)
        has[parents[flat == code]] = True
        fields.columns[f"{name}_{code}"] = pa.array(has, pa.bool_(), mask=~told)
    separators = sorted(load_source_words().separators, key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, separators)))
    coded = pc.dictionary_encode(cells)
    # Separators are plain signs, cells may have full-width ones.
    texts = [normalise_text(text) for text in coded.dictionary.to_pylist()]
    parts = {text: [part for part in pattern.split(text) if part.strip()] for text in texts}
    singles = sorted({*texts, *(part for found in parts.values() for part in found)})
    read = read_values(pa.array(singles, pa.string()), "category", codes=field.codes)
    code_of = dict(zip(singles, read.values.to_pylist(), strict=True))
    # The whole cell may be one code, even where a sign in it separates others.
    in_turn = [[text] if code_of[text] is not None else parts[text] for text in texts]
    ordered = [list(dict.fromkeys(code_of[p] for p in found if code_of[p])) for found in in_turn]
    for at, place in enumerate(_ORDER):
        nth = pa.array([c[at] if len(c) > at else None for c in ordered], pa.string())
        fields.columns[f"{name}_{place}"] = nth.take(coded.indices)


def _read_certificates(
    name: str, header: str, cells: pa.Array, fields: Fields, key: bytes, log: FaultLog
) -> None:
    read = read_certificates(cells)
    fields.certificates[name] = read
    at = read.faults["index"].to_numpy()
    log.add(fields.rows[at], header, read.faults["expected"].to_pylist())
    fields.columns[name] = hash_texts(read.numbers, key)
    hashed = hash_texts(pc.list_flatten(read.transposed), key)
    lengths = pc.list_value_length(read.transposed).fill_null(0).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    lists = pa.ListArray.from_arrays(offsets, hashed)
    fields.columns[f"_{name}_transposed"] = pc.if_else(read.transposed.is_valid(), lists, None)
    for part in _OF_CERTIFICATE:
        fields.columns[f"{name}_{part}"] = getattr(read, part)


def _add_built_in(fields: Fields, exported: date, size: int) -> None:
    day, month = np.datetime64(exported, "D"), np.datetime64(exported, "M")
    # From 1 March and from 1 September; January and February belong to the term of the year before.
    term = month - np.timedelta64((exported.month - 3) % 6, "M")
    next_month = (month + np.timedelta64(1, "M")).astype("datetime64[D]")
    days = {
        "exported": day,
        "export_month": next_month - np.timedelta64(1, "D"),
        "school_term": term.astype("datetime64[D]"),
    }
    for name, value in days.items():
        fields.columns[name] = pa.array(np.full(size, value), pa.date32())
    fields.is_month["export_month"] = np.full(size, True)


def _add_derived(fields: Fields, kind: Kind, key: bytes, exported: date) -> None:
    size = len(fields.rows)
    columns = fields.columns
    for name, item in kind.derived.items():
        if item.account is not None:
            start, end, window = find_account_periods(item.account, columns, size, exported)
            columns |= {f"{name}_start": start, f"{name}_end": end, f"{name}_window": window}
        elif item.monthly is not None:
            columns[name] = compute_monthly(item.monthly, columns, size)
        elif item.join:
            columns[name] = _join([columns[part].cast(pa.string()) for part in item.join])
        else:
            parts = [columns[part].cast(pa.string()).fill_null("") for part in item.hash]
            joined = pc.binary_join_element_wise(*parts, "/")
            told = np.any(
                [columns[p].is_valid().to_numpy(zero_copy_only=False) for p in item.hash], 0
            )
            columns[name] = hash_texts(pc.if_else(pa.array(told), joined, None), key)


def _join(parts: list[pa.Array]) -> pa.Array:
    """Texts with a slash between; missing ones are left out, but not the last."""
    joined = parts[0]
    for part in parts[1:]:
        # Arrow's own skipping of nulls loses rows in which all are null.
        both = pc.binary_join_element_wise(joined, part, "/")
        joined = pc.coalesce(both, joined, part)
    return pc.if_else(parts[-1].is_valid(), joined, None)
