"""Visit lists: optimal under nested quotas, chances that are exact, prices, and plain errors."""

import itertools
from datetime import date

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poverty_risk.exceptions import DeclarationError, FeatureError
from poverty_risk.visits import build_visit_list, evaluate_visit_list
from poverty_risk.visits.candidates import read_candidates
from poverty_risk.visits.draw import draw_visits, plan_draw
from poverty_risk.visits.outcomes import compare_ways
from poverty_risk.visits.quotas import build_quota_tree
from poverty_risk.visits.selection import line_up

AS_OF = pd.Timestamp("2024-01-01")


def make_risks(**columns) -> pd.DataFrame:
    size = len(next(iter(columns.values())))
    index = pd.Index([f"H{number:03d}" for number in range(size)], name="household_id")
    return pd.DataFrame(columns, index=index)


def build(risk: pd.DataFrame, capacity, **settings):
    settings = {"as_of_date": AS_OF, "random_share": 0} | settings
    return build_visit_list(risk, capacity=capacity, **settings)


def line_up_risks(risk, capacity, minimum=None, first=("red",)):
    candidates = read_candidates(risk, AS_OF, cool_down=0, first=first, salt=b"")
    tree = build_quota_tree(risk, capacity, minimum)
    return line_up(candidates, candidates.order(np.flatnonzero(candidates.eligible)), tree)


# --- an independent statement of the problem: all subsets -------------------------------------


def bounds_of(quotas, risk) -> list[tuple[np.ndarray, int]]:
    """Every group that has a number, as a mask of its households."""
    found = []
    for level, value in quotas.items():
        if level == "county":
            found.append((np.full(len(risk), True), value))
            continue
        for group in risk[level].dropna().unique():
            number = value if isinstance(value, int) else value.get(group)
            if number is not None:
                found.append(((risk[level] == group).to_numpy(dtype=bool), number))
    return found


def feasible_lists(risk, capacity, minimum) -> np.ndarray:
    """All subsets of households that keep to the quotas, one boolean row each."""
    able = (risk["risk"].notna() | risk["severity"].notna()).to_numpy()
    size = len(risk)
    lists = (np.arange(2**size)[:, None] >> np.arange(size)) % 2 == 1
    lists = lists[~lists[:, ~able].any(axis=1)]
    for group, number in bounds_of(capacity, risk):
        lists = lists[lists[:, group].sum(axis=1) <= number]
    for group, number in bounds_of(minimum, risk):
        lists = lists[lists[:, group].sum(axis=1) >= min(number, (group & able).sum())]
    return lists


def best_value(risk, lists, first):
    """Households of each severity that goes first, then the sum of risk, of the best list."""
    colours = risk["severity"].to_numpy(dtype=object)
    hits = [lists[:, colours == name].sum(axis=1) for name in first]
    expected = lists @ risk["risk"].fillna(0).to_numpy()
    return max(zip(*hits, expected, strict=True), default=None)


def visited_of(risk, households) -> np.ndarray:
    return risk.index.isin(households)


def is_among(lists, visited) -> bool:
    return bool((lists == visited).all(axis=1).any())


# --- drawn problems ----------------------------------------------------------------------------

EIGHTHS = st.one_of(st.none(), st.integers(0, 8).map(lambda n: n / 8))  # sums are exact, ties many
COLOURS = st.sampled_from([None, None, "grey", "yellow", "orange", "red"])


@st.composite
def problems(draw, largest=8):
    size = draw(st.integers(1, largest))
    home = draw(st.lists(st.sampled_from(["T1", "T2", None]), min_size=4, max_size=4))
    villages = draw(st.lists(st.integers(-1, 3), min_size=size, max_size=size))
    loose = draw(st.lists(st.sampled_from(["T1", "T2", None]), min_size=size, max_size=size))
    many = {"min_size": size, "max_size": size}
    risk = make_risks(
        risk=pd.array(draw(st.lists(EIGHTHS, **many)), dtype="Float64").to_numpy(float, np.nan),
        severity=pd.array(draw(st.lists(COLOURS, **many)), dtype="str"),
        township_id=[home[v] if v >= 0 else t for v, t in zip(villages, loose, strict=True)],
        village_id=[f"V{v}" if v >= 0 else None for v in villages],
    )
    levels = [c for c in ("township_id", "village_id") if risk[c].notna().any()]
    capacity = draw(quotas_over(risk, levels, st.integers(0, 4)))
    if draw(st.booleans()) or not capacity:
        capacity = {"county": draw(st.integers(0, size + 1))} | capacity
    minimum = draw(quotas_over(risk, levels, st.integers(0, 2)))
    return risk, capacity, minimum, draw(st.sampled_from([(), ("red",), ("orange", "red")]))


