"""One sheet by one mapping: typed records with hashed ids, and every row accounted for."""

from __future__ import annotations

import functools
from datetime import date

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from poverty_risk.exceptions import Fault, HistoryError
from poverty_risk.schema import Schema, load_schema
from poverty_risk.sources.combining import find_groups, to_array
from poverty_risk.sources.faults import FaultLog
from poverty_risk.sources.fields import Fields, hash_texts, read_fields
from poverty_risk.sources.header_matching import plain_header
from poverty_risk.sources.mapping import Mapping, Match, match_sheet
from poverty_risk.sources.raw import Converted, Counts, RawSheet
from poverty_risk.sources.records import Outcome, build_records, find_key_columns
from poverty_risk.sources.rules import (
    compile_mapping,
    compute_rules,
    find_sensitive_fields,
    find_used_fields,
)
from poverty_risk.sources.words import normalise_text

__all__ = ["PEOPLE", "PRIVATE", "convert_sheet"]

PEOPLE = pa.schema(
    [
        ("person_id", pa.string()),
        ("household_id", pa.string()),
        ("certificate", pa.string()),
        ("transposed", pa.list_(pa.string())),
        ("name", pa.string()),
        ("birth_date", pa.date32()),
        ("source_row", pa.int64()),
    ]
)
PRIVATE = pa.schema([("id", pa.string()), ("field", pa.string()), ("value", pa.string())])

NO_RECORD = "something that the mapping makes a record of"
"""What is told of a row without a fault that gives no record."""

UNEVEN = "as many fields as the header has"


@functools.cache
def _archive() -> Schema:
    return load_schema("archive")


def convert_sheet(
    sheet: RawSheet,
    mapping: Mapping,
    key: bytes,
    exported: date,
    *,
    schema: Schema | None = None,
    keep_private: bool = False,
) -> Converted:
    """Turn a sheet into records of history tables.

    A cell that cannot be read, or does not fit its column, stays empty and is told; the row is kept.
    A row is rejected where a required cell is missing or cannot be read, where it contradicts an
    earlier row about the same record, or where it gives no record at all; then all its faults are
    told. A row that is equal to an earlier one, but for its serial number, is a repeat.

    Parameters
    ----------
    sheet
        As it was read: everything is text.
    mapping
        The kind of file that it is.
    key
        The office's secret key, at least 16 bytes.
    exported
        Day of the export or delivery.
    schema
        Where the records go; None for the shipped archive.
    keep_private
        Whether names, telephones, accounts and addresses are kept in ``private``; they are dropped
        otherwise.

    Returns
    -------
    Converted
        Records, people, faults, and counts that add up. Records of a feed have the column
        ``person_id`` in tables of households too: a person whom the file tells by certificate only
        has the certificate's hash there, and no household until somebody links it.

    Raises
    ------
    HistoryError
        The sheet has not what the mapping needs.
    DeclarationError
        The mapping does not fit the schema.

    Examples
    --------
    >>> import pyarrow as pa
    >>> from poverty_risk.sources.mapping import load_mapping
    >>> names = [field.headers[0] for field in load_mapping("microcredit").fields.values()]
    >>> sheet = RawSheet("loans.csv", "", pa.table({n: pa.array([], pa.string()) for n in names}), pa.array([], pa.int64()))
    >>> convert_sheet(sheet, load_mapping("microcredit"), b"0123456789abcdef", date(2024, 1, 31)).counts
    Counts(read=0, accepted=0, rejected=0, repeated=0)
    """
    schema = schema or _archive()
    match = match_sheet(sheet, mapping)
    _refuse_incomplete(sheet, match)
    sql = compile_mapping(mapping, schema)
    read = sheet.cells.num_rows
    is_repeat = _find_repeats(sheet, mapping)
    kept = pa.array(~is_repeat)
    single = RawSheet(sheet.file, sheet.sheet, sheet.cells.filter(kept), sheet.rows.filter(kept))
    log = FaultLog(sheet.file, sheet.sheet)
    uneven = [row.row for row in sheet.skipped if row.why == "uneven"]
    log.add(np.array(uneven, dtype=np.int64), "", UNEVEN, "")
    used = find_used_fields(mapping, schema)
    hidden = find_sensitive_fields(mapping, schema)
    fields = read_fields(single, mapping, match.headers, used, hidden, key, exported, log)
    names = _add_ids(single, mapping, fields, key)
    lacking = _find_lacking(mapping, fields, log)
    computed = compute_rules(sql, mapping, fields.columns)
    usable = ~lacking & ~_check_rows(mapping, fields, computed, log)
    outcome = build_records(mapping, schema, fields, computed, usable, exported, log)
    accepted = usable & (outcome.made | (outcome.shared & ~outcome.refused & ~outcome.same))
    repeated = usable & ~accepted & outcome.same & ~outcome.refused
    rejected = ~accepted & ~repeated
    untold = rejected & ~np.isin(fields.rows, log.rows())
    log.add(fields.rows[untold], "", NO_RECORD, "")
    n_repeated = int(is_repeat.sum() + repeated.sum())
    counts = Counts(
        read + len(uneven), int(accepted.sum()), int(rejected.sum()) + len(uneven), n_repeated
    )
    private = PRIVATE.empty_table()
    if keep_private:
        private = _collect_private(single, mapping, match, fields, accepted)
    # Who is rejected in an export is no anchor for links; in a feed a near miss tells what to correct.
    told = accepted | rejected if mapping.delivery == "feed" else accepted
    records = _join_tables(schema, outcome, log)
    return Converted(
        kind=mapping.name,
        file=sheet.file,
        sheet=sheet.sheet,
        exported=exported,
        records=records,
        states=frozenset(rule.table for rule in mapping.tables if not rule.event_date),
        people=_collect_people(mapping, fields, names, told),
        private=private,
        rejected=log.to_table(np.concatenate([fields.rows[rejected], np.array(uneven, int)])),
        counts=counts,
    )


