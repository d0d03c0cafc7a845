"""Features recomputed in the standard library's sqlite3, from the catalogue entry alone.

It shares no code with the engine but the parsed entries: its own translation of the expression
language, its own windows, its own reading of corrections. Slow, and short enough to be checked by
eye.
"""

import ast
import math
import sqlite3
import statistics
import weakref

import pandas as pd

DAYS_PER_YEAR = 365.25


class _Statistic:
    """An SQLite aggregate over (value, days before the as-of date)."""

    def __init__(self):
        self.rows = []

    def step(self, value, days):
        if value is not None:
            self.rows.append((float(value), float(days)))


class _Std(_Statistic):
    def finalize(self):
        values = [value for value, _ in self.rows]
        return statistics.stdev(values) if len(values) > 1 else None


class _Cv(_Statistic):
    def finalize(self):
        values = [value for value, _ in self.rows]
        if len(values) < 2 or (mean := statistics.fmean(values)) == 0:
            return None
        return statistics.stdev(values) / abs(mean)


class _Slope(_Statistic):
    def finalize(self):
        if len(self.rows) < 1:
            return None
        years = [-days / DAYS_PER_YEAR for _, days in self.rows]
        values = [value for value, _ in self.rows]
        if len(set(years)) < 2:
            return None
        x, y = statistics.fmean(years), statistics.fmean(values)
        top = sum((a - x) * (b - y) for a, b in zip(years, values, strict=True))
        return top / sum((a - x) ** 2 for a in years)


