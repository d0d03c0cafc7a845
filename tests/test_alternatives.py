"""Alternatives: as small as a search over every split of every tree finds, and worded as no promise."""

import itertools

import numpy as np
import pandas as pd
import pytest

from poverty_risk import Catalog, FeatureSpec, RiskModel, find_alternatives
from poverty_risk.exceptions import FeatureError

DATE = pd.Timestamp("2021-01-01")
ROWS = 1500


def _spec(stem, direction, *, changeable=True, kind="number"):
    return FeatureSpec(
        stem=stem,
        formula="0",
        theme="income",
        direction=direction,
        changeable=changeable and direction != 0,
        kind=kind,
        unit="flag" if kind == "flag" else "ratio",
    )


@pytest.fixture(scope="module", params=[0.0, 0.5], ids=["trees", "with regression"])
def fitted(request):
    rng = np.random.default_rng(3)
    index = pd.MultiIndex.from_product(
        [[f"h{i}" for i in range(ROWS)], [DATE]], names=["household_id", "as_of_date"]
    )
    features = pd.DataFrame(
        {
            "income": rng.uniform(0, 3, ROWS),
            "bills": rng.exponential(1.0, ROWS),
            "unsafe": (rng.random(ROWS) < 0.3).astype(float),
            "age": rng.integers(20, 80, ROWS).astype(float),
        },
        index=index,
    )
    margin = -0.5 - features["income"] + features["bills"] + features["unsafe"]
    margin += 0.02 * (features["age"] - 40)
    chance = 1 / (1 + np.exp(-margin.to_numpy()))
    labels = pd.Series((rng.random(ROWS) < chance).astype(float), index=index)
    specs = [
        _spec("income", -1),
        _spec("bills", 1),
        _spec("unsafe", 1, kind="flag"),
        _spec("age", 1, changeable=False),
    ]
    model = RiskModel(
        Catalog(specs, "none", "test"),
        n_estimators=40,
        learning_rate=0.1,
        num_leaves=7,
        min_child_samples=15,
        colsample=1.0,
        subsample=1.0,
        reg_lambda=1.0,
        logistic=request.param,
        calibration=None,
        early_stopping_rounds=None,
        # So wide that the worst need two changes to leave it.
        tiers={"red": 0.6, "yellow": 0.9},
    )
    return model.fit(features, labels), features


def _candidates(model, name, now):
    """Every value on the better side at which some tree may change its mind, from the model's text.

    In whole hundredths, because a sentence tells no finer: onto or over the split.
    """
    position = model.columns_.names.index(name)
    points = model.forest_.thresholds()[position]
    if name == "unsafe":
        return [0.0] if now == 1 else []
    # Within what nine tenths of the training households have, and not past more than half of them.
    grid = np.asarray(model.reference_[name]["quantiles"])
    low, high = np.quantile(grid, [0.05, 0.95])
    values = [value for value in _reached(name, points, now) if low <= value <= high]
    return [value for value in values if _passed(grid, now, value) <= 0.5]


def _passed(grid, now, value):
    """Share of the training households between two values, from their quantiles."""
    low, high = np.interp(sorted((now, value)), grid, np.linspace(0, 1, len(grid)))
    return high - low


def _reached(name, points, now):
    if name == "income":
        over = {int(np.floor(p * 100 + 1e-9)) + 1 for p in points}
        return [step / 100 for step in sorted(over) if step / 100 > now]
    onto = {int(np.floor(p * 100 + 1e-9)) for p in points}
    return [step / 100 for step in sorted(onto) if step / 100 < now]


def _tier(model, row, changes):
    changed = row.copy()
    for name, value in changes.items():
        changed[name] = value
    return model.tier(model.risk(changed)).iloc[0]


ORDER = ("green", "yellow", "red")


def _lower(model, row, names, values):
    """Which of the changes (one tuple of values each) put the household in a lower tier."""
    before = ORDER.index(_tier(model, row, {}))
    many = row.loc[row.index.repeat(len(values))].copy()
    many[list(names)] = np.array(values, dtype=float).reshape(len(values), len(names))
    tiers = model.tier(model.risk(many))
    return [ORDER.index(tier) < before for tier in tiers]


