"""Consistency rules: planted cases, an independent recomputation, what was known when, what is said."""

import re

import duckdb
import numpy as np
import pandas as pd
import pytest

from consistency_cases import CASES, LINE, make_frames
from consistency_oracle import ConsistencyOracle
from poverty_risk import HistoryTables, load_schema, make_household_history
from poverty_risk.consistency import (
    check_consistency,
    load_consistency_rules,
    summarise_quality,
)
from poverty_risk.consistency.spec import SEVERITIES
from poverty_risk.exceptions import DeclarationError
from poverty_risk.wording import load_locale

RULES = load_consistency_rules()
SCHEMA = load_schema("archive")
AS_OF = "2025-01-01"
CHINESE = re.compile(r"[\u4e00-\u9fff]")


def _read(frames, line=LINE, **options) -> HistoryTables:
    return HistoryTables.from_frames(frames, SCHEMA, line, observed_to=AS_OF, **options)


@pytest.fixture(scope="module")
def planted() -> HistoryTables:
    return _read(make_frames(CASES))


@pytest.fixture(scope="module")
def report(planted):
    return check_consistency(planted)


@pytest.fixture(scope="module")
def county() -> HistoryTables:
    return make_household_history(300, start="2019-01-01", end="2025-01-01", seed=0).tables


def _only(*codes, **parameters):
    """The catalogue with a few rules, and other values of parameters."""
    rules = tuple(RULES[code] for code in codes)
    return RULES.model_copy(
        update={"rules": rules, "parameters": {**RULES.parameters, **parameters}}
    )


