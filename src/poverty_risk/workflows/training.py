"""Train the tasks of a config, compare with the baselines, log to MLflow."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from poverty_risk.baselines import (
    IncomeRule,
    LogisticBaseline,
    OfficeRules,
    VulnerabilityBaseline,
)
from poverty_risk.cohort import build_prediction_points
from poverty_risk.config import Config, Task
from poverty_risk.datasets import OUTCOMES, SimulatedCounty, make_household_history, read_eph
from poverty_risk.evaluation import Evaluation, evaluate_risk
from poverty_risk.exceptions import DeclarationError, Fault, LabelError
from poverty_risk.features import Catalog, build_features, load_catalog
from poverty_risk.helped import guard_helped
from poverty_risk.labels import check_measured, grade_labels, label_returns, measure_returns
from poverty_risk.leakage import LeakageReport, check_leakage
from poverty_risk.loading import load_model
from poverty_risk.model import PredictionTask, RiskModel
from poverty_risk.predict import task_of
from poverty_risk.schema import load_schema
from poverty_risk.splits import split_periods
from poverty_risk.tables import HistoryTables, read_history
from poverty_risk.tracking import LoggedTraining, log_training, record_training

CHALLENGER = "challenger"
"""Alias in MLflow of a training that has not replaced the champion yet: `promote` decides."""


@dataclass(frozen=True)
class TrainingData:
    """Features and labels of one task, train and test.

    Parameters
    ----------
    train, test
        Features of points with a label, index (household_id, as_of_date).
    train_labels, test_labels
        Their labels, without missing ones.
    scored
        Whether a training point belongs to the cohort that is scored.
    censored
        Points without a label by period.
    train_points, test_points
        Groups of the training and of the test points.
    """

    train: pd.DataFrame
    test: pd.DataFrame
    train_labels: pd.Series
    test_labels: pd.Series
    scored: pd.Series
    censored: Mapping[str, int]
    train_points: pd.DataFrame
    test_points: pd.DataFrame


@dataclass(frozen=True)
class TaskResult:
    """A trained and compared task.

    Parameters
    ----------
    name
        Name of the task in the config.
    model
        The fitted model, saved in `folder`.
    folder
        The model folder.
    evaluation
        Model, baselines and, on a simulated county, the truth, on the test period.
    data
        What it was trained and tested on.
    risks
        Predictions of each on the test points, one column each.
    """

    name: str
    model: RiskModel
    folder: Path
    evaluation: Evaluation
    data: TrainingData
    risks: Mapping[str, pd.Series] = field(repr=False)


def read_tables(config: Config) -> tuple[HistoryTables, SimulatedCounty | None]:
    """The history that a config names; for a simulation also the county with its truth.

    Raises
    ------
    HistoryError
        The history cannot be read as declared.
    """
    history = config.history
    county = None
    if history.source == "simulate":
        size = history.simulate
        county = make_household_history(
            size.households, start=str(size.start), end=str(size.end), seed=config.seed
        )
        tables = county.tables
    elif history.source == "eph":
        tables = read_eph(history.folder or Path())
    else:
        schema = load_schema(history.schema_name, history.extra_schema)
        end = None if history.observed_to is None else str(history.observed_to)
        tables = read_history(history.folder or Path(), schema, observed_to=end)
    return (tables if config.line is None else tables.with_line(config.line)), county


def load_features(config: Config) -> Catalog:
    """The feature catalogue that a config names."""
    return load_catalog(config.features.catalog, config.features.extra)


def build_training_data(
    config: Config, tables: HistoryTables, task: Task, catalog: Catalog
) -> TrainingData:
    """Points, labels and features of a task, train and test.

    Raises
    ------
    DeclarationError
        The embargo between train and test is too short.
    LabelError
        The label cannot be given.
    """
    train_dates, test_dates = config.periods.train.dates(), config.periods.test.dates()
    broad = task.train_cohort or task.cohort
    train_points = build_prediction_points(tables, train_dates, broad)
    test_points = build_prediction_points(tables, test_dates, task.cohort)
    split_periods(
        train_points.index.append(test_points.index),
        train_to=train_dates.max(),
        test_from=test_dates.min(),
        horizon=task.horizon,
        reporting_lag=f"{tables.schema.reporting_lag_days(task.label)}d",
    )
    censored, labelled = {}, {}
    for name, points in (("train", train_points), ("test", test_points)):
        labels = label_returns(tables, points, task.horizon, task.label)
        censored[name] = int(labels.isna().sum())
        labelled[name] = labels.dropna()
    _check_labelled(labelled, censored)
    features = build_features(
        tables,
        pd.DataFrame(index=labelled["train"].index.append(labelled["test"].index)),
        catalog,
    )
    scored = pd.Series(True, index=labelled["train"].index)
    if broad != task.cohort:
        narrow = build_prediction_points(tables, train_dates, task.cohort).index
        scored = pd.Series(scored.index.isin(narrow), index=scored.index)
    return TrainingData(
        train=features.loc[labelled["train"].index],
        test=features.loc[labelled["test"].index],
        train_labels=labelled["train"],
        test_labels=labelled["test"],
        scored=scored,
        censored=censored,
        train_points=train_points.loc[labelled["train"].index],
        test_points=test_points.loc[labelled["test"].index],
    )


def _check_labelled(labelled: Mapping[str, pd.Series], censored: Mapping[str, int]) -> None:
    faults = [
        Fault(
            f"{name} period",
            f"{censored[name]:,} points, all of them censored",
            "households that were followed to the end of the horizon and its reporting lag",
            "Choose earlier as-of dates or a shorter horizon.",
        )
        for name, labels in labelled.items()
        if labels.empty
    ]
    if faults:
        raise LabelError(faults)


def _prediction_task(tables: HistoryTables, task: Task) -> PredictionTask:
    line = None if tables.line is None else dict(tables.line)
    return PredictionTask(tables.schema, task.cohort, task.label, task.horizon, line)


def train_task(
    config: Config,
    tables: HistoryTables,
    name: str,
    county: SimulatedCounty | None = None,
) -> TaskResult:
    """Train a task's model, compare it with the baselines, write model folder and tables.

    Parameters
    ----------
    config
        The run.
    tables
        The history.
    name
        Task of the config.
    county
        The simulated county, for the truth; None for real data.

    Returns
    -------
    TaskResult
        What was trained and how it compares.
    """
    task, catalog = config.tasks[name], load_features(config)
    data = build_training_data(config, tables, task, catalog)
    model = RiskModel(
        catalog,
        _prediction_task(tables, task),
        seed=config.seed,
        **config.model.model_dump(),
    )
    cluster = config.evaluation.cluster
    groups = None if cluster is None else data.train_points[cluster]
    _fit_guarded(model, tables, task, data, groups)
    risks = {"model": model.risk(data.test)}
    risks |= _predict_baselines(config, data, catalog)
    if county is not None and config.evaluation.truth_replicates and task.label in OUTCOMES:
        risks["truth"] = _truth(config, county, task, data)
    evaluation = evaluate_risk(
        data.test_labels,
        risks,
        clusters=None if cluster is None else data.test_points[cluster],
        budgets=config.evaluation.budgets,
        replicates=config.evaluation.replicates,
        seed=config.seed,
    )
    folder = config.output / "models" / name
    model.save(folder, {"task": name, "history": tables.fingerprint})
    write_evaluation(config.output / "evaluation" / name, evaluation)
    return TaskResult(name, model, folder, evaluation, data, risks)


def _fit_guarded(
    model: RiskModel,
    tables: HistoryTables,
    task: Task,
    data: TrainingData,
    groups: pd.Series | None,
) -> None:
    """Fit on the labels that the task's guard against helped households leaves."""
    rows = guard_helped(
        tables,
        data.train_labels,
        task.horizon,
        method=task.help_guard,
        features=data.train,
        catalog=model.catalog,
    )
    model.fit(
        data.train.loc[rows.index],
        rows["label"],
        None if task.help_guard == "none" else rows["weight"],
        scored=data.scored.loc[rows.index],
        groups=None if groups is None else groups.loc[rows.index],
        graded=_grade(tables, task, rows["label"]) if task.graded else None,
    )


