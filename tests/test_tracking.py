"""What reaches MLflow, what comes back from it, and what must never reach it."""

import io
import json
import os
import shutil
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from poverty_risk.cohort import build_prediction_points
from poverty_risk.evaluation import evaluate_risk
from poverty_risk.exceptions import ModelFolderError, PovertyRiskError
from poverty_risk.features import build_features
from poverty_risk.model import RiskModel
from poverty_risk.predict import predict_risk
from poverty_risk.tracking import (
    TrainingRecord,
    download_model_folder,
    log_training,
    make_input_example,
    record_training,
    store,
)
from small_county import AS_OF, train_small_county

pytestmark = pytest.mark.filterwarnings(
    # MLflow's own use of pydantic and SQLAlchemy; nothing we can change.
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore::UserWarning",
)
mpl.use("agg")


@pytest.fixture(scope="module")
def county():
    return train_small_county()


@pytest.fixture(scope="module")
def folder(county, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "any_12mo"
    county.model.save(folder)
    return folder


@pytest.fixture(scope="module")
def evaluations(county):
    """Two periods; the second is of half of the points."""
    risk = county.model.risk(county.features)
    rules = risk.rank(pct=True).rename("rules") / 2
    return {
        period: evaluate_risk(
            county.labels.iloc[::step],
            {"model": risk.iloc[::step], "rules": rules.iloc[::step]},
            budgets=(0.05, 0.1),
            replicates=4,
        )
        for period, step in (("validation", 1), ("test", 2))
    }


@pytest.fixture(scope="module")
def record(county, folder, evaluations):
    return record_training(
        county.model,
        folder,
        evaluations,
        tables=county.tables,
        config={"seed": 3, "model": {"n_estimators": 12}},
        sample=county.features,
    )


@pytest.fixture(scope="module")
def logged(record, tmp_path_factory):
    """The training, logged once into a store of its own."""
    return log_training(record, store_folder=tmp_path_factory.mktemp("store"))


@pytest.fixture
def client(logged):
    import mlflow

    return mlflow.MlflowClient(tracking_uri=logged.tracking_uri)


@pytest.fixture
def run_folder(client, logged):
    """The run's own artifacts, where the store keeps them."""
    return Path(client.get_run(logged.run_id).info.artifact_uri.removeprefix("file://"))


@pytest.fixture(scope="module")
def served(logged):
    """The registered model as MLflow loads it where pickles are forbidden."""
    import mlflow

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
        patch.setenv("MLFLOW_TRACKING_URI", logged.tracking_uri)
        return mlflow.pyfunc.load_model("models:/poverty-risk@champion")


def find_champion(client) -> str:
    # A number in some releases of MLflow, a text in others.
    return str(client.get_model_version_by_alias("poverty-risk", "champion").version)


# ---------------------------------------------------------------------------------- what is recorded


def test_parameters_of_model_task_and_training_are_logged(client, logged, county):
    params = client.get_run(logged.run_id).data.params
    given = county.model.get_params(deep=False)
    for name in ("n_estimators", "learning_rate", "calibration", "seed", "embargo", "n_seeds"):
        assert params[name] == str(given[name])
    assert params["tiers.red"] == "0.01"
    assert params["cohort"] == "at_risk"
    assert params["label"] == "any"
    assert params["horizon"] == "12mo"
    assert params["n_features"] == str(county.features[county.model.feature_names_in_].shape[1])
    assert params["line.2022"] == str(county.tables.line[2022])
    dates = county.labels.index.get_level_values("as_of_date")
    assert params["training.later.last"] == str(dates.max().date())
    points = int(params["training.boosted.points"]) + int(params["training.later.points"])
    assert points == len(county.labels)


def test_metrics_of_every_period_are_logged(client, logged, evaluations):
    metrics = client.get_run(logged.run_id).data.metrics
    for period, evaluation in evaluations.items():
        for name, prefix in (("model", period), ("rules", f"{period}.rules")):
            for metric, value in evaluation.metrics.loc[name].items():
                found = metrics[f"{prefix}.{metric}"]
                assert found == value or (np.isnan(found) and np.isnan(value))
            for budget, percent in ((0.05, "5pct"), (0.1, "10pct")):
                row = (
                    evaluation.budgets.reset_index()
                    .set_index(["name", "budget"])
                    .loc[(name, budget)]
                )
                for measure in ("precision", "recall", "lift"):
                    assert metrics[f"{prefix}.{measure}_at_{percent}"] == row[measure]
        interval = evaluation.intervals.loc[("model", "auc")]
        assert metrics[f"{period}.auc.low"] == interval["low"]
        assert metrics[f"{period}.auc.high"] == interval["high"]
    assert metrics["test.auc"] != metrics["validation.auc"]


def test_fingerprints_and_versions_say_where_the_model_comes_from(client, logged, county):
    tags = client.get_run(logged.run_id).data.tags
    assert tags["history"] == county.tables.fingerprint
    assert tags["catalog"] == county.model.catalog.fingerprint
    assert tags["model_id"] == county.model.model_id_
    assert (tags["schema"], tags["label"], tags["horizon"]) == ("archive", "any", "12mo")
    import lightgbm

    assert tags["version.lightgbm"] == lightgbm.__version__


def test_every_table_is_logged_as_it_is(run_folder, evaluations, county):
    names = ("metrics", "intervals", "differences", "budgets", "reliability")
    for period, evaluation in evaluations.items():
        for name in names:
            table = getattr(evaluation, name)
            levels = list(range(table.index.nlevels))
            found = pd.read_csv(run_folder / "tables" / f"{period}_{name}.csv", index_col=levels)
            expected = pd.read_csv(io.StringIO(table.to_csv()), index_col=levels)
            pd.testing.assert_frame_equal(found, expected)
    catalog = pd.read_csv(run_folder / "tables" / "feature_catalog.csv", index_col="feature")
    assert list(catalog.index) == list(county.model.catalog.names)
    for name in catalog.index:
        spec = county.model.catalog[name]
        assert catalog.loc[name, "label_zh"] == spec.label("zh")
        assert catalog.loc[name, "label_en"] == spec.label("en")
        assert catalog.loc[name, "direction"] == spec.direction
    config = json.loads((run_folder / "config.json").read_text("utf-8"))
    assert config == {"seed": 3, "model": {"n_estimators": 12}}


def test_every_figure_is_drawn(run_folder):
    names = {
        f"{period}_{name}.png"
        for period in ("validation", "test")
        for name in ("reliability", "precision_at_budget")
    }
    assert {path.name for path in (run_folder / "figures").iterdir()} == names | {
        "contributions.png"
    }
    for path in (run_folder / "figures").iterdir():
        image = plt.imread(path)
        assert min(image.shape[:2]) > 200
        assert image[..., :3].std() > 0.01  # not blank


def test_the_summary_of_contributions_shows_every_feature_of_a_small_model(record, county):
    axes = record.figures["contributions"].axes[0]
    shown = {label.get_text() for label in axes.get_yticklabels()}
    assert shown == set(county.model.feature_names_in_)


def test_one_evaluation_alone_is_the_test_period(county, folder, evaluations):
    alone = record_training(county.model, folder, evaluations["test"])
    assert alone.metrics["test.auc"] == evaluations["test"].metrics.loc["model", "auc"]
    assert "contributions" not in alone.figures
    assert "history" not in alone.tags
    plt.close("all")


# ------------------------------------------------------------------------------------- the registry


def test_the_model_is_registered_as_champion(client, logged, county):
    assert (logged.version, logged.model_uri) == ("1", "models:/poverty-risk/1")
    version = client.get_model_version_by_alias("poverty-risk", "champion")
    assert str(version.version) == "1"
    assert version.run_id == logged.run_id
    assert client.get_run(logged.run_id).info.status == "FINISHED"
    found = RiskModel.load(
        download_model_folder(logged.model_uri, tracking_uri=logged.tracking_uri)
    )
    assert found.model_id_ == county.model.model_id_


@pytest.mark.parametrize("form", ["alias", "version", "model id", "run"])
def test_a_uri_of_any_form_leads_to_the_model_folder(client, logged, county, form):
    (output,) = client.get_run(logged.run_id).outputs.model_outputs
    uris = {
        "alias": "models:/poverty-risk@champion",
        "version": "models:/poverty-risk/1",
        "model id": f"models:/{output.model_id}",
        "run": f"runs:/{logged.run_id}/model",
    }
    found = download_model_folder(uris[form], tracking_uri=logged.tracking_uri)
    assert RiskModel.load(found).model_id_ == county.model.model_id_


def test_predict_risk_takes_the_champion(logged, county, folder, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", logged.tracking_uri)
    asked = {"as_of_date": AS_OF, "households": county.tables.households[:12]}
    found = predict_risk(county.tables, model="models:/poverty-risk@champion", **asked)
    expected = predict_risk(county.tables, model=folder, **asked)
    pd.testing.assert_frame_equal(found, expected, check_exact=True)
    assert (found["status"] == "ok").any()


def test_logging_again_makes_a_version_and_moves_the_alias(record, logged, monkeypatch, tmp_path):
    # Into the store that the environment names; `store_folder` then is not used.
    shutil.copytree(Path(logged.tracking_uri.removeprefix("sqlite:///")).parent, tmp_path / "copy")
    uri = f"sqlite:///{tmp_path / 'copy' / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    again = log_training(record, store_folder=tmp_path / "unused")
    assert again.tracking_uri == uri
    assert not (tmp_path / "unused").exists()
    assert (again.version, again.model_uri) == ("2", "models:/poverty-risk/2")
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=uri)
    assert find_champion(client) == "2"
    assert {str(v.version) for v in client.search_model_versions("name='poverty-risk'")} == {
        "1",
        "2",
    }
    # A third without an alias, and a fourth that is not registered, leave the champion.
    third = log_training(record, alias=None)
    assert third.version == "3"
    fourth = log_training(record, registered_name=None)
    assert fourth.version is None
    assert find_champion(client) == "2"
    # What is not registered can be used as well.
    assert (
        RiskModel.load(download_model_folder(fourth.model_uri)).model_id_ == record.tags["model_id"]
    )


def test_mlflow_and_the_environment_are_left_as_they_were(logged, monkeypatch):
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///elsewhere.db")
    before = dict(os.environ)
    download_model_folder("models:/poverty-risk/1", tracking_uri=logged.tracking_uri)
    assert dict(os.environ) == before
    assert mlflow.active_run() is None
    mlflow.set_tracking_uri("sqlite:///chosen.db")
    with pytest.raises(ModelFolderError, match="nobody"):
        download_model_folder("models:/nobody/1", tracking_uri=logged.tracking_uri)
    assert mlflow.get_tracking_uri() == "sqlite:///chosen.db"
    mlflow.set_tracking_uri(None)


# -------------------------------------------------------------------------------- the served model


@pytest.fixture(scope="module")
def answered(county, folder):
    """Features of households that are answered, and their answers, in one order."""
    points = build_prediction_points(county.tables, AS_OF, "at_risk")
    features = build_features(county.tables, points, county.model.catalog)
    answers = {
        locale: predict_risk(county.tables, as_of_date=AS_OF, model=folder, locale=locale)
        for locale in ("zh", "en")
    }
    ok = answers["zh"].index[answers["zh"]["status"] == "ok"]
    features = features.droplevel("as_of_date").loc[ok]
    return features, {locale: answer.loc[ok] for locale, answer in answers.items()}


COLUMNS = ["risk", "tier", "margin", "reasons", "protective_factors"]


def test_the_served_model_answers_as_predict_risk_does(served, answered, county):
    features, answers = answered
    given = features[county.model.feature_names_in_]
    for locale, params in (("zh", None), ("en", {"locale": "en"})):
        found = served.predict(given, params=params)
        assert list(found.columns) == COLUMNS
        pd.testing.assert_frame_equal(found, answers[locale][COLUMNS], check_exact=True)
    assert any(answers["zh"]["reasons"])


def test_types_may_come_as_text_and_columns_in_any_order_with_others(served, answered, county):
    features, answers = answered
    text = features.astype(dict.fromkeys(county.model.columns_.categories, object))
    shuffled = text[sorted(text.columns, reverse=True)].assign(more=1.0)
    found = served.predict(shuffled)
    pd.testing.assert_frame_equal(found, answers["zh"][COLUMNS], check_exact=True)


def test_without_reasons_it_is_only_faster(served, answered, county):
    features, answers = answered
    found = served.predict(features[county.model.feature_names_in_], params={"reasons": False})
    numbers = ["risk", "tier", "margin"]
    pd.testing.assert_frame_equal(found[numbers], answers["zh"][numbers], check_exact=True)
    assert found["reasons"].tolist() == [[]] * len(found)
    assert found["protective_factors"].tolist() == [[]] * len(found)


def test_a_feature_that_is_not_given_is_named_and_a_language_too(served, answered, county):
    features, _ = answered
    name = str(county.model.feature_names_in_[0])
    with pytest.raises(PovertyRiskError, match=f"no column {name}"):
        served.predict(features.drop(columns=name))
    with pytest.raises(PovertyRiskError, match="locale: found 'fr'"):
        served.predict(features, params={"locale": "fr"})


def test_the_registered_model_holds_text_only(logged, county):
    kept = download_model_folder(logged.model_uri, tracking_uri=logged.tracking_uri)
    root = kept.parents[1]
    names = {path.name for path in root.rglob("*") if path.is_file()}
    assert {"MLmodel", "pyfunc_model.py", "manifest.json", "booster_0.txt"} <= names
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".joblib", ".skops"))]
    for path in root.rglob("*"):
        if path.is_file():
            path.read_bytes().decode("utf-8")
    requirements = (root / "requirements.txt").read_text("utf-8").split()
    assert any(line.startswith("poverty-risk==") for line in requirements)
    assert any(line.startswith("lightgbm==") for line in requirements)


