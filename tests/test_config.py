"""Run configs: shipped ones load and explain every key; faults are told with place and remedy."""

import inspect
import re
from datetime import date
from pathlib import Path
from typing import get_args, get_origin

import pandas as pd
import pytest
import yaml
from pydantic import BaseModel

from poverty_risk import RiskModel, load_catalog, load_schema
from poverty_risk.config import Config, ModelSettings, Period, load_config
from poverty_risk.exceptions import DeclarationError, LabelError
from poverty_risk.workflows import choose_tasks

CONFIGS = Path(__file__).parents[1] / "configs"
QUICK = CONFIGS / "quick.yaml"
NO_RUNS = {"candidates.yaml", "tuning.yaml"}
SHIPPED = sorted({path.name for path in CONFIGS.glob("*.yaml")} - NO_RUNS)


def _write(tmp_path: Path, *changes: tuple[str, str]) -> Path:
    """quick.yaml with some of its texts replaced."""
    text = QUICK.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


# ------------------------------------------------------------------------------------ shipped files


def test_three_configs_are_shipped():
    assert SHIPPED == ["default.yaml", "eph.yaml", "quick.yaml"]


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_configs_name_what_exists(name):
    config = load_config(CONFIGS / name)
    schema = load_schema(config.history.schema_name)
    catalog = load_catalog(config.features.catalog, config.features.extra)
    assert catalog.schema_name == schema.name
    for task in config.tasks.values():
        assert task.label in schema.labels
        assert not task.graded or schema.labels[task.label].ratio
        assert {task.cohort, task.train_cohort or task.cohort} <= set(schema.cohorts)
    assert config.baselines.income_feature in catalog


def test_grades_need_a_calibration(tmp_path):
    """Without one, risks would have the level of the grades."""
    tasks = {"tasks.identified_12mo.graded": 0.5, "tasks.identified_12mo.label": "below_line"}
    path = CONFIGS / "quick.yaml"
    assert load_config(path, tasks).tasks["identified_12mo"].graded == 0.5
    with pytest.raises(
        DeclarationError, match="found keys that do not go together; expected a 'model.calibration'"
    ):
        load_config(path, tasks | {"model.calibration": None})


@pytest.mark.parametrize("graded", [True, "half", -0.1, 11])
def test_a_grade_is_a_spread_and_no_switch(graded):
    with pytest.raises(DeclarationError, match="'tasks.identified_12mo.graded'"):
        load_config(CONFIGS / "quick.yaml", {"tasks.identified_12mo.graded": graded})


def test_what_cannot_be_graded_is_told_before_anything_is_trained():
    config = load_config(CONFIGS / "quick.yaml", {"tasks.identified_12mo.graded": 0.5})
    with pytest.raises(LabelError, match="label 'identified' to be graded: found no 'ratio'"):
        choose_tasks(config)


def test_quick_config_is_the_default_in_small():
    quick, default = (load_config(CONFIGS / f"{name}.yaml") for name in ("quick", "default"))
    smaller = {
        "output": quick.output,
        "history": quick.history,
        "model": default.model.model_copy(
            update={
                "n_estimators": 60,
                "learning_rate": 0.1,
                "min_child_samples": 30,
                "n_refits": 3,
            }
        ),
        "evaluation": quick.evaluation,
        "scoring": quick.scoring,
        "periods": quick.periods,
    }
    assert default.model_copy(update=smaller) == quick
    assert quick.history.simulate.households < default.history.simulate.households
    ends = [(p.train.first, p.train.last, p.test.first) for p in (quick.periods, default.periods)]
    assert ends[0] == ends[1]


def _keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Dotted keys of a config model down to plain values; `*` for a name of one's own."""
    found = []
    for name, field in model.model_fields.items():
        key = prefix + (field.alias or name)
        kinds = [field.annotation, *get_args(field.annotation)]
        inner = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
        if not inner:
            found.append(key)
        else:
            named = get_origin(field.annotation) is dict  # of one's own names; not `None or ...`
            found += _keys(inner[0], f"{key}.*." if named else f"{key}.")
    return found


def _lines(node: yaml.MappingNode, prefix: str = "") -> dict[str, int]:
    """Line of each dotted key of a YAML file."""
    found = {}
    for key, value in node.value:
        found[prefix + key.value] = key.start_mark.line
        if isinstance(value, yaml.MappingNode):
            found |= _lines(value, f"{prefix}{key.value}.")
    return found


def test_default_config_explains_every_key():
    text = (CONFIGS / "default.yaml").read_text(encoding="utf-8")
    lines, written = text.splitlines(), _lines(yaml.compose(text))
    unexplained = []
    keys = _keys(Config)
    assert {"seed", "history.simulate.start", "tasks.*.horizon", "periods.test.every"} <= set(keys)
    for key in keys:
        pattern = re.compile(re.escape(key).replace(r"\*", "[^.]+"))
        found = [line for name, line in written.items() if pattern.fullmatch(name)]
        explained = [n for n in found if "# " in lines[n] or lines[n - 1].startswith("#")]
        if not explained:
            unexplained.append(key)
    assert unexplained == []


