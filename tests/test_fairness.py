"""Groups of households: who belongs to them, what a visit budget does for them, and what is told."""

import numpy as np
import pandas as pd
import pytest

from poverty_risk.audit_groups import AuditGroups, build_audit_groups, load_audit_groups
from poverty_risk.cohort import build_prediction_points
from poverty_risk.datasets import make_household_history
from poverty_risk.evaluation import compute_budget_table
from poverty_risk.exceptions import DeclarationError, FeatureError
from poverty_risk.fairness import GroupLimits, check_group_limits, evaluate_groups
from poverty_risk.features import load_catalog
from poverty_risk.privacy import SMALL_COUNT
from poverty_risk.schema import load_schema
from poverty_risk.small_groups import MEMBER, POOLED, UNKNOWN, sort_into_groups
from poverty_risk.tables import HistoryTables

AS_OF = "2023-01-01"

# ---------------------------------------------------------------------------- who belongs to a group

PERSON = ["household_id", "person_id", "event_date", "known_date", "status", "birth_date", "sex"]
PERSON += ["is_head", "disability_level"]
ARCHIVE = ["household_id", "event_date", "known_date", "status", "township_id", "village_id"]
ARCHIVE += ["ethnic_minority"]
EARLY, KNOWN, LATE = "2020-01-01", "2020-02-01", "2023-02-01"


def person(
    household, number, born, sex="man", *, head=False, level=None, status="present", at=None
):
    event, known = at or (EARLY, KNOWN)
    return [household, f"{household}-{number}", event, known, status, born, sex, head, level]


def make_tables(people, relocated=(), minority=()):
    ids = sorted({row[0] for row in people})
    archive = pd.DataFrame(
        [[i, EARLY, KNOWN, "active", "T1", "V1", i in minority] for i in ids],
        columns=ARCHIVE,
    )
    frames = {"household": archive, "person": pd.DataFrame(people, columns=PERSON)}
    if relocated:
        columns = ["household_id", "event_date", "known_date", "mode"]
        rows = [[i, EARLY, known, "centralised"] for i, known in relocated]
        frames["relocation"] = pd.DataFrame(rows, columns=columns)
    tables = HistoryTables.from_frames(frames, load_schema("archive"), observed_to="2024-01-01")
    assert tables.rejected.empty
    return tables


def points_of(tables):
    index = pd.MultiIndex.from_product(
        [tables.households, pd.to_datetime([AS_OF])], names=["household_id", "as_of_date"]
    )
    return pd.DataFrame(index=index)


def told(groups, name):
    values = groups[name].droplevel("as_of_date")
    return {key: None if pd.isna(value) else bool(value) for key, value in values.items()}


def test_elderly_only_means_that_every_member_present_is_sixty():
    people = [
        person("A", 1, "1950-05-01"),
        person("A", 2, "1962-12-31"),  # 60 years and a day
        person("B", 1, "1950-05-01"),
        person("B", 2, "1963-06-01"),  # 59
        person("C", 1, "1950-05-01"),
        person("C", 2, "1990-01-01"),  # has left
        person("C", 2, "1990-01-01", status="left", at=("2021-01-01", "2021-02-01")),
        person("D", 1, "1950-05-01"),
        person("D", 2, None),  # nobody can tell
        person("E", 1, None),
        person("E", 2, "1990-01-01"),  # whatever the first is
        person("F", 1, "1990-01-01", status="left"),  # nobody on record
    ]
    tables = make_tables(people)
    groups = build_audit_groups(tables, points_of(tables))
    expected = {"A": True, "B": False, "C": True, "D": None, "E": False, "F": None}
    assert told(groups, "elderly_only") == expected


def test_head_disability_relocation_and_minority():
    people = [
        person("A", 1, "1950-05-01", "woman", head=True, level=2),
        person("A", 2, "1950-05-01", "man"),
        person("B", 1, "1950-05-01", "man", head=True),
        person("B", 2, "1950-05-01", "woman", level=4, status="deceased"),
        person("C", 1, "1950-05-01", None, head=True),
        person("D", 1, "1950-05-01", "woman"),  # no head on record
    ]
    tables = make_tables(people, relocated=[("B", KNOWN), ("C", LATE)], minority=("D",))
    groups = build_audit_groups(tables, points_of(tables))
    assert told(groups, "woman_headed") == {"A": True, "B": False, "C": None, "D": None}
    assert told(groups, "disabled") == {"A": True, "B": False, "C": False, "D": False}
    # The relocation of C was not known on the day.
    assert told(groups, "relocated") == {"A": False, "B": True, "C": False, "D": False}
    assert told(groups, "ethnic_minority") == {"A": False, "B": False, "C": False, "D": True}
    assert groups["township"].tolist() == ["T1"] * 4


