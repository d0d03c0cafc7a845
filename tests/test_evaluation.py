"""Metrics against scikit-learn, ties against every order, tables against counts by hand."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from poverty_risk.evaluation import (
    compute_budget_table,
    compute_calibration_slope,
    compute_group_metrics,
    compute_metrics,
    compute_reliability,
    evaluate_risk,
    plot_precision_at_budget,
    plot_reliability,
)
from poverty_risk.exceptions import DeclarationError, FeatureError
from poverty_risk.ranking import Ranking, check_metric_names, count_visits

MEASURES = ("precision", "recall", "lift")
TIED_RISK = np.array([0.9, 0.6, 0.6, 0.6, 0.3, 0.3, 0.1])
TIED_LABEL = np.array([1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0])


def make_index(size: int) -> pd.MultiIndex:
    return pd.MultiIndex.from_arrays(
        [
            [f"h{number:04d}" for number in range(size)],
            np.resize(pd.to_datetime(["2022-01-01", "2022-07-01"]), size),
        ],
        names=["household_id", "as_of_date"],
    )


def draw(size: int = 400, seed: int = 0, digits: int = 2) -> tuple[pd.Series, pd.Series]:
    """Labels and risks of the same points; rounding makes ties, and risks of exactly 0 and 1."""
    rng = np.random.default_rng(seed)
    index = make_index(size)
    margin = rng.normal(-1.5, 2.0, size)
    label = pd.Series((rng.random(size) < expit(margin)).astype(float), index=index, name="label")
    risk = expit(margin + rng.normal(size=size)).round(digits)
    return label, pd.Series(risk, index=index, name="risk")


def shuffled(values: pd.Series, seed: int = 1) -> pd.Series:
    return values.sample(frac=1.0, random_state=seed)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("digits", [1, 2, 12])
def test_metrics_equal_those_of_scikit_learn(seed, digits):
    label, risk = draw(seed=seed, digits=digits)
    found = compute_metrics(label, risk)
    assert found["auc"] == pytest.approx(roc_auc_score(label, risk), rel=1e-12)
    assert found["average_precision"] == pytest.approx(average_precision_score(label, risk))
    assert found["brier"] == pytest.approx(brier_score_loss(label, risk), rel=1e-12)
    assert found["log_loss"] == pytest.approx(log_loss(label, risk), rel=1e-12)
    assert found["mean_risk"] == pytest.approx(risk.mean())
    assert found["base_rate"] == label.mean()
    assert (found["n"], found["positives"], found["n_censored"]) == (400, label.sum(), 0)


@pytest.mark.parametrize("digits", [1, 12])
def test_weighted_metrics_equal_those_of_scikit_learn(digits):
    """The bootstrap weights points by how often they are drawn, often not at all."""
    label, risk = (values.to_numpy() for values in draw(seed=7, digits=digits))
    weights = np.random.default_rng(0).poisson(1.0, (3, len(label))).astype(float)
    names = ["auc", "average_precision", "brier", "log_loss"]
    found = Ranking(label, risk).compute(names, weights)
    measures = [roc_auc_score, average_precision_score, brier_score_loss, log_loss]
    for name, measure in zip(names, measures, strict=True):
        expected = [measure(label, risk, sample_weight=weight) for weight in weights]
        np.testing.assert_allclose(found[name], expected, rtol=1e-10, err_msg=name)


def test_auc_by_pairs():
    """By hand: of 3 x 4 pairs, 4 + 2 + 1 are in order and 3 are tied (two at 0.6, one at 0.3)."""
    label, risk = pd.Series(TIED_LABEL), pd.Series(TIED_RISK)
    assert compute_metrics(label, risk)["auc"] == pytest.approx((7 + 3 / 2) / 12)


def test_a_margin_has_an_order_and_nothing_else():
    label, risk = draw()
    margin = (risk * 10 - 3).rename("margin")
    found, expected = compute_metrics(label, margin), compute_metrics(label, risk)
    order = ["n", "positives", "base_rate", "auc", "average_precision"]
    pd.testing.assert_series_equal(found[order], expected[order])
    assert found.drop([*order, "n_censored"]).isna().all()


def test_one_class_defines_no_order():
    _, risk = draw(20)
    found = compute_metrics(risk * 0, risk)
    assert found[["auc", "average_precision", "calibration_slope"]].isna().all()
    assert found["brier"] == pytest.approx((risk**2).mean())


def test_censored_points_are_left_out_and_counted():
    label, risk = draw()
    censored = label.where(np.arange(len(label)) % 5 != 0)
    known = censored.dropna()
    risk[censored.isna()] = np.nan  # nobody needs a risk there
    found = compute_metrics(censored, risk)
    assert found["n_censored"] == 80
    expected = compute_metrics(known, risk[known.index])
    pd.testing.assert_series_equal(found.drop("n_censored"), expected.drop("n_censored"))


def all_orders(label: np.ndarray, risk: np.ndarray, visits: int) -> np.ndarray:
    """Outcomes found by the first `visits` of every order that falls in risk."""
    orders = itertools.permutations(range(len(risk)))
    fits = [order for order in orders if (np.diff(risk[list(order)]) <= 0).all()]
    return np.array([label[list(order[:visits])].sum() for order in fits])


@pytest.mark.parametrize("budget", [0.1, 0.2, 0.3, 0.43, 0.58, 0.72, 0.9, 1.0])
def test_every_order_of_ties_is_within_the_range(budget):
    """7! orders tried: lowest, mean and highest are exactly those reported."""
    visits = max(1, int(budget * 7))
    hits = all_orders(TIED_LABEL, TIED_RISK, visits)
    row = compute_budget_table(pd.Series(TIED_LABEL), pd.Series(TIED_RISK), [budget]).loc[budget]
    assert row["visits"] == visits
    for end, value in (("_lowest", hits.min()), ("", hits.mean()), ("_highest", hits.max())):
        assert row[f"precision{end}"] == pytest.approx(value / visits, abs=1e-12)
        assert row[f"recall{end}"] == pytest.approx(value / 3, abs=1e-12)
        assert row[f"lift{end}"] == pytest.approx(value / visits / (3 / 7), abs=1e-12)


def test_tie_range_by_hand():
    """Three visits: the first finds one; two of the three at 0.6, one of which is an outcome."""
    row = compute_budget_table(pd.Series(TIED_LABEL), pd.Series(TIED_RISK), [0.43]).iloc[0]
    assert row["tied"] == 3
    assert row[["recall_lowest", "recall", "recall_highest"]].tolist() == pytest.approx(
        [1 / 3, (1 + 2 / 3) / 3, 2 / 3]
    )


def test_without_ties_there_is_no_range():
    label, risk = draw(101, digits=15)
    table = compute_budget_table(label, risk, [0.05, 0.5])
    assert table["tied"].tolist() == [1, 1]
    assert table["visits"].tolist() == [5, 50]
    for name in MEASURES:
        assert (table[f"{name}_lowest"] == table[f"{name}_highest"]).all()
    top = label.loc[risk.nlargest(5).index].sum()
    assert table.loc[0.05, "precision"] == top / 5
    assert table.loc[0.05, "recall"] == top / label.sum()


def test_budgets_of_the_bootstrap_are_the_expected_ones():
    """Two computations of one number: the table's arithmetic and the weighted ranking."""
    label, risk = draw(250, digits=1)
    budgets = [0.01, 0.05, 0.29, 1.0]
    table = compute_budget_table(label, risk, budgets)
    ranking = Ranking(label.to_numpy(), risk.to_numpy())
    for name in MEASURES:
        once = ranking.compute_once([f"{name}_at_{budget}" for budget in budgets])
        np.testing.assert_allclose(list(once.values()), table[name], rtol=1e-12)