def _same(first: pd.DataFrame, second: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(first.reset_index(drop=True), second.reset_index(drop=True))


# ------------------------------------------------------------------------------- every rule, planted


def test_every_rule_has_a_case():
    assert set(CASES) == set(RULES.codes)
    assert len(RULES.codes) >= 40


@pytest.mark.parametrize("code", RULES.codes)
def test_rule_finds_its_case_and_leaves_the_neighbour(code, report):
    found = report.findings.loc[report.findings["code"] == code, "household_id"]
    expected = {household.replace("{h}", f"{code}-bad") for household in CASES[code].found_at}
    assert {household for household in found if household.startswith(code)} == expected


def test_household_of_which_nothing_is_wrong(planted, report):
    with_records = [n for n in planted.names if "clean" in set(planted[n].get("household_id", []))]
    assert set(with_records) == set(planted.names)
    assert "clean" not in set(report.findings["household_id"])


def test_every_rule_ran_and_looked_at_records(report):
    assert report.not_run.empty
    looked_at = report.rules.groupby("code")["looked_at"].sum()
    assert set(looked_at.index[looked_at > 0]) == set(RULES.codes)


def test_finding_tells_where_and_what(report):
    found = report.findings[report.findings["code"] == "K001"].set_index("household_id")
    row = found.loc["K001-bad"]
    assert row["table"] == "monitoring"
    assert row["severity"] == "warning"
    assert row["event_date"] == pd.Timestamp("2023-05-01")
    assert row["known_date"] == pd.Timestamp("2023-05-11")
    assert pd.isna(row["person_id"])
    # In the order of `show`: risk type, number of measures.
    assert row["values"] == ["illness", "0"]
    assert (row["township_id"], row["village_id"]) == ("T1", "K001-bad-V")
    person = report.findings[report.findings["code"] == "K081"].iloc[0]
    assert person["person_id"] == "K081-bad-1"
    assert person["values"] == ["1000.0", "1000.01"]


def test_group_is_told_once_and_of_the_household(report):
    found = report.findings[report.findings["household_id"] == "K041-bad"]
    assert found["code"].tolist().count("K041") == 1
    assert found.loc[found["code"] == "K041", "person_id"].isna().all()
    assert found.loc[found["code"] == "K041", "values"].tolist() == [["2", "0"]]


def test_counts_of_a_rule_by_hand():
    # Three work records: a child's, an adult's, one of a person whose birth nobody knows.
    born = {"a-1": "2010-01-01", "a-2": "1980-01-01", "a-3": None}
    common = {"household_id": "a", "event_date": "2023-05-31", "known_date": "2023-06-05"}
    frames = {
        "person": pd.DataFrame(
            [
                {**common, "person_id": name, "birth_date": day, "status": "present"}
                for name, day in born.items()
            ]
        ),
        "work": pd.DataFrame([{**common, "person_id": name, "worked": True} for name in born]),
    }
    told = check_consistency(_read(frames), rules=_only("K061")).rules.iloc[0]
    counts = told[["looked_at", "undecided", "findings", "households"]]
    assert counts.tolist() == [3, 1, 1, 1]


# ----------------------------------------------------------------------- recomputed independently

ORACLE_RULES = (
    *("K001", "K002", "K004", "K008", "K009", "K010", "K021", "K022", "K027", "K029", "K041"),
    *("K050", "K062", "K073"),
)
# Thresholds at which many records are found, so that a wrong window or comparison shows.
LOOSE = {
    "measure_days": 20, "lag_days": 40, "clear_days": 400, "clear_from": 201906, "bill_days": 60,
    "worker_share": 0.0, "high_income": 6000, "high_income_from": 2020, "placeholder": 9000,
    "work_share": 1.05, "work_gap": 500, "old_age": 60,
}  # fmt: skip


@pytest.mark.parametrize("as_of", [AS_OF, "2021-03-15"])
def test_rules_equal_a_recomputation_in_pandas(county, as_of):
    rules = _only(*ORACLE_RULES, **LOOSE)
    oracle = ConsistencyOracle(county, as_of, rules.parameters)
    findings = check_consistency(county, as_of, rules).findings
    counts = {}
    for code in ORACLE_RULES:
        found = findings[findings["code"] == code]
        persons = [None if pd.isna(person) else person for person in found["person_id"]]
        rows = zip(found["household_id"], persons, found["event_date"], strict=True)
        assert sorted(rows, key=str) == oracle.find(code), code
        counts[code] = len(found)
    if as_of == AS_OF:
        # Nothing is compared where nothing is found.
        assert min(counts.values()) > 0
        assert sum(counts.values()) > 500


# -------------------------------------------------------------------------- what was known, and when


def test_only_what_was_known_counts(planted, report):
    as_of = "2023-10-05"
    then = check_consistency(planted, as_of)
    archive = check_consistency(planted.known_before(as_of), as_of)
    _same(then.findings, archive.findings)
    _same(then.rules, archive.rules)
    assert (then.findings["known_date"] < as_of).all()
    # Records of the cases were known before and after that day.
    assert 100 < len(then.findings) < len(report.findings)


def test_finding_begins_the_day_after_it_was_known(planted):
    # The bill of K081 was known on 15 May 2023.
    counts = [
        check_consistency(planted, day, _only("K081")).findings.shape[0]
        for day in ("2023-05-15", "2023-05-16")
    ]
    assert counts == [0, 1]


def test_correction_ends_a_finding_from_the_day_after_it_was_known():
    bill = {"household_id": "a", "person_id": "a-1", "bill_id": "1", "event_date": "2023-05-01"}
    wrong = {**bill, "known_date": "2023-05-09", "total": 100, "out_of_pocket": 200}
    right = {**bill, "known_date": "2023-07-01", "total": 300, "out_of_pocket": 200}
    tables = _read({"medical_bill": pd.DataFrame([wrong, right])})
    found = {
        day: len(check_consistency(tables, day, _only("K081")).findings)
        for day in ("2023-05-09", "2023-05-10", "2023-07-01", "2023-07-02")
    }
    assert found == {"2023-05-09": 0, "2023-05-10": 1, "2023-07-01": 1, "2023-07-02": 0}


def test_order_of_rows_does_not_matter(report):
    frames = {n: f.sample(frac=1, random_state=3) for n, f in make_frames(CASES).items()}
    shuffled = check_consistency(_read(frames))
    columns = ["code", "household_id", "event_date", "table"]
    _same(
        report.findings.sort_values(columns, kind="stable"),
        shuffled.findings.sort_values(columns, kind="stable"),
    )


def test_date_that_is_none_is_told(planted):
    with pytest.raises(DeclarationError, match="expected dates such as '2024-01-01'"):
        check_consistency(planted, "yesterday")


# -------------------------------------------------------------------------------- what could not run


def test_absent_table_is_said():
    frames = {n: f for n, f in make_frames(CASES).items() if n not in ("assistance", "work")}
    report = check_consistency(_read(frames))
    lacking = report.not_run.set_index(["code", "table"])
    assert (lacking["status"] == "table_absent").all()
    assert lacking.loc[("K001", "monitoring"), "lacking"] == "assistance"
    assert lacking.loc[("K061", "work"), "lacking"] == "work"
    assert lacking.loc[("K134", "work"), "lacking"] == "work"
    # A rule over several tables runs on the others.
    ran = report.rules.set_index(["code", "table"])["status"]
    assert ran["K134", "shock"] == "run"
    expected = {"K001", "K029", "K061", "K062", "K063", "K064", "K065", "K134", "K135", "K136"}
    assert set(lacking.index.get_level_values("code")) == expected | {
        "K101",
        "K102",
        "K103",
        "K104",
    }
    assert "K001" not in set(report.findings["code"])


def test_missing_line_is_said():
    rules = _only("K004", "K081")
    report = check_consistency(_read(make_frames(CASES), line=None), rules=rules)
    assert report.not_run[["code", "status"]].to_numpy().tolist() == [["K004", "no_line"]]


def test_schema_of_another_archive_is_said():
    shock = {"household_id": ["a"], "event_date": ["2023-05-01"], "known_date": ["2023-05-09"]}
    schema = load_schema("eph")
    name = next(n for n, t in schema.tables.items() if t.entity == "household")
    frame = pd.DataFrame(shock)
    for column, item in schema.tables[name].columns.items():
        if item.required:
            frame[column] = item.codes[0] if item.codes else "1"
    report = check_consistency(HistoryTables.from_frames({name: frame}, schema))
    told = report.rules.set_index(["code", "table"])
    assert told.loc[("K081", "medical_bill"), ["status", "lacking"]].tolist() == [
        "not_declared",
        "table 'medical_bill'",
    ]
    assert report.findings.empty


def test_column_that_is_not_declared_is_said():
    rule = RULES["K021"].model_copy(update={"when": "salary < 1"})
    rules = RULES.model_copy(update={"rules": (rule,)})
    report = check_consistency(_read(make_frames(CASES)), rules=rules)
    assert report.not_run["lacking"].tolist() == ["column 'income.salary'"]


def test_history_without_a_finding():
    frames = {"visit": pd.DataFrame(_visits(["a"], known="2023-05-05"))}
    report = check_consistency(_read(frames), rules=_only("K134"))
    assert report.findings.empty
    assert report.count_by_township().empty
    assert summarise_quality(report, ["a"])["a"].codes == ()


# ------------------------------------------------------------------------------------- what is told


def _visits(households, known="2024-01-01"):
    """Visits that the office knew of only half a year later."""
    common = {"event_date": "2023-05-01", "known_date": known, "purpose": "routine"}
    return [{"household_id": household, **common} for household in households]


def _archive(households, township):
    common = {"event_date": "2019-01-01", "known_date": "2019-01-05", "village_id": "V"}
    return [
        {"household_id": h, "township_id": township, "status": "active", **common}
        for h in households
    ]


def test_small_counts_are_hidden_in_what_is_shared():
    many, few = [f"a{n}" for n in range(10)], [f"b{n}" for n in range(9)]
    frames = {
        "household": pd.DataFrame(_archive(many, "T1") + _archive(few, "T2")),
        "visit": pd.DataFrame(_visits([*many, *few, "nobody"], known="2024-06-01")),
    }
    report = check_consistency(_read(frames), rules=_only("K134"))
    exact = report.count_by_township(shared=False)["warning"]
    assert exact.tolist() == [10, 9, 1]
    shared = report.count_by_township()
    assert shared.index.tolist()[:2] == ["T1", "T2"]
    assert pd.isna(shared.index[2])
    assert list(shared.columns) == list(SEVERITIES)
    assert shared["warning"].tolist()[0] == 10
    assert shared["warning"].isna().tolist() == [False, True, True]
    # None is no small count.
    assert shared["error"].tolist() == [0, 0, 0]
    by_rule = report.count_by_rule()
    assert by_rule["K134"].isna().tolist() == [False, True, True]


def test_quality_of_a_household(report):
    told = summarise_quality(report, ["K041-bad", "clean", "nobody"], "en")
    assert list(told) == ["K041-bad", "clean", "nobody"]
    quality = told["K041-bad"]
    assert quality.codes[0] == "K041"
    assert quality.texts[0] == "Household without a head"
    # No account of a lifted household is a gap; the error comes first.
    assert "K026" in quality.codes
    assert (quality.errors, quality.notes) == (1, 1)
    assert len(quality.texts) == len(quality.codes)
    assert told["clean"].codes == told["nobody"].codes == ()
    chinese = summarise_quality(report, ["K041-bad"])["K041-bad"]
    assert chinese.texts[0] == "家庭没有户主"


@pytest.mark.parametrize("code", RULES.codes)
def test_words_stand_in_both_languages(code):
    for text in (RULES.describe, RULES.advise, RULES.name_department):
        chinese, english = text(code, "zh"), text(code, "en")
        assert CHINESE.search(chinese)
        assert not CHINESE.search(english)
        assert "{" not in chinese + english
    rule = RULES[code]
    assert rule.theme in load_locale("zh")["themes"]
    tables = rule.tables or ("shock",)
    for table in tables:
        for name in rule.show:
            words = [RULES.name_value(code, name, locale, SCHEMA, table) for locale in ("zh", "en")]
            assert CHINESE.search(words[0]), name
            assert not CHINESE.search(words[1]), name


@pytest.mark.parametrize("code", RULES.codes)
def test_rule_fits_the_shipped_schema(code):
    rule = RULES[code]
    assert all(not rule.find_undeclared(t, SCHEMA, RULES.parameters) for t in rule.tables)


def test_parameters_are_told_as_they_are():
    rules = RULES.extended({"parameters": {"measure_days": 45}})
    assert rules.describe("K001", "en") == "No measure within 45 days of identification"
    assert "45" in rules.describe("K001", "zh")


# ------------------------------------------------------------------------------- offices' own rules

OWN = {
    "code": "X001",
    "severity": "note",
    "theme": "shock",
    "department": "township",
    "table": "shock",
    "when": "loss > own_limit",
    "show": ["loss"],
    "wrong": {"zh": "损失超过{own_limit}元", "en": "A loss above {own_limit} yuan"},
    "remedy": {"zh": "核实", "en": "Check it"},
}


def test_office_adds_a_rule_of_its_own(planted):
    rules = RULES.extended({"parameters": {"own_limit": 4999}, "rules": [OWN]})
    assert rules.codes == (*RULES.codes, "X001")
    alone = rules.model_copy(update={"rules": (rules["X001"],)})
    told = check_consistency(planted, rules=alone).findings
    # Every loss of the cases is one of 5000 or 6000 yuan.
    assert set(told["household_id"]) == set(planted["shock"]["household_id"])
    assert set(told["values"].str[0]) == {"5000.0", "6000.0"}
    assert rules.describe("X001", "en") == "A loss above 4999 yuan"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"code": "K001"}, "code K001 twice"),
        ({"code": "X1"}, "should match pattern"),
        ({"department": "nobody"}, "department 'nobody' is not declared"),
        ({"wrong": {"zh": "{limit}", "en": "{limit}"}}, r"'\{limit\}' is no parameter"),
        ({"severity": "bad"}, "'error', 'warning' or 'note'"),
        ({"when": None}, "needs either 'when' or 'rejected'"),
        ({"table": []}, "needs a 'table'"),
        ({"per": ["kind"]}, "'per' and 'measures' belong together"),
        ({"report": "group"}, "one finding per group needs 'per'"),
        ({"rejected": {}, "when": None}, "needs either 'found' or 'expected'"),
        ({"beside": {"n": {"table": "shock", "take": "sum"}}}, "every other 'take' needs one"),
        (
            {"beside": {"n": {"table": "shock", "take": "count"}}, "show": ["n"]},
            "no words in 'names' for 'n'",
        ),
        ({"wehn": "loss > 1"}, "Did you mean 'when'"),
    ],
)
def test_faults_of_a_rule_are_told(change, match):
    own = {"parameters": {"own_limit": 1}, "rules": [OWN | change]}
    with pytest.raises(DeclarationError, match=match):
        RULES.extended(own)