@pytest.fixture(scope="module")
def county():
    return make_household_history(150, start="2020-01-01", end="2024-01-01", seed=5).tables


def test_what_becomes_known_later_changes_no_group(county):
    tables = county
    points = build_prediction_points(tables, ["2021-07-01", AS_OF])
    now = build_audit_groups(tables, points)
    for date in ("2021-07-01", AS_OF):
        there = points.xs(pd.Timestamp(date), level="as_of_date", drop_level=False)
        before = build_audit_groups(tables.known_before(date), there)
        pd.testing.assert_frame_equal(now.loc[there.index], before)


def test_groups_of_a_simulated_county_against_pandas(county):
    """Members recomputed from each person's latest known record, without the engine."""
    tables = county
    points = build_prediction_points(tables, AS_OF)
    groups = build_audit_groups(tables, points)
    people = tables["person"]
    people = people[people["known_date"] < AS_OF].sort_values(["event_date", "known_date"])
    latest = people.groupby(["household_id", "person_id"]).tail(1)
    present = latest[latest["status"] == "present"]
    ids = points.index.get_level_values("household_id")
    disabled = present.loc[present["disability_level"].notna(), "household_id"]
    assert groups["disabled"].tolist() == ids.isin(disabled).tolist()
    heads = present[present["is_head"].fillna(value=False).astype(bool)]
    women = heads.loc[heads["sex"] == "woman", "household_id"]
    assert groups["woman_headed"].fillna(value=False).tolist() == ids.isin(women).tolist()
    assert 0 < disabled.nunique() < len(points)
    assert 0 < women.nunique() < len(points)


def test_a_table_that_is_absent_gives_no_group():
    tables = make_tables([person("A", 1, "1950-05-01")])
    groups = build_audit_groups(tables, points_of(tables))
    assert "relocated" not in groups
    assert "elderly_only" in groups


def test_columns_for_fairness_alone_are_in_no_shipped_feature():
    for name in ("archive", "eph"):
        schema, catalog = load_schema(name), load_catalog(name)
        audit = {c for t in schema.tables.values() for c, item in t.columns.items() if item.audit}
        assert audit
        for table in schema.tables.values():
            assert all(item.blocked for item in table.columns.values() if item.audit)
        used = " ".join(f"{s.value} {s.where} {s.formula}" for s in catalog.specs)
        assert not audit & set(used.replace("(", " ").replace(")", " ").split())


def test_shipped_groups_fit_their_schemas():
    for name in ("archive", "eph"):
        assert load_audit_groups(load_schema(name)).groups
    other = load_schema("archive").model_copy(update={"name": "county"})
    assert load_audit_groups(other) == AuditGroups(places=("township",))


def test_declared_groups_are_checked(tmp_path):
    schema, path = load_schema("archive"), tmp_path / "groups.yaml"
    path.write_text("county: {places: [township]}\n", encoding="utf-8")
    with pytest.raises(DeclarationError, match="found only county; expected 'archive'"):
        load_audit_groups(schema, path)
    text = "archive: {groups: {a: {label: {zh: 甲, en: a}, table: pension, where: 'True'}}, places: [x]}"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DeclarationError, match=r"table 'pension'[\s\S]*place 'x'"):
        load_audit_groups(schema, path)
    path.write_text(text.replace("pension", "person").replace("x]", "village]"), encoding="utf-8")
    tables = make_tables([person("A", 1, "1950-05-01")])
    groups = build_audit_groups(tables, points_of(tables), load_audit_groups(schema, path))
    assert list(groups.columns) == ["a", "village"]


# --------------------------------------------------------------------------------- small groups


def names_of(counts):
    """One outcome per point, so that counts are outcomes and members alike."""
    values = np.repeat(list(counts), list(counts.values()))
    frame = pd.DataFrame({"township": values})
    return sort_into_groups(np.ones(len(values)), frame)


