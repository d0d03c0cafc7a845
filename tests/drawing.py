"""Draws small, nasty histories for any schema: edges of windows, late news, corrections, gaps."""

import datetime as dt

import numpy as np
import pandas as pd

from poverty_risk.schema import Schema

AS_OF = ["2022-01-01", "2022-07-01", "2023-03-31"]
LINE = {year: 5000.0 + 500 * (year - 2018) for year in range(2016, 2026)}
EDGES = (1, 59, 60, 61, 92, 93, 121, 122, 123, 200, 300, 364, 365, 366, 487, 730, 800, 1096, 1500)
"""Days before an as-of date at which windows of the catalogues begin or end, and their neighbours."""


def draw_frames(
    schema: Schema, seed: int, households: int = 12, rows: int = 16
) -> dict[str, pd.DataFrame]:
    """Raw tables of a few households; `rows` records per household or person and table."""
    rng = np.random.default_rng(seed)
    ids = [f"H{number:03d}" for number in range(households)]
    frames = {}
    for name, table in schema.tables.items():
        if table.entity == "village":
            entities = [{"village_id": f"V{number}"} for number in range(3)]
        elif table.entity == "person":
            entities = [
                {"household_id": household, "person_id": f"{household}-{member}"}
                for household in ids
                for member in range(3)
            ]
        else:
            entities = [{"household_id": household} for household in ids]
        count = max(2, rows // 3) if table.entity == "person" else rows
        frames[name] = _draw_table(table, entities, count, rng)
    return frames


def _draw_table(table, entities, rows, rng) -> pd.DataFrame:
    records = []
    for entity in entities:
        # Some households have nothing on record.
        if rng.random() < 0.08:
            continue
        for _ in range(rows):
            event = _draw_event(rng)
            lag = int(rng.choice([0, 0, 1, 14, 40, 200]))
            record = dict(entity, event_date=event, known_date=event + dt.timedelta(days=lag))
            if rng.random() < 0.05:
                record["known_date"] = max(event, _as_of(rng))  # known just too late
            record |= {n: _draw_value(n, c, event, rng) for n, c in table.columns.items()}
            # Numbers of bills and loans belong to one household.
            for column in set(table.key) & set(table.columns):
                if table.columns[column].kind == "string":
                    record[column] = f"{entity['household_id']}-{rng.integers(0, 60)}"
            records.append(record)
            if rng.random() < 0.15:
                records.append(_correct(record, table, rng))
    return pd.DataFrame(records).astype(object)


def _as_of(rng) -> dt.date:
    return dt.date.fromisoformat(str(rng.choice(AS_OF)))


def _draw_event(rng) -> dt.date:
    before = int(rng.choice(EDGES)) if rng.random() < 0.5 else int(rng.integers(-300, 1600))
    return _as_of(rng) - dt.timedelta(days=before)


def _correct(record, table, rng):
    """The same fact, known later, with other values."""
    later = int(rng.choice([1, 20, 150]))
    known = record["known_date"] + dt.timedelta(days=later)
    changed = {
        name: _draw_value(name, column, record["event_date"], rng)
        for name, column in table.columns.items()
        if name not in table.key
    }
    return record | changed | {"known_date": known}


def _draw_value(name, column, event, rng):
    if not column.required and rng.random() < 0.12:
        return None
    match column.kind:
        case "boolean":
            return bool(rng.random() < 0.5)
        case "category":
            return str(rng.choice(column.codes))
        case "date":
            if name == "birth_date":
                return event - dt.timedelta(days=int(rng.integers(1, 85 * 365)))
            return event + dt.timedelta(days=int(rng.integers(-200, 700)))
        case "integer":
            low = 0 if column.min is None else int(column.min)
            # Small counts half of the time, ages and the like otherwise.
            reach = low + int(rng.choice([8, 95]))
            high = reach if column.max is None else min(int(column.max), reach)
            return int(rng.integers(low, high + 1))
        case "number":
            low = 0.0 if column.min is None else float(column.min)
            high = 40_000.0 if column.max is None else float(column.max)
            pool = [low, min(low + 50, high), min(low + 0.7, high), min(high, 15_000.0)]
            drawn = round(float(rng.uniform(low, min(high, 30_000.0))), 2)
            return float(rng.choice(pool)) if rng.random() < 0.3 else drawn
    return f"{name[0].upper()}{rng.integers(0, 3)}"