@st.composite
def quotas_over(draw, risk, levels, numbers):
    found = {}
    for level in levels:
        kind = draw(st.sampled_from(["none", "number", "by group"]))
        groups = sorted(risk[level].dropna().unique())
        if kind == "number":
            found[level] = draw(numbers)
        elif kind == "by group":
            found[level] = draw(st.dictionaries(st.sampled_from(groups), numbers))
    return found


@settings(max_examples=120, deadline=None)
@given(problems())
def test_the_list_is_the_best_of_all_subsets(problem):
    risk, capacity, minimum, first = problem
    lists = feasible_lists(risk, capacity, minimum)
    if not len(lists):
        with pytest.raises(DeclarationError, match="visits needed"):
            line_up_risks(risk, capacity, minimum, first)
        return
    lineup = line_up_risks(risk, capacity, minimum, first)
    visited = visited_of(risk, risk.index[lineup.rows[lineup.select().amounts > 0]])
    assert is_among(lists, visited)
    assert best_value(risk, visited[None], first) == best_value(risk, lists, first)
    assert visited.sum() == lists.sum(axis=1).max()


@settings(max_examples=50, deadline=None)
@given(problems(largest=7))
def test_prices_are_differences_between_best_subsets(problem):
    risk, capacity, minimum, first = problem
    base = best_value(risk, feasible_lists(risk, capacity, minimum), first)
    if base is None:
        return
    prices = build(risk, capacity, minimum=minimum, first=first).quota_prices
    for row in prices.itertuples():
        if row.constraint in {"cool_down", "random_share"}:
            assert row.price == row.rule_hits == 0  # neither is used here
            continue
        other_first = () if row.constraint == "rules_first" else first
        changed = {"capacity": dict(capacity), "minimum": dict(minimum)}
        if row.constraint in changed:
            drop_quota(changed[row.constraint], row, risk)
        lists = feasible_lists(risk, changed["capacity"], changed["minimum"])
        without = best_value(risk, lists, other_first)
        assert row.price == pytest.approx(without[-1] - base[-1])
        if row.constraint != "rules_first":
            assert row.rule_hits == sum(without[:-1]) - sum(base[:-1])


def drop_quota(quotas, row, risk):
    if pd.isna(row.group):
        del quotas[row.level]
    elif isinstance(quotas[row.level], dict):
        quotas[row.level] = {g: n for g, n in quotas[row.level].items() if g != row.group}
    else:
        others = set(risk[row.level].dropna()) - {row.group}
        quotas[row.level] = dict.fromkeys(others, quotas[row.level])


def test_the_fast_selection_equals_the_greedy_one():
    # Plain twin: take each household in order if the minima of all groups can still be met.
    rng = np.random.default_rng(5)
    village = rng.integers(12, size=150)
    risk = make_risks(
        risk=rng.integers(0, 40, size=150) / 40,
        severity=pd.array(rng.choice(["red", "orange", None], 150, p=[0.1, 0.2, 0.7]), dtype="str"),
        village_id=[f"V{v:02d}" for v in village],
        township_id=[f"T{v % 3}" for v in village],
    )
    capacity = {"county": 40, "township_id": {"T0": 12, "T1": 20}, "village_id": 6}
    minimum = {"village_id": 2, "township_id": {"T2": 14}}

    def can_be_completed(in_village):
        """Whether visits of villages, once all minima are met, keep to every capacity."""
        needed = np.maximum(in_village, 2)
        in_town = needed.reshape(4, 3).sum(axis=0)  # township of village v is v % 3
        in_town[2] = max(in_town[2], 14)
        return (needed <= 6).all() and (in_town <= [12, 20, 99]).all() and in_town.sum() <= 40

    lineup = line_up_risks(risk, capacity, minimum)
    in_village, visited = np.zeros(12, dtype=int), []
    for row in lineup.rows:
        more = in_village + (np.arange(12) == village[row])
        if can_be_completed(more):
            in_village = more
            visited.append(row)
    assert len(visited) == 40
    assert set(lineup.rows[lineup.select().amounts > 0]) == set(visited)


