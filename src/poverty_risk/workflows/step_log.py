"""Which steps of a chain are done, and on what: a chain that was killed goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from poverty_risk.exceptions import Fault, PovertyRiskError
from poverty_risk.whole_files import telling_write_failures, write_whole_file

__all__ = ["Done", "StepLog", "StepRecord", "digest_paths", "digest_texts", "find_named_files"]

FORMAT = 1


@dataclass(frozen=True)
class Done:
    """What a step leaves.

    Parameters
    ----------
    outputs
        Files and folders that it wrote, by name.
    figures
        What it says of itself: numbers and names, never a household.
    """

    outputs: Mapping[str, Path] = field(default_factory=dict)
    figures: Mapping[str, float | str | list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class StepRecord:
    """A step that is done.

    Parameters
    ----------
    name
        The step.
    inputs
        Digest of all that it depends on, the steps before included.
    outputs
        Path and digest of what it wrote, by name; paths below the log's folder are relative to it.
    figures
        What it said of itself.
    kept
        Whether it was done in an earlier run and nothing has changed since.
    """

    name: str
    inputs: str
    outputs: dict[str, tuple[str, str]]
    figures: dict[str, float | str | list[str]]
    kept: bool = False

    def digest(self) -> str:
        """What the next step depends on: what this one read and what it wrote."""
        written = sorted((name, digest) for name, (_, digest) in self.outputs.items())
        return digest_texts(self.name, self.inputs, json.dumps(written))


class StepLog:
    """Runs steps that are not done yet, and remembers those that are.

    A step counts as done when its record is on disk, its inputs are what they were, and what it wrote
    is still there unchanged. A step that was killed has no record, so it runs again from its start.

    Parameters
    ----------
    path
        The log, a JSON file; made with the first step that is done.
    root
        Folder that outputs are named from.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> folder = Path(tempfile.mkdtemp())
    >>> for _ in range(2):
    ...     record = StepLog(folder / "month.json", folder).run("count", "three files", lambda: Done())
    ...     print(record.kept)
    False
    True
    """

    def __init__(self, path: Path, root: Path) -> None:
        self._path, self._root = path, root
        self._records = _read(path)

    def run(self, name: str, inputs: str, work: Callable[[], Done]) -> StepRecord:
        """Do a step unless it is done.

        Parameters
        ----------
        name
            The step.
        inputs
            Digest of all that it depends on.
        work
            Does it.

        Returns
        -------
        StepRecord
            Of this run or of an earlier one.
        """
        before = self._records.get(name)
        if before is not None and before.inputs == inputs and self._is_there(before):
            return StepRecord(name, inputs, before.outputs, before.figures, kept=True)
        # Gone before the work begins: what is half done must not look done.
        if self._records.pop(name, None) is not None:
            self._write()
        done = work()
        outputs = {
            key: (self._relative(path), digest_paths([path])) for key, path in done.outputs.items()
        }
        record = StepRecord(name, inputs, outputs, dict(done.figures))
        self._records[name] = record
        self._write()
        return record

    def _relative(self, path: Path) -> str:
        path, root = Path(path).absolute(), self._root.absolute()
        return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)

    def _is_there(self, record: StepRecord) -> bool:
        return all(
            digest_paths([self._root.absolute() / path]) == digest
            for path, digest in record.outputs.values()
        )

    def _write(self) -> None:
        steps = [asdict(record) for record in self._records.values()]
        for step in steps:
            del step["kept"]
        content = json.dumps({"format": FORMAT, "steps": steps}, indent=1, ensure_ascii=False)
        with telling_write_failures(f"'{self._path.name}'"):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_whole_file(self._path, content.encode())


def _read(path: Path) -> dict[str, StepRecord]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            return {}  # written by another version: everything runs again
        steps = [
            StepRecord(
                str(step["name"]),
                str(step["inputs"]),
                {name: (str(at), str(digest)) for name, (at, digest) in step["outputs"].items()},
                dict(step["figures"]),
            )
            for step in content["steps"]
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        remedy = "Delete it: every step then runs again."
        fault = Fault(f"'{path.name}'", "an unreadable file", "a log of finished steps", remedy)
        raise PovertyRiskError(fault) from None
    return {step.name: step for step in steps}


def digest_texts(*texts: str) -> str:
    """Digest of some texts, in their order."""
    digest = hashlib.blake2b(digest_size=16)
    for text in texts:
        digest.update(f"{len(text)} ".encode())
        digest.update(text.encode())
    return digest.hexdigest()


def find_named_files(content: Any) -> list[Path]:
    """Files that a config names, such as the office's own rules: what they say counts, too."""
    if isinstance(content, dict):
        content = list(content.values())
    if isinstance(content, list):
        return [path for item in content for path in find_named_files(item)]
    return [Path(content)] if isinstance(content, str) and Path(content).is_file() else []


def digest_paths(paths: Iterable[Path]) -> str:
    """Digest of the content of files and folders; of one that is not there, another one.

    What a folder tells of itself (the manifest of a written history) is not believed: somebody may
    have corrected a table or the line in it by hand.
    """
    parts = []
    for path in paths:
        if path.is_dir():
            inner = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
            parts += [f"{p.relative_to(path)} {_hash(p)}" for p in inner]
        else:
            parts.append(f"{path.name} {_hash(path) if path.is_file() else 'missing'}")
    return digest_texts(*parts)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()