def _brute_force(model, row):
    """Smallest single change per feature, or smallest pairs per two features, by trying all."""
    names = ("income", "bills", "unsafe")
    now = {name: row[name].iloc[0] for name in names}
    options = {name: _candidates(model, name, now[name]) for name in names}
    found = {}
    for number in (1, 2):
        for group in itertools.combinations(names, number):
            values = list(itertools.product(*(options[name] for name in group)))
            if not values:
                continue
            enough = [
                v for v, ok in zip(values, _lower(model, row, group, values), strict=True) if ok
            ]
            # Of those that suffice, the last feature as near as can be, for each value of the others.
            nearest = {}
            for value in sorted(enough, key=lambda v: -abs(v[-1] - now[group[-1]])):
                nearest[value[:-1]] = value
            if nearest:
                found[group] = set(nearest.values())
        if found:
            break
    return found


def test_it_finds_what_trying_everything_finds(fitted):
    model, features = fitted
    risk = model.risk(features).sort_values(ascending=False)
    rows = features.loc[risk.index[[0, 3, 10, 40, 200, 500, 800]]]
    found = find_alternatives(model, rows, most=10)
    kinds = set()
    for position in range(len(rows)):
        row = rows.iloc[[position]]
        expected = _brute_force(model, row)
        told = {tuple(c.feature for c in item.changes): item for item in found[position]}
        assert set(told) == set(expected)
        for names, item in told.items():
            values = tuple(change.value for change in item.changes)
            assert values in expected[names]
            kinds.add(len(names))
            assert item.tier == _tier(model, row, dict(zip(names, values, strict=True)))
        costs = [item.cost for item in found[position]]
        assert costs == sorted(costs)
    assert kinds == {1, 2}


def test_a_pair_is_the_cheapest_of_its_two_features(fitted):
    model, features = fitted
    risk = model.risk(features).sort_values(ascending=False)
    rows = features.loc[risk.index[:30]]
    grids = {
        name: np.asarray(model.reference_[name]["quantiles"])
        for name in ("income", "bills", "unsafe")
    }

    checked = 0
    for position, items in enumerate(find_alternatives(model, rows, most=10)):
        row = rows.iloc[[position]]
        for item in items:
            if len(item.changes) != 2 or checked == 3:
                continue
            names = tuple(change.feature for change in item.changes)
            now = [row[name].iloc[0] for name in names]
            every = _brute_force(model, row)[names]
            cheapest = min(
                sum(_passed(grids[n], b, v) for n, b, v in zip(names, now, values, strict=True))
                for values in every
            )
            assert item.cost == pytest.approx(cheapest, abs=1e-12)
            checked += 1
    assert checked == 3


def test_the_lowest_tier_and_missing_values_have_no_alternative(fitted):
    model, features = fitted
    safest = features.loc[[model.risk(features).idxmin()]]
    worst = features.loc[[model.risk(features).idxmax()]].assign(income=np.nan, bills=np.nan)
    alone = find_alternatives(model, pd.concat([safest, worst]))
    assert alone[0] == []
    assert all(change.feature == "unsafe" for item in alone[1] for change in item.changes)


def test_words_say_what_the_model_would_say(fitted):
    model, features = fitted
    worst = features.loc[[model.risk(features).idxmax()]]
    for locale, start in (("en", "if "), ("zh", "如果")):
        for item in find_alternatives(model, worst, locale=locale)[0]:
            assert item.text.startswith(start)
            assert "{" not in item.text


def test_a_model_without_constraints_is_refused(fitted):
    model, features = fitted
    free = RiskModel(
        model.catalog, monotone=False, n_estimators=2, calibration=None, early_stopping_rounds=None
    ).fit(features, (features["income"] < 1).astype(float))
    with pytest.raises(FeatureError, match="monotone=False"):
        find_alternatives(free, features.iloc[:1])
