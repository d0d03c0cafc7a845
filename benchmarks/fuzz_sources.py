"""Feeds damaged files to all that reads files: each is read, or refused with a `PovertyRiskError`.

Run with ``python benchmarks/fuzz_sources.py``; the counts are printed and kept in ``results/``. A case
is a whole file or folder in which one to four things were changed: bytes, cells, values of YAML and
JSON, parts of a workbook and the values in them. Cases follow from the seed and their number alone, so
that ``--step fuzz READER SEED FIRST LAST FOLDER`` repeats some of them, with the whole files that
``--step write_seeds FOLDER`` wrote. Any other exception, a fault without a remedy, rows that do not add
up, and the death of the process are failures, told one by one.
"""

import argparse
import io
import json
import logging
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from measuring import run_fresh, run_script

TESTS = Path(__file__).parents[1] / "tests"
KEY = b"only for benchmarks, 24 bytes"
DAY = date(2024, 12, 31)
SHARES = {"files": 0.4, "mappings": 0.15, "configs": 0.15, "model_folders": 0.15, "feedback": 0.15}
BLOCK = 100
"""Cases of one process: what they leave in memory does not add up, and a dead one costs little."""

# ----------------------------------------------------------------------------------------- changes

ODD_BYTES = (
    b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b'"', b"\r", b"\n\n", b",,,,", b"\t", b"<", b"&#0;", b"NaN",
    b"1e999", b"-", b"\xe6\x88", b"99999999999999999999", b"=1+1", b"\x1a", b"]]>", b"{", b"\\",
)  # fmt: skip
ODD_TEXTS = (
    "2021-02-30", "20211301", "202113", "6.12E+17", "612522198801040", "61252219880104000X", "1,2,3", "-5",
    "1e300", "9" * 400, "0.1.2", "\uff10\uff11", "\u5408\u8ba1", "\u662f", "\u221a", "12\u4e07\u5143", "#REF!",
    "\u3001\u3001", "\u200b", "\ufffd", "\U0001f600", "a" * 40000, "nan", "NaN", "inf", "1899-12-31", "45000.5",
)  # fmt: skip
VALUE = r">([^<>]*)<"
"""A value in XML."""

ODD_VALUES = (
    None, True, -1, 0, 10**30, 1e308, float("nan"), float("inf"), "", " ", "x" * 5000, "../../etc/passwd",
    "\x00", "\ud83d", "1 / 0", "__import__('os')", "a.b.c", "2021-13-45", [], {}, [[[]]], {"": None}, [1, "a", None],
    {"a": {"b": {"c": 1}}}, "household_id", "lambda: 0", "exported", "\u6237", "12mo", "0mo",
)  # fmt: skip


def change_bytes(content: bytes, rng: random.Random) -> bytes:
    """Flip, insert, repeat, take out or cut off."""
    at = rng.randrange(len(content) + 1)
    length = min(int(rng.expovariate(1 / 30)) + 1, len(content) - at)
    piece = content[at : at + length]
    how = rng.randrange(6)
    if how == 0:
        return content[:at] + bytes(rng.randrange(256) for _ in piece) + content[at + length :]
    if how == 1:
        return content[:at] + rng.choice(ODD_BYTES) + content[at:]
    if how == 2:
        return content[:at] + piece * rng.choice((2, 3, 50)) + content[at + length :]
    if how == 3:
        return content[:at] + content[at + length :]
    if how == 4:
        return content[:at] + rng.choice(ODD_BYTES) + content[at + length :]
    return content[:at] if rng.random() < 0.3 else content[:at] + content[at:].swapcase()


def change_value(content: bytes, rng: random.Random, value: str) -> bytes:
    """Another value where a pattern finds one; another byte where it finds none."""
    places = [found.span(1) for found in re.finditer(value.encode(), content)]
    if not places or rng.random() < 0.4:
        return change_bytes(content, rng)
    start, end = rng.choice(places)
    other_start, other_end = rng.choice(places)
    put = rng.choice((rng.choice(ODD_BYTES), rng.choice(ODD_TEXTS).encode(), b"",
                      content[other_start:other_end]))  # fmt: skip
    return content[:start] + put + content[end:]