# ---------------------------------------------------------------------- what must never reach a store


def find_in_files(root: Path, words: set[bytes]) -> dict[bytes, list[str]]:
    """Which words stand in which files, whatever is around them; a database is read as bytes."""
    found: dict[bytes, list[str]] = {}
    for path in root.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            for word in words:
                if word in content:
                    found.setdefault(word, []).append(path.name)
    return found


def test_no_id_of_the_history_is_anywhere_in_the_store(logged, county, record):
    root = Path(logged.tracking_uri.removeprefix("sqlite:///")).parent
    ids = set(county.tables.households.tolist())
    for name in county.tables.names:
        frame = county.tables[name]
        for column in ("person_id", "bill_id", "loan_id"):
            if column in frame:
                ids |= set(frame[column].dropna())
    assert len(ids) > 1_000
    assert find_in_files(root, {str(identifier).encode() for identifier in ids}) == {}
    # The search finds what is there: the model id stands in the database and in the model folder.
    present = find_in_files(root, {record.tags["model_id"].encode()})
    assert {"mlflow.db", "manifest.json"} <= set(present[record.tags["model_id"].encode()])


def test_no_folder_of_the_user_is_anywhere_in_the_registered_model(logged, folder):
    kept = download_model_folder(logged.model_uri, tracking_uri=logged.tracking_uri).parents[1]
    own = {str(folder.parent).encode(), str(Path(store.__file__).parents[1]).encode()}
    assert find_in_files(kept, own) == {}