def test_model_settings_are_the_parameters_of_the_model():
    parameters = inspect.signature(RiskModel).parameters
    settings = ModelSettings().model_dump()
    # Catalogue, task and seed come from elsewhere in the config.
    assert set(settings) == set(parameters) - {"catalog", "task", "seed"}
    assert settings == {name: parameters[name].default for name in settings}


def test_settings_of_the_package_hold_where_a_config_is_silent(tmp_path):
    path = tmp_path / "short.yaml"
    path.write_text(
        "tasks: {one: {cohort: at_risk, label: identified}}\n"
        "periods:\n"
        "  train: {first: 2020-01-01, last: 2020-07-01}\n"
        "  test: {first: 2022-01-01, last: 2022-01-01}\n",
        encoding="utf-8",
    )
    config = load_config(path)
    assert config.model == ModelSettings()
    assert config.history.source == "simulate"
    assert config.line is None
    assert config.tasks["one"].horizon == "12mo"


# ------------------------------------------------------------------------------------------- dates


def _dates(first: str, last: str, every: str) -> list[str]:
    period = Period(first=first, last=last, every=every)
    return [f"{day:%Y-%m-%d}" for day in period.dates()]


def test_dates_include_both_ends():
    assert _dates("2020-01-01", "2020-07-01", "3mo") == ["2020-01-01", "2020-04-01", "2020-07-01"]
    assert _dates("2020-01-01", "2020-06-30", "3mo") == ["2020-01-01", "2020-04-01"]
    assert _dates("2020-01-01", "2020-01-01", "3mo") == ["2020-01-01"]
    assert _dates("2020-01-01", "2020-01-21", "10d") == ["2020-01-01", "2020-01-11", "2020-01-21"]


def test_month_ends_do_not_wander():
    ends = ["2020-01-31", "2020-02-29", "2020-03-31", "2020-04-30"]
    assert _dates("2020-01-31", "2020-04-30", "1mo") == ends


def test_dates_are_as_of_dates():
    dates = Period(first="2020-01-01", last="2020-02-01", every="1mo").dates()
    assert isinstance(dates, pd.DatetimeIndex)


# ------------------------------------------------------------------------------------------ faults


UNKNOWN = [
    ("model:\n", "modle:\n", "top level", "modle", "model"),
    ("  num_leaves:", "  num_leafs:", "model", "num_leafs", "num_leaves"),
    ("    households:", "    housholds:", "history.simulate", "housholds", "households"),
    ("  schema:", "  schema_name:", "history", "schema_name", "schema"),
    ("    label:", "    lable:", "tasks.identified_12mo", "lable", "label"),
    ("train: {first:", "train: {frist:", "periods.train", "frist", "first"),
    ("  cluster:", "  clusters:", "evaluation", "clusters", "cluster"),
]


@pytest.mark.parametrize(("old", "new", "section", "key", "near"), UNKNOWN)
def test_unknown_key_is_told_with_section_and_nearest_key(tmp_path, old, new, section, key, near):
    message = (
        rf"run\.yaml, section '{re.escape(section)}': found unknown key '{key}'; "
        rf"expected one of .*Did you mean '{near}'\?"
    )
    with pytest.raises(DeclarationError, match=message):
        load_config(_write(tmp_path, (old, new)))


def test_key_like_no_other_gets_no_guess(tmp_path):
    with pytest.raises(DeclarationError, match=r"'xyzzy'.*Remove it or correct its name\."):
        load_config(_write(tmp_path, ("seed: 0", "seed: 0\nxyzzy: 1")))


WRONG = [
    ("n_estimators: 60 ", "n_estimators: many ", r"'model\.n_estimators': found 'many'.*integer"),
    ("learning_rate: 0.1 ", "learning_rate: 2 ", r"'model\.learning_rate': found 2"),
    ("locale: zh ", "locale: fr ", r"'scoring\.locale': found 'fr'.*'zh' or 'en'"),
    ("source: simulate ", "source: csv ", r"'history\.source': found 'csv'.*'folder'"),
    ("source: simulate ", "source: folder ", r"'history': .*a 'folder' for source 'folder'"),
    ("end: 2025-01-01 ", "end: 2019-01-01 ", r"'history\.simulate': .*'end' after 'start'"),
    ("last: 2022-07-01", "last: 2019-07-01", r"'periods\.train': .*'last' not before 'first'"),
    ("train: {first: 2020-01-01", "train: {first: '2020-13-01'", r"'periods\.train\.first'.*month"),
    ("train: {first: 2020-01-01", "train: {first: soon", r"'periods\.train\.first': found 'soon'"),
    (
        "train: {first: 2020-01-01",
        "train: {first: 2020-01-01T08:00:00",
        r"'periods\.train\.first'.*zero time",
    ),
    ("horizon: 12mo", "horizon: 0mo", r"horizon': found '0mo'.*such as '12mo' or '365d'"),
    ("horizon: 12mo", "horizon: a year", r"horizon': found 'a year'.*such as '12mo' or '365d'"),
    ("{red: 0.01,", "{red: 0.06,", r"'model\.tiers'.*red, orange, yellow, each larger"),
    ("{red: 0.01,", "{purple: 0.01,", r"'model\.tiers'.*shares of red, orange, yellow"),
    ("{red: 0.01,", "{red: 1.5,", r"'model\.tiers\.red': found 1\.5"),
    ("[0.01, 0.02, 0.05, 0.10]", "[0.01, 2]", r"'evaluation\.budgets\.1': found 2"),
    ("[0.01, 0.02, 0.05, 0.10]", "[]", r"'evaluation\.budgets'.*one share of households or more"),
    ("line: null", "line: {2021: -1}", r"'line\.2021': found -1; .*greater than 0"),
    ("line: null", "line: {soon: 6000}", r"'line\.soon.*found 'soon'.*integer"),
    ("seed: 0 ", "seed: -1 ", r"'seed': found -1"),
    ("seed: 0 ", "seed: 0.5 ", r"'seed': found 0\.5"),
]