def test_small_groups_are_pooled_until_ten_outcomes_are_reached():
    # 4 + 5 = 9 is small: the next smallest, 11, goes with them.
    found = names_of({"a": 30, "b": 4, "c": 11, "d": 5, "e": 12})
    assert found.names == (("township", "a"), ("township", "e"), ("township", POOLED))
    assert found.pooled == (1, 1, 3)
    assert found.inside.sum(axis=0).tolist() == [30, 12, 20]
    # 4 + 6 = 10 is enough.
    assert names_of({"a": 30, "b": 4, "c": 6}).inside.sum(axis=0).tolist() == [30, 10]
    # With 9 + 12 everything would be one group.
    found = names_of({"a": 12, "b": 9})
    assert found.names == ()
    assert found.hidden == {"township": "under 10 members or outcomes"}


def test_a_large_group_with_few_outcomes_is_small():
    label = np.repeat([1.0, 0.0, 1.0, 0.0], [9, 500, 40, 100])
    frame = pd.DataFrame({"relocated": np.repeat([True, False], [509, 140])})
    assert sort_into_groups(label, frame).hidden == {"relocated": "under 10 members or outcomes"}
    frame["relocated"] = ~frame["relocated"]  # then everyone else is small
    assert sort_into_groups(label, frame).names == ()


def test_those_of_whom_nobody_can_tell_are_a_group_only_if_it_tells_of_nobody_else():
    def sort(members, others, unknown):
        values = pd.array([True] * members + [False] * others + [None] * unknown, dtype="boolean")
        found = sort_into_groups(np.ones(len(values)), pd.DataFrame({"elderly_only": values}))
        return [group for _, group in found.names]

    assert sort(20, 30, 15) == [MEMBER, UNKNOWN]
    assert sort(20, 30, 5) == [MEMBER]
    assert sort(20, 5, 15) == [MEMBER]  # five others are total less members less unknown


# ------------------------------------------------------------------------------------- measures


@pytest.fixture(scope="module")
def case():
    """Two groups of 40: risks are distinct, 16 of 80 points are visited."""
    index = pd.MultiIndex.from_product(
        [[f"h{i:02d}" for i in range(80)], pd.to_datetime([AS_OF])],
        names=["household_id", "as_of_date"],
    )
    position = np.arange(80)
    group = position % 2 == 0
    # The 16 highest risks are those of the first 16 positions; 12 of them get the outcome.
    label = np.where(position < 16, position % 4 != 3, position % 5 == 0).astype(float)
    risk = 0.9 - position / 100
    frame = pd.DataFrame(
        {"relocated": group, "village": np.repeat(np.arange(20), [2, 6] * 10)}, index=index
    )
    return (
        pd.Series(label, index=index),
        pd.Series(risk, index=index, name="risk"),
        frame,
    )


def test_measures_by_hand(case):
    labels, risk, frame = case
    found = evaluate_groups(labels, risk, frame[["relocated"]], 0.2, replicates=0)
    assert found.visits == 16
    # Visited members: positions 0, 2, ..., 14, of which none is 3 modulo 4: 8 of 8 are reached.
    # Others: 1, 3, ..., 15, of which 3, 7, 11, 15 have no outcome: 4 of 8.
    # Later outcomes: 20, 25, ..., 75: 20, 30, ..., 70 are members (6), the other 6 are not.
    row = found.measures.loc["model"].loc[("relocated", MEMBER)]
    assert found.groups.loc[("relocated", MEMBER)].tolist() == [40, 14, 0.5, 1]
    assert row.loc["recall", ["estimate", "reference"]].tolist() == [8 / 14, 4 / 10]
    assert row.loc["recall", "difference"] == pytest.approx(8 / 14 - 4 / 10)
    assert row.loc["recall", "ratio"] == pytest.approx(8 / 14 / (4 / 10))
    assert row.loc["visit_share", ["estimate", "reference", "ratio"]].tolist() == [0.5, 0.5, 1.0]
    # Sum over even positions of 0.9 - p / 100: 36 - 1560 / 100 = 20.4; over odd ones 36 - 16 = 20.
    assert row.loc["calibration", "estimate"] == pytest.approx(14 / 20.4)
    assert row.loc["calibration", "reference"] == pytest.approx(10 / 20.0)
    # Eight visits to a group are under ten.
    assert np.isnan(row.loc["precision", "estimate"])
    assert row["estimate_low"].isna().all()
    wider = evaluate_groups(labels, risk, frame[["relocated"]], 0.25, replicates=0).measures
    # 20 visits, ten to each: positions 16, 18 and 17, 19 have no outcome.
    precision = wider.loc[("model", "relocated", MEMBER, "precision")]
    assert precision[["estimate", "reference"]].tolist() == [0.8, 0.4]


