"""Predictions of histories on disk: the same as of the whole, and gone on with after a kill."""

from __future__ import annotations

import logging
import shutil
import signal
import subprocess
import sys
import textwrap

import pandas as pd
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from poverty_risk import whole_files, workflows
from poverty_risk.batch import Batch, predict_folder
from poverty_risk.cli import cli
from poverty_risk.config import load_config
from poverty_risk.exceptions import HistoryError, PovertyRiskError
from poverty_risk.file_lock import hold_lock
from poverty_risk.history_chunks import HistoryFolder
from poverty_risk.predict import predict_risk
from poverty_risk.prediction_folder import read_predictions
from poverty_risk.tables import read_history
from small_county import AS_OF, train_small_county

ASKED = {"as_of_date": AS_OF, "locale": "en", "households": 30}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A county on disk and a model folder."""
    place, small = tmp_path_factory.mktemp("batch"), train_small_county(n_refits=3)
    small.tables.write(place / "anlu")
    small.model.save(place / "model")
    return place


@pytest.fixture(scope="module")
def complete(place):
    """The bytes of a run that nothing interrupted."""
    predict_folder(place / "anlu", place / "complete", model=place / "model", **ASKED)
    return _read_all(place / "complete")


def _read_all(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("households", [17, 30, 1000])
def test_parts_say_what_the_whole_says(place, tmp_path, households):
    whole = predict_risk(
        read_history(place / "anlu"), as_of_date=AS_OF, model=place / "model", locale="en"
    )
    asked = ASKED | {"households": households}
    paths = predict_folder(place / "anlu", tmp_path / "out", model=place / "model", **asked)
    found = read_predictions(paths["anlu"])
    pd.testing.assert_frame_equal(found[list(whole.columns)], whole, check_exact=True)
    assert found["risk_low"].notna().sum() > 80
    assert found["village_id"].notna().sum() > 80
    assert set(pq.read_table(paths["anlu"])["county"].to_pylist()) == {"anlu"}
    assert paths["anlu"].stat().st_mode & 0o077 == 0


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from poverty_risk.batch import predict_folder

    folder, output, model, at, when = sys.argv[1:]
    replace, left = Path.replace, [int(at)]

    def replace_or_die(self, target):
        left[0] -= 1
        if left[0] == 0 and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        replace(self, target)
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    Path.replace = replace_or_die
    predict_folder(folder, output, model=model, as_of_date={as_of!r}, locale="en", households=30)
    """


def test_killed_again_and_again_it_ends_with_the_same_bytes(place, tmp_path, complete, caplog):
    script = tmp_path / "killed.py"
    script.write_text(textwrap.dedent(KILLED.format(as_of=AS_OF)))
    out = tmp_path / "out"
    # A part and then the state are replaced for each range: the second part is there, but no state
    # names it; later a part is half written; at last all is put together, but no state says so.
    for at, when, parts in (("3", "after", 2), ("3", "before", 2), ("5", "after", 0)):
        arguments = [place / "anlu", out, place / "model", at, when]
        ended = subprocess.run([sys.executable, script, *map(str, arguments)], check=False)
        assert ended.returncode == -signal.SIGKILL
        assert not parts or len(list((out / "parts").glob("0*.parquet"))) == parts
    assert (out / "predictions.parquet").is_file()
    with caplog.at_level(logging.INFO):
        predict_folder(place / "anlu", out, model=place / "model", **ASKED)
    assert "going on behind what is finished" in caplog.text
    assert _read_all(out) == complete


def test_what_is_finished_is_not_asked_again(place, tmp_path, complete, monkeypatch):
    asked = []
    answer = Batch._answer
    monkeypatch.setattr(
        Batch, "_answer", lambda *given: asked.append(given[1].households[0]) or answer(*given)
    )
    out = tmp_path / "out"
    for _ in range(2):
        predict_folder(place / "anlu", out, model=place / "model", **ASKED)
        assert len(asked) == 4
    (out / "predictions.parquet").write_bytes(b"damaged")
    predict_folder(place / "anlu", out, model=place / "model", **ASKED)
    assert len(asked) == 8
    assert _read_all(out) == complete