# --- order, reasons, tiers ----------------------------------------------------------------------


def test_a_list_worked_by_hand():
    risk = make_risks(
        risk=[0.30, 0.20, 0.10, 0.02, 0.01, np.nan, np.nan, np.nan],
        severity=[None, "yellow", None, "red", None, "red", "orange", None],
        rule_codes=[[], ["R2"], [], ["R1"], [], ["R1", "R4"], ["R4"], []],
        tier=["orange", "yellow", "yellow", "green", None, None, None, "red"],
        village_id=["V1", "V1", "V1", "V1", "V2", "V1", "V1", "V1"],
    )
    visits = build(risk, 5, minimum={"village_id": 1}, reserve=5)
    # H003 and H005 are red, the one with a risk first; V2 must be visited; H000 and H001 are next.
    assert list(visits.visits.index) == ["H003", "H005", "H000", "H001", "H004"]
    assert list(visits.visits["order"]) == [1, 2, 3, 4, 5]
    assert list(visits.visits["why"]) == ["rule", "rule", "risk", "risk", "minimum"]
    # The worse of severity and the model's tier: yellow rule and yellow tier, nothing at all: green.
    assert list(visits.visits["tier"]) == ["red", "red", "orange", "yellow", "green"]
    days = (visits.visits["due_date"] - AS_OF).dt.days
    assert list(days) == [5, 5, 10, 15, 30]
    assert visits.visits.loc["H005", "rule_codes"] == ["R1", "R4"]
    assert (visits.visits["propensity"] == 1.0).all()
    # Next in order: the risk, then the household with a rule hit and no risk.
    assert list(visits.reserve.index) == ["H002", "H006"]
    assert list(visits.reserve["why"]) == ["risk", "risk"]
    assert visits.eligible == 7
    assert visits.left_out.to_dict() == {"no_risk": 1, "cooled_down": 0, "no_capacity": 0}
    assert visits.households["position"].tolist() == [3, 4, 5, 1, 6, 2, 7, pd.NA]
    # Without the minimum H002 is visited instead of H004.
    price = visits.quota_prices.query("constraint == 'minimum' and group == 'V2'")
    assert price["price"].tolist() == pytest.approx([0.09])


def test_deadlines_and_severities_that_go_first_are_settings():
    risk = make_risks(risk=[0.9, 0.1, 0.2], severity=[None, "orange", "red"])
    deadlines = {"red": 1, "orange": 2, "yellow": 3, "green": 4}
    visits = build(risk, 2, first=["orange", "red"], tiers=deadlines).visits
    assert list(visits.index) == ["H001", "H002"]
    assert list(visits["due_date"]) == [pd.Timestamp("2024-01-03"), pd.Timestamp("2024-01-02")]
    by_risk = build(risk, 2, first=[]).visits
    assert list(by_risk.index) == ["H000", "H002"]
    assert list(by_risk["why"]) == ["risk", "risk"]


def test_cool_down_is_half_open_and_spares_red_hits():
    days = [1, 30, 31, 1, None]
    risk = make_risks(
        risk=[0.5, 0.5, 0.4, 0.3, 0.2],
        severity=[None, "orange", None, "red", None],
        last_visit=pd.to_datetime([AS_OF - pd.Timedelta(days=d) if d else None for d in days]),
    )
    visits = build(risk, 5, cool_down=30)
    # Visited 30 days before counts, 31 days before does not.
    assert list(visits.visits.index) == ["H003", "H002", "H004"]
    assert visits.left_out["cooled_down"] == 2
    assert visits.households.loc[["H000", "H001"], "propensity"].tolist() == [0.0, 0.0]
    price = visits.quota_prices.set_index("constraint").loc["cool_down"]
    assert price["price"] == pytest.approx(1.0)
    assert len(build(risk, 5).visits) == 5
    as_objects = risk.assign(
        last_visit=[d.date() if pd.notna(d) else None for d in risk["last_visit"]]
    )
    pd.testing.assert_frame_equal(build(as_objects, 5, cool_down=30).visits, visits.visits)