def test_the_run_names_no_user(client, logged):
    run = client.get_run(logged.run_id)
    assert not [
        name for name in run.data.tags if "user" in name.lower() or "source" in name.lower()
    ]
    assert run.info.user_id in ("", "unknown")


def test_the_input_example_is_made_up(county):
    model = county.model
    example = make_input_example(model)
    assert list(example.columns) == list(model.feature_names_in_)
    later = county.features.index.get_level_values("as_of_date") >= "1900-01-01"
    training = county.features[later]
    for name in example.columns:
        if name in model.columns_.categories:
            counts = training[name].value_counts()
            assert example[name].tolist() == counts.index[:2].tolist()
        else:
            assert example[name].iloc[0] == pytest.approx(training[name].median())
    # Nobody has these features.
    everybody = {tuple(row) for row in training[example.columns].astype(str).to_numpy()}
    assert not everybody & {tuple(row) for row in example.astype(str).to_numpy()}
    assert model.risk(example).between(0, 1).all()


def minimal(folder, **parts) -> TrainingRecord:
    return TrainingRecord(folder, pd.DataFrame({"income": [1.0]}), **parts)


def test_a_table_or_example_with_ids_of_persons_is_refused(folder):
    tables = {"good": pd.DataFrame({"auc": [0.7]}), "bad": pd.DataFrame({"person_id": ["p"]})}
    indexed = pd.DataFrame({"risk": [0.1]}, index=pd.Index(["h"], name="household_id"))
    with pytest.raises(PovertyRiskError, match="2 problems") as caught:
        minimal(folder, tables=tables | {"index": indexed})
    assert [fault.place for fault in caught.value.faults] == ["table 'bad'", "table 'index'"]
    with pytest.raises(PovertyRiskError, match="input example"):
        TrainingRecord(folder, pd.DataFrame({"household_id": ["h"]}))