def test_a_cohort_declared_otherwise_is_another_question(place, tmp_path, caplog):
    batch = Batch.load(place / "model", locale="en", households=200)
    schema = batch.model.task.schema
    path = batch.predict(place / "anlu", tmp_path / "out", as_of_date=AS_OF)
    before = read_predictions(path)
    fewer = schema.cohorts | {"at_risk": schema.cohorts["at_risk"][:1]}
    batch.predict(
        *(place / "anlu", tmp_path / "out"),
        as_of_date=AS_OF,
        schema=schema.model_copy(update={"cohorts": fewer}),
    )
    assert "another question (schema)" in caplog.text
    assert (read_predictions(path)["status"] == "ok").sum() > (before["status"] == "ok").sum()


def test_a_history_replaced_since_it_was_opened_is_not_read_as_the_old_one(place, tmp_path):
    tables = read_history(place / "anlu")
    folder = tables.write(tmp_path / "anlu")
    history = HistoryFolder(folder)
    begun, rest = history.chunks(30), history.chunks(30, after=str(tables.households[29]))
    first = next(begun)
    tables.slice_households(0, 40).write(folder)
    with pytest.raises(HistoryError, match="'anlu': found another history since it was opened"):
        next(rest)
    # What was open before is still read to its end.
    assert sum(len(part.households) for part in begun) == len(tables.households) - 30
    assert first.households.tolist() == tables.households[:30].tolist()


def test_what_was_rejected_belongs_to_the_question(place, tmp_path):
    tables = read_history(place / "anlu")
    folder, household = tmp_path / "anlu", tables.households[3]
    tables.write(folder)
    people = tables["household"]
    own = people["household_id"] == household
    (folder / "household.parquet").unlink()
    kept = people[~own]
    broken = people[own].astype(str).assign(event_date="never")
    pd.concat([kept.astype(str), broken]).to_csv(folder / "household.csv", index=False)
    path = predict_folder(folder, tmp_path / "out", model=place / "model", **ASKED)["anlu"]
    assert read_predictions(path).loc[household, "status"] == "rejected_records"
    kept.to_csv(folder / "household.csv", index=False)
    predict_folder(folder, tmp_path / "out", model=place / "model", **ASKED)
    assert read_predictions(path).loc[household, "status"] == "not_in_cohort"


@pytest.mark.parametrize("state", ["[]", '{"question": 1, "parts": [], "result": null}', "parts"])
def test_a_damaged_state_is_begun_anew(place, tmp_path, complete, state):
    out = tmp_path / "out"
    predict_folder(place / "anlu", out, model=place / "model", **ASKED)
    (out / "notes").mkdir()
    (out / "notes" / "mine.txt").write_text("of the office")
    if state == "parts":
        state = (out / "state.json").read_text().replace('"file"', '"name"').split('"result"')[0]
        state += '"result": null}'
    (out / "state.json").write_text(state)
    predict_folder(place / "anlu", out, model=place / "model", **ASKED)
    assert _read_all(out) == complete | {"notes/mine.txt": b"of the office"}


@pytest.mark.parametrize("changed", ["locale", "as_of_date", "households", "history", "model_id"])
def test_another_question_is_answered_anew(place, tmp_path, caplog, changed):
    out, folder, model, asked = tmp_path / "out", place / "anlu", place / "model", dict(ASKED)
    before = read_predictions(predict_folder(folder, out, model=model, **asked)["anlu"])
    if changed == "history":
        folder = read_history(folder).with_line({2019: 1.0}).write(tmp_path / "anlu")
    elif changed == "model_id":
        model = tmp_path / "model"
        train_small_county(n_estimators=5).model.save(model)
    else:
        asked[changed] = {"locale": "zh", "as_of_date": "2023-06-01", "households": 40}[changed]
    with caplog.at_level(logging.WARNING):
        path = predict_folder(folder, out, model=model, **asked)["anlu"]
    assert f"predictions for another question ({changed}" in caplog.text
    after = read_predictions(path)
    assert after.equals(before) == (changed == "households")
    assert after.index.sort_values().equals(before.index.sort_values())


def test_each_county_of_a_nation_is_ranked_by_itself(place, tmp_path, complete):
    tables = read_history(place / "anlu")
    tables.write(tmp_path / "nation" / "anlu")
    half = tables.slice_households(0, 60)
    half.write(tmp_path / "elsewhere" / "2023-12")
    (tmp_path / "nation" / "badong").symlink_to(tmp_path / "elsewhere" / "2023-12")
    paths = predict_folder(tmp_path / "nation", tmp_path / "out", model=place / "model", **ASKED)
    assert list(paths) == ["anlu", "badong"]
    assert paths["anlu"].read_bytes() == complete["predictions.parquet"]
    assert read_predictions(paths["badong"])["rank"].min() == 1
    assert len(read_predictions(paths["badong"])) == 60
    assert set(pq.read_table(paths["badong"])["county"].to_pylist()) == {"badong"}


