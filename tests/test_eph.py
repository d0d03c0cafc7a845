"""The EPH panel: codes, rotation and labels on a made-up one; the counts on the real one."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from poverty_risk.cohort import build_prediction_points, review_cohort
from poverty_risk.datasets.eph import build_eph_frames, read_eph
from poverty_risk.datasets.eph_codes import (
    DWELLING_CODES,
    DWELLING_COUNTS,
    DWELLING_FLAGS,
    STRATEGIES,
)
from poverty_risk.datasets.eph_members import MEMBER_COLUMNS
from poverty_risk.exceptions import HistoryError
from poverty_risk.features.build import build_features
from poverty_risk.features.spec import load_catalog
from poverty_risk.labels import label_returns
from poverty_risk.schema import load_schema
from poverty_risk.tables import HistoryTables

REAL_FOLDER = Path(
    os.environ.get(
        "POVERTY_RISK_EPH", Path(__file__).resolve().parents[2] / "shared" / "data" / "eph"
    )
)
needs_panel = pytest.mark.skipif(
    not (REAL_FOLDER / "hogar").is_dir(),
    reason="the EPH files are not there; name their folder in POVERTY_RISK_EPH",
)

START = 2008 * 4  # 2008 Q1: visit 1 of everyone below
LINE = 100.0

HOUSEHOLD_BLANK = dict.fromkeys(
    [*DWELLING_CODES, *DWELLING_FLAGS, *DWELLING_COUNTS], 1
) | dict.fromkeys(STRATEGIES, 2)
PERSON_BLANK = (
    dict.fromkeys(MEMBER_COLUMNS, 0)
    | {"PP04D_COD": "72313", "CH14": "03", "IDIMPP": "00000", "CH12": 4, "CH13": 2}
    | {"CH03": 1, "CH04": 1, "CH06": 40, "CH07": 5, "CH08": 1, "CH10": 2, "NIVEL_ED": 4}
    | {"ESTADO": 1, "CAT_OCUP": 3, "INTENSI": 3, "PP3E_TOT": 40, "PP07H": 1, "PP07C": 2}
)


class Panel:
    """A made-up survey, written in the layout of INDEC's files."""

    def __init__(self) -> None:
        self.households: list[dict[str, Any]] = []
        self.persons: list[dict[str, Any]] = []

    def add(
        self,
        dwelling: str,
        quarter: int,
        income: float,
        persons: list[dict[str, Any]] | None = None,
        **columns: Any,
    ) -> None:
        """Add an interview; one employed man of 40 unless persons are named."""
        number = columns.pop("NRO_HOGAR", 1)
        ids = {
            "CODUSU": dwelling,
            "NRO_HOGAR": number,
            "ANO4": (START + quarter) // 4,
            "TRIMESTRE": (START + quarter) % 4 + 1,
            "REGION": 1,
            "AGLOMERADO": 2,
        }
        household = {"REALIZADA": 1, "PONDERA": 100, "ITF": f"{income:.1f}", "DECIFR": "05"}
        self.households.append(
            ids
            | HOUSEHOLD_BLANK
            | household
            | {"IDIMPH": "00000", "DECCFR": "03", "UNUSED": "x"}
            | columns
        )
        for component, person in enumerate(persons or [{"P21": income}], start=1):
            self.persons.append(PERSON_BLANK | ids | {"COMPONENTE": component} | person)

    def write(self, folder: Path) -> Path:
        """Write the files and the two small tables beside them."""
        for kind, rows in (("hogar", self.households), ("indiv", self.persons)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            frame = pd.DataFrame(rows)
            for quarter, part in frame.groupby(frame["ANO4"] * 4 + frame["TRIMESTRE"] - 1):
                number = int(str(quarter))
                name = f"{kind}_a{number // 4 % 100:02d}t{number % 4 + 1}.tsv.gz"
                with gzip.open(folder / kind / name, "wt", encoding="utf-8") as file:
                    part.to_csv(file, sep="\t", index=False, na_rep="None")
        quarters = range(START, START + 12)
        pd.DataFrame(
            {
                "region": 1,
                "year": [quarter // 4 for quarter in quarters],
                "quarter": [quarter % 4 + 1 for quarter in quarters],
                "line_per_adult_equivalent": LINE,
            }
        ).to_csv(folder / "poverty_line.csv", index=False)
        pd.DataFrame(
            {
                "sex": [1, 1, 2, 2, 2],
                "age": [40, -1, 40, 8, 15],
                "adult_equivalent": [1.0, 0.35, 0.7, 0.6, 0.9],
            }
        ).to_csv(folder / "adult_equivalent.csv", index=False)
        return folder


def read_interviews(panel: Panel, folder: Path) -> pd.DataFrame:
    return read_eph(panel.write(folder))["interview"].set_index(["household_id", "event_date"])


def follow(panel: Panel, dwelling: str, incomes: dict[int, float]) -> None:
    """Add one interview per quarter after the start."""
    for quarter, income in incomes.items():
        panel.add(dwelling, quarter, income)


def test_household_line_and_poor(tmp_path: Path) -> None:
    panel = Panel()
    # 1.0 + 0.7 + 0.35 adult equivalents at 100: a line of 205.
    family = [
        {"P21": 150, "TOT_P12": 5},
        {"CH03": 2, "CH04": 2, "ESTADO": 3, "CAT_OCUP": 0, "T_VI": 41},
        {"CH03": 3, "CH06": -1, "ESTADO": 4, "CAT_OCUP": 0},
        {"COMPONENTE": 51, "CH03": 10, "P21": 900},
        {"COMPONENTE": 71, "CH03": 10, "P21": 900},
    ]
    panel.add("100001", 0, 204.9, family)
    panel.add("100002", 0, 205.0, family)
    tables = read_eph(panel.write(tmp_path))
    assert tables.rejected.empty
    interview = tables["interview"].set_index("household_id")
    assert interview["members"].tolist() == [3, 3]
    assert interview["household_line"].tolist() == pytest.approx([205.0, 205.0])
    assert interview["poor"].tolist() == [True, False]  # strictly below
    member = tables["member"].query("household_id == '100001_1'").set_index("person_id")
    assert list(member.index) == ["100001_1_1", "100001_1_2", "100001_1_3"]
    assert member.loc["100001_1_1", "main_job_income"] == pytest.approx(150 / 205)
    assert member.loc["100001_1_3", "age"] == 0
    assert member.loc["100001_1_2", "relation"] == "spouse"


def test_known_on_last_day_of_quarter(tmp_path: Path) -> None:
    panel = Panel()
    follow(panel, "100001", {0: 50, 1: 50})
    interview = read_eph(panel.write(tmp_path))["interview"]
    days = ["2008-03-31", "2008-06-30"]
    assert interview["event_date"].astype(str).tolist() == days
    assert interview["known_date"].astype(str).tolist() == days


@pytest.mark.parametrize(
    ("quarters", "visits"),
    [
        ((0, 1, 4, 5), [1, 2, 3, 4]),
        ((0, 1, 4), [1, 2, 3]),
        ((0, 1, 5), [1, 2, 4]),
        ((0, 4, 5), [1, 3, 4]),
        ((1, 4, 5), [2, 3, 4]),
        ((0, 5), [1, 4]),
        ((1, 4), [2, 3]),
        ((0,), [None]),
        ((0, 1), [None, None]),
        ((0, 4), [None, None]),
        ((0, 2), [None, None]),
        ((0, 9), [None, None]),
    ],
)
def test_visit_by_rotation(
    tmp_path: Path, quarters: tuple[int, ...], visits: list[int | None]
) -> None:
    panel = Panel()
    follow(panel, "100001", dict.fromkeys(quarters, 50.0))
    visit = read_interviews(panel, tmp_path)["visit"]
    assert visit.astype(object).where(visit.notna(), None).tolist() == visits


def test_visit_is_of_the_dwelling(tmp_path: Path) -> None:
    panel = Panel()
    follow(panel, "100001", {0: 50, 1: 50, 4: 50, 5: 50})
    panel.add("100001", 5, 50, NRO_HOGAR=2)  # a second household, first met at the last visit
    visit = read_interviews(panel, tmp_path)["visit"]
    assert visit["100001_2"].tolist() == [4]


def test_looks_back_only(tmp_path: Path) -> None:
    panel = Panel()
    follow(panel, "100001", {0: 50, 1: 150, 4: 80, 5: 120})
    names = ["interviews_before", "quarters_since_previous", "poor_before", "income_to_line_before"]
    whole = read_interviews(panel, tmp_path)
    early = read_eph(tmp_path, ["2008Q1", "2008Q2"])["interview"]
    early = early.set_index(["household_id", "event_date"])
    pd.testing.assert_frame_equal(whole.loc[early.index, names], early[names], check_dtype=False)
    assert whole["interviews_before"].tolist() == [0, 1, 2, 3]
    assert whole["quarters_since_previous"].tolist()[1:] == [1, 3, 1]
    assert whole["poor_before"].tolist()[1:] == [True, False, True]
    assert whole["income_to_line_before"].tolist()[1:] == pytest.approx([0.5, 1.5, 0.8])


def test_no_answers_are_missing(tmp_path: Path) -> None:
    panel = Panel()
    panel.add("100001", 0, 50, DECIFR="12", IV3=9, II1=99, V13=9, IDIMPH="00110")
    panel.add("100002", 0, 50, [{"CH08": 9, "INTENSI": 9, "PP3E_TOT": 999, "P21": -9}])
    panel.add("100003", 0, 50, [{"CH06": 33}])  # an age without adult equivalent
    panel.add("100004", 0, 50, REALIZADA=2)
    tables = read_eph(panel.write(tmp_path))
    interview = tables["interview"].set_index("household_id")
    assert list(interview.index) == ["100001_1", "100002_1", "100003_1"]
    first = interview.loc["100001_1"]
    names = ["total_income", "income_to_line", "poor", "floor", "own_rooms", "spent_savings"]
    assert first[names].isna().all()
    assert not first["income_answered"]
    assert first["imputed"]
    assert first["imputed_parts"] == 2
    member = tables["member"].set_index("household_id").loc["100002_1"]
    assert member[["health_cover", "underemployed", "hours", "main_job_income"]].isna().all()
    assert interview["poor"].isna().tolist() == [True, False, True]


def test_cohorts_and_labels(tmp_path: Path) -> None:
    panel = Panel()
    follow(panel, "returns", {0: 50, 1: 150, 4: 150, 5: 50})
    follow(panel, "between", {0: 50, 1: 150, 4: 50, 5: 150})
    follow(panel, "stays_up", {0: 50, 1: 150, 4: 150, 5: 150})
    follow(panel, "lost", {0: 50, 1: 150})
    follow(panel, "third_only", {0: 50, 1: 150, 4: 150})
    follow(panel, "never_poor", {0: 150, 1: 150, 5: 50})
    follow(panel, "still_poor", {0: 50, 1: 50, 5: 50})
    follow(panel, "one_visit", {1: 150, 5: 50})
    panel.add("no_answer", 0, 50)
    panel.add("no_answer", 1, 150)
    panel.add("no_answer", 5, 50, DECIFR="13")
    tables = read_eph(panel.write(tmp_path))
    names = {
        cohort: {
            name.removesuffix("_1")
            for name, _ in build_prediction_points(tables, "2008-07-01", cohort).index
        }
        for cohort in ("lifted", "not_poor", "everyone", "seen")
    }
    lifted = {"returns", "between", "stays_up", "lost", "third_only", "no_answer"}
    assert names["lifted"] == lifted
    assert names["not_poor"] == lifted | {"never_poor"}
    assert names["everyone"] == lifted | {"never_poor", "still_poor"}
    assert names["seen"] == names["everyone"] | {"one_visit"}
    reviewed = review_cohort(tables, "2008-07-01", "lifted")["exclusion"].dropna()
    reasons = reviewed.droplevel("as_of_date").to_dict()
    assert reasons["one_visit_1"] == "not_at_second_interview"
    assert reasons["still_poor_1"] == "poor_or_unknown"
    assert reasons["never_poor_1"] == "not_poor_before"
    # Nobody is at a second interview when visits 3 and 4 follow visits 1 and 2.
    assert build_prediction_points(tables, "2009-07-01", "everyone").empty

    points = build_prediction_points(tables, "2008-07-01", "lifted")
    assert points["village_id"].unique().tolist() == ["city_02"]
    assert points["township_id"].unique().tolist() == ["greater_buenos_aires"]
    at = label_returns(tables, points, "12mo", "poor_at_12mo").droplevel("as_of_date")
    assert at.dropna().to_dict() == {"between_1": 0, "returns_1": 1, "stays_up_1": 0}
    within = label_returns(tables, points, "12mo", "poor_within_12mo").droplevel("as_of_date")
    assert within.dropna().to_dict() == {
        "between_1": 1,
        "returns_1": 1,
        "stays_up_1": 0,
        "third_only_1": 0,
    }


def test_first_interviews_are_followed_by_the_third(tmp_path: Path) -> None:
    panel = Panel()
    follow(panel, "falls", {0: 150, 1: 150, 4: 50, 5: 150})
    follow(panel, "stays_up", {0: 150, 1: 50, 4: 150, 5: 50})
    follow(panel, "fourth_only", {0: 150, 1: 150, 5: 50})
    panel.add("no_answer", 0, 50, DECIFR="12")
    panel.add("no_answer", 4, 50)
    tables = read_eph(panel.write(tmp_path))
    points = build_prediction_points(tables, ["2008-04-01", "2009-04-01", "2009-07-01"], "seen")
    at = label_returns(tables, points, "12mo", "poor_at_12mo")
    # Of all interviews, the first alone: the third and the fourth are no points to learn from.
    assert set(points.index.get_level_values("as_of_date")) == {pd.Timestamp("2008-04-01")}
    found = at.droplevel("as_of_date")
    assert found.dropna().to_dict() == {"falls_1": 1, "stays_up_1": 0}
    assert set(found.index) == {"falls_1", "stays_up_1", "fourth_only_1"}


def test_features_of_two_visits(tmp_path: Path) -> None:
    panel = Panel()
    girl = {"CH03": 3, "CH04": 2, "CH06": 8, "ESTADO": 4, "CAT_OCUP": 0, "CH10": 1, "NIVEL_ED": 1}
    teenager = girl | {"CH06": 15, "ESTADO": 3, "CH10": 2, "NIVEL_ED": 3}
    panel.add("100001", 0, 80, [{"P21": 80, "PP07H": 2}, girl], V13=2)
    panel.add("100001", 1, 200, [{"P21": 150, "T_VI": 50, "V2_M": 50}, girl, teenager], V13=1)
    panel.add("100001", 4, 900)
    tables = read_eph(panel.write(tmp_path))
    points = build_prediction_points(tables, "2008-07-01", "everyone")
    row = build_features(tables, points).iloc[0]
    # Lines: (1.0 + 0.6) x 100 at visit 1, (1.0 + 0.6 + 0.9) x 100 at visit 2.
    expected = {
        "income_to_line_last_60d": 200 / 250,
        "income_to_line_last_60d_lag60d": 80 / 160,
        "income_to_line_delta_200d": 200 / 250 - 80 / 160,
        "income_to_line_mean_200d": (200 / 250 + 80 / 160) / 2,
        "labour_income_sum_60d": 150 / 250,
        "labour_income_change": 150 / 250 - 80 / 160,
        "pension_share": 50 / 200,
        "top_earner_share": 150 / 200,
        "income_without_top_earner": 50 / 250,
        "children_count_60d": 2,
        "children_change": 1,
        "members_delta_200d": 1,
        "dependants_per_adult": 2,
        "formal_change": 1,
        "informal_change": -1,
        "out_of_school_count_60d": 1,
        "pupils_count_60d": 1,
        "spent_savings_last_60d": 1,
        "spent_savings_delta_200d": 1,
        "lone_parent": 1,
        "head_formal_exists_60d": 1,
        "members_per_room": 3,
        "season": 7,
    }
    assert row[list(expected)].astype(float).to_dict() == pytest.approx(expected)
    assert row["head_activity_last_60d"] == "employed"
    assert row["region_last_60d"] == "greater_buenos_aires"


def build_row(panel: Panel, folder: Path) -> pd.Series:
    """Features on the day after visit 2."""
    tables = read_eph(panel.write(folder))
    points = build_prediction_points(tables, "2008-07-01", "everyone")
    return build_features(tables, points).iloc[0]


def test_features_of_work(tmp_path: Path) -> None:
    panel = Panel()
    panel.add("100001", 0, 80, [{"P21": 80}])
    woman = {"CH03": 2, "CH04": 2, "PP04D_COD": "55314", "PP04B1": 1, "CAT_OCUP": 3, "PP07A": 2}
    woman |= {"PP04C": 99, "PP04C99": 2, "P21": 40, "PP3E_TOT": 10, "PP07G1": 2, "PP08J1": 17}
    man = {"P21": 200, "PP04D_COD": "41312", "PP04A": 1, "PP04C": 8, "PP07A": 6}
    man |= {"PP07G1": 1, "PP07G2": 1, "PP08J1": 34, "IDIMPP": "00020", "P47T": 200}
    panel.add("100001", 1, 240, [man, woman], DECCFR="12")
    row = build_row(panel, tmp_path)
    # The line of the household is (1.0 + 0.7) x 100; the oldest job was held for five years.
    expected = {
        "skill_max_60d": 2,
        "skill_max_60d_lag60d": 1,
        "head_skill_last_60d": 2,
        "unskilled_workers_count_60d": 1,
        "unskilled_earnings_sum_60d": 40 / 170,
        "domestic_workers_count_60d": 1,
        "construction_workers_count_60d": 0,
        "state_earnings_sum_60d": 200 / 170,
        "workplace_max_60d": 26,
        "longest_job_max_60d": 60,
        "shortest_job_min_60d": 1,
        "new_job_earnings_sum_60d": 40 / 170,
        "benefits_max_60d": 2,
        "benefits_sum_60d": 2,
        "weekly_pay_max_60d": 200 / 170,
        "weekly_pay_min_60d": 40 / 170 * 4,
        "one_off_pay_sum_60d": 51 / 170,
        "regular_income": (240 - 51) / 170,
        "imputed_members_count_60d": 1,
        "imputed_income_sum_60d": 200 / 170,
        "schooling_max_60d": 7 + 3,
        "decile_last_60d_lag60d": 3,
    }
    assert row[list(expected)].astype(float).to_dict() == pytest.approx(expected)
    assert pd.isna(row["decile_last_60d"])


def test_features_of_comings_and_goings(tmp_path: Path) -> None:
    panel = Panel()
    idle = {"P21": 0, "ESTADO": 3, "CAT_OCUP": 0, "PP07H": 0}
    woman = {"CH03": 2, "CH04": 2}
    before = [{"P21": 100, "PP07H": 2}, idle | woman, {"COMPONENTE": 3, "P21": 50}]
    panel.add("100001", 0, 150, before)
    after = [{"P21": 160}, woman | {"P21": 60}, {"COMPONENTE": 4, "P21": 30}]
    panel.add("100001", 1, 250, after)
    panel.add("100001", 4, 250, [{"P21": 160}])
    row = build_row(panel, tmp_path)
    # Lines: (1.0 + 0.7 + 1.0) x 100 at both visits.
    expected = {
        "joined_count_60d": 1,
        "joined_earnings_sum_60d": 30 / 270,
        "left_last_60d": 1,
        "left_earnings_last_60d": 50 / 270,
        "jobs_lost_count_60d": 0,
        "jobs_found_count_60d": 1,
        "found_earnings_sum_60d": 60 / 270,
        "steady_workers_count_60d": 1,
        "steady_earnings_sum_60d": 100 / 270,
        "raises_sum_60d": 60 / 270,
        "cuts_sum_60d": 0,
        "became_formal_count_60d": 1,
        "lost_formal_count_60d": 0,
    }
    assert row[list(expected)].astype(float).to_dict() == pytest.approx(expected)


def test_catalog_fits_schema() -> None:
    catalog, schema = load_catalog("eph"), load_schema("eph")
    catalog.check(schema)
    assert len(catalog.model_names) >= 100
    for spec in catalog.specs:
        for locale in ("zh", "en"):
            words = spec.words[locale]
            flag = spec.kind == "flag"
            for raises in (True, False):
                sentences = [
                    words.sentence(raises=raises, flag=value)
                    for value in ((True, False) if flag else (None,))
                ]
                assert all(sentences), spec.name


def test_catalog_has_no_nominal_money() -> None:
    pesos = {
        name
        for name, column in load_schema("eph").tables["interview"].columns.items()
        if column.unit is not None and "pesos" in column.unit
    }
    assert pesos == {"total_income", "household_line"}
    values = [spec.value or "" for spec in load_catalog("eph").specs]
    assert not [value for value in values if value in pesos]


def test_faults_name_all_files(tmp_path: Path) -> None:
    panel = Panel()
    follow(panel, "100001", {0: 50, 1: 50})
    panel.write(tmp_path)
    (tmp_path / "indiv" / "indiv_a08t1.tsv.gz").unlink()
    (tmp_path / "adult_equivalent.csv").unlink()
    with pytest.raises(HistoryError, match=r"(?s)indiv_a08t1\.tsv\.gz.*adult_equivalent\.csv"):
        read_eph(tmp_path)
    with pytest.raises(HistoryError, match="no quarter"):
        read_eph(tmp_path / "elsewhere")
    with pytest.raises(HistoryError, match=r"hogar_a09t4\.tsv\.gz"):
        read_eph(tmp_path, ["2009Q4"])
    with pytest.raises(HistoryError, match="such as '2008Q2'"):
        read_eph(tmp_path, ["2008-2"])


def test_faults_in_files(tmp_path: Path) -> None:
    panel = Panel()
    panel.add("100001", 0, 50)
    panel.write(tmp_path)
    line = tmp_path / "poverty_line.csv"
    line.write_text("region,year,quarter,line_per_adult_equivalent\n1,2009,1,100\n")
    with pytest.raises(HistoryError, match="no line for region 1 2008Q1"):
        read_eph(tmp_path)
    path = tmp_path / "hogar" / "hogar_a08t1.tsv.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write("CODUSU\tNRO_HOGAR\n100001\t1\n")
    with pytest.raises(HistoryError, match=r"EPH file hogar_a08t1\.tsv\.gz"):
        read_eph(tmp_path)


def test_frames_have_the_declared_columns(tmp_path: Path) -> None:
    panel = Panel()
    panel.add("100001", 0, 50)
    frames = build_eph_frames(panel.write(tmp_path))
    for name, table in load_schema("eph").tables.items():
        assert set(frames[name].columns) == set(table.all_columns)


@pytest.fixture(scope="module")
def real_panel() -> HistoryTables:
    return read_eph(REAL_FOLDER)


@needs_panel
def test_real_panel_is_read_whole(real_panel: HistoryTables) -> None:
    assert real_panel.rejected.empty
    assert real_panel.observed_to == pd.Timestamp("2013-01-01")
    assert len(real_panel["interview"]) == 610_694
    assert len(real_panel["member"]) == 2_060_126


@needs_panel
@pytest.mark.parametrize(
    ("cohort", "label", "train_rows", "test_rows", "test_base"),
    [
        ("lifted", "poor_at_12mo", 5_894, 1_163, 0.342),
        ("lifted", "poor_within_12mo", 6_583, 1_244, 0.497),
        # The notes that come with the data count 37,940 here: one row less, all else equal.
        ("not_poor", "poor_at_12mo", 37_941, 9_661, 0.111),
        ("everyone", "poor_at_12mo", 65_551, 13_209, 0.252),
        ("seen", "poor_at_12mo", 150_859, None, None),
    ],
)
def test_real_panel_counts(
    real_panel: HistoryTables,
    cohort: str,
    label: str,
    train_rows: int,
    test_rows: int | None,
    test_base: float | None,
) -> None:
    """Visit 2 up to 2009 Q4 to train on, in 2011 to test on; as-of date is the day after."""
    train_dates = pd.date_range("2004-01-01", "2010-01-01", freq="3MS")
    test_dates = pd.date_range("2011-04-01", "2012-01-01", freq="3MS")
    train, test = (
        label_returns(
            real_panel, build_prediction_points(real_panel, dates, cohort), "12mo", label
        ).dropna()
        for dates in (train_dates, test_dates)
    )
    assert len(train) == train_rows
    if test_rows is not None:  # scored, too
        assert (len(test), round(test.mean(), 3)) == (test_rows, test_base)
