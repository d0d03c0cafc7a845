"""The folder that a model is kept in: text boosters and a JSON manifest that hashes every file."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from poverty_risk.exceptions import Fault, ModelFolderError

__all__ = [
    "FORMAT",
    "MANIFEST",
    "ModelFolder",
    "find_malformed",
    "read_model_folder",
    "write_model_folder",
]

FORMAT = 1
MANIFEST = "manifest.json"
MAX_FILE_BYTES = 512_000_000
"""A booster of ten thousand trees is under 100 MB of text; more is refused before it is read."""

DEEPEST = 512
"""Levels of a tree; explaining walks down them one call inside the other."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_OF_SPLITS = (
    "split_feature",
    "split_gain",
    "threshold",
    "decision_type",
    "left_child",
    "right_child",
    "internal_value",
    "internal_weight",
    "internal_count",
)
_WHOLE = frozenset(
    {"num_leaves", "num_cat", "split_feature", "decision_type", "left_child", "right_child"}
    | {"leaf_count", "internal_count", "cat_boundaries", "cat_threshold", "is_linear"}
)
_INTEGERS = re.compile(r"-?\d{1,10}( -?\d{1,10})*")
# The threshold of a split between missing and known is inf.
_NUMBER = r"-?(inf|\d{1,30}(\.\d{0,30})?(e[+-]?\d{1,3})?)"
_END = re.compile(
    r"end of trees\n\nfeature_importances:\n([^\n]+=\d+\n)*\n"
    r"parameters:\n(\[\w+: [^\n]*\]\n)*\nend of parameters\n\n"
    r"pandas_categorical:[^\n]*\n"
)
_NUMBERS = re.compile(f"{_NUMBER}( {_NUMBER})*")

VERSIONS_OF = ("poverty-risk", "lightgbm", "numpy", "pandas", "scikit-learn", "duckdb")


@dataclass(frozen=True)
class ModelFolder:
    """What a model folder holds.

    Parameters
    ----------
    model_id
        Hash of all that decides a prediction.
    state
        Plain values of the model.
    boosters
        Text of each booster by file name, in order.
    extra
        Where the model comes from: run, fingerprint of the history, evaluation.
    """

    model_id: str
    state: dict[str, Any]
    boosters: dict[str, str]
    extra: dict[str, Any]


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=32).hexdigest()


def _model_id(state: Mapping[str, Any], files: Mapping[str, str]) -> str:
    canonical = json.dumps({"state": state, "files": files}, sort_keys=True)
    return hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest()


def write_model_folder(
    folder: Path, state: Mapping[str, Any], boosters: Mapping[str, str], extra: Mapping[str, Any]
) -> str:
    """Write a model folder that appears whole or not at all; an existing one is replaced.

    Parameters
    ----------
    folder
        Where to.
    state
        Plain values of the model.
    boosters
        Text of each booster by file name.
    extra
        Further plain values.

    Returns
    -------
    str
        The model id.

    Raises
    ------
    ModelFolderError
        Something that is no model folder is there, or it cannot be written. What was there stays.
    """
    contents = {name: text.encode() for name, text in boosters.items()}
    files = {name: _hash(content) for name, content in contents.items()}
    # Through JSON once, so that the id is the same after reading it back.
    plain = json.loads(json.dumps(state))
    manifest = {
        "format": FORMAT,
        "model_id": _model_id(plain, files),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: metadata.version(name) for name in VERSIONS_OF},
        "files": files,
        "state": plain,
        "extra": dict(extra),
    }
    contents[MANIFEST] = json.dumps(manifest, indent=1, ensure_ascii=False).encode()
    _replace_folder(Path(folder).absolute(), contents)
    return str(manifest["model_id"])


def _replace_folder(folder: Path, contents: Mapping[str, bytes]) -> None:
    place = f"model folder '{folder.name}'"
    if folder.exists() and not (folder / MANIFEST).is_file() and not _is_empty_folder(folder):
        # Replacing means deleting, and a slip in a path must not cost somebody's files.
        raise ModelFolderError(
            Fault(place, f"something without {MANIFEST}", "a model folder or nothing", "Move it.")
        )
    with _telling(place):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as workplace:
            new, old = Path(workplace, "new"), Path(workplace, "old")
            new.mkdir()
            for name, content in contents.items():
                (new / name).write_bytes(content)
            if not folder.exists():
                new.replace(folder)
                return
            folder.replace(old)
            try:
                new.replace(folder)
            except OSError:
                old.replace(folder)
                raise