def test_equal_risks_share_the_last_visits():
    labels = pd.Series(np.ones(60))
    risk = pd.Series(np.repeat([0.9, 0.5], [10, 50]))
    frame = pd.DataFrame({"disabled": np.repeat([True, False, True], [10, 30, 20])})
    found = evaluate_groups(labels, risk, frame, 0.5, replicates=0).measures.loc["model"]
    # 30 visits: ten sure ones, twenty over fifty equals: members get 10 + 20 * 20 / 50 = 18.
    share = found.loc[("disabled", MEMBER, "visit_share")]
    assert share["estimate"] == pytest.approx(18 / 30)
    assert share["reference"] == pytest.approx(30 / 60)
    recall = found.loc[("disabled", MEMBER, "recall")]
    assert recall["estimate"] == pytest.approx(18 / 30)
    assert recall["reference"] == pytest.approx(12 / 30)


def test_all_groups_together_are_the_budget_table(case):
    labels, _, frame = case
    tied = pd.Series(np.round(np.linspace(0.8, 0.1, 80), 1), index=labels.index)
    found = evaluate_groups(labels, tied, frame[["relocated"]], 0.3, replicates=0)
    row = found.measures.loc["model"].loc[("relocated", MEMBER)]
    members, outcomes = (
        found.groups.loc[("relocated", MEMBER), c] for c in ("members", "outcomes")
    )
    total = labels.sum()
    whole = compute_budget_table(labels, tied, [0.3]).loc[0.3]
    reached = row.loc["recall", "estimate"] * outcomes
    reached += row.loc["recall", "reference"] * (total - outcomes)
    assert reached / total == pytest.approx(whole["recall"])
    assert members == 40


def test_intervals_against_resampling_in_a_loop(case):
    """The same clusters drawn again, villages repeated as rows, measured with plain pandas."""
    labels, risk, frame = case
    found = evaluate_groups(
        labels,
        risk,
        frame[["relocated"]],
        0.2,
        clusters=frame["village"],
        replicates=60,
        seed=4,
    ).measures.loc[("model", "relocated", MEMBER, "recall")]
    rng = np.random.default_rng(4)
    villages = sorted(frame["village"].astype(str).unique())
    table = pd.DataFrame(
        {"y": labels, "r": risk, "g": frame["relocated"], "v": frame["village"].astype(str)}
    )
    ratios, recalls = [], []
    for _ in range(60):
        drawn = rng.integers(20, size=20)
        rows = pd.concat([table[table["v"] == villages[i]] for i in drawn])
        top = rows.sort_values("r", ascending=False)
        # Copies of a point tie: they share the last visits, so that expectations are compared.
        visits = len(rows) // 5
        cut = top["r"].iloc[visits - 1]
        share = np.where(top["r"] > cut, 1.0, 0.0)
        tied = (top["r"] == cut).to_numpy()
        share[tied] = (visits - share.sum()) / tied.sum()
        reached = (share * top["y"]).groupby(top["g"]).sum()
        outcomes = top.groupby("g")["y"].sum()
        recalls.append(reached[True] / outcomes[True])
        others = reached[False] / outcomes[False]
        ratios.append(recalls[-1] / others if others else np.nan)
    assert found[["estimate_low", "estimate_high"]].tolist() == pytest.approx(
        np.quantile(recalls, [0.025, 0.975]).tolist()
    )
    assert found[["ratio_low", "ratio_high"]].tolist() == pytest.approx(
        np.nanquantile(ratios, [0.025, 0.975]).tolist()
    )
    assert found["replicates"] == np.isfinite(ratios).sum()


def test_order_of_points_and_censored_ones_change_nothing(case):
    labels, risk, frame = case
    labels = labels.copy()
    labels.iloc[[3, 40, 41]] = np.nan
    settings = {"clusters": frame["village"], "replicates": 20, "seed": 1}
    one = evaluate_groups(labels, risk, frame[["relocated"]], 0.2, **settings)
    assert one.censored == 3
    assert one.groups["members"].tolist() == [39]
    shuffled = labels.sample(frac=1, random_state=2)
    other = evaluate_groups(
        shuffled, risk.sample(frac=1, random_state=3), frame[["relocated"]][::-1], 0.2, **settings
    )
    pd.testing.assert_frame_equal(one.measures, other.measures)