def _grade(tables: HistoryTables, task: Task, labels: pd.Series) -> pd.Series:
    ratios = measure_returns(tables, pd.DataFrame(index=labels.index), task.horizon, task.label)
    return grade_labels(labels, ratios, task.graded)


def _truth(config: Config, county: SimulatedCounty, task: Task, data: TrainingData) -> pd.Series:
    truth = county.true_risk(
        data.test_points,
        task.horizon,
        replicates=config.evaluation.truth_replicates,
        outcome=task.label,
    )
    return truth["true_risk"].rename("risk")


def _predict_baselines(
    config: Config, data: TrainingData, catalog: Catalog
) -> dict[str, pd.Series]:
    """Baselines learn from the cohort that is scored, on the features that the model is given."""
    settings, found = config.baselines, {}
    own = data.train.loc[data.scored.to_numpy()]
    labels = data.train_labels.loc[own.index]
    names = list(catalog.model_names)
    if settings.logistic:
        logistic = LogisticBaseline(C=settings.logistic_c).fit(own[names], labels)
        found["logistic"] = pd.Series(
            logistic.predict_proba(data.test[names])[:, 1], index=data.test.index
        )
    if settings.rules is not None:
        rules = OfficeRules.load(None if settings.rules == "shipped" else settings.rules)
        found["rules"] = rules.margin(data.test)
    if settings.income_feature is not None:
        found["income_rule"] = (
            IncomeRule(settings.income_feature).fit(own, labels).margin(data.test)
        )
        if settings.vep:
            vep = VulnerabilityBaseline(settings.income_feature).fit(own[names], labels)
            found["vep"] = pd.Series(
                vep.predict_proba(data.test[names])[:, 1], index=data.test.index
            )
    return found