def test_minima_count_only_households_that_can_be_visited():
    risk = make_risks(risk=[0.9, 0.8, 0.1, np.nan], village_id=["V1", "V1", "V2", "V2"])
    with pytest.raises(DeclarationError, match=r"minimum in county.*3 visits needed.*at most 2"):
        build(risk, 2, minimum={"village_id": 3})
    visits = build(risk, 3, minimum={"village_id": 3})
    assert set(visits.visits.index) == {"H000", "H001", "H002"}
    visits = build(risk, 2, minimum={"village_id": {"V2": 3}})
    assert list(visits.visits.index) == ["H000", "H002"]
    # H002 is visited instead of H001.
    price = visits.quota_prices.query("constraint == 'minimum' and group == 'V2'")
    assert price["price"].tolist() == pytest.approx([0.7])


def test_rows_in_any_order_give_the_same_list():
    rng = np.random.default_rng(1)
    risk = make_risks(
        risk=rng.integers(0, 4, size=60) / 10,
        village_id=[f"V{v}" for v in rng.integers(6, size=60)],
        township_id="T1",
    )
    settings = {"capacity": {"county": 20, "village_id": 6}, "minimum": {"village_id": 1}}
    settings |= {"as_of_date": "2024-01-01", "random_share": 0.2, "reserve": 7}
    one = build_visit_list(risk, seed=3, **settings)
    before = risk.copy(deep=True)
    for seed in range(4):
        shuffled = risk.sample(frac=1, random_state=seed)
        two = build_visit_list(shuffled, seed=3, **settings)
        pd.testing.assert_frame_equal(two.visits, one.visits)
        pd.testing.assert_frame_equal(two.reserve, one.reserve)
        pd.testing.assert_frame_equal(two.quota_prices, one.quota_prices)
    pd.testing.assert_frame_equal(risk, before)
    others = [
        build_visit_list(risk, seed=4, **settings),
        build_visit_list(risk, seed=3, key=b"secret", **settings),
        build_visit_list(risk, seed=3, **settings | {"as_of_date": date(2024, 2, 1)}),
    ]
    assert all(set(other.visits.index) != set(one.visits.index) for other in others)


def test_the_input_is_not_shared_with_the_list():
    risk = make_risks(risk=[0.5], severity=["red"], rule_codes=[["R1"]])
    visits = build(risk, 1)
    visits.visits.loc["H000", "rule_codes"].append("R2")
    assert risk.loc["H000", "rule_codes"] == ["R1"]


def test_whoever_is_in_no_group_is_bound_by_the_county_alone():
    risk = make_risks(risk=[0.5, 0.4, 0.3, 0.2], village_id=["V1", "V1", None, None])
    visits = build(risk, {"county": 3, "village_id": 1}).visits
    assert list(visits.index) == ["H000", "H002", "H003"]


def test_group_codes_are_compared_as_text():
    risk = make_risks(risk=[0.5, 0.4, 0.3], township_id=[610102.0, 610102.0, np.nan])
    visits = build(risk, {"county": 3, "township_id": {610102: 1}}).visits
    assert list(visits.index) == ["H000", "H002"]


def test_a_quota_may_be_on_severities():
    risk = make_risks(risk=[0.5, 0.4, 0.3], severity=["yellow", "yellow", None])
    visits = build(risk, {"county": 2, "severity": {"yellow": 1}})
    assert list(visits.visits.index) == ["H000", "H002"]


def test_teams_may_take_the_place_of_villages():
    risk = make_risks(
        risk=[0.5, 0.4, 0.3, 0.2],
        township_id=["T1", "T1", "T1", "T2"],
        team_id=["A", "A", "B", "C"],
    )
    visits = build(risk, {"township_id": 2, "team_id": 1})
    assert list(visits.visits.index) == ["H000", "H002", "H003"]
    assert list(visits.visits.columns[-4:]) == ["township_id", "team_id", "propensity", "weight"]


@pytest.mark.parametrize("capacity", [0, {"county": 3, "village_id": 0}])
def test_nothing_can_be_visited(capacity):
    risk = make_risks(risk=[0.5, 0.4], village_id=["V1", "V1"])
    visits = build(risk, capacity, random_share=0.1, reserve=2)
    assert len(visits.visits) == len(visits.reserve) == visits.eligible == 0
    assert visits.left_out["no_capacity"] == 2
    assert visits.summary["expected_returns"].tolist() == [0, 0, 0, 0]


def test_a_county_without_households():
    empty = make_risks(risk=[0.5], village_id=["V1"]).iloc[:0]
    visits = build(empty, {"county": 3, "village_id": 1}, random_share=0.1)
    assert len(visits.visits) == visits.eligible == 0


# --- the random share ---------------------------------------------------------------------------