@pytest.mark.parametrize(("old", "new", "message"), WRONG)
def test_wrong_value_is_told_with_its_place(tmp_path, old, new, message):
    with pytest.raises(DeclarationError, match=message) as caught:
        load_config(_write(tmp_path, (old, new)))
    assert len(caught.value.faults) == 1
    assert caught.value.faults[0].place.startswith("run.yaml, ")


def test_all_faults_are_told_at_once(tmp_path):
    path = _write(
        tmp_path,
        ("seed: 0 ", "sede: 0 "),
        ("n_estimators: 60 ", "n_estimators: many "),
        ("locale: zh ", "locale: fr "),
        ("    label: identified ", "    # label: identified "),
    )
    with pytest.raises(DeclarationError, match=r"^4 problems:") as caught:
        load_config(path)
    told = str(caught.value)
    for fault in ("'sede'", "'model.n_estimators'", "'scoring.locale'", "tasks.identified_12mo"):
        assert fault in told


def test_missing_sections_are_told(tmp_path):
    path = tmp_path / "empty.yaml"
    path.write_text("seed: 1\n", encoding="utf-8")
    with pytest.raises(DeclarationError, match=r"(?s)2 problems.*'tasks'.*'periods'"):
        load_config(path)


def test_no_task_is_told(tmp_path):
    with pytest.raises(DeclarationError, match=r"'tasks': found \{\}.*at least 1"):
        load_config(QUICK, {"tasks": {}})


def test_what_is_no_config_is_told(tmp_path):
    with pytest.raises(DeclarationError, match=r"absent\.yaml: found no such file"):
        load_config(tmp_path / "absent.yaml")
    path = tmp_path / "list.yaml"
    path.write_text("- seed\n", encoding="utf-8")
    with pytest.raises(DeclarationError, match="found list; expected keys and values"):
        load_config(path)
    path.write_text("seed: [1\n", encoding="utf-8")
    with pytest.raises(DeclarationError, match="expected valid YAML"):
        load_config(path)
    path.write_text("seed: !!python/object/apply:os.getcwd []\n", encoding="utf-8")
    with pytest.raises(DeclarationError, match="expected valid YAML"):
        load_config(path)


# --------------------------------------------------------------------------------------- overrides


def test_overrides_replace_values_of_the_file():
    config = load_config(
        QUICK,
        {
            "output": "elsewhere",
            "history.source": "folder",
            "history.folder": "some/where",
            "history.simulate.households": "300",
            "periods.test.first": "2023-07-01",
            "tasks.identified_12mo.horizon": "6mo",
            "model.early_stopping_rounds": None,
        },
    )
    assert config.output == Path("elsewhere")
    assert (config.history.source, config.history.folder) == ("folder", Path("some/where"))
    assert config.history.simulate.households == 300
    assert config.periods.test.first == date(2023, 7, 1)
    assert config.tasks["identified_12mo"].horizon == "6mo"
    assert config.model.early_stopping_rounds is None
    assert config.model.n_estimators == load_config(QUICK).model.n_estimators


def test_overrides_reach_into_empty_sections_and_add_tasks():
    config = load_config(
        QUICK, {"line.2021": 6000, "tasks.poor.cohort": "at_risk", "tasks.poor.label": "below_line"}
    )
    assert config.line == {2021: 6000.0}
    assert list(config.tasks) == ["identified_12mo", "poor"]


def test_overrides_change_one_of_two_sections_that_are_written_once(tmp_path):
    path = _write(
        tmp_path,
        ("  train: {", "  train: &dates {"),
        ("  test: {first: 2023-10-01, last: 2023-10-01, every: 6mo}", "  test: *dates"),
    )
    config = load_config(path, {"periods.test.last": "2024-01-01"})
    assert config.periods.train.last == date(2022, 7, 1)
    assert config.periods.test.last == date(2024, 1, 1)


def test_overrides_that_do_not_fit_are_told():
    with pytest.raises(DeclarationError, match=r"section 'model': found unknown key 'num_leafs'"):
        load_config(QUICK, {"model.num_leafs": 3})
    with pytest.raises(DeclarationError, match=r"^seed\.x: found 'seed' is no section"):
        load_config(QUICK, {"seed.x": 3})


def test_a_config_does_not_change():
    config = load_config(QUICK)
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 3
