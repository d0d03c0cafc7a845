"""Writes README.md of this folder, with plots, from the stored results and `claims.yaml`.

Run with ``python benchmarks/render.py``; ``--run`` runs the quick ones first (``make bench``), into
``results/quick``, which is not committed: figures of a quick run on a busy machine are no claim.
"""

import argparse
import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from plots import draw_plots

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results"
HEAD = """# Benchmarks

One script per claim; each measures both sides in one run, alternating, prints its figures and stores them in `results/` with machine, load and versions. This page is made from those files by `python benchmarks/render.py`; `make bench` runs the quick ones on your machine and shows them beside the stored ones. `load` is how busy the cores were before: run a script again on a quiet machine before quoting a time.
"""


def read_result(script: str, folder: Path = RESULTS) -> dict[str, Any] | None:
    path = folder / f"{script}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def tell(template: str, result: dict[str, Any]) -> str:
    """A text with the figures of a result in it; one that is not there is an error."""
    return template.format(f=result["figures"], s=result["settings"])


def tell_what_is_there(template: str, result: dict[str, Any]) -> str:
    """The same by clauses, of a run that left sides out, as one without featuretools does."""
    told = []
    for clause in template.split("; "):
        with contextlib.suppress(KeyError):
            told.append(tell(clause, result))
    return "; ".join(told)


def build_rows(claims: list[dict[str, Any]]) -> list[str]:
    rows = ["| claim | aim | stored figure | command | date, load |", "|---|---|---|---|---|"]
    for claim in claims:
        result = read_result(claim["script"])
        command = f"`python benchmarks/{claim['script']}.py`"
        if result is None:
            rows.append(f"| {claim['claim']} | {claim.get('aim', '')} | not stored | {command} | |")
            continue
        stamp = f"{result['date']}, {result['load_before']}"
        told, named = tell(claim["told"], result), tell(claim["claim"], result)
        rows.append(f"| {named} | {claim.get('aim', '')} | {told} | {command} | {stamp} |")
    return rows


def describe(claims: list[dict[str, Any]]) -> str:
    """Machines and versions that stored figures were taken with."""
    results = [r for claim in claims if (r := read_result(claim["script"])) is not None]
    machines = sorted({_name_machine(r["machine"]) for r in results})
    versions: dict[str, set[str]] = {}
    for result in results:
        for package, version in result["versions"].items():
            versions.setdefault(package, set()).add(version)
    told = ", ".join(f"{name} {' / '.join(sorted(v))}" for name, v in versions.items())
    return f"Machine: {'; '.join(machines)}. Versions: {told}."


def _name_machine(machine: dict[str, Any]) -> str:
    parts = (machine["processor"], machine["memory_gb"], machine["system"])
    return f"{machine['cores']} cores of {parts[0]}, {parts[1]} GB, {parts[2]}"


def run_quick(claims: list[dict[str, Any]]) -> None:
    """Run what is quick on this machine and show it beside the stored figures."""
    folder = RESULTS / "quick"
    for claim in claims:
        if "quick" not in claim:
            continue
        script = FOLDER / f"{claim['script']}.py"
        print(f"{claim['script']} {' '.join(claim['quick'])}", flush=True)
        command = [sys.executable, str(script), *claim["quick"], "--results", str(folder)]
        finished = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
        result = read_result(claim["script"], folder)
        if finished.returncode or result is None:
            print(f"  failed with exit code {finished.returncode}")
            continue
        print(f"  here    {tell_what_is_there(claim['told'], result)}")
        stored = read_result(claim["script"])
        if stored is not None:
            print(f"  stored  {tell(claim['told'], stored)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", action="store_true", help="run the quick ones first")
    chosen = parser.parse_args()
    claims = yaml.safe_load((FOLDER / "claims.yaml").read_text(encoding="utf-8"))
    if chosen.run:
        run_quick(claims)
    results = {claim["script"]: read_result(claim["script"]) for claim in claims}
    plots = draw_plots(results, FOLDER / "plots")
    parts = [HEAD, "\n".join(build_rows(claims)), describe(claims)]
    parts += [f"## {title}\n\n![{title}](plots/{path.name})" for title, path in plots]
    (FOLDER / "README.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print(f"written: {FOLDER.name}/README.md, {len(plots)} plots")


if __name__ == "__main__":
    main()