def _is_empty_folder(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


@contextlib.contextmanager
def _telling(place: str) -> Iterator[None]:
    """What the file system refuses, as our error."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        name = Path(str(error.filename or "")).name
        raise ModelFolderError(
            Fault(place, f"{reason}: '{name}'", "files to read and write", "Check disk and rights.")
        ) from error


def read_model_folder(folder: Path) -> ModelFolder:
    """Read a model folder and check every file against its hash.

    Parameters
    ----------
    folder
        A folder written by `write_model_folder`.

    Returns
    -------
    ModelFolder
        Its content.

    Raises
    ------
    ModelFolderError
        Something is missing, altered, foreign, too large or of a newer format.
    """
    place = f"model folder '{folder.name}'"
    with _telling(place):
        manifest = _read_manifest(folder, place)
        read = {name: _read_listed(folder, name, place) for name in manifest["files"]}
        faults = [item for item in read.values() if isinstance(item, Fault)]
        contents = {name: item for name, item in read.items() if isinstance(item, bytes)}
        expected = manifest["files"]
        faults += [
            Fault(
                place,
                f"'{name}' was altered",
                "the content that was saved",
                "Copy the folder again from where it was trained.",
            )
            for name, content in contents.items()
            if _hash(content) != expected[name]
        ]
        faults += [
            Fault(place, f"'{path.name}', of which {MANIFEST} says nothing", "none", "Remove it.")
            for path in sorted(folder.iterdir())
            if path.name != MANIFEST and path.name not in expected
        ]
    if not faults and manifest["model_id"] != _model_id(manifest["state"], expected):
        faults.append(
            Fault(place, f"an altered {MANIFEST}", "the one that was saved", "Copy it again.")
        )
    if not faults:
        texts = {name: content.decode("utf-8", "replace") for name, content in contents.items()}
        faults += [
            Fault(place, f"'{name}' is no booster ({reason})", "a booster", "Do not use it.")
            for name, text in texts.items()
            if (reason := find_malformed(text)) is not None
        ]
    if faults:
        raise ModelFolderError(faults)
    ordered = dict(sorted(texts.items(), key=lambda item: (len(item[0]), item[0])))
    return ModelFolder(manifest["model_id"], manifest["state"], ordered, manifest["extra"])


def _read_listed(folder: Path, name: str, place: str) -> bytes | Fault:
    """Content of a file that the manifest lists, or why it is not read."""
    path = folder / name
    if not _NAME.fullmatch(name) or path.is_symlink():
        return Fault(place, f"file '{name[:100]}'", "a file inside it", "Do not use it.")
    if not path.is_file():
        return Fault(place, f"no '{name}'", "the file", "Copy the folder again.")
    if path.stat().st_size > MAX_FILE_BYTES:
        return Fault(place, f"'{name}' too large", "a booster", "Do not use it.")
    return path.read_bytes()


def _read_manifest(folder: Path, place: str) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file() or path.is_symlink():
        raise ModelFolderError(
            Fault(place, f"no {MANIFEST}", "a folder written by RiskModel.save", "Check the path.")
        )
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ModelFolderError(Fault(place, f"{MANIFEST} too large", "a few MB", "Do not use it."))
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelFolderError(
            Fault(place, f"{MANIFEST} is no JSON ({str(error)[:80]})", "JSON", "Copy it again.")
        ) from None
    number = manifest.get("format") if isinstance(manifest, dict) else None
    if type(number) is not int or number != FORMAT:
        newer = type(number) is int and number > FORMAT
        raise ModelFolderError(
            Fault(
                place,
                f"{MANIFEST} of format {str(number)[:20]}",
                f"format {FORMAT}",
                "Install a newer poverty-risk." if newer else "This is not a model folder.",
            )
        )
    kinds = {"model_id": str, "files": dict, "state": dict, "extra": dict}
    wrong = [key for key, kind in kinds.items() if not isinstance(manifest.get(key), kind)]
    wrong += [] if wrong or manifest["files"] else ["files"]
    if wrong:
        raise ModelFolderError(
            Fault(place, f"{MANIFEST} without {', '.join(wrong)}", "all keys", "Copy it again.")
        )
    return dict(manifest)


# ------------------------------------------------------------------- the text of a booster
#
# LightGBM trusts the text that it reads: a damaged tree ends the whole process, and a forged one reads
# memory that is not its own. Hashes tell damage only, because anybody can compute them.


def find_malformed(text: str) -> str | None:
    """Why a text is no booster that LightGBM reads safely; None when it is one.

    Parameters
    ----------
    text
        What `lightgbm.Booster.model_to_string` gave.

    Returns
    -------
    str or None
        The reason in a few words.

    Examples
    --------
    >>> from poverty_risk.model_folder import find_malformed
    >>> find_malformed("no tree")
    'no header'
    """
    header, found, _ = text.partition("\n\nTree=0\n")
    if not header.startswith("tree\n") or not found or "\r" in text:
        return "no header"
    lines = [line.partition("=")[::2] for line in header.split("\n")]
    declared = dict(lines)
    sizes, features = declared.get("tree_sizes", ""), declared.get("max_feature_idx", "")
    if len(declared) < len(lines) or not _INTEGERS.fullmatch(sizes) or not features.isdecimal():
        return "a damaged header"
    if declared.get("num_class") != "1" or declared.get("num_tree_per_iteration") != "1":
        return "several classes"
    content = text.encode()
    position = len(header.encode()) + 2
    for number, size in enumerate(map(int, sizes.split())):
        block = content[position : position + size].decode("ascii", "replace")
        if size <= 0 or not block.startswith(f"Tree={number}\n"):
            return f"tree {number} is not where it should be"
        if not _is_tree(block, int(features)):
            return f"tree {number} is damaged"
        position += size
    end = content[position:].decode("utf-8", "replace")
    return None if _END.fullmatch(end) else "its end is damaged"


def _is_tree(block: str, last_feature: int) -> bool:
    numbers = _read_numbers(block)
    if not numbers.get("num_leaves") or not numbers.get("num_cat"):
        return False
    leaves, categories = int(numbers["num_leaves"][0]), int(numbers["num_cat"][0])
    if {name: len(values) for name, values in numbers.items()} != _lengths(numbers):
        return False
    bounds = numbers.get("cat_boundaries", [0.0])
    kinds = zip(numbers["decision_type"], numbers["threshold"], strict=True)
    return (
        numbers["is_linear"] == [0.0]
        and all(map(math.isfinite, numbers["leaf_value"]))
        and all(0 <= feature <= last_feature for feature in numbers["split_feature"])
        # The threshold of a split by category is the number of its set of categories.
        and all(not int(kind) & 1 or 0 <= at < categories for kind, at in kinds)
        and bounds[0] == 0
        and all(low < high for low, high in itertools.pairwise(bounds))
        and _is_connected(numbers["left_child"], numbers["right_child"], leaves)
    )


def _read_numbers(block: str) -> dict[str, list[float]]:
    """Entries of a tree by name; nothing when one of them is not a list of numbers."""
    found: dict[str, list[float]] = {}
    for line in block.rstrip("\n").split("\n")[1:]:
        name, _, values = line.partition("=")
        pattern = _INTEGERS if name in _WHOLE else _NUMBERS
        if name in found or (values and not pattern.fullmatch(values)):
            return {}
        found[name] = [float(value) for value in values.split()]
    return found


def _lengths(numbers: Mapping[str, list[float]]) -> dict[str, int]:
    """How many numbers each entry of a tree must have."""
    leaves, categories = int(numbers["num_leaves"][0]), int(numbers["num_cat"][0])
    lengths = dict.fromkeys(("num_leaves", "num_cat", "is_linear", "shrinkage"), 1)
    lengths |= dict.fromkeys(("leaf_value", "leaf_count", "leaf_weight"), leaves)
    lengths |= dict.fromkeys(_OF_SPLITS, leaves - 1)
    if leaves == 1:
        lengths["leaf_weight"] = 0  # a tree without a split
    if categories:
        lengths["cat_boundaries"] = categories + 1
        lengths["cat_threshold"] = int((numbers.get("cat_boundaries") or [0.0])[-1])
    return lengths


def _is_connected(left: list[float], right: list[float], leaves: int) -> bool:
    """Whether every split and every leaf (-1, -2, ...) is reached once from the first split."""
    if leaves == 1:
        return True
    seen: set[int] = set()
    waiting = [(0, 1)]
    while waiting:
        node, depth = waiting.pop()
        if node in seen or not -leaves <= node < leaves - 1 or depth > DEEPEST:
            return False
        seen.add(node)
        if node >= 0:
            waiting += [(int(left[node]), depth + 1), (int(right[node]), depth + 1)]
    return len(seen) == 2 * leaves - 1
