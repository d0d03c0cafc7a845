"""Declarations: one error that names the place and the nearest valid key; extensions without code."""

import numpy as np
import pandas as pd
import pytest
import yaml
from pydantic import Field

from poverty_risk import (
    FeatureSpec,
    HistoryTables,
    build_features,
    build_prediction_points,
    label_returns,
    load_catalog,
    load_schema,
    read_history,
)
from poverty_risk.declarations import (
    Declared,
    find_unusable_names,
    parse_declaration,
    read_declaration,
    read_yaml,
)
from poverty_risk.exceptions import DeclarationError, HistoryError
from poverty_risk.schema import Column, Schema, Table

WORDS = {"zh": "t", "en": "t"}


def _table(**columns) -> dict:
    return {"label": WORDS, "key": ["household_id", "event_date"], "columns": columns}


def _schema(**changes) -> dict:
    content = {
        "name": "small",
        "tables": {"home": _table(size={"kind": "integer"})},
        "cohorts": {"all": [{"table": "home", "where": "size > 0", "reason": "empty"}]},
        "labels": {"grew": {"kind": "event", "label": WORDS, "table": "home", "where": "size > 5"}},
    }
    return content | changes


# --- the shipped schemas ---


@pytest.mark.parametrize("name", ["archive", "eph"])
def test_shipped_schemas_load_and_reload(name):
    schema = load_schema(name)
    assert schema.name == name
    assert Schema.model_validate_json(schema.model_dump_json()) == schema


def test_ids_and_dates_stand_in_every_table():
    schema = load_schema("archive")
    assert list(schema.tables["work"].all_columns)[:4] == [
        "household_id",
        "person_id",
        "event_date",
        "known_date",
    ]
    assert schema.tables["village"].id_columns == ("village_id",)
    assert all(c.required for c in list(schema.tables["shock"].all_columns.values())[:3])


def test_the_reporting_lag_of_any_is_the_longest_of_its_parts():
    schema = load_schema("archive")
    assert schema.reporting_lag_days("identified") == 60
    assert schema.reporting_lag_days("below_line") == 120
    assert schema.reporting_lag_days("any") == 120


def test_a_schema_that_does_not_exist(tmp_path):
    with pytest.raises(DeclarationError, match="'archiv'; expected a YAML file or one of archive"):
        load_schema("archiv")
    with pytest.raises(DeclarationError, match="schema: found '.*mine.yaml'"):
        load_schema(tmp_path / "mine.yaml")


# --- unknown and missing keys ---


@pytest.mark.parametrize(
    ("content", "section", "found", "remedy"),
    [
        (_schema(tabels={}), "top level", "unknown key 'tabels'", "Did you mean 'tables'?"),
        (
            _schema(tables={"home": _table() | {"tretment": True}}),
            "tables.home",
            "unknown key 'tretment'",
            "Did you mean 'treatment'?",
        ),
        (
            _schema(tables={"home": _table(size={"kind": "integer", "sensitiv": True})}),
            "tables.home.columns.size",
            "unknown key 'sensitiv'",
            "Did you mean 'sensitive'?",
        ),
        (
            _schema(cohorts={"all": [{"table": "home", "where": "size > 0", "raeson": "x"}]}),
            "cohorts.all.0",
            "unknown key 'raeson'",
            "Did you mean 'reason'?",
        ),
        (
            _schema(follow_up={"table": "home", "lost_where": "size > 0", "lost": 1}),
            "follow_up",
            "unknown key 'lost'",
            "Did you mean 'lost_where'?",
        ),
        (
            _schema(tables={"home": _table(size={"kind": "integer", "zzzz": 1})}),
            "tables.home.columns.size",
            "unknown key 'zzzz'",
            "Remove it or correct its name.",
        ),
    ],
)
def test_an_unknown_key_names_section_key_and_nearest_valid_key(content, section, found, remedy):
    with pytest.raises(DeclarationError, match="unknown key") as caught:
        parse_declaration(Schema, content, "my.yaml")
    fault = next(fault for fault in caught.value.faults if "unknown" in fault.found)
    assert (fault.place, fault.found) == (f"my.yaml, section '{section}'", found)
    assert fault.remedy == remedy


def test_the_nearest_key_is_the_one_that_a_file_writes():
    class File(Declared):
        schema_name: str = Field(default="x", alias="schema")

    with pytest.raises(DeclarationError, match="one of schema. Did you mean 'schema'") as caught:
        parse_declaration(File, {"shema": "archive"}, "my.yaml")
    assert "schema_name" not in str(caught.value)


