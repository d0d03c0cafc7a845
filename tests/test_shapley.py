"""Contributions from tables against the definition of Shapley values, and against LightGBM's own."""

import itertools
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import lightgbm
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from poverty_risk.exceptions import FeatureError, PovertyRiskError
from poverty_risk.shapley import TreeContributions, contributions, engine, kept, questions, tables
from poverty_risk.shapley.plan import plan_pieces
from poverty_risk.shapley.questions import Questions
from poverty_risk.shapley.trees import Asks, read_trees

ROWS, WIDTH = 600, 7
CODED, FEW_CODES = 4, 5
"""Columns of codes: up to 149 (three words of bits), up to 4."""

FLOAT_ZERO = float(np.float32(1e-35))


def make_matrix(seed: int, rows: int = ROWS) -> np.ndarray:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, WIDTH))
    X[:, 2] = np.where(rng.random(rows) < 0.5, 0.0, X[:, 2])
    X[:, 3] = np.round(X[:, 3])
    X[:, CODED] = rng.integers(0, 150, rows)
    X[:, FEW_CODES] = rng.integers(0, 5, rows)
    X[rng.random(X.shape) < 0.1] = np.nan
    X[:, 6] = rng.normal(size=rows)  # never missing in training
    return X


def make_target(X: np.ndarray) -> np.ndarray:
    known = np.nan_to_num(X)
    odd = np.isin(known[:, CODED] % 7, [1, 3]) + np.isnan(X[:, FEW_CODES])
    noise = np.random.default_rng(1).normal(size=len(X))
    return known[:, 0] + known[:, 1] * known[:, 6] + 2 * odd + (X[:, 2] == 0) + noise


def train(trees: int = 8, codes: tuple[int, ...] = (), seed: int = 0, **parameters):
    X = make_matrix(seed)
    given = {"verbosity": -1, "num_leaves": 12, "min_data_in_leaf": 8, "learning_rate": 0.3}
    given |= {"num_threads": 1, "seed": seed, "cat_smooth": 1.0, "min_data_per_group": 5}
    given |= parameters
    data = lightgbm.Dataset(X, make_target(X), categorical_feature=list(codes), params=given)
    booster = lightgbm.train(given, data, trees)
    return lightgbm.Booster(model_str=booster.model_to_string())


def make_odd_rows() -> np.ndarray:
    """Rows of one value each that thresholds and codes may stumble over."""
    values = [np.nan, 0.0, -0.0, 1e-40, -1e-40, FLOAT_ZERO, -FLOAT_ZERO, 2e-35, -0.5, -1.0, -3.0]
    values += [0.99, 2.99, 63.0, 64.0, 127.5, 149.0, 150.0, 1e5, 2.0**31, 1e12, np.inf, -np.inf]
    return np.repeat(np.array(values)[:, None], WIDTH, axis=1)


ASKED = np.vstack([make_matrix(7, 300), make_odd_rows()])

KINDS = {
    "numbers": {},
    "nothing missing": {"use_missing": False},
    "zero as missing": {"zero_as_missing": True},
    "monotone": {
        "monotone_constraints": [1, 0, -1, 0, 0, 0, 1],
        "monotone_constraints_method": "intermediate",
    },
    "codes": {"codes": (CODED, FEW_CODES)},
    "codes one by one": {"codes": (CODED, FEW_CODES), "max_cat_to_onehot": 200},
    "codes and zero as missing": {"codes": (CODED, FEW_CODES), "zero_as_missing": True},
    "stumps": {"num_leaves": 2},
    "depth of 8": {"num_leaves": 40, "max_depth": 8, "min_data_in_leaf": 3},
    "any depth": {"num_leaves": 80, "min_data_in_leaf": 1, "min_sum_hessian_in_leaf": 0.0},
    "many thresholds": {"num_leaves": 40, "max_bin": 1000, "min_data_in_bin": 1, "trees": 20},
    "dart": {"boosting": "dart"},
    "binary": {"objective": "binary"},
}


