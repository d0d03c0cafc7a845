"""Score the latest date of a history, and explain single households."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd

from poverty_risk.batch import Batch
from poverty_risk.cohort import find_groups
from poverty_risk.config import Config
from poverty_risk.history_chunks import HOUSEHOLDS_PER_CHUNK, find_counties
from poverty_risk.loading import load_model
from poverty_risk.model import PredictionTask, RiskModel
from poverty_risk.predict import predict_risk, task_of
from poverty_risk.prediction_folder import read_predictions
from poverty_risk.privacy import mask_id, read_or_make_key
from poverty_risk.report.documents import write_document
from poverty_risk.report.round import name_outcome
from poverty_risk.report.summary import (
    build_priority_table,
    render_explained,
    render_priority_csv,
)
from poverty_risk.schema import load_schema
from poverty_risk.tables import HistoryTables
from poverty_risk.workflows.office import KEY_FILE, OFFICE_ONLY, PREDICTIONS, write_lookup


def latest_date(config: Config, tables: HistoryTables) -> pd.Timestamp:
    """The date that a config scores at: its own, or the first day of which nothing is known."""
    if config.scoring.as_of_date is not None:
        return pd.Timestamp(config.scoring.as_of_date)
    if config.history.source == "simulate":
        return pd.Timestamp(config.history.simulate.end)
    return tables.observed_to


def score_latest(
    config: Config, tables: HistoryTables, model: RiskModel | str | Path
) -> dict[str, Any]:
    """Score the latest date; write the ranking by risk and the explained households.

    Returns
    -------
    dict
        ``answer`` (from `predict_risk`), and the paths ``priority``, ``explained``, ``answers``.
    """
    locale, as_of = config.scoring.locale, latest_date(config, tables)
    loaded = load_model(model)
    answer = predict_risk(tables, as_of_date=as_of, model=loaded, locale=locale)
    index = pd.MultiIndex.from_product(
        [answer.index, [as_of]], names=["household_id", "as_of_date"]
    )
    groups = find_groups(tables, index).droplevel("as_of_date")
    return {"answer": answer, **_write_ranking(config, answer, groups, task_of(loaded))}


def score_folder(
    config: Config, model: str | Path, households: int | None = None
) -> Iterator[tuple[Config, dict[str, Any]]]:
    """Score a history on disk by ranges of households, or county by county those of a nation.

    Stopped at any moment and run again, it goes on behind the last finished range (see
    `predict_folder`).

    Parameters
    ----------
    config
        The run; its history folder holds a county's tables, or one folder per county.
    model
        A model folder, or an MLflow URI.
    households
        Households of a range; as many as `predict_folder` takes by default.

    Yields
    ------
    tuple
        The config of a county (in a nation each has an output folder of its own, named like it, with
        its own key), and what `score_latest` returns, with the file ``predictions`` for the office.
    """
    history, scoring = config.history, config.scoring
    folder = history.folder or Path()
    batch = Batch.load(model, locale=scoring.locale, households=households or HOUSEHOLDS_PER_CHUNK)
    counties = find_counties(folder)
    several = list(counties.values()) != [folder]
    for name, place in counties.items():
        own = _of_county(config, name) if several else config
        path = batch.predict(
            place,
            own.output / OFFICE_ONLY / PREDICTIONS,
            as_of_date=_text(scoring.as_of_date),
            schema=load_schema(history.schema_name, history.extra_schema),
            line=config.line,
            observed_to=_text(history.observed_to),
            county=name,
        )
        yield own, _read_back(own, path, batch.model)


def score_on_spark(
    config: Config, model: str | Path, master: str | None = None
) -> Iterator[tuple[Config, dict[str, Any]]]:
    """Score a county or the counties of a province on Spark; as `score_folder`.

    Parameters
    ----------
    config, model
        As in `score_folder`.
    master
        Spark's master; by default what ``spark-submit`` or Spark's own settings say.

    Yields
    ------
    tuple
        As `score_folder`; the files of all counties lie in the office's folder of the whole.
    """
    # An extra, and seconds to import.
    from poverty_risk.spark import predict_counties, start_session  # noqa: PLC0415

    history, scoring = config.history, config.scoring
    loaded, folder = load_model(model), history.folder or Path()
    several = list(find_counties(folder).values()) != [folder]
    files = predict_counties(
        folder,
        config.output / OFFICE_ONLY / PREDICTIONS,
        model=loaded,
        as_of_date=_text(scoring.as_of_date),
        locale=scoring.locale,
        line=config.line,
        observed_to=_text(history.observed_to),
        session=start_session(master),  # which stops with the program
    )
    for name, path in files.items():
        own = _of_county(config, name) if several else config
        yield own, _read_back(own, path, loaded)


def _of_county(config: Config, name: str) -> Config:
    return config.model_copy(update={"output": config.output / name})


def _text(day: date | None) -> str | None:
    return None if day is None else str(day)


def _read_back(config: Config, path: Path, model: RiskModel) -> dict[str, Any]:
    answer = read_predictions(path)
    paths = _write_ranking(config, answer, answer, task_of(model))
    return {"answer": answer, "predictions": path, **paths}


def _write_ranking(
    config: Config, answer: pd.DataFrame, groups: pd.DataFrame, task: PredictionTask
) -> dict[str, Path]:
    """The ranking and the explained households; whose the pseudonyms are stays in the office."""
    folder = config.output / "visits"
    folder.mkdir(parents=True, exist_ok=True)
    key = read_or_make_key(config.output / OFFICE_ONLY / KEY_FILE)
    table = build_priority_table(answer, groups, key, locale=config.scoring.locale)
    paths = write_visits(folder, config, answer, table, task)
    write_lookup(config, answer.index, key)
    return paths


def write_visits(
    folder: Path, config: Config, answer: pd.DataFrame, table: pd.DataFrame, task: PredictionTask
) -> dict[str, Path]:
    """Write the priority table (CSV with BOM, for spreadsheets) and the explained households."""
    locale = config.scoring.locale
    priority = folder / f"visit_priority_{locale}.csv"
    explained = folder / f"explained_{locale}.md"
    first = answer.index[answer["status"] == "ok"][: config.scoring.explained]
    told = render_explained(answer, first, task.horizon, locale, outcome=name_outcome(task, locale))
    # With a byte-order mark, for spreadsheets.
    write_document("\ufeff" + render_priority_csv(table, locale), priority, "ranking", private=True)
    write_document(told, explained, "explanations", private=True)
    return {"priority": priority, "explained": explained}


def explain_households(
    config: Config,
    tables: HistoryTables,
    model: str | Path,
    households: Iterable[str],
    locale: str,
) -> str:
    """Some households with their risk and reasons, as text; those without a risk with the reason."""
    loaded, asked = load_model(model), list(dict.fromkeys(households))
    answer = predict_risk(
        tables,
        as_of_date=latest_date(config, tables),
        model=loaded,
        households=asked,
        locale=locale,
    )
    # In the order asked for, numbered: masked ids may be alike.
    places = {household: number for number, household in enumerate(asked, 1)}
    order = sorted(map(str, answer.index), key=lambda household: places.get(household, len(asked)))
    numbers = {h: places.get(h, len(asked)) for h in order} if len(order) > 1 else None
    known = [household for household in order if answer.loc[household, "status"] == "ok"]
    lines = []
    for household in order:
        if household not in known:
            number = "" if numbers is None else f"{numbers[household]}. "
            reason = str(answer.loc[household, "status_reason"])
            lines.append(f"{number}{mask_id(household)}: {reason}")
    if not known:
        return "\n".join(lines)
    told = render_explained(
        answer,
        known,
        task_of(loaded).horizon,
        locale,
        ranked=False,
        outcome=name_outcome(task_of(loaded), locale),
        numbers=numbers,
    )
    return "\n".join([told, *lines])