def change_text(content: bytes, rng: random.Random) -> bytes:
    """A table as text in which a cell says something else."""
    return change_value(content, rng, r"[,\t;\n]([^,\t;\n\r]*)")


def change_archive(content: bytes, rng: random.Random) -> bytes:
    """A workbook with a part changed, left out or doubled; or its bytes."""
    # An earlier change may have left no archive.
    if rng.random() < 0.25 or not zipfile.is_zipfile(io.BytesIO(content)):
        return change_bytes(content, rng)
    target = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(target, "w") as new:
            names = old.namelist()
            sheets = [name for name in names if "sheet" in name or "Strings" in name]
            chosen = rng.choice(sheets if sheets and rng.random() < 0.7 else names)
            for name in names:
                part = old.read(name)
                if name == chosen and rng.random() < 0.05:
                    continue
                new.writestr(name, change_value(part, rng, VALUE) if name == chosen else part)
    except (zipfile.BadZipFile, zlib.error, OSError, NotImplementedError, ValueError, RuntimeError):
        return change_bytes(content, rng)
    return target.getvalue()


def change_tree(tree: Any, rng: random.Random) -> Any:
    """A declaration in which one value, key or item is another one, twice there, or gone."""
    place, path = tree, []
    while isinstance(place, dict | list) and place and (not path or rng.random() < 0.75):
        key = rng.choice(list(place)) if isinstance(place, dict) else rng.randrange(len(place))
        path.append((place, key))
        place = place[key]
    if not path:
        return rng.choice(ODD_VALUES)
    inside, key = path[-1]
    how = rng.randrange(5)
    if how == 0:
        del inside[key]
    elif how == 1 and isinstance(inside, dict):
        inside[f"{key}_" if rng.random() < 0.5 else rng.choice(("", 1, None, "x"))] = inside.pop(
            key
        )
    elif how == 2 and isinstance(inside, list):
        inside.insert(key, inside[key])
    elif how == 3:
        holder, other = rng.choice(path)
        inside[key] = json.loads(json.dumps(holder[other], default=str))
    else:
        inside[key] = rng.choice(ODD_VALUES)
    return tree