def write_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Write the tables of an evaluation, one CSV each."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("metrics", "intervals", "differences", "budgets", "reliability"):
        table = getattr(evaluation, name)
        if table is not None:
            table.to_csv(folder / f"{name}.csv")


def choose_tasks(config: Config, only: Iterable[str] = ()) -> list[str]:
    """Names of the tasks to run: all of the config, or those named.

    Raises
    ------
    DeclarationError
        A task that the config does not have.
    LabelError
        One that grades a label which measures nothing.
    """
    wanted = list(only) or list(config.tasks)
    if unknown := [name for name in wanted if name not in config.tasks]:
        known = ", ".join(config.tasks)
        raise DeclarationError(
            [Fault("task", f"'{name}'", f"one of {known}", "Correct it.") for name in unknown]
        )
    schema = load_schema(config.history.schema_name, config.history.extra_schema)
    for name in wanted:
        if config.tasks[name].graded:
            check_measured(schema, config.tasks[name].label)
    return wanted


def evaluate_models(
    config: Config, tables: HistoryTables, models: Mapping[str, RiskModel | str | Path]
) -> Evaluation:
    """Evaluate models of one task on the test period of a config, on their own cohort and label.

    Parameters
    ----------
    config
        The run.
    tables
        The history.
    models
        By name.

    Returns
    -------
    Evaluation
        One row per name; the differences are paired.
    """
    loaded = {name: load_model(model) for name, model in models.items()}
    task = find_shared_task(list(loaded.values()))
    points = build_prediction_points(tables, config.periods.test.dates(), task.cohort)
    labels = label_returns(tables, points, task.horizon, task.label).dropna()
    points, cluster = points.loc[labels.index], config.evaluation.cluster
    return evaluate_risk(
        labels,
        {
            name: model.risk(build_features(tables, points, model.catalog))
            for name, model in loaded.items()
        },
        clusters=None if cluster is None else points[cluster],
        budgets=config.evaluation.budgets,
        replicates=config.evaluation.replicates,
        seed=config.seed,
    )


def find_shared_task(models: Sequence[RiskModel]) -> PredictionTask:
    """The task of all models, or an error where they differ."""
    tasks = [task_of(model) for model in models]
    asked = [(t.schema.name, t.cohort, t.label, t.horizon) for t in tasks]
    if len(set(asked)) > 1:
        found = " against ".join(" ".join(one) for one in asked)
        remedy = "Compare models of one task, or register the new task under a name of its own."
        raise DeclarationError(Fault("models", found, "the same task", remedy))
    return tasks[0]


def check_for_leakage(config: Config, tables: HistoryTables) -> LeakageReport:
    """The leakage check of the first task's features (see `poverty_risk.leakage`)."""
    catalog, task = load_features(config), next(iter(config.tasks.values()))
    data = build_training_data(config, tables, task, catalog)
    points = pd.DataFrame(index=data.train.index)
    return check_leakage(tables, points, data.train_labels, data.train, catalog, seed=config.seed)


def log_result(config: Config, tables: HistoryTables, result: TaskResult) -> LoggedTraining:
    """Log a trained task to MLflow, with its metrics of both periods, and register its model.

    The first version gets the config's alias; a later one is the ``challenger`` until it is promoted.
    """
    data = result.data
    learned = data.train_labels[data.scored.to_numpy()]
    train = evaluate_risk(
        learned,
        {"model": result.model.risk(data.train.loc[learned.index])},
        budgets=config.evaluation.budgets,
        replicates=0,
    )
    record = record_training(
        result.model,
        result.folder,
        {"test": result.evaluation, "train": train},
        tables=tables,
        config=json.loads(config.model_dump_json()),
        sample=result.data.test,
    )
    settings = config.tracking
    return log_training(
        record,
        experiment=settings.experiment,
        registered_name=settings.registered_name,
        alias=settings.alias,
        rival_alias=CHALLENGER,
        store_folder=config.mlflow_folder,
    )
