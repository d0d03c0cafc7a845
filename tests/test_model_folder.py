"""The model folder: what comes back from it, what is refused, and what saving leaves behind."""

import hashlib
import json
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from poverty_risk.exceptions import ModelFolderError
from poverty_risk.features import Catalog, FeatureSpec
from poverty_risk.model import RiskModel
from poverty_risk.model_folder import (
    FORMAT,
    MAX_FILE_BYTES,
    find_malformed,
    read_model_folder,
    write_model_folder,
)

CODES = ["lifted", "ordinary", "其他"]


def make_catalog() -> Catalog:
    income = {"table": "income", "value": "wage", "aggregator": "last", "theme": "income"}
    kind = {"table": "household", "value": "household_type", "aggregator": "last"}
    return Catalog(
        [
            FeatureSpec(stem="wage", **income, direction=-1),
            FeatureSpec(stem="type", **kind, kind="category", theme="composition"),
            FeatureSpec(stem="noise", formula="wage_last_ever * 2", theme="income"),
        ],
        "archive",
        "test",
    )


def make_points(size: int = 600, seed: int = 0):
    """Points on four dates; a tenth of the values of each feature is missing."""
    rng = np.random.default_rng(seed)
    dates = pd.to_datetime(["2019-01-01", "2020-01-01", "2021-01-01", "2022-01-01"])
    index = pd.MultiIndex.from_product(
        [[f"h{i}" for i in range(size // 4)], dates], names=["household_id", "as_of_date"]
    )
    features = pd.DataFrame(
        {
            "wage_last_ever": np.where(rng.random(size) < 0.1, np.nan, rng.normal(size=size)),
            "type_last_ever": pd.Categorical(
                np.where(rng.random(size) < 0.1, None, rng.choice(CODES, size)), categories=CODES
            ),
            "noise": rng.normal(size=size),
        },
        index=index,
    )
    margin = -1 - features["wage_last_ever"].fillna(1) + (features["type_last_ever"] == "lifted")
    labels = pd.Series((rng.random(size) < 1 / (1 + np.exp(-margin))).astype(float), index=index)
    return features, labels


def fit(calibration: str | None = "sigmoid", **parameters) -> RiskModel:
    features, labels = make_points()
    model = RiskModel(
        make_catalog(),
        n_estimators=6,
        learning_rate=0.3,
        num_leaves=5,
        min_child_samples=10,
        reg_lambda=0.0,
        calibration=calibration,
        early_stopping_rounds=None,
        n_jobs=1,
        **parameters,
    )
    return model.fit(features, labels)


@pytest.fixture(scope="module")
def model() -> RiskModel:
    return fit(n_seeds=2)


@pytest.fixture
def folder(model, tmp_path) -> Path:
    model.save(tmp_path / "model", {"task": "any"})
    return tmp_path / "model"


def blake2b(content: bytes, size: int) -> str:
    return hashlib.blake2b(content, digest_size=size).hexdigest()


def forge(folder: Path, name: str | None = None, change=None, **manifest) -> None:
    """Change a booster or the manifest as somebody who knows how the hashes are made."""
    stated = json.loads((folder / "manifest.json").read_text("utf-8")) | manifest
    if name is not None:
        text = change((folder / name).read_text("utf-8"))
        (folder / name).write_text(text, "utf-8")
        stated["files"][name] = blake2b(text.encode(), 32)
    parts = {"state": stated["state"], "files": stated["files"]}
    stated["model_id"] = blake2b(json.dumps(parts, sort_keys=True).encode(), 8)
    (folder / "manifest.json").write_text(json.dumps(stated), "utf-8")


# ----------------------------------------------------------------------------- what comes back


@pytest.mark.parametrize("calibration", ["sigmoid", "isotonic", None])
def test_a_loaded_model_is_the_saved_one_to_the_last_bit(calibration, tmp_path):
    model = fit(calibration, n_seeds=2)
    identifier = model.save(tmp_path / "model")
    loaded = RiskModel.load(tmp_path / "model")
    new, _ = make_points(400, seed=7)
    new["type_last_ever"] = new["type_last_ever"].cat.set_categories([*CODES, "unseen"])
    new.iloc[:20, 1] = "unseen"
    new.iloc[20:30] = np.nan
    for method in (RiskModel.margin, RiskModel.risk):
        assert method(loaded, new).to_numpy().tobytes() == method(model, new).to_numpy().tobytes()
    (found, base), (expected, expected_base) = (m.contributions(new) for m in (loaded, model))
    assert found.to_numpy().tobytes() == expected.to_numpy().tobytes()
    assert base == expected_base
    risks = model.risk(new)
    pd.testing.assert_series_equal(loaded.tier(risks), model.tier(risks))
    # The categories did move the margin, otherwise nothing was shown about them.
    assert (
        model.margin(new.iloc[:400]).groupby(new["type_last_ever"], observed=True).mean().std() > 0
    )
    # Saving what was loaded gives the same model again.
    assert loaded.save(tmp_path / "again") == identifier


def test_another_process_predicts_the_same_bits(model, folder, tmp_path):
    features, _ = make_points(40, seed=3)
    features.reset_index(drop=True).to_parquet(tmp_path / "features.parquet")
    code = (
        "import sys, pandas as pd; from poverty_risk.model import RiskModel\n"
        "risk = RiskModel.load(sys.argv[1]).risk(pd.read_parquet(sys.argv[2]))\n"
        "print(risk.to_numpy().tobytes().hex())"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, str(folder), str(tmp_path / "features.parquet")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.strip() == model.risk(features).to_numpy().tobytes().hex()


def test_the_folder_holds_text_and_json_and_no_pickle(folder):
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["booster_0.txt", "booster_1.txt", "manifest.json"]
    for path in folder.iterdir():
        content = path.read_bytes()
        content.decode("utf-8")
        with pytest.raises(pickle.UnpicklingError, match="."):
            pickle.loads(content)


def test_boosters_come_back_in_their_order(tmp_path, model):
    # More than ten, so that booster_10 must not come between booster_1 and booster_2.
    model.save(tmp_path / "model")
    text = (tmp_path / "model" / "booster_0.txt").read_text("utf-8")
    boosters = {f"booster_{number}.txt": text for number in range(12)}
    write_model_folder(tmp_path / "many", {}, boosters, {})
    assert list(read_model_folder(tmp_path / "many").boosters) == list(boosters)


def test_the_model_id_is_of_what_decides_a_prediction(model, tmp_path):
    first = model.save(tmp_path / "a", {"run": 1})
    assert model.save(tmp_path / "b", {"run": 2}) == first
    content = read_model_folder(tmp_path / "a")
    again = write_model_folder(tmp_path / "c", content.state, content.boosters, {})
    assert again == first
    changed = content.state | {"tiers": {"red": 0.5}}
    assert write_model_folder(tmp_path / "d", changed, content.boosters, {}) != first


# ------------------------------------------------------------------------------ what is refused


def damage_text(name, change):
    def damage(folder):
        path = folder / name
        path.write_text(change(path.read_text("utf-8")), "utf-8")

    return damage


def grow(folder):
    with (folder / "booster_0.txt").open("r+b") as file:
        file.truncate(MAX_FILE_BYTES + 1)  # a hole: no disk is used


def link(folder):
    outside = folder.parent / "outside.txt"
    (folder / "booster_0.txt").rename(outside)
    (folder / "booster_0.txt").symlink_to(outside)


def link_manifest(folder):
    (folder / "manifest.json").rename(folder.parent / "manifest.json")
    (folder / "manifest.json").symlink_to(folder.parent / "manifest.json")


def list_file(name):
    def damage(folder):
        stated = json.loads((folder / "manifest.json").read_text("utf-8"))
        forge(folder, files=stated["files"] | {name: blake2b(b"x", 32)})

    return damage


DAMAGED = {
    "altered": (damage_text("booster_1.txt", lambda t: t.replace("0.3", "0.4", 1)), "'booster_1.txt' was altered"),
    "truncated": (damage_text("booster_0.txt", lambda t: t[: len(t) // 2]), "'booster_0.txt' was altered"),
    "emptied": (damage_text("booster_0.txt", lambda _: ""), "'booster_0.txt' was altered"),
    "missing": (lambda f: (f / "booster_1.txt").unlink(), "no 'booster_1.txt'"),
    "no manifest": (lambda f: (f / "manifest.json").unlink(), "no manifest.json"),
    "manifest altered": (damage_text("manifest.json", lambda t: t.replace('"red"', '"rot"')), "an altered manifest.json"),
    "extra file": (lambda f: (f / "model.pkl").write_bytes(b"x"), "'model.pkl', of which manifest.json says nothing"),
    "extra folder": (lambda f: (f / "more").mkdir(), "'more', of which manifest.json says nothing"),
    "outside": (list_file("../outside.txt"), r"file '\.\./outside\.txt'"),
    "absolute": (list_file("/etc/hostname"), "file '/etc/hostname'"),
    "hidden": (list_file(".hidden"), r"file '\.hidden'"),
    "overlong": (list_file("x" * 5000), "file 'x{100}'"),
    "nul": (list_file("a\0b"), "file 'a\0b'"),
    "symlink": (link, "file 'booster_0.txt'"),
    "symlinked manifest": (link_manifest, "no manifest.json"),
    "too large": (grow, "'booster_0.txt' too large"),
    "directory": (
        lambda f: ((f / "booster_0.txt").unlink(), (f / "booster_0.txt").mkdir()),
        "no 'booster_0.txt'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_folder_is_refused_and_the_file_is_named(folder, kind):
    damage, message = DAMAGED[kind]
    damage(folder)
    with pytest.raises(ModelFolderError, match=message) as caught:
        RiskModel.load(folder)
    assert all(fault.place == "model folder 'model'" for fault in caught.value.faults)


def test_all_damage_is_told_at_once(folder):
    (folder / "booster_0.txt").write_text("tree")
    (folder / "booster_1.txt").unlink()
    (folder / "more.txt").write_text("x")
    with pytest.raises(ModelFolderError, match="3 problems") as caught:
        RiskModel.load(folder)
    told = str(caught.value)
    assert all(name in told for name in ("'booster_0.txt'", "'booster_1.txt'", "'more.txt'"))


def test_a_link_to_a_whole_folder_is_followed(folder, tmp_path):
    (tmp_path / "current").symlink_to(folder)
    assert RiskModel.load(tmp_path / "current").model_id_ == RiskModel.load(folder).model_id_


MANIFESTS = {
    "no JSON": ("{", "manifest.json is no JSON"),
    "empty": ("", "manifest.json is no JSON"),
    "nested": ("[" * 100_000, "manifest.json is no JSON"),
    "a list": ("[1, 2]", "manifest.json of format None"),
    "a number": ("7", "manifest.json of format None"),
    "of another program": ('{"name": "app", "start_url": "/"}', "manifest.json of format None"),
    "format as text": ('{"format": "1"}', "manifest.json of format 1"),
    "format as truth": ('{"format": true}', "manifest.json of format True"),
    "format only": ('{"format": 1}', "manifest.json without model_id, files, state, extra"),
    "no files": (
        '{"format": 1, "model_id": "a", "files": {}, "state": {}, "extra": {}}',
        "manifest.json without files",
    ),
}


@pytest.mark.parametrize("kind", MANIFESTS)
def test_a_foreign_manifest_is_refused(folder, kind):
    content, message = MANIFESTS[kind]
    (folder / "manifest.json").write_text(content, "utf-8")
    with pytest.raises(ModelFolderError, match=message):
        RiskModel.load(folder)


def test_a_manifest_that_is_no_text_is_refused(folder):
    (folder / "manifest.json").write_bytes(b"\x80\x04\x95\xff")
    with pytest.raises(ModelFolderError, match="manifest.json is no JSON"):
        RiskModel.load(folder)


def test_a_newer_format_asks_for_a_newer_package(folder):
    forge(folder, format=FORMAT + 1)
    with pytest.raises(ModelFolderError, match="format 2.*Install a newer poverty-risk"):
        RiskModel.load(folder)


@pytest.mark.parametrize("key", ["columns", "parameters", "calibrator", "tiers", "reference"])
def test_a_manifest_without_a_part_of_the_model_is_refused(folder, key):
    state = json.loads((folder / "manifest.json").read_text("utf-8"))["state"]
    del state[key]
    forge(folder, state=state)
    with pytest.raises(ModelFolderError, match=f"manifest that cannot be used.*{key}"):
        RiskModel.load(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"columns": ["wage_last_ever", "noise", "type_last_ever"]},
        {"columns": ["wage_last_ever"]},
        {"calibrator": {"kind": "sigmoid", "slope": -1.0, "intercept": 0.0}},
        {"calibrator": {"kind": "isotonic", "margins": [1.0, 0.0], "risks": [0.1, 0.2]}},
        {"parameters": {"n_estimators": 5, "os.system": "true"}},
        {"parameters": {"n_estimators": 5, "n_jobs": {}}},
    ],
)
def test_a_manifest_that_does_not_fit_the_boosters_is_refused(folder, change):
    state = json.loads((folder / "manifest.json").read_text("utf-8"))["state"]
    forge(folder, state=state | change)
    with pytest.raises(ModelFolderError, match="a manifest that cannot be used"):
        RiskModel.load(folder)


# ------------------------------------------- boosters with the right hash that LightGBM must not see
# Given to LightGBM, most of these end the process; nothing here may reach it.


@pytest.mark.parametrize("share", [0.0, 0.02, 0.2, 0.4, 0.6, 0.8, 0.9, 0.999])
def test_a_truncated_booster_with_its_own_hash_is_refused(folder, share):
    forge(folder, "booster_0.txt", lambda text: text[: int(share * len(text))])
    with pytest.raises(ModelFolderError, match=r"'booster_0.txt' is no booster \("):
        RiskModel.load(folder)


def replace(pattern: str, value: str):
    def change(text: str) -> str:
        changed, count = re.subn(pattern, value, text, count=1, flags=re.MULTILINE)
        assert count == 1, pattern
        return resize(changed)

    return change


def resize(text: str) -> str:
    """State the sizes of the trees anew, so that they are not what is found wrong."""
    trees = re.findall(r"^Tree=\d+\n.*?(?=^Tree=|^end of trees)", text, re.MULTILINE | re.DOTALL)
    sizes = " ".join(str(len(tree.encode())) for tree in trees)
    return re.sub(r"^tree_sizes=.*$", f"tree_sizes={sizes}", text, count=1, flags=re.MULTILINE)


FORGED = {
    "feature that is not there": (replace(r"^split_feature=\d+", "split_feature=999"), "damaged"),
    "negative feature": (replace(r"^split_feature=\d+", "split_feature=-1"), "damaged"),
    "circle": (replace(r"^left_child=-?\d+", "left_child=0"), "tree 0 is damaged"),
    "child that is not there": (replace(r"^left_child=-?\d+", "left_child=77"), "damaged"),
    "one leaf more": (replace(r"^num_leaves=\d+", "num_leaves=99"), "tree 0 is damaged"),
    "negative leaves": (replace(r"^num_leaves=\d+", "num_leaves=-3"), "tree 0 is damaged"),
    "one value less": (replace(r"^leaf_value=\S+ ", "leaf_value="), "tree 0 is damaged"),
    "value that is no number": (replace(r"^leaf_value=\S+", "leaf_value=nan"), "tree 0 is damaged"),
    "infinite value": (replace(r"^leaf_value=\S+", "leaf_value=inf"), "tree 0 is damaged"),
    "set of categories": (replace(r"^num_cat=\d+", "num_cat=3"), "is damaged"),
    "linear tree": (replace(r"^is_linear=0", "is_linear=1"), "tree 0 is damaged"),
    "entry twice": (replace(r"^shrinkage=", "shrinkage=1\nshrinkage="), "tree 0 is damaged"),
    "entry that is unknown": (replace(r"^shrinkage=", "leaf_const=1\nshrinkage="), "damaged"),
    "blank line": (replace(r"^is_linear", "\nis_linear"), "tree 0 is damaged"),
    "wrong size": (lambda t: re.sub(r"tree_sizes=\d+", "tree_sizes=99999999", t), "tree 0|tree 1"),
    "no sizes": (lambda t: re.sub(r"tree_sizes=.*\n", "", t), "a damaged header"),
    "sizes twice": (lambda t: t.replace("tree_sizes=", "tree_sizes=1\ntree_sizes="), "header"),
    "several classes": (lambda t: t.replace("num_class=1", "num_class=3", 1), "several classes"),
    "broken parameter": (lambda t: t.replace("[metric:", "[metri\n:"), "its end is damaged"),
    "other line ends": (lambda t: t.replace("\n", "\r\n"), "no header"),
    "other text": (lambda _: "import os\n", "no header"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FORGED)
def test_a_forged_booster_is_refused_before_lightgbm_reads_it(folder, kind):
    change, reason = FORGED[kind]
    forge(folder, "booster_1.txt", change)
    with pytest.raises(ModelFolderError, match=rf"'booster_1.txt' is no booster \(.*{reason}"):
        RiskModel.load(folder)


def test_what_lightgbm_writes_is_well_formed():
    # Splits between missing and known have the threshold inf; a tree without a split has one leaf.
    import lightgbm

    rng = np.random.default_rng(0)
    matrix = np.column_stack([rng.normal(size=600), rng.integers(0, 40, 600)])
    matrix[:200, 0] = np.nan
    label = (np.isnan(matrix[:, 0]) ^ (matrix[:, 1] % 3 == 0)).astype(float)
    texts = [
        lightgbm.train(
            {"objective": "binary", "verbosity": -1, "num_threads": 1, "min_data_in_leaf": leaf,
             "max_cat_to_onehot": onehot, "min_data_per_group": 5, "cat_smooth": 1},
            lightgbm.Dataset(matrix, label, feature_name=["收入", "b"], categorical_feature=[1]),
            4,
        ).model_to_string()
        for leaf, onehot in ((5, 1), (5, 99), (10_000, 1))
    ]  # fmt: skip
    assert "threshold=inf" in texts[0] or " inf" in texts[0]
    assert "num_cat=0" not in texts[0].split("Tree=1")[0]
    assert "num_leaves=1\n" in texts[2]
    assert [find_malformed(text) for text in texts] == [None, None, None]


# ------------------------------------------------------------------------- what saving leaves behind


def listing(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_saving_replaces_the_folder_whole(model, folder):
    (folder / "notes.txt").write_text("of the earlier model")
    single = fit()
    single.save(folder)
    assert sorted(listing(folder)) == ["booster_0.txt", "manifest.json"]
    assert RiskModel.load(folder).model_id_ == single.model_id_
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("failing", ["write_bytes", "replace"])
@pytest.mark.parametrize("call", [1, 2])
def test_saving_that_fails_leaves_what_was_there(folder, monkeypatch, failing, call):
    before = listing(folder.parent)
    original, calls = getattr(Path, failing), []

    def fail(self, *arguments):
        calls.append(self)
        if len(calls) == call:
            raise OSError(28, "No space left on device", str(self))
        return original(self, *arguments)

    other = fit()
    monkeypatch.setattr(Path, failing, fail)
    with pytest.raises(ModelFolderError, match="No space left on device"):
        other.save(folder)
    monkeypatch.undo()
    assert listing(folder.parent) == before
    RiskModel.load(folder)


def test_a_first_save_that_fails_leaves_nothing(model, tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "write_bytes", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(ModelFolderError, match="full"):
        model.save(tmp_path / "model")
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("there", ["folder", "file"])
def test_saving_does_not_delete_what_is_no_model(model, tmp_path, there):
    target = tmp_path / "mine"
    if there == "folder":
        target.mkdir()
        (target / "thesis.txt").write_text("years of work")
    else:
        target.write_text("years of work")
    before = listing(tmp_path)
    with pytest.raises(ModelFolderError, match="something without manifest.json"):
        model.save(target)
    assert listing(tmp_path) == before


def test_an_empty_folder_and_a_new_path_are_filled(model, tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "new/deep/model"):
        model.save(tmp_path / name)
        assert RiskModel.load(tmp_path / name).model_id_ == model.model_id_


def test_a_parent_that_is_a_file_is_told(model, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ModelFolderError, match="model folder 'model'.*'file'"):
        model.save(tmp_path / "file" / "model")


def test_values_that_are_not_plain_leave_nothing_behind(model, tmp_path):
    with pytest.raises(TypeError, match="not JSON serializable"):
        model.save(tmp_path / "model", {"when": object()})
    assert list(tmp_path.iterdir()) == []
