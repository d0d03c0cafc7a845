"""Intervals: whole clusters are drawn, all risks share the draws, and the truth is inside."""

import numpy as np
import pandas as pd
import pytest

from poverty_risk import bootstrap
from poverty_risk.bootstrap import bootstrap_metrics
from poverty_risk.exceptions import DeclarationError, FeatureError


def make_index(size: int, dates: int = 1) -> pd.MultiIndex:
    return pd.MultiIndex.from_product(
        [
            [f"h{number:04d}" for number in range(size)],
            pd.date_range("2020-01-01", periods=dates, freq="YS"),
        ],
        names=["household_id", "as_of_date"],
    )


def draw(clusters: int = 30, size: int = 6, seed: int = 0):
    """Labels, two risks and villages; households of a village share a rate."""
    rng = np.random.default_rng(seed)
    index = make_index(clusters * size)
    rate = np.repeat(rng.choice([0.1, 0.6], clusters), size)
    labels = pd.Series((rng.random(len(index)) < rate).astype(float), index=index)
    good = pd.Series(np.clip(rate + rng.normal(0, 0.1, len(index)), 0, 1), index=index)
    weak = pd.Series(rng.random(len(index)), index=index)
    villages = pd.Series(np.repeat([f"v{n:02d}" for n in range(clusters)], size), index=index)
    return labels, {"good": good, "weak": weak}, villages


def width(result, metric: str, name: str = "good") -> float:
    row = result.intervals.loc[(name, metric)]
    return float(row["high"] - row["low"])


def test_clusters_are_drawn_whole():
    """Each village has one outcome among four: every resample has a rate of 1/4 exactly."""
    labels, _, villages = draw(25, 4)
    labels[:] = np.tile([1.0, 0.0, 0.0, 0.0], 25)
    risks = {"good": labels * 0.5 + 0.2}
    by_village = bootstrap_metrics(labels, risks, villages, ["precision_at_1"], replicates=50)
    row = by_village.intervals.loc[("good", "precision_at_1")]
    assert row.tolist() == [0.25, 0.25, 0.25, 50]
    alone = bootstrap_metrics(labels, risks, None, ["precision_at_1"], replicates=50)
    assert width(alone, "precision_at_1") > 0.1


def test_households_are_drawn_with_all_their_dates():
    """Two dates of a household, one outcome each: again every resample has a rate of 1/2."""
    index = make_index(20, dates=2)
    labels = pd.Series(np.tile([1.0, 0.0], 20), index=index)
    found = bootstrap_metrics(labels, {"good": labels}, metrics=["precision_at_1"], replicates=40)
    assert found.intervals.iloc[0].tolist() == [0.5, 0.5, 0.5, 40]


def test_repeating_a_villages_households_tells_nothing_new():
    """Four copies of each point in its village: the same interval; as single points, half of it."""
    labels, risks, villages = draw(60, 1)
    expected = bootstrap_metrics(labels, risks, villages, replicates=200)
    copies = [
        series.repeat(4).set_axis(make_index(len(labels) * 4))
        for series in (labels, risks["good"], risks["weak"], villages)
    ]
    four = copies[0], {"good": copies[1], "weak": copies[2]}
    found = bootstrap_metrics(*four, copies[3], replicates=200)
    pd.testing.assert_frame_equal(found.intervals, expected.intervals, rtol=1e-12)
    pd.testing.assert_frame_equal(found.differences, expected.differences, rtol=1e-12, atol=1e-14)
    alone = bootstrap_metrics(*four, replicates=200)
    for metric in ("auc", "brier"):
        assert width(alone, metric) / width(expected, metric) == pytest.approx(0.5, abs=0.12)


def test_shared_luck_widens_the_interval():
    """The same points in villages that share a rate, and in villages thrown together."""
    labels, risks, villages = draw(30, 10)
    mixed = pd.Series(villages.sample(frac=1, random_state=0).to_numpy(), index=villages.index)
    shared = bootstrap_metrics(labels, risks, villages, ["precision_at_1"], replicates=300)
    thrown = bootstrap_metrics(labels, risks, mixed, ["precision_at_1"], replicates=300)
    assert width(shared, "precision_at_1") > 1.3 * width(thrown, "precision_at_1")