def test_visits_are_rounded_down_but_one_is_made():
    assert [int(count_visits(b, 100)) for b in (0.29, 0.019, 0.001, 1.0)] == [29, 1, 1, 100]


@pytest.mark.parametrize("budget", [0.0, -0.1, 1.01, float("nan")])
def test_a_budget_is_a_share(budget):
    label, risk = draw(20)
    with pytest.raises(DeclarationError, match="visit budget: found .* above 0 and at most 1"):
        compute_budget_table(label, risk, [0.5, budget])


@pytest.mark.parametrize("name", ["f1", "precision_at_0", "recall_at_1.5", "recall_at_", "AUC"])
def test_metric_names_are_checked(name):
    with pytest.raises(DeclarationError, match=f"metric: found '{name}'"):
        check_metric_names(["auc", name])


def test_reliability_counts_add_up():
    label, risk = draw(500, digits=2)
    table = compute_reliability(label, risk, bins=7)
    assert table["n"].sum() == 500
    assert table["positives"].sum() == label.sum()
    assert (table["n"] * table["mean_risk"]).sum() == pytest.approx(risk.sum())
    assert (table["n"] * table["observed"]).sum() == pytest.approx(label.sum())
    assert (table["highest"].to_numpy()[:-1] < table["lowest"].to_numpy()[1:]).all()
    assert table.index.tolist() == list(range(len(table)))
    for row in table.itertuples():
        inside = risk.between(row.lowest, row.highest)
        assert (inside.sum(), label[inside].sum()) == (row.n, row.positives)