def _refuse_incomplete(sheet: RawSheet, match: Match) -> None:
    """What rows need must be there; what tells a kind from others need not, where it was named."""
    fields = match.mapping.fields
    needed = [(name,) for name, field in fields.items() if field.required]
    missing = [
        group
        for group in [*needed, *match.mapping.one_of]
        if not any(name in match.headers for name in group)
    ]
    if not missing:
        return
    faults = []
    for group in missing:
        names = [header for name in group for header in fields[name].headers[:3]]
        faults.append(
            Fault(
                f"{sheet.file} {sheet.sheet}".strip(),
                f"no column for {' or '.join(group)} of mapping '{match.mapping.name}'",
                f"a header such as {', '.join(names)}",
                "Inspect the file and complete a mapping, or name another one.",
            )
        )
    raise HistoryError(faults)


def _find_repeats(sheet: RawSheet, mapping: Mapping) -> np.ndarray:
    """Rows that are equal to an earlier one in everything but their serial number."""
    serial = {plain_header(name).text for name in mapping.serial}
    names = [n for n in sheet.cells.column_names if plain_header(n).text not in serial]
    columns = [to_array(sheet.cells[name]) for name in names]
    groups, _ = find_groups(columns, sheet.cells.num_rows)
    return np.asarray(pd.Series(groups).duplicated())


def _add_ids(sheet: RawSheet, mapping: Mapping, fields: Fields, key: bytes) -> pa.Array:
    """Ids that records carry; and hashed names, null where the file has none."""
    size = len(fields.rows)
    none = pa.nulls(size, pa.string())
    certificates = [fields.columns.get(name, none) for name in mapping.person]
    certificate = pc.coalesce(*certificates, none)
    fields.columns["_certificate"] = certificate
    fields.columns["_household_id"] = fields.columns.get("household_id", none)
    person = fields.columns.get("person_id", none)
    fields.columns["_person_id"] = pc.coalesce(person, certificate)
    header = fields.headers.get("person_name")
    if header is None:
        return none
    names = to_array(sheet.cells[header])
    coded = pc.dictionary_encode(names)
    # The same name with and without blanks between its signs.
    plain = [normalise_text(name).replace(" ", "") for name in coded.dictionary.to_pylist()]
    return hash_texts(pa.array(plain, pa.string()).take(coded.indices), key)


