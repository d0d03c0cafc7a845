"""Predictions of histories on disk, in ranges of households, so that memory does not grow with them."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from poverty_risk.cohort import find_groups
from poverty_risk.explain import MANY_ROWS, build_contribution_tables
from poverty_risk.file_lock import hold_lock
from poverty_risk.history_chunks import HOUSEHOLDS_PER_CHUNK, HistoryFolder, find_counties
from poverty_risk.loading import load_model
from poverty_risk.model import RiskModel
from poverty_risk.model_folder import MANIFEST
from poverty_risk.predict import predict_with_features, task_of, tell_if_nobody
from poverty_risk.prediction_folder import PredictionFolder
from poverty_risk.schema import Schema, load_schema
from poverty_risk.tables import HistoryTables
from poverty_risk.windows import parse_as_of_dates

__all__ = ["Batch", "predict_folder", "tell_if_nobody_there"]

logger = logging.getLogger(__name__)

COMPUTING = ("poverty-risk", "lightgbm", "numba", "numpy", "pandas", "pyarrow", "scikit-learn")
"""Packages of which another version may give other bits."""


def predict_folder(
    folder: str | Path,
    output: str | Path,
    *,
    model: str | Path,
    as_of_date: str | pd.Timestamp | None = None,
    locale: str = "zh",
    explain: bool = True,
    households: int = HOUSEHOLDS_PER_CHUNK,
) -> dict[str, Path]:
    """Predict all households of histories on disk, within a memory that does not grow with them.

    Killed at any moment and called again with the same arguments, it goes on behind the last finished
    range of households, and gives the same files to the byte.

    Parameters
    ----------
    folder
        A county's history as `HistoryTables.write` wrote it, or a folder of such folders, one per
        county and named like it.
    output
        Where to: ``predictions.parquet``, or ``<county>/predictions.parquet``. It names households:
        only its owner can read it, and it stays in the office. What was made there for another model,
        date, language or history is replaced.
    model
        A model folder, or an MLflow URI.
    as_of_date
        The day on which the horizon begins; by default the day after each history.
    locale
        Language of the texts: ``"zh"`` or ``"en"``.
    explain
        Whether reasons are given.
    households
        Households of a range.

    Returns
    -------
    dict
        The file of each county, by its name. Columns: county, household_id, those of `predict_risk`,
        and the household's groups, such as village_id; sorted by household, with the rank in the
        county.

    Raises
    ------
    PovertyRiskError
        As `read_history` and `predict_risk` do; or the output cannot be written, is of something else,
        or another program is writing there.

    Examples
    --------
    >>> import tempfile
    >>> from poverty_risk import make_household_history, predict_folder
    >>> tables = make_household_history(60, seed=1).tables
    >>> with tempfile.TemporaryDirectory() as place:
    ...     county = tables.write(f"{place}/anlu")
    ...     predict_folder(county, f"{place}/answers", model=f"{place}/missing")
    Traceback (most recent call last):
    ...
    poverty_risk.exceptions.ModelFolderError: model folder 'missing': found no manifest.json; ...
    """
    batch = Batch.load(model, locale=locale, explain=explain, households=households)
    counties, output = find_counties(folder), Path(output)
    several = list(counties.values()) != [Path(folder)]
    return {
        name: batch.predict(
            path, output / name if several else output, as_of_date=as_of_date, county=name
        )
        for name, path in counties.items()
    }


@dataclass(frozen=True)
class Batch:
    """A model that is asked about one history after the other.

    Parameters
    ----------
    model
        The model, of this batch alone.
    locale, explain, households
        See `predict_folder`.
    """

    model: RiskModel
    locale: str
    explain: bool
    households: int

    @classmethod
    def load(
        cls, model: str | Path, *, locale: str, explain: bool = True, households: int
    ) -> Batch:
        """Load a model for a batch."""
        # A copy of its own: preparing it would change with what bits others are answered.
        local = (Path(model) / MANIFEST).is_file()
        own = RiskModel.load(model) if local else load_model(model)
        task_of(own)
        if explain and households >= MANY_ROWS:
            # So that a last range of few households is explained like the others.
            build_contribution_tables(own)
        return cls(own, locale, explain, households)

    def predict(
        self,
        folder: str | Path,
        output: str | Path,
        *,
        as_of_date: str | pd.Timestamp | None = None,
        schema: Schema | str | Path | None = None,
        line: Mapping[int, float] | None = None,
        observed_to: str | pd.Timestamp | None = None,
        county: str | None = None,
        on_range: Callable[[int], None] = lambda _: None,
    ) -> Path:
        """Predict one county; the file.

        Parameters
        ----------
        folder, output, as_of_date
            See `predict_folder`.
        schema, line, observed_to
            As in `read_history`; by default the model's schema.
        county
            Its name; by default that of the folder, which may be another one behind a link.
        on_range
            Called with the number of households of each range that is finished.
        """
        folder, output = Path(folder).resolve(), Path(output)
        with hold_lock(output, f"predictions '{output.name}'", longest_wait=0):
            schema = task_of(self.model).schema if schema is None else schema
            schema = schema if isinstance(schema, Schema) else load_schema(schema)
            history = HistoryFolder(folder, schema, line, observed_to)
            as_of = parse_as_of_dates(as_of_date or history.observed_to)[0]
            made = PredictionFolder(output, self._ask(history, schema, as_of))
            if not made.is_complete:
                if made.last is not None:
                    logger.info("'%s': going on behind what is finished.", output.name)
                for tables in history.chunks(self.households, after=made.last):
                    made.add(self._answer(tables, as_of), last=str(tables.households[-1]))
                    on_range(len(tables.households))
                    del tables  # before the next range is read
            path = made.complete(county or folder.name)
            tell_if_nobody_there(path, as_of)
            return path

    def _ask(
        self, history: HistoryFolder, schema: Schema, as_of: pd.Timestamp
    ) -> dict[str, object]:
        """All that the answers depend on."""
        declared = schema.model_dump_json().encode()
        return {
            "history": history.digest,
            # Its cohorts and groups, too: the history's hash covers what its tables declare.
            "schema": hashlib.blake2b(declared, digest_size=16).hexdigest(),
            "line": {str(year): value for year, value in (history.line or {}).items()},
            "observed_to": str(history.observed_to.date()),
            "as_of_date": str(as_of.date()),
            "model_id": self.model.model_id_,
            "locale": self.locale,
            "explain": self.explain,
            "households": self.households,
            "versions": {package: metadata.version(package) for package in COMPUTING},
        }

    def _answer(self, tables: HistoryTables, as_of: pd.Timestamp) -> pd.DataFrame:
        answer, _ = predict_with_features(
            tables,
            as_of_date=as_of,
            model=self.model,
            locale=self.locale,
            explain=self.explain,
            part=True,
        )
        index = pd.MultiIndex.from_product(
            [answer.index, [as_of]], names=["household_id", "as_of_date"]
        )
        return answer.join(find_groups(tables, index).droplevel("as_of_date"))


def tell_if_nobody_there(path: Path, as_of: pd.Timestamp) -> None:
    """Warn where nobody of a predicted county is in the cohort (see `tell_if_nobody`)."""
    statuses = pq.read_table(path, columns=["status"])["status"].to_pandas()
    tell_if_nobody(statuses.value_counts(), as_of)