def test_intervals_cover_the_truth():
    """Villages with a rate of 0.1 or 0.7, known to the risk, of five households each.

    Base rate 0.4. Of the positives 0.7 / 0.8 = 7/8 live in the worse villages, of the negatives
    0.3 / 1.2 = 1/4; AUC = 7/8 * 3/4 + (7/8 * 1/4 + 1/8 * 3/4) / 2 = 13/16.
    """
    truth = {"precision_at_1": 0.4, "auc": 13 / 16}
    clusters, size, runs = 40, 5, 120
    index = make_index(clusters * size)
    villages = pd.Series(np.repeat(np.arange(clusters), size), index=index)
    inside = {(metric, kind): 0 for metric in truth for kind in ("village", "alone")}
    rng = np.random.default_rng(77)
    for run in range(runs):
        rate = pd.Series(np.repeat(rng.choice([0.1, 0.7], clusters), size), index=index)
        labels = (rate > rng.random(len(index))).astype(float)
        for kind, groups in (("village", villages), ("alone", None)):
            found = bootstrap_metrics(
                labels, {"good": rate}, groups, list(truth), replicates=150, seed=run
            ).intervals
            for metric, value in truth.items():
                row = found.loc[("good", metric)]
                inside[metric, kind] += row["low"] <= value <= row["high"]
    # 120 runs at 95 %: four standard errors are 8 points; percentile intervals fall a little short.
    for metric in truth:
        assert inside[metric, "village"] / runs >= 0.87
    # Taken as independent, five neighbours promise more than they know.
    assert inside["precision_at_1", "alone"] / runs < 0.85


def test_the_same_seed_gives_the_same_result_in_any_order():
    labels, risks, villages = draw()
    expected = bootstrap_metrics(labels, risks, villages, replicates=60, seed=5)
    again = bootstrap_metrics(labels, risks, villages, replicates=60, seed=5)
    pd.testing.assert_frame_equal(again.intervals, expected.intervals, check_exact=True)
    pd.testing.assert_frame_equal(again.differences, expected.differences, check_exact=True)
    mixed = bootstrap_metrics(
        labels.sample(frac=1, random_state=1),
        {name: risk.sample(frac=1, random_state=2) for name, risk in risks.items()},
        villages.sample(frac=1, random_state=3),
        replicates=60,
        seed=5,
    )
    # Sums in another order differ in their last bits.
    pd.testing.assert_frame_equal(mixed.intervals, expected.intervals, rtol=1e-12)
    pd.testing.assert_frame_equal(mixed.differences, expected.differences, rtol=1e-11)
    other = bootstrap_metrics(labels, risks, villages, replicates=60, seed=6)
    assert (other.intervals["low"] != expected.intervals["low"]).all()
    assert (other.intervals["estimate"] == expected.intervals["estimate"]).all()


def test_portions_of_resamples_change_nothing(monkeypatch):
    labels, risks, villages = draw()
    expected = bootstrap_metrics(labels, risks, villages, replicates=50)
    monkeypatch.setattr(bootstrap, "CELLS_AT_ONCE", 7 * len(labels))
    found = bootstrap_metrics(labels, risks, villages, replicates=50)
    pd.testing.assert_frame_equal(found.intervals, expected.intervals, rtol=1e-12)


def test_intervals_are_quantiles_over_resampled_points():
    """Independent: points picked and metrics taken by pandas, on the draws of the same generator."""
    labels, risks, villages = draw(15, 4)
    found = bootstrap_metrics(
        labels, risks, villages, ["brier"], replicates=80, seed=3, level=0.8
    ).intervals.loc[("good", "brier")]
    rng = np.random.default_rng(3)
    names = np.sort(villages.unique())
    loss = ((risks["good"] - labels) ** 2).groupby(villages).apply(list)
    drawn = [
        np.mean(np.concatenate([loss[names[k]] for k in rng.integers(15, size=15)]))
        for _ in range(80)
    ]
    assert found["low"] == pytest.approx(np.quantile(drawn, 0.1))
    assert found["high"] == pytest.approx(np.quantile(drawn, 0.9))
    assert found["estimate"] == pytest.approx(((risks["good"] - labels) ** 2).mean())


def test_differences_use_the_same_resamples():
    """Each point's squared error is 0.08 less than the baseline's: no resample says otherwise."""
    labels, _, villages = draw()
    better = labels.map({0.0: 0.1, 1.0: 1 - np.sqrt(0.17)})
    worse = labels.map({0.0: 0.3, 1.0: 0.5})
    found = bootstrap_metrics(
        labels, {"better": better, "worse": worse}, villages, ["brier"], replicates=40
    )
    row = found.differences.loc[("better", "worse", "brier")]
    assert row.tolist() == pytest.approx([-0.08, -0.08, -0.08, 1.0, 40])
    assert width(found, "brier", "better") > 0.01