def test_bins_hold_equally_many_points_without_ties():
    label, risk = draw(100, digits=15)
    assert compute_reliability(label, risk, bins=4)["n"].tolist() == [25] * 4


def test_equal_risks_stay_together():
    label = pd.Series([0.0, 1, 0, 1, 1, 0])
    table = compute_reliability(label, pd.Series([0.2, 0.2, 0.2, 0.2, 0.7, 0.9]), bins=3)
    assert table["n"].tolist() == [4, 2]
    assert compute_reliability(label, label * 0 + 0.4, bins=5)["n"].tolist() == [6]


def test_intervals_of_rates_equal_those_of_scipy():
    label, risk = draw(90, digits=1)
    for level in (0.8, 0.95):
        for row in compute_reliability(label, risk, bins=5, level=level).itertuples():
            interval = binomtest(row.positives, row.n).proportion_ci(level, method="wilson")
            assert row.observed_low == pytest.approx(interval.low, abs=1e-12)
            assert row.observed_high == pytest.approx(interval.high, abs=1e-12)


@pytest.mark.parametrize(("bins", "level"), [(0, 0.95), (5, 0.0), (5, 1.0)])
def test_bins_and_level_are_checked(bins, level):
    label, risk = draw(20)
    with pytest.raises(DeclarationError, match=f"found bins={bins}, level={level}"):
        compute_reliability(label, risk, bins=bins, level=level)


def test_calibration_slope_equals_an_unpenalised_regression():
    label, risk = draw(600, digits=3)
    risk = risk.clip(0.001, 0.999)
    theirs = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12)
    theirs.fit(logit(risk.to_numpy())[:, None], label)
    line = compute_calibration_slope(label, shuffled(risk))
    assert line.slope == pytest.approx(theirs.coef_.item(), rel=1e-6)
    assert line.intercept == pytest.approx(theirs.intercept_.item(), rel=1e-6)


def test_calibration_slope_of_risks_too_extreme_by_hand():
    """Rates 1/4 and 3/4 said as 1/10 and 9/10: log 3 observed for log 9 said, so a slope of 1/2."""
    label = pd.Series([1.0, 0, 0, 0, 1, 1, 1, 0])
    line = compute_calibration_slope(label, pd.Series([0.1] * 4 + [0.9] * 4))
    assert line.slope == pytest.approx(0.5)
    assert line.intercept == pytest.approx(0.0, abs=1e-9)


def test_calibration_slope_is_missing_where_risks_separate():
    label = pd.Series([0.0, 0.0, 1.0, 1.0, 1.0])
    assert np.isnan(compute_calibration_slope(label, pd.Series([0.1, 0.2, 0.3, 0.3, 0.3]))).all()
    # Both classes at one risk only: still no finite slope.
    assert np.isnan(compute_calibration_slope(label, pd.Series([0.1, 0.3, 0.3, 0.3, 0.3]))).all()
    assert np.isnan(compute_calibration_slope(label, label * 0 + 0.3)).all()