def test_all_faults_of_a_file_come_in_one_error():
    content = _schema(tables={"home": {"key": "x", "columns": {"size": {"kind": "int"}}}}, more=1)
    with pytest.raises(DeclarationError, match="^4 problems") as caught:
        parse_declaration(Schema, content, "my.yaml")
    told = {fault.place: fault.found for fault in caught.value.faults}
    assert told == {
        "my.yaml, section 'tables.home'": "no such key",
        "my.yaml, 'tables.home.key'": "'x'",
        "my.yaml, 'tables.home.columns.size.kind'": "'int'",
        "my.yaml, section 'top level'": "unknown key 'more'",
    }
    missing = next(fault for fault in caught.value.faults if fault.found == "no such key")
    assert (missing.expected, missing.remedy) == ("'label'", "Add it.")


# --- what cannot be meant ---


@pytest.mark.parametrize(
    ("column", "match"),
    [
        ({"kind": "category"}, "a category needs codes"),
        ({"kind": "string", "codes": ["a"]}, "only a category has them"),
        ({"kind": "date", "min": 1}, "only a number or an integer has 'min' and 'max'"),
        ({"kind": "number", "min": 2, "max": 1}, "min 2 is above max 1"),
        ({"kind": "category", "codes": [True]}, "codes.0.*found True; expected .*string"),
    ],
)
def test_a_column_that_cannot_be_meant(column, match):
    with pytest.raises(DeclarationError, match=match):
        parse_declaration(Column, column, "test")


@pytest.mark.parametrize(
    ("table", "match"),
    [
        (_table() | {"key": ["bill_id"]}, "key columns that are not declared: bill_id"),
        (_table(known_date={"kind": "date"}), "reserved names: known_date"),
        (_table(point={"kind": "number"}), "reserved names: point"),
        (_table(as_of_year={"kind": "number"}), "reserved names: as_of_year"),
        (_table(row={"kind": "number"}), "reserved names: row"),
        (_table(**{"net income": {"kind": "number"}}), "no expression can use.*net income"),
        (_table(**{"class": {"kind": "number"}}), "no expression can use.*class"),
        (_table(a={"kind": "number"}, A={"kind": "number"}), "twice but for case: A"),
        (
            _table(household_id={"kind": "string"}) | {"entity": "village", "key": ["village_id"]},
            "reserved names: household_id",
        ),
    ],
)
def test_a_table_that_cannot_be_meant(table, match):
    with pytest.raises(DeclarationError, match=match):
        parse_declaration(Table, table, "test")


def _label(*parts) -> dict:
    return {"kind": "any", "of": list(parts), "label": WORDS}


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"cohorts": {}}, "'cohorts'.*at least 1 item"),
        ({"groups": {"v": {"table": "hom", "column": "size"}}}, "not declared: hom"),
        ({"groups": {"v": {"table": "home", "column": "siz"}}}, "of groups .*: home.siz"),
        ({"labels": {"x": _label("y")}}, "not declared: y"),
        (
            {"labels": {"x": _label("y"), "y": _label("x")}},
            "labels made of themselves: (x, y, x|y, x, y)",
        ),
        ({"labels": {"x": {"kind": "any", "label": WORDS}}}, "'any' names other labels in 'of'"),
        ({"labels": {"x": {"kind": "state", "label": WORDS}}}, "needs 'table' and 'where'"),
        ({"tables": {"home": _table(size={"kind": "integer"}), "points": _table()}}, "points"),
        ({"tables": {"home": _table(size={"kind": "integer"}), "line": _table()}}, ": line"),
        ({"tables": {"home": _table(size={"kind": "integer"}), "a b": _table()}}, ": a b"),
    ],
)
def test_a_schema_that_cannot_be_meant(changes, match):
    with pytest.raises(DeclarationError, match=match):
        parse_declaration(Schema, _schema(**changes), "test")


def test_unusable_names_are_those_of_no_identifier_or_twice():
    assert find_unusable_names(["a", "b_1", "\u6237\u53f7"]) == []
    assert find_unusable_names(["1a", "", "not", "_a", "b", "B"]) == ["1a", "", "not", "_a", "B"]


# --- YAML ---