def test_several_risks_stand_beside_each_other(case):
    labels, risk, frame = case
    margin = (-risk).rename("margin")
    found = evaluate_groups(labels, {"new": risk, "old": margin}, frame[["relocated"]], 0.2)
    recall = found.measures.xs("recall", level="measure")["estimate"]
    assert recall[("new", "relocated", MEMBER)] == pytest.approx(8 / 14)
    # The other way round positions 64 to 79 are visited: 70 of the members, 65 and 75 of the others.
    assert recall[("old", "relocated", MEMBER)] == pytest.approx(1 / 14)
    calibration = found.measures.xs("calibration", level="measure")["estimate"]
    assert np.isnan(calibration[("old", "relocated", MEMBER)])


def test_what_does_not_fit_is_told(case):
    labels, risk, frame = case
    with pytest.raises(DeclarationError, match=r"visit budget: found 1\.5"):
        evaluate_groups(labels, risk, frame, 1.5)
    with pytest.raises(FeatureError, match="groups: found 79 absent points"):
        evaluate_groups(labels, risk, frame.iloc[:1], 0.2)
    with pytest.raises(FeatureError, match="groups: found repeated points"):
        evaluate_groups(labels, risk, pd.concat([frame, frame]), 0.2)


# --------------------------------------------------------------------------------------- limits


def judge(case, flip=False, **limits):
    labels, risk, frame = case
    groups = frame[["relocated"]]
    found = evaluate_groups(
        labels, risk, ~groups if flip else groups, 0.2, clusters=frame["village"], replicates=200
    )
    given = {"smallest_recall_ratio": None, "largest_miscalibration": None} | limits
    return check_group_limits(found, GroupLimits(**given))


def test_limits_by_estimate_and_by_interval(case):
    # Of the others recall is .4 against .571: a ratio of .7.
    row = judge(case, flip=True, smallest_recall_ratio=0.8, judged_by="estimate").iloc[0]
    assert row["found"] == pytest.approx(0.7)
    assert row["outcome"] == "failed"
    passed = judge(case, flip=True, smallest_recall_ratio=0.69, judged_by="estimate")
    assert passed["outcome"].tolist() == ["passed"]
    # Its interval reaches above .8: nobody can say that the limit is broken.
    row = judge(case, flip=True, smallest_recall_ratio=0.8).iloc[0]
    assert row["low"] < 0.7
    assert row["high"] > 0.8
    assert row["outcome"] == "passed"
    # Calibration of the members is 14 / 20.4 = .69, of which the interval lies under 1.
    row = judge(case, largest_miscalibration=1.05).iloc[0]
    assert row["high"] < 1 / 1.05
    assert row["outcome"] == "failed"
    assert (row["lowest"], row["highest"]) == (1 / 1.05, 1.05)


def test_what_is_not_defined_is_no_failure(case):
    table = judge(case, smallest_precision_ratio=0.9)
    assert table["outcome"].tolist() == ["untold"]


def test_only_chosen_groupings_are_judged(case):
    assert judge(case, smallest_recall_ratio=0.5, groupings=("relocated",)).shape[0] == 1
    with pytest.raises(DeclarationError, match="group limits: found 'elderly'"):
        judge(case, groupings=("elderly",))
    labels, risk, frame = case
    found = evaluate_groups(labels, risk, frame[["relocated"]], 0.2, replicates=0)
    with pytest.raises(DeclarationError, match="risk: found 'old'; expected one of model"):
        check_group_limits(found, GroupLimits(), "old")


def test_no_group_under_ten_is_told_on_a_county():
    """Whatever the groups: told ones and what is left of them have ten outcomes or more."""
    rng = np.random.default_rng(8)
    for seed in range(20):
        n = 400
        label = (rng.random(n) < 0.15).astype(float)
        frame = pd.DataFrame(
            {
                "township": rng.choice(list("abcdefgh"), n, p=[0.4, 0.3, *[0.05] * 6]),
                "minority": rng.random(n) < 0.1 * (seed % 4),
            }
        )
        found = sort_into_groups(label, frame)
        inside = pd.DataFrame(found.inside, columns=pd.MultiIndex.from_tuples(found.names))
        for name in inside.columns:
            assert label[inside[name] == 1].sum() >= SMALL_COUNT
        if "township" in inside:
            assert (inside["township"].sum(axis=1) == 1).all()