def test_chances_of_a_county_without_other_quotas():
    risk = make_risks(risk=np.linspace(0.99, 0.0, 100))
    visits = build(risk, 20, random_share=0.1)
    # 2 of 20 visits are left to chance: ranks 1 to 18 are sure, the other 82 have 2 / 82 each.
    propensity = visits.households["propensity"]
    assert (propensity.iloc[:18] == 1.0).all()
    assert propensity.iloc[18:].tolist() == pytest.approx([2 / 82] * 82)
    assert visits.visits["why"].tolist() == ["risk"] * 18 + ["random"] * 2
    assert visits.visits["weight"].tolist() == pytest.approx([1.0] * 18 + [41.0] * 2)
    # The price: the two dropped by rank, minus what two of the others show on average.
    lost = risk["risk"].iloc[18:20].sum() - 2 * risk["risk"].iloc[18:].mean()
    price = visits.quota_prices.set_index("constraint").loc["random_share", "price"]
    assert price == pytest.approx(lost)


def test_the_chance_of_a_quota_too_small_for_a_slot_of_its_own():
    # One visit, half of it left to chance: rank gives the first 1/2. The open 1/2 falls on
    # 1/2 + 1 households: chance 1/3. First 1/2 + 1/2 * 1/3 = 2/3, second 1/3.
    visits = build(make_risks(risk=[0.9, 0.1]), 1, random_share=0.5)
    assert visits.households["propensity"].tolist() == pytest.approx([2 / 3, 1 / 3])