def test_a_metric_without_a_name_or_number_is_refused(folder):
    with pytest.raises(PovertyRiskError, match="2 problems"):
        minimal(folder, metrics={"test.auc": 0.7, "a=b": 0.5, "test.brier": "low"})


def draw(text: str):
    figure, axes = plt.subplots()
    axes.set_title(f"risk of {text}")
    plt.close(figure)
    return figure


PLACES = {
    "params": lambda text: {"params": {"note": f"without {text}"}},
    "metrics": lambda text: {"metrics": {f"auc of {text}": 0.5}},
    "tags": lambda text: {"tags": {"note": text}},
    "table 'worst'": lambda text: {"tables": {"worst": pd.DataFrame({"who": [text]})}},
    "config": lambda text: {"documents": {"config": {"only": [text]}}},
    "figure 'risks'": lambda text: {"figures": {"risks": draw(text)}},
}


@pytest.mark.parametrize("place", PLACES)
def test_an_id_is_found_wherever_it_is_written_and_not_repeated(folder, place):
    recorded = minimal(folder, **PLACES[place]("H0000042"))
    recorded.check_no_ids(["H0000043", "H000004", "0042"])  # others, parts, and too short a number
    with pytest.raises(PovertyRiskError, match="1 ids of households") as caught:
        recorded.check_no_ids(["H0000041", "H0000042"])
    assert [fault.place for fault in caught.value.faults] == [place]
    assert "H0000042" not in str(caught.value)