def _yaml(tmp_path, text):
    path = tmp_path / "my.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a: 1\nb: {c: 1, d: 2, c: 3}\n", r"key 'c' twice.*line 2"),
        ("a: 1\n'a': 2\n", "key 'a' twice"),
        ("a: [1\n", "expected valid YAML"),
        ("a: 2024-13-45\n", "expected valid YAML"),
        ("a: !!python/object/apply:os.system [ls]\n", "expected valid YAML"),
        (b"a: \xd6\xd0\n", "expected valid YAML"),
        ("", "found NoneType; expected keys and values"),
        ("- a\n", "found list; expected keys and values"),
        # Deep enough to end the process in the C library, without a traceback.
        ("x: " + "[" * 200_000 + "]" * 200_000, "found more than 100 levels"),
        ("- " * 200_000 + "x", "found more than 100 levels"),
    ],
)
def test_a_file_that_is_no_declaration(tmp_path, text, match):
    with pytest.raises(DeclarationError, match=match):
        read_yaml(_yaml(tmp_path, text))


def test_a_file_that_is_not_there_or_too_large(tmp_path):
    with pytest.raises(DeclarationError, match="found no such file"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(DeclarationError, match="found no such file"):
        read_yaml(tmp_path)
    with pytest.raises(DeclarationError, match="4,000,003 bytes; expected at most 4,000,000"):
        read_yaml(_yaml(tmp_path, "a: " + "x" * 4_000_000))


def test_anchors_and_merged_keys_are_read(tmp_path):
    path = _yaml(tmp_path, "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n")
    assert read_yaml(path) == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}}


def test_aliases_that_unfold_to_more_than_memory_are_told_in_a_few_words(tmp_path):
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    path = _yaml(tmp_path, "\n".join(levels) + "\nkind: *a11\n")
    with pytest.raises(DeclarationError, match="'kind'") as caught:
        read_declaration(Column, path)
    assert len(str(caught.value)) < 4000


# --- extensions ---

EXTRA = """
tables:
  remittance:
    label: {zh: t, en: remittances}
    entity: household
    key: [household_id, event_date]
    columns:
      amount: {kind: number, unit: yuan, min: 0, label: {zh: t, en: amount}}
      channel: {kind: category, codes: [bank, phone]}
  shock:
    columns:
      insured_share: {kind: number, min: 0, max: 1}
cohorts:
  receiving:
    - {table: remittance, where: "amount > 0", within: 92d, reason: no_remittance}
labels:
  big_remittance:
    kind: event
    table: remittance
    where: "amount >= 1000"
    followed: any
    label: {zh: t, en: a large remittance}
"""

CATALOG = """
schema: archive
features:
  - {stem: remitted, table: remittance, value: amount, aggregator: sum, lookback: 365d, theme: income}
  - {stem: by_phone, table: remittance, where: "channel == 'phone'", aggregator: count, theme: income}
  - {stem: channel, table: remittance, value: channel, aggregator: last, theme: income, kind: category}
  - {stem: uninsured_loss, table: shock, value: "loss * (1 - insured_share)", aggregator: sum, theme: shock}
"""


def test_tables_and_columns_of_ones_own_need_no_code(tmp_path):
    """From two YAML files and two CSV files to cohort, features and label; by hand below."""
    (tmp_path / "extra.yaml").write_text(EXTRA)
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    history = tmp_path / "history"
    history.mkdir()
    (history / "remittance.csv").write_text(
        "household_id,event_date,known_date,amount,channel\n"
        "a,2023-01-10,2023-01-20,500,bank\n"
        "a,2023-12-01,2023-12-05,300,phone\n"
        "a,2023-12-20,2024-01-01,999,phone\n"  # known on the as-of date: not before it
        "a,2024-02-01,2024-02-02,1000,bank\n"
        "b,2023-12-15,2023-12-16,0,bank\n"
        "b,2024-03-01,2024-03-01,10,bank\n"
        "c,2023-12-15,2023-12-16,-5,bank\n"  # below the declared minimum
        "d,2024-07-01,2024-07-02,10,bank\n"
    )
    (history / "shock.csv").write_text(
        "household_id,event_date,known_date,kind,loss,insured_share\n"
        "a,2023-06-01,2023-06-02,flood,1000,0.25\n"
        "a,2023-07-01,2023-07-02,fire,100,\n"
    )
    schema = load_schema("archive", extra=tmp_path / "extra.yaml")
    tables = read_history(history, schema, observed_to="2025-01-01")
    assert tables.rejected[["table", "row", "expected"]].to_numpy().tolist() == [
        ["remittance", 6, ">= 0"]
    ]
    members = build_prediction_points(tables, "2024-01-01", "receiving")
    assert members.index.get_level_values("household_id").tolist() == ["a"]
    points = build_prediction_points(tables, "2024-01-01", "receiving", ["a"])
    catalog = load_catalog(tmp_path / "catalog.yaml")
    features = build_features(tables, points, catalog)
    assert features.iloc[0].to_dict() == {
        "remitted_sum_365d": 800.0,
        "by_phone_count_ever": 1.0,
        "channel_last_ever": "phone",
        "uninsured_loss_sum_ever": 750.0,
    }
    everyone = pd.DataFrame(
        index=pd.MultiIndex.from_product(
            [["a", "b", "d"], [pd.Timestamp("2024-01-01")]], names=points.index.names
        )
    )
    labels = label_returns(tables, everyone, "6mo", "big_remittance")
    # d: no remittance within the horizon, so nobody can tell.
    np.testing.assert_array_equal(labels, [1.0, 0.0, np.nan])