def test_minima_are_met_by_rank_where_there_is_room():
    risk = make_risks(
        risk=np.linspace(0.9, 0.1, 40), village_id=[f"V{v}" for v in np.arange(40) // 10]
    )
    visits = build(risk, 20, minimum={"village_id": 1}, random_share=0.1)
    # The first of each village is sure: rank meets the minima, the two drawn come on top.
    assert (visits.households["propensity"].iloc[[0, 10, 20, 30]] == 1.0).all()


def test_minima_that_take_all_visits_share_them_with_the_draw():
    risk = make_risks(risk=[0.9, 0.8, 0.2, 0.1], village_id=["V1", "V1", "V2", "V2"])
    lineup = line_up_risks(risk, 2, {"village_id": 1})
    plan = plan_draw(lineup, 0.05)
    # 0.1 of two visits is left to chance, 0.05 in each village; rank gives 0.95 to its first.
    second = 0.05 / 1.05
    first = 0.95 + 0.05 * second
    assert plan.propensity.tolist() == pytest.approx([first, second, first, second])
    rng = np.random.default_rng(2)
    for _ in range(50):
        assert draw_visits(lineup, plan, rng).reshape(2, 2).sum(axis=1).tolist() == [1, 1]


@settings(max_examples=60, deadline=None)
@given(problems(), st.sampled_from([0.05, 0.2, 0.5]), st.integers(0, 2**32))
def test_every_draw_keeps_the_quotas_and_every_household_has_a_chance(problem, share, seed):
    risk, capacity, minimum, first = problem
    lists = feasible_lists(risk, capacity, minimum)
    if not len(lists):
        return
    visits = build(risk, capacity, minimum=minimum, first=first, random_share=share, seed=seed)
    # Whoever is in one of the possible lists has a chance, and nobody else.
    reachable, largest = lists.any(axis=0), lists.sum(axis=1).max()
    assert ((visits.households["propensity"] > 0) == reachable).all()
    assert (visits.households["left_out"].isna() == reachable).all()
    assert visits.households["propensity"].sum() == pytest.approx(largest)
    assert is_among(lists, visits.households["visited"].to_numpy())
    assert set(visits.visits.index) == set(risk.index[visits.households["visited"]])
    lineup = line_up_risks(risk, capacity, minimum, first)
    plan = plan_draw(lineup, share)
    rng = np.random.default_rng(seed)
    for _ in range(5):
        drawn = draw_visits(lineup, plan, rng)
        visited = visited_of(risk, risk.index[lineup.rows[drawn]])
        assert is_among(lists, visited)
        assert visited.sum() == largest
        assert drawn[plan.propensity == 1.0].all()


def check_draws(lineup, plan, outcome, draws, seed):
    """Each household is visited as often as its propensity says, and weights have no bias."""
    rng = np.random.default_rng(seed)
    visited = np.zeros(len(outcome))
    estimates = np.empty(draws)
    for number in range(draws):
        drawn = draw_visits(lineup, plan, rng)
        visited += drawn
        estimates[number] = (outcome / plan.propensity)[drawn].sum()
    assert (plan.propensity > 0).all()
    spread = np.sqrt(plan.propensity * (1 - plan.propensity) / draws)
    assert (np.abs(visited / draws - plan.propensity) <= 4.5 * spread + 1e-12).all()
    error = estimates.std() / np.sqrt(draws)
    assert abs(estimates.mean() - outcome.sum()) <= 4.5 * error


def test_propensities_are_the_shares_of_draws_that_visit():
    rng = np.random.default_rng(8)
    village = np.repeat(np.arange(6), [1, 3, 6, 6, 8, 16])
    risk = make_risks(
        risk=rng.random(40).round(3),
        severity=pd.array(rng.choice(["red", None], 40, p=[0.1, 0.9]), dtype="str"),
        village_id=[f"V{v}" for v in village],
        township_id=[f"T{v % 2}" for v in village],
    )
    # Binding quotas at all levels, so that slots are shared between rank and the draw.
    capacity = {"county": 14, "township_id": {"T1": 8}, "village_id": {"V2": 2, "V4": 1, "V5": 5}}
    lineup = line_up_risks(risk, capacity, {"village_id": 1})
    plan = plan_draw(lineup, 0.2)
    # 12 visits are possible (1 + 2 + 1 in T0, 8 in T1); 2.4 are rounded to 2.
    assert plan.left.sum() == 2 * 2**40
    assert plan.propensity.sum() == pytest.approx(12)
    assert ((plan.ranked > 0) & (plan.propensity < 1)).sum() >= 2
    outcome = rng.random(40) < 0.3
    check_draws(lineup, plan, outcome, draws=8_000, seed=1)


def test_propensities_hold_where_a_village_has_less_than_one_slot():
    # Of three visits 0.3 are left to chance, 0.15 in each village. Rank gives 1 to H000, H001 and
    # 0.7 to H003. V1: one household is open for 0.15; V2: 0.3 + 1 + 1 for 0.15.
    risk = make_risks(risk=[0.9, 0.8, 0.1, 0.7, 0.2, 0.15], village_id=["V1"] * 3 + ["V2"] * 3)
    lineup = line_up_risks(risk, {"county": 3, "village_id": 3})
    plan = plan_draw(lineup, 0.1)
    assert list(lineup.rows) == [0, 1, 3, 4, 5, 2]
    in_v2 = 0.15 / 2.3
    expected = [1, 1, 0.7 + 0.3 * in_v2, in_v2, in_v2, 0.15]
    assert plan.propensity.tolist() == pytest.approx(expected)
    check_draws(lineup, plan, np.array([1, 0, 1, 0, 1, 1]), draws=8_000, seed=2)


def test_without_a_random_share_only_the_list_has_a_chance():
    visits = build(make_risks(risk=[0.5, 0.4, 0.3]), 2)
    assert visits.households["propensity"].tolist() == [1.0, 1.0, 0.0]
    assert visits.left_out.sum() == 0


def test_where_all_are_visited_nothing_is_random():
    visits = build(make_risks(risk=[0.5, 0.4, 0.3]), 10, random_share=0.5)
    assert visits.visits["why"].tolist() == ["risk"] * 3
    assert visits.visits["weight"].tolist() == [1.0] * 3


# --- what the list reaches ----------------------------------------------------------------------


def test_the_summary_worked_by_hand():
    risk = make_risks(
        risk=[0.4, 0.3, 0.2, 0.1, np.nan],
        severity=[None, None, "red", "red", None],
        rule_codes=[[], [], ["R1"], ["R1", "R3"], []],
    )
    summary = build(risk, 3).summary
    # The list: both red, then 0.4. Rules: both red (R1 and R3 first), then the mean of 0.4 and 0.3.
    # At random: three times the mean 0.25. Best: 0.4 + 0.3 + 0.2. All: 1.0.
    assert summary["expected_returns"].to_dict() == pytest.approx(
        {"visit_list": 0.7, "rules_alone": 0.65, "at_random": 0.75, "best_possible": 0.9}
    )
    assert summary["share"].to_dict() == pytest.approx(
        {"visit_list": 0.7, "rules_alone": 0.65, "at_random": 0.75, "best_possible": 0.9}
    )
    one = build(risk, 1).summary["expected_returns"]
    assert one["rules_alone"] == pytest.approx(0.1)  # two rules hit go before one


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), min_size=1, max_size=6),
    st.integers(0, 6),
)
@settings(max_examples=60, deadline=None)
def test_ties_of_the_rules_are_averaged_over_all_orders(households, number):
    number = min(number, len(households))
    key, values = (np.array(column) for column in zip(*households, strict=True))
    orders = [
        sum(v for _, v in order[:number])
        for order in itertools.permutations(households)
        if all(a[0] >= b[0] for a, b in itertools.pairwise(order))
    ]
    visited = np.arange(len(households)) < number
    ways = compare_ways(values.astype(float), visited, np.full(len(key), True), key)
    assert ways.loc["rules_alone", "returns"] == pytest.approx(np.mean(orders))