def train_kind(kind: str):
    parameters = dict(KINDS[kind])
    if kind != "binary":
        return train(**parameters)
    X = make_matrix(0)
    data = lightgbm.Dataset(X, (make_target(X) > 1).astype(float))
    return lightgbm.train({"objective": "binary", "verbosity": -1, "num_leaves": 12}, data, 8)


@pytest.mark.parametrize("most_bits", [11, 5, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_lightgbm_on_every_kind(kind, most_bits):
    booster = train_kind(kind)
    found = TreeContributions.from_texts([booster.model_to_string()], most_bits=most_bits)
    for X in (ASKED, ASKED.astype(np.float32)):
        expected = booster.predict(X, pred_contrib=True)
        assert np.abs(expected[:, :-1]).max() > 0.1
        assert np.abs(found.compute(X) - expected).max() <= 1e-12


def test_kinds_ask_what_they_are_named_for():
    asks = {
        kind: {
            one for tree in read_trees(train_kind(kind).model_to_string())[0] for one in tree.asks
        }
        for kind in ("numbers", "nothing missing", "zero as missing", "codes")
    }
    assert asks["numbers"] == {Asks.NUMBER, Asks.NUMBER_NOT_NAN}  # one column is never missing
    assert asks["nothing missing"] == {Asks.NUMBER}
    assert asks["zero as missing"] == {Asks.NUMBER_NOT_ZERO}
    assert Asks.CATEGORY in asks["codes"]
    codes = [
        code
        for tree in read_trees(train_kind("codes").model_to_string())[0]
        for own in tree.codes
        for code in own
    ]
    assert max(codes) > 128
    limits = Questions(read_trees(train_kind("many thresholds").model_to_string())[0]).limits
    assert max(map(len, limits)) > engine.FEW  # so that bisection is tested too


def test_small_limits_leave_leaves_to_quadrature():
    text = train_kind("any depth").model_to_string()
    assert len(TreeContributions.from_texts([text], most_bits=11).pieces.output)
    assert len(TreeContributions.from_texts([text], most_bits=5).deep.parent) > 100
    # A feature that is asked again on the way to the same leaf.
    assert (TreeContributions.from_texts([text], most_bits=1).deep.earlier >= 0).any()


# --------------------------------------------------------------- the definition, by every order
#
# What a tree is expected to answer when only some features are known (Lundberg et al. 2018, algorithm
# 1), read from LightGBM's dump, not from the text that the tables are built from.


def goes_left(node: dict, value: float) -> bool:
    if node["decision_type"] == "==":
        return not math.isnan(value) and str(int(value)) in node["threshold"].split("||")
    missing = {"NaN": math.isnan(value), "Zero": math.isnan(value) or value == 0, "None": False}
    if missing[node["missing_type"]]:
        return bool(node["default_left"])
    return (0.0 if math.isnan(value) else value) <= node["threshold"]


def expect(node: dict, row: np.ndarray, known: frozenset[int]) -> float:
    if "split_index" not in node:
        return node["leaf_value"]
    children = node["left_child"], node["right_child"]
    if node["split_feature"] in known:
        return expect(children[not goes_left(node, row[node["split_feature"]])], row, known)
    counts = [child.get("internal_count", child.get("leaf_count")) for child in children]
    return sum(
        count / node["internal_count"] * expect(child, row, known)
        for count, child in zip(counts, children, strict=True)
    )


def compute_by_definition(booster: lightgbm.Booster, row: np.ndarray) -> np.ndarray:
    trees = [one["tree_structure"] for one in booster.dump_model()["tree_info"]]
    values = np.zeros(WIDTH)
    worth = {
        known: sum(expect(tree, row, known) for tree in trees)
        for size in range(WIDTH + 1)
        for known in map(frozenset, itertools.combinations(range(WIDTH), size))
    }
    for feature in range(WIDTH):
        for known, value in worth.items():
            share = math.factorial(len(known)) * math.factorial(max(WIDTH - len(known) - 1, 0))
            gain = worth[known | {feature}] - value  # 0 where the feature is known already
            values[feature] += share / math.factorial(WIDTH) * gain
    return np.append(values, worth[frozenset()])


@pytest.mark.parametrize("most_bits", [11, 2])
@pytest.mark.parametrize("kind", ["numbers", "zero as missing", "codes"])
def test_equals_the_definition(kind, most_bits):
    booster = train(trees=2, **{**KINDS[kind], "num_leaves": 8})
    found = TreeContributions.from_texts([booster.model_to_string()], most_bits=most_bits)
    rows = ASKED[:6]
    expected = np.array([compute_by_definition(booster, row) for row in rows])
    assert np.abs(found.compute(rows) - expected).max() <= 1e-12


def test_a_tree_that_was_counted_by_hand():
    # 40 rows with x0 <= 0 of value 0 and 60 above of value 1, no shrinkage: the base is 0.6, and x0
    # alone explains the rest.
    X = np.column_stack([np.repeat([-1.0, 1.0], [40, 60]), np.zeros(100)])
    booster = lightgbm.train(
        {"verbosity": -1, "learning_rate": 1.0, "num_leaves": 2, "boost_from_average": False},
        lightgbm.Dataset(X, (X[:, 0] > 0).astype(float)),
        1,
    )
    found = TreeContributions.from_texts([booster.model_to_string()]).compute(X[[0, 99]])
    assert found == pytest.approx(np.array([[-0.6, 0.0, 0.6], [0.4, 0.0, 0.6]]), abs=1e-12)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 10_000),
    leaves=st.integers(2, 40),
    most_bits=st.integers(1, 12),
    codes=st.sampled_from([(), (FEW_CODES,), (CODED, FEW_CODES)]),
    zero=st.booleans(),
    smallest=st.integers(1, 30),
)
def test_equals_lightgbm_on_drawn_forests(seed, leaves, most_bits, codes, zero, smallest):
    booster = train(
        3,
        codes,
        seed,
        num_leaves=leaves,
        min_data_in_leaf=smallest,
        zero_as_missing=zero,
        feature_fraction=0.7,
    )
    found = TreeContributions.from_texts([booster.model_to_string()], most_bits=most_bits)
    expected = booster.predict(ASKED, pred_contrib=True)
    assert np.abs(found.compute(ASKED) - expected).max() <= 1e-12