@pytest.mark.parametrize("text", ["loss + 'a' > 1", "loss >", "__import__('os')", "loss"])
def test_condition_outside_the_language_is_refused(planted, text):
    rules = RULES.extended({"parameters": {"own_limit": 1}, "rules": [OWN | {"when": text}]})
    rules = rules.model_copy(update={"rules": (rules["X001"],)})
    with pytest.raises(DeclarationError, match=r"(rule X001|expression): found"):
        check_consistency(planted, rules=rules)


def test_rule_that_does_not_exist_is_told():
    with pytest.raises(DeclarationError, match=r"rule 'K999'.*expected one of K001"):
        RULES["K999"]


def test_rules_of_a_file(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("parameters: {placeholder: 50}\n", encoding="utf-8")
    assert load_consistency_rules(extra=path).parameters["placeholder"] == 50
    path.write_text("parametres: {placeholder: 50}\n", encoding="utf-8")
    with pytest.raises(DeclarationError, match="Did you mean 'parameters'"):
        load_consistency_rules(extra=path)


# ------------------------------------------------------------------------------ values stay values


def test_values_of_records_never_enter_a_query(monkeypatch):
    """Ids that would be SQL are found like any others, and stand in no query."""
    hostile = ["a' OR '1'='1", 'b"; DROP TABLE visit; --', "c\\", "{h}", "d\n--"]
    seen = []
    connect = duckdb.connect

    def listen(*args, **options):
        connection = connect(*args, **options)
        return _Listener(connection, seen)

    monkeypatch.setattr(duckdb, "connect", listen)
    tables = _read({"visit": pd.DataFrame(_visits(hostile))})
    found = check_consistency(tables, rules=_only("K134")).findings
    assert sorted(found["household_id"]) == sorted(tables.households)
    assert len(found) == len(hostile)
    assert len(seen) > 3
    assert not any(text[:4] in query for text in hostile for query in seen)


class _Listener:
    """A connection that notes the text of queries."""

    def __init__(self, connection, seen):
        self.connection, self.seen = connection, seen

    def __getattr__(self, name):
        method = getattr(self.connection, name)
        if name not in ("sql", "execute"):
            return method

        def noted(text, *args):
            self.seen.append(text)
            return method(text, *args)

        return noted

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()


# ---------------------------------------------------------------------------- the simulated county

# What the county's recorder plants, and what follows from it.
PLANTED = {
    "K021": "placeholder wages",
    "K022": "accounts copied from the year before",
    "K029": "placeholders and copies against the monthly wages",
    "K050": "birth dates that nobody wrote down",
    "K131": "records known before they happened",
    "K132": "rows entered twice",
}
# Where a member's or household's own first record is one of the refused rows.
LOST_WITH_A_ROW = {"K027", "K041", "K051", "K063", "K073", "K135", "K136"}
# Recorded differently from what the county knew of itself: noisy accounts, missing labour capacity,
# six months counted by months, bills of the time before the history.
RECORDED_DIFFERENTLY = {"K002", "K004", "K008", "K009", "K010"}


def test_simulated_county_raises_what_its_recorder_plants(county):
    report = check_consistency(county)
    counts = report.findings["code"].value_counts()
    assert set(counts.index) >= set(PLANTED)
    assert set(counts.index) <= {*PLANTED, *LOST_WITH_A_ROW, *RECORDED_DIFFERENTLY}
    # Rare: at most one in fifty of the records that were looked at.
    looked_at = report.rules[report.rules["code"].isin(LOST_WITH_A_ROW)]
    assert (looked_at["findings"] <= np.maximum(looked_at["looked_at"] / 50, 1)).all()
    lost = set(county.rejected_rows("person")["household_id"])
    lost |= set(county.rejected_rows("household")["household_id"])
    odd = report.findings[report.findings["code"].isin(LOST_WITH_A_ROW)]
    assert set(odd["household_id"]) <= lost


def test_planted_doubles_and_impossible_dates_are_all_found(county):
    counts = check_consistency(county, rules=_only("K131", "K132")).findings["code"].value_counts()
    rejected = county.rejected
    assert counts["K132"] == rejected["found"].eq("a repeat of another record").sum()
    assert counts["K131"] + counts["K132"] == len(rejected)