def test_outcomes_are_compared_with_other_ways():
    risk = make_risks(
        risk=[0.5, 0.4, 0.3, 0.2, 0.1, np.nan],
        severity=[None, None, None, "yellow", "yellow", None],
    )
    visits = build(risk, 3)  # H000, H001, H002
    outcomes = pd.Series({"H005": 1, "H004": 1, "H003": 0, "H001": 1, "H000": 0, "elsewhere": 1})
    found = evaluate_visit_list(visits, outcomes)
    # H002 is not known: two visits count. Eligible and known: H000, H001, H003, H004, 2 returns.
    assert found.ways["visits"].tolist() == [2] * 4
    assert found.ways["returns"].to_dict() == {
        "visit_list": 1.0, "rules_alone": 1.0, "at_random": 1.0, "best_possible": 2.0
    }  # fmt: skip
    assert found.ways["precision"].tolist() == [0.5, 0.5, 0.5, 1.0]
    # Of all three known returns, H005 included.
    assert found.ways["recall"].tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 2 / 3])
    assert found.unknown_visits == 1
    assert found.others == 1
    assert found.visits["outcome"].tolist()[:2] == [0.0, 1.0]
    assert np.isnan(found.estimated_returns)


def test_weights_estimate_returns_from_visits_alone():
    risk = make_risks(risk=np.linspace(0.99, 0.0, 100))
    visits = build(risk, 20, random_share=0.1)
    outcome = pd.Series(1, index=visits.visits.index)
    found = evaluate_visit_list(visits, outcome)
    # 18 sure visits stand for themselves, 2 drawn ones for 41 households each.
    assert found.estimated_returns == pytest.approx(100.0)
    assert np.isnan(evaluate_visit_list(build(risk, 20), outcome).estimated_returns)


@pytest.mark.parametrize(
    ("outcomes", "message"),
    [
        ([1, 0], "found list; expected a Series by household_id"),
        (pd.Series([1, 0], index=["H000", "H000"]), "repeated households"),
        (pd.Series([2.0], index=["H000"]), r"\[2.0\]; expected 1, 0 or missing"),
        (pd.Series([1.0], index=["elsewhere"]), "no household of the list"),
    ],
)
def test_outcomes_that_cannot_be_used(outcomes, message):
    visits = build(make_risks(risk=[0.5, 0.4]), 1)
    with pytest.raises(FeatureError, match=message):
        evaluate_visit_list(visits, outcomes)


# --- errors -------------------------------------------------------------------------------------