def test_groups_are_evaluated_alone():
    label, risk = draw(300)
    groups = pd.Series(np.resize(["t2", "t1", "t1", None], 300), index=label.index, name="town")
    groups.iloc[:4] = "t3"
    found = compute_group_metrics(label, shuffled(risk), shuffled(groups, 2), min_count=5)
    assert found.index[:3].tolist() == ["t1", "t2", "t3"]
    assert found.index.isna().tolist() == [False] * 3 + [True]
    assert found.index.name == "town"
    for town in ("t1", "t2"):
        own = groups == town
        expected = compute_metrics(label[own], risk[own])
        pd.testing.assert_series_equal(found.loc[town], expected, check_names=False)
    assert found.loc["t3"].isna().all()  # four points would point at households
    assert found.iloc[3]["n"] == groups.isna().sum()


def test_small_groups_are_counted_by_their_labels():
    label, risk = draw(40)
    groups = pd.Series(np.repeat(["a", "b"], 20), index=label.index)
    censored = label.where((groups == "a") | (np.arange(40) >= 31))
    found = compute_group_metrics(censored, risk, groups)
    assert found.loc["b"].isna().all()
    assert found.loc["a", "n"] == 20
    assert found.index.name == "group"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: g.iloc[1:], "groups: found 1 absent points"),
        (lambda g: pd.concat([g, g.iloc[:1]]), "groups: found repeated points"),
    ],
)
def test_groups_name_each_point_once(change, message):
    label, risk = draw(20)
    groups = pd.Series("t1", index=label.index)
    with pytest.raises(FeatureError, match=message):
        compute_group_metrics(label, risk, change(groups))


@pytest.fixture(scope="module")
def compared():
    label, risk = draw(200, digits=2)
    label = label.where(np.arange(200) % 9 != 0)
    rules = (risk.round(1) * 5 + shuffled(risk).to_numpy()).rename("margin")
    villages = pd.Series(np.resize([f"v{n}" for n in range(23)], 200), index=label.index)
    return label, {"model": risk, "rules": rules}, villages


def test_an_evaluation_holds_the_single_tables(compared):
    label, risks, villages = compared
    found = evaluate_risk(label, risks, villages, budgets=[0.1], replicates=30, bins=4)
    for name, risk in risks.items():
        row = found.metrics.loc[name].astype(float)
        pd.testing.assert_series_equal(row, compute_metrics(label, risk), check_names=False)
        table = compute_budget_table(label, risk, [0.1])
        pd.testing.assert_frame_equal(found.budgets.loc[name], table)
    assert found.reliability.index.unique("name").tolist() == ["model"]
    table = compute_reliability(label, risks["model"], bins=4)
    pd.testing.assert_frame_equal(found.reliability.loc["model"], table)
    assert found.metrics["n"].dtype == np.int64
    kinds = found.intervals.loc["model"].index
    expected = ["auc", "average_precision", "brier", "log_loss"]
    assert kinds.tolist() == [*expected, "precision_at_0.1", "recall_at_0.1"]
    for name in expected:
        assert found.intervals.loc[("model", name), "estimate"] == found.metrics.loc["model", name]
    assert found.differences.index.unique("baseline").tolist() == ["rules"]


def test_all_is_joined_by_key(compared):
    label, risks, villages = compared
    settings = {"budgets": [0.05, 0.2], "replicates": 20}
    expected = evaluate_risk(label, risks, villages, **settings)
    mixed = {name: shuffled(risk, seed) for seed, (name, risk) in enumerate(risks.items())}
    for labels in (label, shuffled(label, 8)):
        found = evaluate_risk(labels, mixed, shuffled(villages, 9), **settings)
        for table in ("metrics", "intervals", "differences", "budgets", "reliability"):
            # Sums in another order differ in their last bits.
            pd.testing.assert_frame_equal(
                getattr(found, table), getattr(expected, table), rtol=1e-11
            )


def test_dates_of_another_resolution_are_the_same_key():
    label, risk = draw(50)
    index = risk.index.set_levels(risk.index.levels[1].as_unit("ns"), level=1)
    found = compute_metrics(label, shuffled(risk.set_axis(index)))
    pd.testing.assert_series_equal(found, compute_metrics(label, risk))