# ------------------------------------------------------------------------------- shapes of models


def test_trees_without_splits_only_move_the_base():
    booster = train(trees=3, min_data_in_leaf=ROWS, boost_from_average=True)
    found = TreeContributions.from_texts([booster.model_to_string()]).compute(ASKED)
    assert (found[:, :-1] == 0).all()
    assert found[:, -1] == pytest.approx(booster.predict(ASKED, raw_score=True), abs=1e-12)


def test_boosters_are_averaged():
    several = [train(seed=seed) for seed in range(3)]
    found = TreeContributions.from_texts([one.model_to_string() for one in several])
    expected = np.mean([one.predict(ASKED, pred_contrib=True) for one in several], axis=0)
    assert np.abs(found.compute(ASKED) - expected).max() <= 1e-12


@pytest.mark.parametrize("most_bits", [11, 4])
def test_groups_are_summed(most_bits):
    booster = train(codes=(CODED,), num_leaves=20)
    groups = [0, 1, 0, 2, 2, 1, 0]
    text = booster.model_to_string()
    found = TreeContributions.from_texts([text], groups, most_bits=most_bits).compute(ASKED)
    each = booster.predict(ASKED, pred_contrib=True)
    expected = [each[:, [place for place, own in enumerate(groups) if own == g]] for g in range(3)]
    assert found.shape == (len(ASKED), 4)
    for group in range(3):
        assert np.abs(found[:, group] - expected[group].sum(axis=1)).max() <= 1e-12


def test_places_of_many_thresholds_take_32_bits(monkeypatch):
    booster = train(codes=(CODED,), num_leaves=30)
    monkeypatch.setattr(questions, "MOST_SMALL", 3)
    found = TreeContributions.from_texts([booster.model_to_string()], most_bits=6)
    assert found.pieces.tests.low.dtype == np.uint32
    expected = booster.predict(ASKED, pred_contrib=True)
    assert np.abs(found.compute(ASKED) - expected).max() <= 1e-12


