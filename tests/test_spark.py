"""The same features and answers on Spark as in memory: on two cores, counties in folders of their own."""

import importlib.util
import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner

from poverty_risk.batch import predict_folder
from poverty_risk.cli import cli
from poverty_risk.cohort import build_prediction_points
from poverty_risk.datasets import make_household_history
from poverty_risk.exceptions import HistoryError, PovertyRiskError
from poverty_risk.features import build_features, load_catalog
from poverty_risk.model import RiskModel
from poverty_risk.prediction_folder import read_predictions
from poverty_risk.workflows.office import OFFICE_ONLY, PREDICTIONS
from small_county import train_small_county

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("pyspark") is None, reason="no pyspark: the extra 'spark'"
    ),
    pytest.mark.skipif(
        shutil.which("java") is None and "JAVA_HOME" not in os.environ, reason="no Java"
    ),
]

ROOT = Path(__file__).parents[1]
COUNTS = ("count", "exists", "nunique", "days_since_last")
NAMES = ["anlu", "恩施 [1]+%'"]
"""The second would break an address, a path pattern or a text in SQL; the first is a link."""


@pytest.fixture(scope="module")
def session():
    from poverty_risk.spark import start_session

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        started = start_session(
            "local[2]",
            spark__ui__enabled="false",
            spark__driver__memory="1g",
            # Generating and compiling Java takes longer than running it on so few households.
            spark__sql__codegen__wholeStage="false",
            spark__sql__codegen__factoryMode="NO_CODEGEN",
        )
        started.sparkContext.setLogLevel("ERROR")
        yield started
        started.stop()


@pytest.fixture(scope="module")
def province(tmp_path_factory):
    """Two counties, of which the second has no table of visits, and a model."""
    place = tmp_path_factory.mktemp("province")
    small = train_small_county(n_refits=3)
    (place / "histories").mkdir()
    (place / "histories" / NAMES[0]).symlink_to(small.tables.write(place / "elsewhere" / "2023-12"))
    other = make_household_history(80, start="2019-01-01", end="2023-12-01", seed=4).tables
    written = other.write(place / "other")
    (written / "visit.parquet").unlink()
    frames = {path.stem: pq.read_table(path) for path in written.glob("*.parquet")}
    frames = {name: table.drop_columns("superseded_date") for name, table in frames.items()}
    # Of one household the archive's own record is rejected: no valid record, and that is why.
    main = frames["household"].to_pandas()
    lost = main["household_id"].to_numpy() == main["household_id"].iloc[0]
    main["status"] = main["status"].where(~lost, "aktiv")
    frames["household"] = pa.Table.from_pandas(main, preserve_index=False)
    other.from_frames(frames, other.schema, other.line).write(place / "histories" / NAMES[1])
    small.model.save(place / "model")
    return place


@pytest.fixture(scope="module")
def answered(session, province):
    """Files of each county, from Spark."""
    from poverty_risk.spark import predict_counties

    return predict_counties(
        province / "histories",
        province / "输出 of spark",
        model=province / "model",
        locale="en",
        session=session,
    )


def test_every_feature_of_the_catalogue_is_that_of_the_plain_queries(session):
    tables = make_household_history(60, seed=2).tables
    catalog = load_catalog("archive")
    points = build_prediction_points(tables, ["2022-07-01", "2024-01-01"])
    plain = build_features(tables, points, catalog, engine="sql")
    found = build_features(tables, points, catalog, engine="spark")
    assert list(found.columns) == list(catalog.names)
    for spec in catalog.specs:
        exact = spec.aggregator in COUNTS or spec.kind == "category"
        pd.testing.assert_series_equal(
            found[spec.name],
            plain[spec.name],
            check_exact=exact,
            **({} if exact else {"rtol": 1e-9, "atol": 0.0}),
        )
    # So that a catalogue of nothing but gaps would not pass.
    assert (found.notna().mean() > 0.5).sum() > 100


def test_counties_are_answered_as_in_memory(province, answered):
    plain = predict_folder(
        province / "histories", province / "plain", model=province / "model", locale="en"
    )
    assert list(answered) == list(plain) == NAMES
    for county in NAMES:
        assert answered[county] == province / "输出 of spark" / county / "predictions.parquet"
        expected, found = read_predictions(plain[county]), read_predictions(answered[county])
        pd.testing.assert_frame_equal(found, expected, rtol=1e-9, atol=0.0)
        assert set(found["status"]) >= {"ok", "not_in_cohort"}
        assert (found["status"] == "rejected_records").sum() == (county == NAMES[1])
        assert found["reasons"].str.len().max() > 0
        assert pq.read_schema(answered[county]).equals(pq.read_schema(plain[county]))
        assert pq.read_table(answered[county])["county"].unique().to_pylist() == [county]
        # It names households.
        assert stat.S_IMODE(answered[county].stat().st_mode) == 0o600
    # What Spark wrote in between is gone, and stood nowhere else.
    assert sorted(p.name for p in (province / "输出 of spark").iterdir()) == sorted(NAMES)
    assert not [path.name for path in province.iterdir() if "%" in path.name]


