"""Similar households: nearest by shared leaves, counted, told without ids."""

import numpy as np
import pandas as pd
import pytest

from poverty_risk import RiskModel, build_similar_index, find_similar
from poverty_risk.exceptions import FeatureError, ModelFolderError
from poverty_risk.similar import SimilarIndex

DATES = pd.to_datetime(["2021-01-01", "2022-01-01"])


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    index = pd.MultiIndex.from_product(
        [[f"h{i}" for i in range(300)], DATES], names=["household_id", "as_of_date"]
    )
    features = pd.DataFrame(
        {"income": rng.normal(size=600), "bills": rng.exponential(size=600)}, index=index
    )
    labels = (features["income"] - features["bills"] < -1.5).astype(float)
    model = RiskModel(
        n_estimators=25, min_child_samples=10, calibration=None, early_stopping_rounds=None
    )
    return model.fit(features, labels), features, labels


def test_each_household_once_and_nearest_by_hand(fitted):
    model, features, labels = fitted
    index = build_similar_index(model, features, labels)
    latest = features.xs(DATES[1], level="as_of_date", drop_level=False)
    assert len(index.leaves) == 300
    found = find_similar(model, features.iloc[[0, 7]], index, number=20)
    trees = model.forest_.leaves(model.columns_.matrix(latest))
    outcome = labels.loc[latest.index].to_numpy()
    for position, item in zip((0, 7), found, strict=True):
        own = model.forest_.leaves(model.columns_.matrix(features.iloc[[position]]))[0]
        alike = [int(sum(a == b for a, b in zip(own, row, strict=True))) for row in trees]
        # Nobody is compared with itself.
        itself = list(latest.index.get_level_values("household_id")).index(
            features.index[position][0]
        )
        others = [i for i in range(300) if i != itself]
        nearest = sorted(others, key=lambda i: (-alike[i], i))[:20]
        assert item.number == 20
        assert item.in_trouble == int(outcome[nearest].sum())
        assert item.likeness == pytest.approx(np.mean([alike[i] for i in nearest]) / trees.shape[1])


def test_written_and_read_without_pickle(fitted, tmp_path):
    model, features, labels = fitted
    index = build_similar_index(model, features, labels)
    path = index.write(tmp_path / "office_only" / "similar.npz")
    again = SimilarIndex.read(path)
    assert np.array_equal(again.leaves, index.leaves)
    assert again.themes == index.themes
    assert b"h12" not in path.read_bytes()
    path.write_bytes(b"not an archive")
    with pytest.raises(ModelFolderError, match="build_similar_index"):
        SimilarIndex.read(path)


def test_an_index_of_another_model_is_refused(fitted, tmp_path):
    model, features, labels = fitted
    index = build_similar_index(model, features, labels)
    other = RiskModel(n_estimators=3, calibration=None, early_stopping_rounds=None)
    other.fit(features, labels).save(tmp_path / "other")
    with pytest.raises(FeatureError, match="Build the index again"):
        find_similar(other, features.iloc[:1], index)


def test_a_large_history_is_sampled_with_its_own_share(fitted, monkeypatch):
    from poverty_risk import similar

    model, features, labels = fitted
    monkeypatch.setattr(similar, "MOST_ROWS", 100)
    first = build_similar_index(model, features, labels, seed=1)
    assert len(first.leaves) == 100
    assert np.array_equal(first.labels, build_similar_index(model, features, labels, seed=1).labels)