def test_pieces_are_cut_smaller_until_the_tables_fit(monkeypatch):
    text = train(num_leaves=40).model_to_string()
    whole = TreeContributions.from_texts([text])
    monkeypatch.setattr(contributions, "MOST_VALUES", len(whole.table) // 4)
    small = TreeContributions.from_texts([text])
    assert len(small.table) <= len(whole.table) // 4
    assert np.abs(small.compute(ASKED) - whole.compute(ASKED)).max() <= 1e-12


def test_every_leaf_is_in_one_piece_or_deep():
    trees, _ = read_trees(train(num_leaves=60, min_data_in_leaf=2).model_to_string())
    asked = Questions(trees)
    owners = [feature for feature, _ in asked.keys]
    for tree in trees:
        pieces, deep = plan_pieces(tree, asked, owners, 6)
        tabulated = [leaf.value for piece in pieces for leaf, _ in piece.leaves]
        assert sorted(tabulated + [tree.value[leaf] for leaf in deep]) == sorted(tree.value)
        assert all(len(piece.sets) <= 6 for piece in pieces)


# ----------------------------------------------------------------------- sets of places, quadrature


@given(size=st.integers(1, 12), places=st.integers(0, 2**12 - 1))
def test_a_set_of_places_is_tested_as_its_bits_say(size, places):
    places &= (1 << size) - 1
    asked = Questions([])
    asked.sizes = [size]
    test = asked.to_tests([(0, places)])
    found = [
        bool(test.member[test.begin[0] + place])
        if test.begin[0] >= 0
        else (place - int(test.low[0])) % 2**16 <= int(test.span[0])
        for place in range(size)
    ]
    assert found == [bool(places >> place & 1) for place in range(size)]


@pytest.mark.parametrize("features", range(1, 12))
def test_nodes_integrate_products_of_the_other_features_exactly(features):
    nodes, weights = tables.find_nodes(features)
    # The integral of x^n over [0, 1] is 1 / (n + 1).
    for power in range(features):
        assert float(weights @ nodes**power) == pytest.approx(1 / (power + 1), abs=1e-15)


# ---------------------------------------------------------------------------- the same bits always


@pytest.fixture(scope="module")
def prepared() -> TreeContributions:
    return TreeContributions.from_texts([train(num_leaves=40).model_to_string()], most_bits=6)


def test_a_row_alone_and_among_others_and_any_threads_give_the_same_bits(prepared, monkeypatch):
    monkeypatch.setattr(contributions, "BLOCK", 64)
    monkeypatch.setattr(contributions, "DEEP_BLOCK", 50)
    monkeypatch.setattr(contributions, "SPAN", 128)
    whole = prepared.compute(ASKED)
    for threads in (2, 3, 0):
        assert prepared.compute(ASKED, threads).tobytes() == whole.tobytes()
    for row in (0, 5, len(ASKED) - 1):
        assert prepared.compute(ASKED[row : row + 1]).tobytes() == whole[row : row + 1].tobytes()
    assert prepared.compute(np.asfortranarray(ASKED)).tobytes() == whole.tobytes()
    assert prepared.compute(ASKED[::-1])[::-1].tobytes() == whole.tobytes()
    assert prepared.compute(ASKED[:0]).shape == (0, WIDTH + 1)


def test_callers_from_many_threads_get_the_same_bits(prepared):
    expected = prepared.compute(ASKED).tobytes()
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: prepared.compute(ASKED, 2).tobytes(), range(24)):
            assert found == expected


def test_whole_numbers_are_read_as_lightgbm_reads_them(prepared):
    X = np.arange(3 * WIDTH).reshape(3, WIDTH)
    assert prepared.compute(X).tobytes() == prepared.compute(X.astype(np.float32)).tobytes()


@pytest.mark.parametrize(
    "X", [np.zeros((3, WIDTH + 1)), np.zeros(WIDTH), np.full((2, WIDTH), "1", dtype=object)]
)
def test_another_matrix_is_refused(prepared, X):
    with pytest.raises(FeatureError, match=f"expected numbers in {WIDTH} columns"):
        prepared.compute(X)