class Oracle:
    """Recomputes features of one history.

    Tables are loaded in their public order, which decides between records of the same day.
    """

    def __init__(self, tables, catalog):
        self.schema, self.catalog = tables.schema, catalog
        self.line = dict(tables.line or {})
        self.present = set(tables.names)
        self.base = sqlite3.connect(":memory:")
        weakref.finalize(self, self.base.close)
        self.base.create_function(
            "log1p", 1, lambda v: math.log1p(v) if v is not None and v > -1 else None
        )
        for name, kind in (("std_", _Std), ("cv_", _Cv), ("slope_", _Slope)):
            self.base.create_aggregate(name, 2, kind)
        for name in tables.names:
            frame = tables[name].copy()
            for column in frame.columns:
                if pd.api.types.is_datetime64_any_dtype(frame[column]):
                    frame[column] = frame[column].dt.strftime("%Y-%m-%d")
            frame = frame.astype(object).where(frame.notna(), None)
            frame.insert(0, "position", range(len(frame)))
            frame.to_sql(name, self.base, index=False)

    def compute(self, household, as_of):
        """All features of one household on one date."""
        found = {}
        for spec in self.catalog.specs:
            if spec.table is not None:
                found[spec.name] = self._from_table(spec, household, as_of)
        for stage in self.catalog.formula_stages:
            for spec in stage:
                found[spec.name] = self._formula(spec, found, as_of)
        return found

    def _current(self, table, entity, as_of):
        """Records known before the date, each fact in its last known version."""
        key = ", ".join(self.schema.tables[table].key)
        rows = "SELECT * FROM {t} WHERE {e} = :entity AND known_date < :as_of".format(
            t=f'"{table}"', e=entity
        )
        ranked = (
            f"SELECT *, ROW_NUMBER() OVER (PARTITION BY {key} "
            f"ORDER BY known_date DESC, position DESC) AS version_ FROM ({rows})"
        )
        return f"SELECT * FROM ({ranked}) WHERE version_ = 1"

    def _village(self, household, as_of):
        group = self.schema.groups["village"]
        query = (
            f"SELECT {group.column} FROM ({self._current(group.table, 'household_id', as_of)}) "
            f"WHERE {group.column} IS NOT NULL ORDER BY event_date DESC, known_date DESC, "
            "position DESC LIMIT 1"
        )
        row = self.base.execute(query, {"entity": household, "as_of": as_of}).fetchone()
        return None if row is None else row[0]

    def _from_table(self, spec, household, as_of):
        zero = spec.aggregator in ("sum", "count", "nunique", "exists")
        if spec.table not in self.present:
            return None
        entity, value = "household_id", household
        if self.schema.tables[spec.table].entity == "village":
            entity, value = "village_id", self._village(household, as_of)
            if value is None:
                return 0.0 if zero else None
        window = f"event_date < date(:as_of, '-{spec.lag.removesuffix('d')} days')"
        if spec.lookback != "ever":
            days = int(spec.lookback.removesuffix("d")) + int(spec.lag.removesuffix("d"))
            window += f" AND event_date >= date(:as_of, '-{days} days')"
        rows = f"SELECT * FROM ({self._current(spec.table, entity, as_of)}) WHERE {window}"
        newest = "event_date DESC, known_date DESC, position DESC"
        if spec.latest_per:
            per = ", ".join(spec.latest_per)
            rows = (
                f"SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY {per} "
                f"ORDER BY {newest}) AS newest_ FROM ({rows})) WHERE newest_ = 1"
            )
        kept = "1" if spec.where is None else self._sql(spec.where)
        wanted = "NULL" if spec.value is None else self._sql(spec.value)
        days = "CAST(julianday(:as_of) - julianday(event_date) AS INTEGER)"
        base = (
            f"SELECT {wanted} AS v, {days} AS d, event_date, known_date, position "
            f"FROM ({rows}) WHERE {kept}"
        )
        query = self._aggregate(spec.aggregator, base, newest)
        result = self.base.execute(query, {"entity": value, "as_of": as_of}).fetchone()
        result = None if result is None else result[0]
        if result is None:
            return 0.0 if zero else None
        return result if isinstance(result, str) else float(result)

    @staticmethod
    def _aggregate(aggregator, base, newest):
        known = f"SELECT * FROM ({base}) WHERE v IS NOT NULL"
        oldest = newest.replace(" DESC", "")
        match aggregator:
            case "last":
                return f"{known} ORDER BY {newest} LIMIT 1"
            case "first":
                return f"{known} ORDER BY {oldest} LIMIT 1"
            case "count":
                return f"SELECT COUNT(*) FROM ({base})"
            case "exists":
                return f"SELECT COUNT(*) > 0 FROM ({base})"
            case "days_since_last":
                return f"SELECT MIN(d) FROM ({base})"
            case "nunique":
                return f"SELECT COUNT(DISTINCT v) FROM ({base})"
            case "share":
                return f"SELECT AVG(1.0 * v) FROM ({base})"
            case "delta":
                last = f"SELECT v FROM ({known} ORDER BY {newest} LIMIT 1)"
                first = f"SELECT v FROM ({known} ORDER BY {oldest} LIMIT 1)"
                enough = f"(SELECT COUNT(*) FROM ({known})) > 1"
                return f"SELECT CASE WHEN {enough} THEN ({last}) - ({first}) END"
            case "std" | "cv" | "slope":
                return f"SELECT {aggregator}_(v, d) FROM ({base})"
            case "mean":
                return f"SELECT AVG(v) FROM ({base})"
        return f"SELECT {aggregator.upper()}(v) FROM ({base})"

    def _formula(self, spec, found, as_of):
        names = {
            node.id for node in ast.walk(ast.parse(spec.formula)) if isinstance(node, ast.Name)
        }
        values = {name: found[name] for name in names if name in found}
        values |= {"as_of_year": int(as_of[:4]), "as_of_month": int(as_of[5:7])}
        columns = ", ".join(f":{name} AS {name}" for name in values)
        query = f"SELECT {self._sql(spec.formula)} FROM (SELECT {columns})"
        result = self.base.execute(query, values | {"as_of": as_of}).fetchone()[0]
        return None if result is None else float(result)

    def _sql(self, text):
        return self._node(ast.parse(text.strip(), mode="eval").body)

    def _node(self, node):
        sql = self._node
        match node:
            case ast.Constant(value=bool() as value):
                return str(int(value))
            case ast.Constant(value=str() as value):
                return f"'{value}'"
            case ast.Constant(value=value):
                return repr(value)
            case ast.Name(id=name):
                return name
            case ast.BoolOp(op=operator, values=values):
                word = " AND " if isinstance(operator, ast.And) else " OR "
                return "(" + word.join(sql(value) for value in values) + ")"
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return f"(NOT {sql(operand)})"
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return f"(-{sql(operand)})"
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                return f"(1.0 * {sql(left)} / NULLIF({sql(right)}, 0))"
            case ast.BinOp(left=left, op=operator, right=right):
                sign = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*"}[type(operator)]
                return f"({sql(left)} {sign} {sql(right)})"
            case ast.Compare(left=left, ops=[ast.In()], comparators=[ast.List(elts=items)]):
                return f"({sql(left)} IN ({', '.join(sql(item) for item in items)}))"
            case ast.Compare(left=left, ops=[operator], comparators=[right]):
                signs = {
                    ast.Eq: "=", ast.NotEq: "<>", ast.Lt: "<",
                    ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
                }  # fmt: skip
                return f"({sql(left)} {signs[type(operator)]} {sql(right)})"
            case ast.Call(func=ast.Name(id=name), args=arguments):
                return self._call(name, [sql(argument) for argument in arguments])
        raise NotImplementedError(ast.dump(node))

    def _call(self, name, arguments):
        first = arguments[0]
        since = f"(julianday(:as_of) - julianday({first}))"
        match name:
            case "is_missing":
                return f"({first} IS NULL)"
            case "where":
                return f"(CASE WHEN {first} THEN {arguments[1]} ELSE {arguments[2]} END)"
            case "least":
                return f"MIN({', '.join(arguments)})"
            case "greatest":
                return f"MAX({', '.join(arguments)})"
            case "days_since":
                return since
            case "days_until":
                return f"(-{since})"
            case "years_since":
                return f"({since} / {DAYS_PER_YEAR})"
            case "active":
                return f"({first} IS NULL OR {first} >= :as_of)"
            case "year":
                return f"CAST(strftime('%Y', {first}) AS INTEGER)"
            case "month":
                return f"CAST(strftime('%m', {first}) AS INTEGER)"
            case "line":
                cases = " ".join(f"WHEN '{year}' THEN {value}" for year, value in self.line.items())
                return f"(CASE strftime('%Y', {first}) {cases} END)"
        return f"{name}({', '.join(arguments)})"