def test_no_resamples_no_intervals(compared):
    label, risks, _ = compared
    found = evaluate_risk(label, {"rules": risks["rules"]}, replicates=0)
    assert found.intervals.empty
    assert found.differences.empty
    assert found.reliability.empty
    assert len(found.budgets) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.iloc[1:], "risk 'model': found 199 points, 1 of the labels' points absent"),
        (lambda r: pd.concat([r, r.iloc[:1]]), "risk 'model': found 201 points, 0 of"),
        (lambda r: pd.concat([r.iloc[1:], r.iloc[-1:]]), "200 points, 1 of the labels' points"),
        (lambda r: r.reset_index(drop=True), "200 of the labels' points absent, 200 others"),
        (lambda r: r.to_numpy(), "risk 'model': found ndarray; expected a Series"),
        (lambda r: r * 2, r"values outside \[0, 1\]; expected probabilities"),
        (lambda r: r.where(r > 0.5), "risk 'model': found [0-9]+ missing"),
    ],
    ids=["absent", "repeated", "one for another", "no index", "array", "no share", "missing"],
)
def test_risks_of_other_points_are_refused(change, message):
    label, risk = draw(200)
    with pytest.raises(FeatureError, match=message):
        evaluate_risk(label, {"model": change(risk)}, replicates=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: y + 1, r"labels: found \[2.0\]; expected 1, 0 or missing"),
        (lambda y: y * np.nan, "labels: found no label"),
        (lambda y: pd.concat([y, y.iloc[:1]]), "labels: found repeated points"),
        (list, "labels: found list; expected a Series"),
    ],
)
def test_odd_labels_are_refused(change, message):
    label, risk = draw(30)
    with pytest.raises(FeatureError, match=message):
        compute_metrics(change(label), risk)


def test_faults_of_all_risks_make_one_error(compared):
    label, risks, _ = compared
    with pytest.raises(FeatureError, match="(?s)2 problems.*risk 'a'.*risk 'b'"):
        evaluate_risk(label, {"a": risks["model"] + 5, "b": risks["rules"].iloc[:5]})


def test_nothing_to_compare_is_said(compared):
    with pytest.raises(FeatureError, match="risks: found none"):
        evaluate_risk(compared[0], {})


def test_reliability_figure_draws_its_table(compared):
    label, risks, _ = compared
    table = evaluate_risk(label, risks, replicates=0, bins=3).reliability
    ax = plot_reliability(table)
    diagonal, points = ax.get_lines()[:2]
    assert diagonal.get_xdata().tolist() == diagonal.get_ydata().tolist()
    assert points.get_xdata().tolist() == table["mean_risk"].tolist()
    assert points.get_ydata().tolist() == table["observed"].tolist()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["model"]


def test_budget_figure_draws_a_line_and_a_band_for_each(compared):
    label, risks, _ = compared
    table = evaluate_risk(label, risks, budgets=[0.1, 0.5], replicates=0).budgets
    ax = plot_precision_at_budget(table)
    for name, line in zip(risks, ax.get_lines(), strict=True):
        assert line.get_label() == name
        assert line.get_xdata().tolist() == [0.1, 0.5]
        assert line.get_ydata().tolist() == table.loc[name, "precision"].tolist()
    assert len(ax.collections) == 2
    again = plot_precision_at_budget(table.loc["model"], ax=ax)
    assert again is ax
    assert len(ax.get_lines()) == 3


@pytest.mark.parametrize("plot", [plot_reliability, plot_precision_at_budget])
def test_figures_refuse_other_tables(plot):
    with pytest.raises(FeatureError, match="figure: found no column"):
        plot(pd.DataFrame({"risk": [0.1]}))


@pytest.mark.parametrize(
    ("plot", "columns"),
    [
        (plot_reliability, ["mean_risk", "observed", "observed_low", "observed_high"]),
        (plot_precision_at_budget, ["precision", "precision_lowest", "precision_highest"]),
    ],
)
def test_figures_refuse_empty_tables(plot, columns):
    with pytest.raises(FeatureError, match="figure: found no rows"):
        plot(pd.DataFrame(columns=columns))