def test_an_id_in_the_model_folder_is_found(county, tmp_path):
    county.model.save(tmp_path / "model", {"note": "without H0000042"})
    with pytest.raises(PovertyRiskError, match="model folder: found 1 ids"):
        minimal(tmp_path / "model").check_no_ids(["H0000042"])


@pytest.mark.parametrize("column", ["person_id", "bill_id"])
def test_recording_looks_for_ids_of_persons_and_documents_too(county, folder, evaluations, column):
    frames = [county.tables[name] for name in county.tables.names]
    identifier = next(frame[column].iloc[0] for frame in frames if column in frame)
    with pytest.raises(PovertyRiskError, match="config: found 1 ids"):
        record_training(
            county.model,
            folder,
            evaluations["test"],
            tables=county.tables,
            config={"left out": identifier},
        )
    plt.close("all")


def test_the_folder_of_another_model_is_not_recorded(county, tmp_path, evaluations):
    other = RiskModel(county.model.catalog, county.model.task, n_estimators=2, n_jobs=1)
    other.set_params(embargo=False, early_stopping_rounds=None)
    other.fit(county.features, county.labels).save(tmp_path / "other")
    with pytest.raises(ModelFolderError, match=f"expected model {county.model.model_id_}"):
        record_training(county.model, tmp_path / "other", evaluations["test"])
    plt.close("all")


