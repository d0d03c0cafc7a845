"""The registered model behind MLflow's own server, asked over HTTP by a program that knows no Python."""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import matplotlib as mpl
import pytest

from poverty_risk.cohort import build_prediction_points
from poverty_risk.evaluation import evaluate_risk
from poverty_risk.features import build_features
from poverty_risk.predict import predict_risk
from poverty_risk.tracking import log_training, make_input_example, record_training
from small_county import AS_OF, train_small_county

MISSING = [name for name in ("uvicorn", "fastapi") if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"MLflow's server needs {', '.join(MISSING)}"),
    # MLflow's own use of pydantic and SQLAlchemy; nothing we can change.
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
    ),
]
PATIENCE = 180
"""Seconds to wait for the server, many times what it takes."""


@pytest.fixture(scope="module")
def county():
    return train_small_county()


@pytest.fixture(scope="module")
def store(county, tmp_path_factory) -> Path:
    mpl.use("agg")
    folder = tmp_path_factory.mktemp("served")
    county.model.save(folder / "model")
    evaluation = evaluate_risk(
        county.labels, {"model": county.model.risk(county.features)}, replicates=0
    )
    log_training(record_training(county.model, folder / "model", evaluation), store_folder=folder)
    return folder


@pytest.fixture(scope="module")
def address(store):
    """``mlflow models serve`` on a free port of this machine; stopped afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local"]
    command += ["--model-uri", "models:/poverty-risk@champion", "--workers", "1"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    # MLflow starts its server by name: it must be found beside this Python.
    found_in = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{store / 'mlflow.db'}",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PATH": found_in,
    }
    with (store / "server.log").open("wb") as log:
        server = subprocess.Popen(
            command,
            env=environment,
            cwd=store,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until_up(server, f"http://127.0.0.1:{port}/ping", store / "server.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        # The server runs in a process of its own below ours: its group is stopped as a whole.
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=PATIENCE)


def wait_until_up(server: subprocess.Popen, url: str, log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"the server did not start:\n{log.read_text(errors='replace')[-3000:]}")


def post(address: str, content: dict) -> list[dict]:
    request = urllib.request.Request(
        f"{address}/invocations",
        data=json.dumps(content).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return json.loads(answer.read())["predictions"]


@pytest.fixture(scope="module")
def features(county):
    points = build_prediction_points(county.tables, AS_OF, "at_risk")
    built = build_features(county.tables, points, county.model.catalog).droplevel("as_of_date")
    return built[county.model.feature_names_in_]


@pytest.mark.parametrize("locale", ["zh", "en"])
def test_the_server_answers_as_predict_risk_does(address, store, county, features, locale):
    expected = predict_risk(county.tables, as_of_date=AS_OF, model=store / "model", locale=locale)
    expected = expected[expected["status"] == "ok"].iloc[:20]
    # Missing values become null, types their codes, as any program would send them.
    rows = json.loads(features.loc[expected.index].to_json(orient="split", double_precision=15))
    assert None in [value for row in rows["data"] for value in row]
    answers = post(address, {"dataframe_split": rows, "params": {"locale": locale}})
    assert len(answers) == 20
    for answer, (_, row) in zip(answers, expected.iterrows(), strict=True):
        assert answer["risk"] == pytest.approx(row["risk"], abs=1e-12)
        assert answer["margin"] == pytest.approx(row["margin"], abs=1e-12)
        assert answer["tier"] == row["tier"]
        assert answer["reasons"] == row["reasons"]
        assert answer["protective_factors"] == row["protective_factors"]


def test_the_server_takes_its_own_example(address, county):
    example = make_input_example(county.model)
    content = json.loads(example.to_json(orient="split"))
    answers = post(address, {"dataframe_split": {k: content[k] for k in ("columns", "data")}})
    expected = county.model.risk(example)
    assert [answer["risk"] for answer in answers] == pytest.approx(expected.tolist(), abs=1e-9)


def test_the_server_names_a_feature_that_is_missing(address, features):
    name = str(features.columns[0])
    rows = json.loads(features.drop(columns=name).iloc[:2].to_json(orient="split"))
    with pytest.raises(urllib.error.HTTPError, match="HTTP Error 4") as caught:
        post(address, {"dataframe_split": rows})
    with caught.value as refused:
        assert name in refused.read().decode()


def test_the_server_refuses_another_language(address, features):
    rows = json.loads(features.iloc[:2].to_json(orient="split"))
    with pytest.raises(urllib.error.HTTPError, match="HTTP Error 4") as caught:
        post(address, {"dataframe_split": rows, "params": {"locale": "fr"}})
    with caught.value as refused:
        assert "locale" in refused.read().decode()


def test_no_rows_give_no_answers(address, features):
    rows = json.loads(features.iloc[:0].to_json(orient="split"))
    assert post(address, {"dataframe_split": rows}) == []


def test_the_server_wrote_no_id_into_its_log(address, store, features):
    log = (store / "server.log").read_text(errors="replace")
    assert not [household for household in features.index if household in log]
