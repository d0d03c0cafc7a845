"""A folder of predictions in the making: which parts are finished, and for which question."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from poverty_risk.exceptions import Fault, PovertyRiskError
from poverty_risk.whole_files import PRIVATE, replacing, telling_write_failures, write_whole_file

__all__ = ["PREDICTIONS", "PredictionFolder", "read_predictions"]

logger = logging.getLogger(__name__)

PREDICTIONS, STATE, PARTS = "predictions.parquet", "state.json", "parts"
PART = ("file", "hash", "last", "households")
"""What is noted of a finished part."""

TEXTS = pa.list_(pa.string())
COLUMNS: dict[str, pa.DataType] = {
    "household_id": pa.string(),
    "as_of_date": pa.date32(),
    "status": pa.string(),
    "status_reason": pa.string(),
    "risk": pa.float64(),
    "rank": pa.int64(),
    "tier": pa.string(),
    "margin": pa.float64(),
    "reasons": TEXTS,
    "protective_factors": TEXTS,
    "data_gaps": TEXTS,
    "model_id": pa.string(),
    "risk_low": pa.float64(),
    "risk_high": pa.float64(),
    "unlike": pa.string(),
}
"""Those of an answer of `predict_risk`; behind them stand the groups of the schema, such as village_id."""


class PredictionFolder:
    """Predictions of a county that are made part by part, and can be gone on with after any stop.

    A part counts as finished once the state file names it, with its hash; other parts are thrown
    away. Files are written whole or not at all, and tell of households: only their owner can read
    them.

    Parameters
    ----------
    folder
        Where to; a new folder, or one that was made by this class.
    question
        All that the answers depend on, as JSON. What was made for another question is thrown away.

    Raises
    ------
    PovertyRiskError
        The folder holds something else, or cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> answer = pd.DataFrame({"risk": [0.2, 0.3]}, index=pd.Index(["a", "b"], name="household_id"))
    >>> with tempfile.TemporaryDirectory() as place:
    ...     made = PredictionFolder(Path(place, "new"), {"model_id": "m1"})
    ...     made.add(answer, last="b")
    ...     PredictionFolder(Path(place, "new"), {"model_id": "m1"}).last
    'b'
    """

    def __init__(self, folder: Path, question: Mapping[str, Any]) -> None:
        self._folder = folder
        self._parts: list[dict[str, Any]] = []
        self._result: str | None = None
        # Parts of an older release may have fewer columns.
        self._question = json.loads(json.dumps({**question, "columns": list(COLUMNS)}))
        self._check_place()
        with telling_write_failures(f"predictions '{folder.name}'"):
            (folder / PARTS).mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
            self._take_up()
            self._drop_unfinished()

    @property
    def last(self) -> str | None:
        """The last household of the finished parts."""
        return str(self._parts[-1]["last"]) if self._parts else None

    @property
    def is_complete(self) -> bool:
        """Whether all parts are finished and put together."""
        return self._result is not None

    def add(self, answer: pd.DataFrame, last: str) -> None:
        """Keep the answer of the next range of households.

        Parameters
        ----------
        answer
            From `predict_risk`, with further text columns behind.
        last
            The last household of the range.
        """
        name = f"{len(self._parts):06}.parquet"
        content = _encode(answer.sort_index())
        with telling_write_failures(f"predictions '{self._folder.name}'"):
            write_whole_file(self._folder / PARTS / name, content, PRIVATE)
            self._parts.append(
                {"file": name, "hash": _hash(content), "last": last, "households": len(answer)}
            )
            self._keep()

    def adopt(self, made: Path) -> None:
        """Take a file with the predictions of the whole county, which was put together elsewhere."""
        path = self._folder / PREDICTIONS
        with telling_write_failures(f"predictions '{self._folder.name}'"):
            made.chmod(PRIVATE)
            made.replace(path)
            self._result = _hash_file(path)
            self._keep()

    def complete(self, county: str) -> Path:
        """Put the parts together, with each household's rank in the county; the path."""
        path = self._folder / PREDICTIONS
        if self._result is None:
            with telling_write_failures(f"predictions '{self._folder.name}'"):
                with replacing(path, PRIVATE) as temporary, temporary.open("r+b") as file:
                    self._put_together(file, county)
                    file.flush()
                    os.fsync(file.fileno())
                self._result = _hash_file(path)
                self._keep()
                self._drop_unfinished()
        return path

    def _put_together(self, file: Any, county: str) -> None:
        parts = [self._folder / PARTS / part["file"] for part in self._parts]
        if not parts:
            nobody = pa.schema({"county": pa.string(), **COLUMNS}).empty_table()
            pq.write_table(nobody, file)
            return
        # Few columns of all first: a rank needs all risks, but nothing else of them.
        risks = [pq.read_table(path, columns=["risk"])["risk"].to_pandas() for path in parts]
        ranks = pd.concat(risks, ignore_index=True).rank(method="min", ascending=False)
        start, writer = 0, None
        for table in map(pq.read_table, parts):
            rank = pa.array(
                ranks.iloc[start : start + table.num_rows], pa.int64(), from_pandas=True
            )
            at = table.column_names.index("tier")
            table = table.add_column(at, "rank", rank)
            name = pa.array([county] * table.num_rows, pa.string())
            table = table.add_column(0, "county", name)
            writer = writer or pq.ParquetWriter(file, table.schema, compression="zstd")
            writer.write_table(table)
            start += table.num_rows
        if writer is not None:
            writer.close()

    def _check_place(self) -> None:
        if self._folder.is_dir():
            names = [path.name for path in self._folder.iterdir() if path.name[0] != "."]
            foreign = [] if STATE in names or not names else sorted(set(names) - {PARTS})
        else:
            foreign = [self._folder.name] * self._folder.exists()
        if foreign:
            raise PovertyRiskError(
                Fault(
                    f"'{self._folder.name}'",
                    f"{len(foreign)} files of others",
                    "a new folder, or one of predictions",
                    "Choose another folder; nothing was written.",
                )
            )

    def _take_up(self) -> None:
        """Go on with what was finished for the same question."""
        try:
            state = json.loads((self._folder / STATE).read_text(encoding="utf-8"))
            before, result = dict(state["question"]), state["result"]
            parts = [{name: part[name] for name in PART} for part in state["parts"]]
        except (OSError, ValueError, KeyError, TypeError):
            return
        if before != self._question:
            changed = [key for key in self._question if before.get(key) != self._question[key]]
            logger.warning(
                "'%s' holds predictions for another question (%s): all are made anew.",
                self._folder.name,
                ", ".join(changed),
            )
            return
        if result is not None and _hash_file(self._folder / PREDICTIONS) == result:
            self._parts, self._result = parts, result
            return
        for part in parts:
            if _hash_file(self._folder / PARTS / part["file"]) != part["hash"]:
                break  # damaged; what comes behind is made again, too
            self._parts.append(part)

    def _drop_unfinished(self) -> None:
        """Delete what no state names: of a run that was stopped, of another question, put together."""
        finished = set() if self.is_complete else {part["file"] for part in self._parts}
        half = [path for name in (PREDICTIONS, STATE) for path in self._folder.glob(f".{name}-*")]
        for path in [*half, *(self._folder / PARTS).iterdir()]:
            if path.name not in finished:
                path.unlink()
        if not self.is_complete:
            (self._folder / PREDICTIONS).unlink(missing_ok=True)

    def _keep(self) -> None:
        state = {"question": self._question, "parts": self._parts, "result": self._result}
        write_whole_file(self._folder / STATE, json.dumps(state, indent=1).encode(), PRIVATE)