def _find_lacking(mapping: Mapping, fields: Fields, log: FaultLog) -> np.ndarray:
    """Rows without a required value; a blank cell is told here, an unreadable one already was."""
    size = len(fields.rows)
    lacking = np.zeros(size, dtype=bool)
    groups = [(name,) for name, field in mapping.fields.items() if field.required]
    for group in [*groups, *mapping.one_of]:
        columns = [_find_column(mapping, fields, name) for name in group]
        valid = [column.is_valid().to_numpy(zero_copy_only=False) for column in columns]
        missing = ~np.any(valid, axis=0)
        headers = [fields.headers[name] for name in group if name in fields.headers]
        untold = missing & ~np.isin(fields.rows, log.rows(headers))
        log.add(fields.rows[untold], " / ".join(headers), "a value (required)", "")
        lacking |= missing
    return lacking


def _find_column(mapping: Mapping, fields: Fields, name: str) -> pa.Array:
    """A column that says whether a field has a value."""
    if mapping.fields[name].kind == "codes":
        return fields.columns[f"{name}_first"]
    return fields.columns[name]


def _check_rows(mapping: Mapping, fields: Fields, computed: pa.Table, log: FaultLog) -> np.ndarray:
    """Rows that say what they must not say; those to be rejected are returned."""
    rejected = np.zeros(len(fields.rows), dtype=bool)
    for number, check in enumerate(mapping.checks):
        mask = computed[f"check_{number}"].fill_null(False).to_numpy().astype(bool)
        header = fields.headers.get(check.field, check.field)
        log.add(fields.rows[mask], header, check.expected)
        if check.reject:
            rejected |= mask
    return rejected


def _join_tables(schema: Schema, outcome: Outcome, log: FaultLog) -> dict[str, pa.Table]:
    """One table per history table; of two rules that tell of one record the first is taken."""
    tables = {}
    for name, parts in outcome.records.items():
        table = pa.concat_tables(parts, promote_options="default")
        if len(parts) > 1 and table.num_rows:
            known = to_array(table["known_date"])
            columns = [*find_key_columns(schema.tables[name], table), known]
            _, first = find_groups(columns, table.num_rows)
            again = np.ones(table.num_rows, dtype=bool)
            again[first] = False
            rows = table["source_row"].to_numpy()[again]
            log.add(
                rows, name, f"one record of '{name}' per {', '.join(schema.tables[name].key)}", ""
            )
            table = table.filter(pa.array(~again))
        if table.num_rows:
            tables[name] = table.combine_chunks()
    return tables


def _collect_people(
    mapping: Mapping, fields: Fields, names: pa.Array, mask: np.ndarray
) -> pa.Table:
    """Persons of some rows, with hashes of their certificates and names."""
    size = len(fields.rows)
    has_person = any(name in fields.headers for name in (*mapping.person, "person_id"))
    if not has_person:
        return PEOPLE.empty_table()
    transposed = pa.nulls(size, pa.list_(pa.string()))
    births = fields.columns.get("birth_date", pa.nulls(size, pa.date32()))
    for name in mapping.person:
        read = fields.certificates.get(name)
        if read is not None:
            births = pc.coalesce(read.birth_date, births)
            transposed = pc.coalesce(transposed, fields.columns[f"_{name}_transposed"])
    people = pa.table(
        {
            "person_id": fields.columns["_person_id"],
            "household_id": fields.columns["_household_id"],
            "certificate": fields.columns["_certificate"],
            "transposed": transposed,
            "name": names,
            "birth_date": births,
            "source_row": pa.array(fields.rows, pa.int64()),
        },
        schema=PEOPLE,
    )
    return people.filter(pa.array(mask))


def _collect_private(
    sheet: RawSheet, mapping: Mapping, match: Match, fields: Fields, accepted: np.ndarray
) -> pa.Table:
    """What leaves as a hash or not at all: ids by their hash, all else by whose it is."""
    person = pc.coalesce(fields.columns["_person_id"], fields.columns["_household_id"])
    parts = [PRIVATE.empty_table()]
    for name, field in mapping.fields.items():
        if field.privacy != "keep" and name in match.headers:
            values = to_array(sheet.cells[match.headers[name]])
            # With its hash an id can be given a new one when the key changes.
            owner = fields.columns.get(name, person) if field.privacy == "hash" else person
            told = pc.and_(pc.and_(values.is_valid(), owner.is_valid()), pa.array(accepted))
            columns = [owner, pa.repeat(name, len(values)), values]
            parts.append(pa.table(columns, schema=PRIVATE).filter(told))
    return pa.concat_tables(parts).combine_chunks()
