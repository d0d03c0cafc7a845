"""Facts that follow from a fitted model are found once, and found anew after another fit."""

from __future__ import annotations

import gc
from types import SimpleNamespace

from poverty_risk.kept_facts import keep_per_fit


class _Forest:
    pass


def test_found_once_per_fit_catalogue_and_argument():
    asked = []

    @keep_per_fit
    def find(model, locale):
        asked.append((model.name, model.catalog, locale))
        return len(asked)

    model = SimpleNamespace(name="a", forest_=_Forest(), catalog="c")
    assert [find(model, "zh"), find(model, "zh"), find(model, "en")] == [1, 1, 2]
    model.forest_ = _Forest()  # fitted again
    assert find(model, "zh") == 3
    model.catalog = "d"
    assert find(model, "zh") == 4
    assert [entry[1:] for entry in asked] == [("c", "zh"), ("c", "en"), ("c", "zh"), ("d", "zh")]


def test_what_is_kept_goes_with_the_forest():
    class Found:
        alive = 0

        def __init__(self):
            Found.alive += 1

        def __del__(self):
            Found.alive -= 1

    @keep_per_fit
    def find(model):
        return Found()

    model = SimpleNamespace(forest_=_Forest(), catalog=None)
    find(model)
    assert Found.alive == 1
    model.forest_ = _Forest()
    gc.collect()
    assert Found.alive == 0