# ------------------------------------------------------------------------------- what is refused


def test_linear_trees_are_refused():
    text = train(linear_tree=True).model_to_string()
    with pytest.raises(PovertyRiskError, match="found linear trees"):
        TreeContributions.from_texts([text])


@pytest.mark.parametrize(
    "parameters",
    [
        {"objective": "multiclass", "num_class": 3},
        {"boosting": "rf", "bagging_fraction": 0.5, "bagging_freq": 1},
    ],
)
def test_several_classes_and_random_forests_are_refused(parameters):
    X = make_matrix(0)
    data = lightgbm.Dataset(X, np.arange(ROWS) % 3.0)
    text = lightgbm.train({"verbosity": -1, **parameters}, data, 2).model_to_string()
    with pytest.raises(PovertyRiskError, match="found several classes or a random forest"):
        TreeContributions.from_texts([text])


def test_texts_that_are_damaged_are_refused():
    text = train(trees=1).model_to_string()
    with pytest.raises(PovertyRiskError, match="found no trees"):
        TreeContributions.from_texts(["anything"])
    left = next(line for line in text.splitlines() if line.startswith("left_child="))
    short = left.rpartition(" ")[0]
    with pytest.raises(PovertyRiskError, match="found 10 values of left_child; expected 11"):
        TreeContributions.from_texts([text.replace(left, short)])
    with pytest.raises(PovertyRiskError, match="found a tree in knots"):
        TreeContributions.from_texts([text.replace(left, short + " 0")])
    asks = next(line for line in text.splitlines() if line.startswith("decision_type="))
    mixed = text.replace(asks, "decision_type=2" + " 10 2" * 5)
    with pytest.raises(PovertyRiskError, match="two ways of missing for column"):
        TreeContributions.from_texts([mixed])


def test_boosters_over_other_columns_are_refused():
    with pytest.raises(FeatureError, match="found 0 boosters"):
        TreeContributions.from_texts([])
    X = make_matrix(0)[:, :3]
    other = lightgbm.train({"verbosity": -1}, lightgbm.Dataset(X, X[:, 0] > 0), 1)
    with pytest.raises(FeatureError, match=r"2 boosters over \[3, 7\] columns"):
        TreeContributions.from_texts([train().model_to_string(), other.model_to_string()])


# ------------------------------------------------------------------------------- compiled, and kept


def test_fields_are_in_the_order_in_which_they_were_compiled():
    assert {kind: kind._fields for kind in engine.FIELDS} == engine.FIELDS
    assert [int(one) for one in Asks] == [
        engine.NUMBER,
        engine.NOT_ZERO,
        engine.NOT_NAN,
        engine.CATEGORY,
    ]


def test_without_a_place_for_compiled_code_it_is_compiled_anew(monkeypatch):
    asked = []

    def compile_(function, **options):
        asked.append(options)
        if options.get("cache"):
            message = "cannot cache function: no locator available"
            raise RuntimeError(message)
        return function

    monkeypatch.setattr(engine.numba, "njit", compile_)
    assert engine._compiled(len) is len
    assert asked == [{"cache": True, "nogil": True}, {"nogil": True}]


def test_numba_is_imported_when_tables_are_built():
    code = (
        "import sys\nimport poverty_risk.explain, poverty_risk.shapley\n"
        "print('numba' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_tables_are_built_once_and_go_with_their_model(monkeypatch):
    class Boosters:
        def __init__(self) -> None:
            self.texts = [train(trees=2, seed=seed).model_to_string() for seed in (0, 1)]

    boosters = Boosters()
    assert not kept.is_prepared(boosters)
    kept.prepare(boosters)
    assert kept.is_prepared(boosters)
    first = kept.tables_of(boosters)
    assert kept.tables_of(boosters) is first
    refits = Boosters()
    each = kept.tables_of_each(refits, [0] * WIDTH)
    assert kept.tables_of_each(refits, [0] * WIDTH) is each
    assert [one.n_outputs for one in each] == [1, 1]
    before = len(kept._built)
    del boosters, refits
    assert len(kept._built) == before - 2