PLACES = {"township_id": ["T1", "T1", "T2", "T2"], "village_id": ["V1", "V2", "V3", "V3"]}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"capacity": {}}, "capacity: found none"),
        ({"capacity": -1}, "level 'county': found -1; expected a whole number"),
        ({"capacity": True}, "found True; expected a whole number"),
        ({"capacity": {"township_id": {"T1": 2.5}}}, "capacity of 'T1': found 2.5"),
        ({"capacity": {"county": {"T1": 2}}}, "level 'county': found {'T1': 2}"),
        ({"capacity": {"town_id": 2}}, "level 'town_id'.*Did you mean 'township_id'"),
        ({"capacity": {"village_id": {"V9": 2}}}, "unknown group 'V9'"),
        ({"minimum": {"township_id": {"T3": 2}}}, "unknown group 'T3'; expected a group"),
        ({"capacity": {"village_id": {"V-1": 2}}}, "unknown group 'V-1'.*Did you mean 'V1'"),
        ({"minimum": {"village_id": 2}}, "minimum in county: found 4 visits needed.*at most 2"),
        (
            {"capacity": {"township_id": 1}, "minimum": {"village_id": 1}},
            "minimum in township_id 'T1': found 2 visits needed.*at most 1",
        ),
        ({"cool_down": -1}, "cool_down: found -1"),
        ({"cool_down": 10}, "no column 'last_visit'"),
        ({"random_share": 0.6}, "random_share: found 0.6"),
        ({"reserve": 1.5}, "reserve: found 1.5"),
        ({"first": "red"}, "first: found 'red'; expected a list"),
        ({"first": ["blue"]}, r"first: found \['blue'\]"),
        ({"first": ["red", "red"]}, "each severity once"),
        ({"tiers": {"red": 5}}, "days for each of red, orange, yellow, green"),
        (
            {"tiers": {"red": 5, "orange": 4, "yellow": 9, "green": 9}},
            "no later deadline for a worse tier",
        ),
        ({"seed": "1"}, "seed: found '1'"),
        ({"key": "secret"}, "key: found str; expected bytes"),
        ({"as_of_date": ["2024-01-01", "2024-02-01"]}, "2 dates; expected one date"),
    ],
)
def test_settings_that_cannot_be_meant(settings, message):
    risk = make_risks(risk=[0.4, 0.3, 0.2, 0.1], **PLACES)
    kind = FeatureError if "last_visit" in message else DeclarationError
    with pytest.raises(kind, match=message):
        build(risk, settings.pop("capacity", 2), **settings)


def test_several_settings_make_one_error():
    risk = make_risks(risk=[0.4, 0.3, 0.2, 0.1], **PLACES)
    with pytest.raises(DeclarationError, match="3 problems") as caught:
        build(risk, 2, cool_down=-1, reserve=-1, random_share=2)
    assert len(caught.value.faults) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"risk": [0.4, 1.3, 0.2, -0.1]}, "2 values outside"),
        ({"risk": ["a", "b", "c", "d"]}, "expected numbers"),
        ({"severity": ["red", "blue", None, None]}, r"severity: found \['blue'\]"),
        ({"tier": ["red", "rot", None, None]}, r"tier: found \['rot'\]"),
        ({"last_visit": ["x", None, None, None]}, "values that are no dates"),
        ({"last_visit": [AS_OF, None, None, None]}, "1 visits on or after the as-of date"),
        (
            {"last_visit": pd.to_datetime(["2023-01-01"] * 4, utc=True)},
            "last_visit: found a time zone",
        ),
    ],
)
def test_tables_of_risks_that_cannot_be_used(change, message):
    risk = make_risks(risk=[0.4, 0.3, 0.2, 0.1]).assign(**change)
    with pytest.raises(FeatureError, match=message):
        build(risk, 2)


def test_tables_without_risk_or_with_households_twice():
    with pytest.raises(FeatureError, match="no column 'risk'"):
        build(make_risks(score=[0.5]), 1)
    with pytest.raises(FeatureError, match="missing or repeated households"):
        build(pd.DataFrame({"risk": [0.5, 0.4]}, index=["H1", "H1"]), 1)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=1, max_size=7))
def test_groups_that_cross_are_refused_and_no_others(rows):
    columns = {
        name: [f"{name}{row[level]}" if row[level] else None for row in rows]
        for level, name in enumerate("abc")
    }
    risk = make_risks(risk=[0.5] * len(rows), **columns)
    groups = [group for group, _ in bounds_of(dict.fromkeys("abc", 1), risk)]
    crossing = any(
        (one & two).any() and (one & ~two).any() and (two & ~one).any()
        for one, two in itertools.combinations(groups, 2)
    )
    if crossing:
        with pytest.raises(DeclarationError, match="inside one larger group"):
            build_quota_tree(risk, dict.fromkeys("abc", 1), None)
    else:
        tree = build_quota_tree(risk, dict.fromkeys("abc", 1), None)
        assert sum(level in {"a", "b", "c"} for level in tree.level) == len(groups)


def test_many_faults_of_one_kind_are_counted():
    risk = make_risks(
        risk=[0.5] * 60,
        village_id=[f"V{n // 2:02d}" for n in range(60)],
        team_id=[f"A{(n + 1) // 2:02d}" for n in range(60)],
    )
    with pytest.raises(DeclarationError, match="more of this kind") as caught:
        build(risk, {"village_id": 1, "team_id": 1})
    assert len(caught.value.faults) == 11