def test_a_folder_of_others_and_one_in_use_are_left_alone(place, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    with pytest.raises(PovertyRiskError, match="'other': found 1 files of others"):
        predict_folder(place / "anlu", other, model=place / "model", **ASKED)
    assert (other / "notes.txt").read_text() == "mine"
    with (
        hold_lock(tmp_path / "out", "test"),
        pytest.raises(PovertyRiskError, match="another program that is writing"),
    ):
        predict_folder(place / "anlu", tmp_path / "out", model=place / "model", **ASKED)


def test_a_full_disk_is_told_and_gone_on_from(place, tmp_path, complete, monkeypatch):
    write, out = whole_files.write_whole_file, tmp_path / "out"

    def fail(path, content, mode):
        if path.name == "000001.parquet":
            raise OSError(28, "No space left on device")
        write(path, content, mode)

    with monkeypatch.context() as patch:
        patch.setattr("poverty_risk.prediction_folder.write_whole_file", fail)
        with pytest.raises(PovertyRiskError, match="No space left on device"):
            predict_folder(place / "anlu", out, model=place / "model", **ASKED)
    predict_folder(place / "anlu", out, model=place / "model", **ASKED)
    assert _read_all(out) == complete


@pytest.fixture
def config(place, tmp_path):
    return load_config(
        "configs/quick.yaml",
        {
            "history.source": "folder",
            "history.folder": str(place / "anlu"),
            "output": str(tmp_path / "outputs"),
            "scoring.as_of_date": AS_OF,
        },
    )


def test_the_ranking_for_officers_is_that_of_the_whole(place, config):
    whole = workflows.score_latest(config, read_history(place / "anlu"), place / "model")
    expected = {name: whole[name].read_bytes() for name in ("priority", "explained")}
    [(own, scored)] = workflows.score_folder(config, place / "model", households=30)
    assert own.output == config.output
    assert {name: scored[name].read_bytes() for name in expected} == expected
    assert str(read_predictions(scored["predictions"]).index[0]) not in str(expected)


def test_each_county_of_a_nation_has_its_own_office(place, config, tmp_path):
    tables = read_history(place / "anlu")
    for name in ("anlu", "badong"):
        tables.write(tmp_path / "nation" / name)
    history = config.history.model_copy(update={"folder": tmp_path / "nation"})
    nation = config.model_copy(update={"history": history})
    found = {
        own.output.name: scored for own, scored in workflows.score_folder(nation, place / "model")
    }
    assert list(found) == ["anlu", "badong"]
    codes = [set(pd.read_csv(scored["priority"]).iloc[:, 1]) for scored in found.values()]
    # Each office has a key of its own: who has both lists cannot join them.
    assert len(codes[0]) > 50
    assert not codes[0] & codes[1]


def test_forgetting_leaves_no_predictions(place, config, tmp_path):
    shutil.copytree(place / "anlu", tmp_path / "anlu")
    history = config.history.model_copy(update={"folder": tmp_path / "anlu"})
    own = config.model_copy(update={"history": history})
    [(_, scored)] = workflows.score_folder(own, place / "model")
    household = str(scored["answer"].index[0])
    workflows.forget_households(own, [household], reason="asked")
    assert not scored["predictions"].parent.exists()
    [(_, again)] = workflows.score_folder(own, place / "model")
    assert household not in again["answer"].index


def test_commands_for_a_nation(place, config, tmp_path):
    nation, out = tmp_path / "nation", str(tmp_path / "outputs")
    done = CliRunner().invoke(
        cli,
        ["simulate", str(nation), "--households", "50", "--counties", "2", "--end", "2022-01-01"],
    )
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in nation.iterdir()) == ["county_000", "county_001"]
    asked = ["predict", "--config", "configs/quick.yaml", "--folder", str(nation), "--output", out]
    done = CliRunner().invoke(cli, [*asked, "--model", str(place / "model"), "--range", "20"])
    assert done.exit_code == 0, done.output
    for name in ("county_000", "county_001"):
        assert f"{name}/visits/visit_priority_zh.csv" in done.output
        # Each county's office logs what left it.
        assert (tmp_path / "outputs" / name / "office_only" / "audit.jsonl").is_file()