def test_a_feature_in_python_on_a_table_of_ones_own():
    schema = load_schema("archive").extended(yaml.safe_load(EXTRA))
    frame = pd.DataFrame(
        {"household_id": ["a"], "event_date": "2023-12-01", "known_date": "2023-12-05"}
    )
    tables = HistoryTables.from_frames({"remittance": frame.assign(amount=[7])}, schema)
    spec = FeatureSpec(stem="r", table="remittance", value="amount", aggregator="max", theme="x")
    points = pd.DataFrame(
        index=pd.MultiIndex.from_tuples(
            [("a", pd.Timestamp("2024-01-01"))], names=["household_id", "as_of_date"]
        )
    )
    assert build_features(tables, points, [spec])["r_max_ever"].tolist() == [7.0]


def test_extending_leaves_the_schema_as_it_was():
    schema = load_schema("archive")
    before = schema.model_dump_json()
    extended = schema.extended(yaml.safe_load(EXTRA))
    assert schema.model_dump_json() == before
    assert list(extended.tables)[:-1] == list(schema.tables)
    assert "insured_share" in extended.tables["shock"].columns
    with pytest.raises(HistoryError, match="table 'remittance'; expected one of household"):
        HistoryTables.from_frames({"remittance": pd.DataFrame({"household_id": []})}, schema)


@pytest.mark.parametrize(
    ("extra", "place", "match"),
    [
        ({"tabels": {}}, "mine, section 'top level'", "Did you mean 'tables'"),
        (
            {"tables": {"shock": {"columns": {"loss": {"kind": "number"}}}}},
            "mine, 'shock'",
            "found column 'loss' again",
        ),
        (
            {"tables": {"shock": {"colums": {"x": {"kind": "number"}}}}},
            "mine, 'shock'",
            "found keys colums; expected key 'columns'",
        ),
        (
            {"tables": {"shock": {"columns": {}, "treatment": True}}},
            "mine, 'shock'",
            "found key 'treatment'; expected 'columns' alone",
        ),
        ({"tables": {"shock": None}}, "mine, 'shock'", "found None; expected key 'columns'"),
        (
            {"tables": {"shock": {"columns": {"x": {"kind": "nmber"}}}}},
            "mine, 'tables.shock.columns.x.kind'",
            "found 'nmber'",
        ),
        (
            {"tables": {"gift": {"label": WORDS, "key": ["household_id"], "colums": {}}}},
            "mine, section 'tables.gift'",
            "unknown key 'colums'.*Did you mean 'columns'",
        ),
        ({"tables": 3}, "mine, 'tables'", "found 3"),
    ],
)
def test_an_extension_that_cannot_be_meant(extra, place, match):
    with pytest.raises(DeclarationError, match=match) as caught:
        load_schema("archive").extended(extra, "mine")
    assert place in {fault.place for fault in caught.value.faults}


def test_all_faults_of_an_extension_come_in_one_error():
    columns = {"loss": {"kind": "number"}, "kind": {"kind": "string"}}
    extra = {"tables": {"shock": {"columns": columns, "label": WORDS}, "loan": {}}}
    with pytest.raises(DeclarationError, match="^4 problems"):
        load_schema("archive").extended(extra)


def test_a_label_of_the_same_name_takes_the_place_of_the_shipped_one():
    label = {"kind": "event", "label": WORDS, "table": "shock", "where": "loss > 1"}
    extended = load_schema("archive").extended({"labels": {"identified": label}})
    assert extended.labels["identified"].table == "shock"
    assert next(iter(extended.labels)) == "identified"


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    path = _yaml(tmp_path, "a: 1")
    monkeypatch.setattr("pathlib.Path.read_text", refuse)
    with pytest.raises(DeclarationError, match="Permission denied"):
        read_yaml(path)