# -------------------------------------------------------------------------------- what does not work


def spoil_with_file(folder: Path) -> Path:
    (folder / "store").write_text("a file")
    return folder / "store"


def spoil_with_folder(folder: Path) -> Path:
    (folder / "mlflow.db").mkdir()
    return folder


def spoil_with_other_file(folder: Path) -> Path:
    (folder / "mlflow.db").write_bytes(b"PK\x03\x04 no database" * 99)
    return folder


SPOILT = {
    "a file": (spoil_with_file, "(File exists|Not a directory)"),
    "a folder": (spoil_with_folder, "Is a directory"),
    "another file": (spoil_with_other_file, "a file of another kind"),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_a_store_that_cannot_be_written_is_told_and_the_model_folder_stays(
    record, folder, tmp_path, kind
):
    spoil, reason = SPOILT[kind]
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(PovertyRiskError, match=f"MLflow experiment 'poverty-risk': found {reason}"):
        log_training(record, store_folder=spoil(tmp_path))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert RiskModel.load(folder).model_id_ == record.tags["model_id"]


def test_a_damaged_database_is_told(record, tmp_path):
    # It begins as one, and goes on as something else.
    (tmp_path / "mlflow.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 5_000)
    with pytest.raises(PovertyRiskError, match="MLflow experiment 'poverty-risk': found .*sqlite3"):
        log_training(record, store_folder=tmp_path)


def test_a_server_that_is_off_is_told(record, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(PovertyRiskError, match="MLflow experiment 'poverty-risk': found .*http"):
        log_training(record, tracking_uri="http://127.0.0.1:9")
    with pytest.raises(ModelFolderError, match="'models:/poverty-risk/1': found .*http"):
        download_model_folder("models:/poverty-risk/1", tracking_uri="http://127.0.0.1:9")


def test_logging_that_breaks_off_marks_the_run_as_failed(record, logged, client, monkeypatch):
    def refuse(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "_log_model", refuse)
    with pytest.raises(PovertyRiskError, match="No space left on device.*the model folder is kept"):
        log_training(record, experiment="broken", tracking_uri=logged.tracking_uri)
    experiment = client.get_experiment_by_name("broken")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FAILED"
    assert find_champion(client) == "1"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("models:/nobody@champion", "nobody"),
        ("models:/poverty-risk@king", "king"),
        ("models:/poverty-risk/99", "99"),
        ("models:/m-0123456789abcdef0123456789abcdef", "m-0123"),
        ("runs:/0123456789abcdef0123456789abcdef/model", "0123456789abcdef"),
        ("models:/", "models:/"),
        ("outputs/model", "found 'outputs/model'; expected models:/... or runs:/..."),
    ],
)
def test_a_uri_that_leads_nowhere_is_told(logged, uri, message):
    with pytest.raises(ModelFolderError, match=message):
        download_model_folder(uri, tracking_uri=logged.tracking_uri)


def test_looking_for_a_store_does_not_make_one(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelFolderError, match="no MLflow store.*Set MLFLOW_TRACKING_URI"):
        download_model_folder("models:/poverty-risk@champion")
    assert list(tmp_path.iterdir()) == []


def test_another_model_of_mlflow_is_refused(client, logged):
    run = client.create_run(client.create_experiment(
        "others", artifact_location=(Path(logged.tracking_uri[10:]).parent / "o").as_uri()
    ))  # fmt: skip
    client.log_text(run.info.run_id, "weights", "model/weights.txt")
    with pytest.raises(ModelFolderError, match="0 files manifest.json"):
        download_model_folder(f"runs:/{run.info.run_id}/model", tracking_uri=logged.tracking_uri)