def test_a_finished_county_is_not_predicted_again(session, province, answered):
    from poverty_risk.spark import predict_counties

    before = {county: path.stat().st_mtime_ns for county, path in answered.items()}
    model = RiskModel.load(province / "model")
    del model.model_id_  # a model that was never saved has the id that it would be saved with
    again = predict_counties(
        province / "histories",
        province / "输出 of spark",
        model=model,
        locale="en",
        session=session,
    )
    assert {county: path.stat().st_mtime_ns for county, path in again.items()} == before


def test_a_lone_county_lies_in_the_output_itself(session, province, tmp_path, monkeypatch):
    from poverty_risk.spark import predict_counties
    from poverty_risk.spark.job import Job

    left = tmp_path / "out" / ".spark-killed"
    left.mkdir(parents=True)
    monkeypatch.setattr(Job, "write", lambda *_: {})  # as if nobody lived there
    folder = province / "elsewhere" / "2023-12"
    files = predict_counties(folder, tmp_path / "out", model=province / "model", session=session)
    assert files == {"2023-12": tmp_path / "out" / "predictions.parquet"}
    assert read_predictions(files["2023-12"]).empty
    assert not left.exists()


def test_answers_that_were_lost_are_missed(tmp_path):
    from poverty_risk.spark.job import _find_file

    pq.write_table(pa.table({"risk": [0.1, 0.2]}), tmp_path / "part.parquet")
    assert _find_file(tmp_path, 2) == tmp_path / "part.parquet"
    with pytest.raises(PovertyRiskError, match="found 2 answers of 3 households, in 1 files"):
        _find_file(tmp_path, 3)


def test_a_history_that_was_touched_is_refused(session, province, tmp_path):
    from poverty_risk.spark import predict_counties

    shutil.copytree(province / "histories", tmp_path / "histories")
    path = tmp_path / "histories" / NAMES[0] / "shock.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    with pytest.raises(HistoryError, match=f"history '{NAMES[0]}': found files not written by"):
        predict_counties(
            tmp_path / "histories", tmp_path / "out", model=province / "model", session=session
        )


def test_the_command_scores_a_folder_of_counties(session, province, tmp_path):
    config = yaml.safe_load((ROOT / "configs" / "quick.yaml").read_text(encoding="utf-8"))
    config["history"] |= {"source": "folder", "folder": str(province / "histories")}
    config |= {"output": str(tmp_path / "out")}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    options = ["--config", str(tmp_path / "config.yaml"), "--model", str(province / "model")]
    done = CliRunner().invoke(cli, ["predict", *options, "--engine", "spark"])
    assert done.exit_code == 0, done.output
    assert done.output.count("scored 2023-12-") == len(NAMES)
    for county in NAMES:
        assert list((tmp_path / "out" / county / "visits").glob("visit_priority_*.csv"))
        assert (
            tmp_path / "out" / OFFICE_ONLY / PREDICTIONS / county / "predictions.parquet"
        ).exists()


def test_the_command_wants_a_history_on_disk(province):
    options = ["--config", str(ROOT / "configs" / "quick.yaml"), "--model", str(province / "model")]
    done = CliRunner().invoke(cli, ["predict", *options, "--engine", "spark"])
    assert done.exit_code == 2
    assert "Spark reads histories on disk" in done.output


def test_the_settings_of_a_session_are_its_own_again(session):
    from poverty_risk.spark.session import SETTINGS, needed_settings

    before = {name: session.conf.get(name, None) for name in SETTINGS}
    with needed_settings(session):
        assert {name: session.conf.get(name) for name in SETTINGS} == SETTINGS
    assert {name: session.conf.get(name, None) for name in SETTINGS} == before


def test_nan_in_a_file_is_missing_as_in_memory(session, tmp_path):
    from poverty_risk.spark.records import open_counties
    from poverty_risk.spark.session import needed_settings

    tables = make_household_history(20, start="2022-01-01", end="2023-12-01", seed=1).tables
    shocks = tables.arrow("shock").select([*tables.schema.tables["shock"].all_columns])
    raw = shocks.set_column(
        shocks.column_names.index("loss"), "loss", pa.array(np.full(len(shocks), np.nan))
    )
    county = tables.from_frames({"shock": raw}).write(tmp_path / "county")
    with needed_settings(session):
        rows = open_counties(session, county, tables.schema).rows["shock"].toArrow()
    assert rows["loss"].null_count == rows.num_rows == len(shocks)
    assert rows["record_order"].to_pylist() == list(range(len(shocks)))


def test_fractions_are_doubles_and_groups_begin_with_the_household():
    from poverty_risk.spark.queries import rewrite

    query = (
        "SELECT t.point, SUM(t.days / 365.25) AS years FROM "
        "(SELECT * FROM points AS p JOIN work AS w ON p._entity = w.household_id ORDER BY w.day) AS t "
        "GROUP BY 1"
    )
    assert rewrite(query) == (
        "SELECT t.point, SUM(t.days / CAST(365.25 AS DOUBLE)) AS years, `t`.`_entity` FROM "
        "(SELECT * FROM `poverty_risk_points` AS p JOIN `poverty_risk_work` AS w "
        "ON p._entity = w.household_id) AS t GROUP BY `t`.`_entity`, t.point"
    )
