"""The folder that a model is kept in: text boosters and a JSON manifest that hashes every file."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from poverty_risk.exceptions import Fault, ModelFolderError

__all__ = ["FORMAT", "MANIFEST", "ModelFolder", "read_model_folder", "write_model_folder"]

FORMAT = 1
MANIFEST = "manifest.json"
MAX_FILE_BYTES = 512_000_000
"""A booster of ten thousand trees is under 100 MB of text; more is refused before it is read."""

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
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for name, content in contents.items():
            (temporary / name).write_bytes(content)
        temporary.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return str(manifest["model_id"])


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
    manifest = _read_manifest(folder, place)
    faults, boosters = [], {}
    for name, expected in manifest["files"].items():
        path = folder / name
        if Path(name).name != name or path.is_symlink():
            faults.append(Fault(place, f"file '{name}'", "a file inside it", "Do not use it."))
        elif not path.is_file():
            faults.append(Fault(place, f"no '{name}'", "the file", "Copy the folder again."))
        elif path.stat().st_size > MAX_FILE_BYTES:
            faults.append(Fault(place, f"'{name}' too large", "a booster", "Do not use it."))
        else:
            content = path.read_bytes()
            if _hash(content) != expected:
                faults.append(
                    Fault(
                        place,
                        f"'{name}' was altered",
                        "the content that was saved",
                        "Copy the folder again from where it was trained.",
                    )
                )
            boosters[name] = content.decode("utf-8", errors="replace")
    if not faults and manifest["model_id"] != _model_id(manifest["state"], manifest["files"]):
        faults.append(
            Fault(place, "an altered manifest", "the one that was saved", "Copy it again.")
        )
    if faults:
        raise ModelFolderError(faults)
    ordered = dict(sorted(boosters.items(), key=lambda item: (len(item[0]), item[0])))
    return ModelFolder(manifest["model_id"], manifest["state"], ordered, manifest["extra"])


def _read_manifest(folder: Path, place: str) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise ModelFolderError(
            Fault(place, f"no {MANIFEST}", "a folder written by RiskModel.save", "Check the path.")
        )
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ModelFolderError(Fault(place, "a huge manifest", "a few MB", "Do not use it."))
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelFolderError(
            Fault(place, f"{MANIFEST} is no JSON ({str(error)[:80]})", "JSON", "Copy it again.")
        ) from None
    number = manifest.get("format") if isinstance(manifest, dict) else None
    if not isinstance(number, int) or number != FORMAT:
        newer = isinstance(number, int) and number > FORMAT
        raise ModelFolderError(
            Fault(
                place,
                f"format {number!r}",
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