def change_yaml(content: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.25:
        return change_bytes(content, rng)
    try:
        tree = change_tree(yaml.safe_load(content), rng)
        return yaml.safe_dump(tree, allow_unicode=True).encode(errors="surrogatepass")
    except (yaml.YAMLError, UnicodeError):
        return change_bytes(content, rng)  # what an earlier change left is no YAML


def change_json(content: bytes, rng: random.Random) -> bytes:
    try:
        return json.dumps(change_tree(json.loads(content), rng)).encode()
    except ValueError:
        return change_bytes(content, rng)


def change_file(path: Path, rng: random.Random) -> None:
    ways = {
        ".xlsx": change_archive, ".yaml": change_yaml, ".json": change_json, ".csv": change_text,
        ".txt": change_text,
    }  # fmt: skip
    change = ways.get(path.suffix, change_bytes)
    content = path.read_bytes()
    for _ in range(rng.choice((1, 1, 2, 4))):
        content = change(content, rng)
    path.write_bytes(content)


# ----------------------------------------------------------------------------------------- readers


def read_source(path: Path, _: Path) -> None:
    """A county's file, as far as its records."""
    from poverty_risk.sources.conversion import convert_sheet
    from poverty_risk.sources.files import read_sheets
    from poverty_risk.sources.mapping import find_mapping

    for sheet in read_sheets(path):
        for match in find_mapping(sheet)[:1]:
            counts = convert_sheet(sheet, match.mapping, KEY, DAY).counts
            assert counts.read == counts.accepted + counts.rejected + counts.repeated


def read_mapping(path: Path, seeds: Path) -> None:
    """A mapping, and the file that it is meant for."""
    from poverty_risk.sources.conversion import convert_sheet
    from poverty_risk.sources.files import read_sheets
    from poverty_risk.sources.mapping import load_mapping

    mapping = load_mapping(path)
    source = next((seeds / "files").glob(f"{path.stem}.*"))
    for sheet in read_sheets(source):
        counts = convert_sheet(sheet, mapping, KEY, DAY).counts
        assert counts.read == counts.accepted + counts.rejected + counts.repeated


def read_config(path: Path, _: Path) -> None:
    from poverty_risk.config import load_config

    load_config(path)


def read_model(path: Path, seeds: Path) -> None:
    """A model folder, and what it predicts."""
    import pandas as pd

    from poverty_risk.model import RiskModel

    features = pd.read_parquet(seeds / "features.parquet")
    RiskModel.load(path).predict_proba(features)


def read_returned(path: Path, _: Path) -> None:
    """A visit workbook that comes back filled in."""
    import pandas as pd

    from poverty_risk.report.feedback import read_feedback

    lookup = pd.DataFrame({"pseudonym": [f"{n:020x}" for n in range(1, 7)]})
    lookup["household_id"] = [f"H{n}" for n in range(1, 7)]
    read_feedback(path, lookup=lookup, imported_on="2024-04-01", key=KEY)


READERS: dict[str, Callable[[Path, Path], None]] = {
    "files": read_source,
    "mappings": read_mapping,
    "configs": read_config,
    "model_folders": read_model,
    "feedback": read_returned,
}


# ------------------------------------------------------------------------------------------- seeds


def write_seeds(folder: str) -> dict[str, Any]:
    """Whole files and folders of each kind, small ones."""
    sys.path.insert(0, str(TESTS))
    seeds = Path(folder)
    for reader in READERS:
        (seeds / reader).mkdir(parents=True)
    _write_sources(seeds)
    for path in (Path(__file__).parents[1] / "configs").glob("*.yaml"):
        shutil.copy(path, seeds / "configs" / path.name)
    _train(seeds)
    _write_feedback(seeds / "feedback")
    return {reader: sum(1 for _ in (seeds / reader).iterdir()) for reader in READERS}


def _write_sources(seeds: Path) -> None:
    import poverty_risk.sources
    from messy_county import write_messy_county

    mappings = Path(poverty_risk.sources.__file__).parent / "mappings"
    county = write_messy_county(seeds / "county", 30, seed=1)
    for file in {file.kind: file for file in county.files}.values():
        target = seeds / "files" / f"{file.kind}{file.path.suffix}"
        content = file.path.read_bytes()
        # Of long text the first rows will do.
        is_text = file.path.suffix in (".csv", ".txt")
        lines = content.splitlines(keepends=True)[:200] if is_text else [content]
        target.write_bytes(b"".join(lines))
        shutil.copy(mappings / f"{file.kind}.yaml", seeds / "mappings")


def _train(seeds: Path) -> None:
    import pandas as pd

    import poverty_risk as pr

    tables = pr.make_household_history(1500, seed=0).tables
    dates = pd.date_range("2020-01-01", "2022-01-01", freq="6MS")
    points = pr.build_prediction_points(tables, dates)
    labels = pr.label_returns(tables, points, "12mo", "identified").dropna()
    catalog = pr.load_catalog("archive")
    features = pr.build_features(tables, points.loc[labels.index], catalog)
    task = pr.PredictionTask(tables.schema, "at_risk", "identified", "12mo", tables.line)
    model = pr.RiskModel(catalog, task, n_estimators=10, n_jobs=1)
    model.fit(features, labels).save(seeds / "model_folders" / "model")
    features.head(5).to_parquet(seeds / "features.parquet")


def _write_feedback(folder: Path) -> None:
    import openpyxl

    from card_samples import make_card, make_run
    from poverty_risk.report.facts import VisitFacts
    from poverty_risk.report.sheets import FEEDBACK, LOCKED
    from poverty_risk.report.xlsx import write_workbook

    at = [*LOCKED, *FEEDBACK].index("visited_on") + 1
    for locale in ("zh", "en"):
        cards = tuple(
            make_card(locale, order=n, pseudonym=f"{n:020x}", why="risk", township="T")
            for n in range(1, 7)
        )
        path = write_workbook(VisitFacts(make_run(locale), cards), folder / f"{locale}.xlsx", KEY)
        book = openpyxl.load_workbook(path)
        for row in range(2, 6):
            book["T"].cell(row, at, "2024-03-05")
        book.save(path)


# ------------------------------------------------------------------------------------------- cases


def make_case(reader: str, seed: str, number: int, seeds: Path, folder: Path) -> Path:
    """One case, always the same for the same reader, seed and number."""
    rng = random.Random(f"{reader} {seed} {number}")
    source = rng.choice(sorted((seeds / reader).iterdir()))
    path = folder / source.name
    if source.is_file():
        shutil.copy(source, path)
        change_file(path, rng)
        return path
    shutil.copytree(source, path)
    changed = rng.choice(sorted(file for file in path.rglob("*") if file.is_file()))
    if rng.random() < 0.05:
        changed.unlink()
    else:
        change_file(changed, rng)
    if rng.random() < 0.8:
        _list_anew(path)
    return path


def _list_anew(folder: Path) -> None:
    """Give the manifest the hashes of the changed files: what else is checked comes after them."""
    from poverty_risk.model_folder import _hash, _model_id

    manifest = folder / "manifest.json"
    try:
        told = json.loads(manifest.read_bytes())
        told["files"] = {name: _hash((folder / name).read_bytes()) for name in told["files"]}
        told["model_id"] = _model_id(told["state"], told["files"])
        manifest.write_text(json.dumps(told), encoding="utf-8")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return  # what was changed is the manifest itself


def fuzz(reader: str, seed: str, first: str, last: str, folder: str) -> dict[str, Any]:
    """Some cases of one reader: how many were read and refused, and what failed."""
    from poverty_risk.exceptions import PovertyRiskError

    logging.disable(logging.CRITICAL)
    outcomes: Counter[str] = Counter()
    failures, slowest = [], 0.0
    for number in range(int(first), int(last)):
        print(f"{reader} {number}", file=sys.stderr)
        with tempfile.TemporaryDirectory() as place:
            path = make_case(reader, seed, number, Path(folder), Path(place))
            began = time.perf_counter()
            try:
                READERS[reader](path, Path(folder))
                outcomes["read"] += 1
            except PovertyRiskError as error:
                outcomes["refused"] += 1
                told = all(f.place and f.found and f.expected and f.remedy for f in error.faults)
                if not (error.faults and told):
                    failures.append(
                        {"case": number, "what": f"a fault untold: {error.faults}"[:300]}
                    )
            except Exception as error:  # noqa: BLE001
                failures.append({"case": number, "what": f"{type(error).__name__}: {error}"[:300]})
            slowest = max(slowest, time.perf_counter() - began)
    return {**outcomes, "failures": failures, "slowest_seconds": round(slowest, 1)}


def _iter_blocks(cases: int) -> Iterator[tuple[int, int]]:
    for first in range(0, cases, BLOCK):
        yield first, min(first + BLOCK, cases)


def run_reader(reader: str, seed: int, cases: int, folder: str) -> dict[str, Any]:
    total: Counter[str] = Counter()
    failures, slowest = [], 0.0
    for first, last in _iter_blocks(cases):
        try:
            told = run_fresh(__file__, "fuzz", reader, str(seed), str(first), str(last), folder)
        except subprocess.CalledProcessError as error:
            failures.append({"case": f"{first} to {last}", "what": f"died: {error.returncode}"})
            continue
        failures += told.pop("failures")
        slowest = max(slowest, told["slowest_seconds"])
        total += Counter({name: told.get(name, 0) for name in ("read", "refused")})
    alike: dict[str, list[Any]] = {}
    for failure in failures:
        alike.setdefault(failure["what"], []).append(failure["case"])
    return {
        "cases": cases,
        "read": total["read"],
        "refused": total["refused"],
        "failed": len(failures),
        "failures": [
            {"what": what, "times": len(numbers), "first_case": numbers[0]}
            for what, numbers in alike.items()
        ],
        "slowest_seconds": slowest,
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        run_fresh(__file__, "write_seeds", folder)
        readers = {
            reader: run_reader(reader, options.seed, round(options.cases * share), folder)
            for reader, share in SHARES.items()
        }
    total = {
        name: sum(told[name] for told in readers.values())
        for name in ("cases", "read", "refused", "failed")
    }
    return {"total": total} | readers


if __name__ == "__main__":
    steps = {"write_seeds": write_seeds, "fuzz": fuzz}
    run_script(__file__, __doc__, measure, steps, {"cases": 2000, "seed": 0})