def _encode(answer: pd.DataFrame) -> bytes:
    rows = answer.reset_index().drop(columns="rank", errors="ignore")
    arrays = {
        str(name): pa.array(rows[name], COLUMNS.get(str(name), pa.string()), from_pandas=True)
        for name in rows.columns
    }
    buffer = io.BytesIO()
    pq.write_table(pa.table(arrays), buffer, compression="zstd")
    return buffer.getvalue()


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _hash_file(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def read_predictions(path: str | Path) -> pd.DataFrame:
    """Predictions that `predict_folder` wrote, as `predict_risk` answers: the highest risk first.

    Parameters
    ----------
    path
        A file ``predictions.parquet``.

    Returns
    -------
    DataFrame
        See `predict_risk`; behind its columns the groups of the schema, such as village_id.
    """
    table = pq.read_table(path).drop_columns(["county"])
    lists = [field.name for field in table.schema if pa.types.is_list(field.type)]
    answer: pd.DataFrame = table.drop_columns(lists).to_pandas()
    for name in lists:
        answer[name] = pd.Series(table[name].to_pylist(), dtype=object)
    answer["as_of_date"] = answer["as_of_date"].astype("datetime64[us]")
    answer["rank"] = answer["rank"].astype("Int64")
    answer = answer[[*(name for name in table.column_names)]].set_index("household_id")
    return answer.sort_values(["risk", "margin"], ascending=False, kind="stable")