def test_the_same_order_is_a_tie():
    labels, risks, villages = draw()
    both = {"good": risks["good"], "same": (risks["good"] / 2 + 0.1)}
    found = bootstrap_metrics(labels, both, villages, ["auc"], replicates=40)
    assert found.differences.iloc[0].tolist() == [0.0, 0.0, 0.0, 0.5, 40]


def test_baselines_are_compared_with_all_others():
    labels, risks, _ = draw()
    three = risks | {"third": risks["weak"] / 2}
    pairs = bootstrap_metrics(labels, three, metrics=["auc"], replicates=5).differences
    assert pairs.index.droplevel("metric").tolist() == [("good", "weak"), ("good", "third")]
    pairs = bootstrap_metrics(
        labels, three, metrics=["auc"], replicates=5, baselines=["third"]
    ).differences
    assert pairs.index.droplevel("metric").tolist() == [("good", "third"), ("weak", "third")]


def test_resamples_that_define_nothing_are_counted_out():
    """One of 4 villages has all outcomes: (3/4)^4, 32 % of the resamples, have none."""
    labels, risks, villages = draw(4, 5)
    labels[:] = np.repeat([1.0, 0.0], [5, 15])
    found = bootstrap_metrics(labels, risks, villages, ["auc", "brier"], replicates=400).intervals
    # And (1/4)^4 have nothing else. Standard error of the share: 2.3 %.
    expected = 400 * (1 - (3 / 4) ** 4 - (1 / 4) ** 4)
    assert found.loc[("good", "auc"), "replicates"] == pytest.approx(expected, abs=40)
    assert found.loc[("good", "brier"), "replicates"] == 400


def test_a_margin_has_no_interval_of_probabilities():
    labels, risks, villages = draw()
    both = {"good": risks["good"], "rules": (risks["weak"] * 9).rename("margin")}
    found = bootstrap_metrics(labels, both, villages, ["auc", "brier"], replicates=20)
    assert found.intervals.loc[("rules", "brier"), ["estimate", "low", "high"]].isna().all()
    assert found.intervals.loc[("rules", "brier"), "replicates"] == 0
    assert np.isnan(found.differences.loc[("good", "rules", "brier"), "share_better"])
    assert found.intervals.loc[("rules", "auc"), "replicates"] == 20


def test_households_without_a_cluster_stand_for_themselves():
    labels, risks, villages = draw(20, 3)
    some = villages.where(np.arange(60) >= 30)
    named = some.fillna(pd.Series(villages.index.get_level_values(0), index=villages.index))
    # Named to sort as the code does: known clusters first, then households.
    named = named.where(some.notna(), "z" + named)
    found = bootstrap_metrics(labels, risks, some, replicates=30)
    expected = bootstrap_metrics(labels, risks, named, replicates=30)
    pd.testing.assert_frame_equal(found.intervals, expected.intervals)


def test_censored_points_are_not_drawn():
    labels, risks, villages = draw()
    censored = labels.where(villages != "v03")
    known = censored.dropna().index
    found = bootstrap_metrics(censored, risks, villages, replicates=30)
    rest = {name: risk[known] for name, risk in risks.items()}
    expected = bootstrap_metrics(labels[known], rest, villages[known], replicates=30)
    pd.testing.assert_frame_equal(found.intervals, expected.intervals, check_exact=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.iloc[2:], "clusters: found 2 points absent"),
        (lambda v: pd.concat([v, v.iloc[:1]]), "clusters: found repeated points"),
        (lambda v: v.where(v.isna(), "v1"), "clusters: found one cluster with all points"),
    ],
)
def test_clusters_that_cannot_be_drawn_are_refused(change, message):
    labels, risks, villages = draw()
    with pytest.raises(FeatureError, match=message):
        bootstrap_metrics(labels, risks, change(villages), replicates=5)


def test_settings_are_checked_together():
    labels, risks, _ = draw()
    with pytest.raises(DeclarationError, match="(?s)3 problems.*level.*replicates.*'truth'"):
        bootstrap_metrics(labels, risks, replicates=0, level=95, baselines=["truth"])
    with pytest.raises(DeclarationError, match="metric: found 'accuracy'"):
        bootstrap_metrics(labels, risks, metrics=["accuracy"])
