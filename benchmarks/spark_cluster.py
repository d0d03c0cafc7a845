"""Predicts counties on Spark: on two cores of one machine, and on a cluster that loses a worker.

Run with ``python benchmarks/spark_cluster.py``; the figures are printed and kept in ``results/``.
Needs the extra `spark` and Java. The cluster is real, if small: a standalone master and two workers,
processes of their own that talk over the loopback interface. It runs the job twice. The first run
counts the tasks; in the second, one worker with its executor is killed (SIGKILL) once three quarters
of them are done, so that shuffled records are lost with it. All answers are compared with those of `predict_folder` on every column.
"""

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from measuring import peak_memory_gb, run_fresh, run_script

AS_OF = "2024-10-01"
COUNTIES = 2
MEMORY = "1500m"
"""Of the driver, and of the executor of each worker."""


# All on this machine.
os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")


def prepare(households: str, folder: str) -> dict[str, Any]:
    """Counties, and a model trained on the first of them."""
    import pandas as pd

    import poverty_risk as pr

    for seed in range(COUNTIES):
        tables = pr.make_household_history(int(households) // COUNTIES, seed=seed).tables
        tables.write(Path(folder) / "histories" / f"county_{seed}")
        if seed == 0:
            dates = pd.date_range("2021-01-01", "2022-07-01", freq="6MS")
            points = pr.build_prediction_points(tables, dates)
            labels = pr.label_returns(tables, points, "12mo", "identified").dropna()
            catalog = pr.load_catalog("archive")
            features = pr.build_features(tables, points.loc[labels.index], catalog)
            task = pr.PredictionTask(tables.schema, "at_risk", "identified", "12mo", tables.line)
            model = pr.RiskModel(catalog, task, n_estimators=200, learning_rate=0.05)
            model.fit(features, labels).save(Path(folder) / "model")
    size = sum(path.stat().st_size for path in Path(folder, "histories").rglob("*.parquet"))
    return {"megabytes": round(size / 1e6, 1), "trees": model.training_.get("trees")}


def _ask(folder: str, output: str) -> dict[str, Any]:
    place = Path(folder)
    return {
        "folder": place / "histories",
        "output": place / output,
        "model": place / "model",
        "as_of_date": AS_OF,
        "locale": "en",
    }


def plain(folder: str) -> dict[str, Any]:
    """The embedded engine, one household range after the other."""
    from poverty_risk import predict_folder

    began = time.perf_counter()
    predict_folder(**_ask(folder, "plain"))
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "peak_memory_gb": round(peak_memory_gb(), 2),
    }


def local(folder: str) -> dict[str, Any]:
    """Spark on two cores of this machine."""
    from poverty_risk.spark import predict_counties, start_session

    began = time.perf_counter()
    session = start_session("local[2]", spark__driver__memory=MEMORY, **_quiet())
    started = time.perf_counter()
    predict_counties(**_ask(folder, "local"), session=session)
    seconds = time.perf_counter() - started
    memory = round(_tree_memory_gb(os.getpid()), 2)
    session.stop()
    return {
        "start_seconds": round(started - began, 1),
        "seconds": round(seconds, 1),
        "memory_of_all_processes_at_the_end_gb": memory,
        **_compare(folder, "local"),
    }


def cluster(folder: str, loses_a_worker: str, tasks: str) -> dict[str, Any]:
    """Spark on a master and two workers, of which one may be killed before the last quarter of the tasks."""
    from poverty_risk.spark import predict_counties, start_session

    output = "killed" if loses_a_worker == "yes" else "cluster"
    with (
        tempfile.TemporaryDirectory() as scratch,
        _running_cluster(Path(scratch)) as (url, workers),
    ):
        session = start_session(
            url,
            spark__driver__memory=MEMORY,
            spark__executor__memory=MEMORY,
            spark__executor__cores="1",
            spark__driver__host="127.0.0.1",
            **_quiet(),
        )
        context = session.sparkContext
        _wait_for(lambda: _executors(context) == 2, "two executors")
        watch = _Watch(
            context, workers[0], 3 * int(tasks) // 4 if loses_a_worker == "yes" else None
        )
        began = time.perf_counter()
        predict_counties(**_ask(folder, output), session=session)
        seconds = time.perf_counter() - began
        watch.stop()
        left = _executors(context)
        session.stop()
    return {
        "seconds": round(seconds, 1),
        "tasks": watch.tasks,
        "executors_at_the_end": left,
        **watch.told,
        **_compare(folder, output),
    }


def _quiet() -> dict[str, str]:
    return {"spark__ui__enabled": "false", "spark__driver__bindAddress": "127.0.0.1"}


def _executors(context: Any) -> int:
    """Executors that the driver can reach; it counts itself, too."""
    status = context._jsc.sc().getExecutorMemoryStatus()  # noqa: SLF001 - no other door tells
    return int(status.size()) - 1


class _Watch:
    """Counts the tasks of a running job through Spark's status tracker, and kills a worker in time."""

    def __init__(self, context: Any, worker: subprocess.Popen[bytes], after: int | None) -> None:
        self._context, self._worker, self._after = context, worker, after
        self._done: dict[tuple[int, int], int] = {}
        self._failed: dict[tuple[int, int], int] = {}
        self.told: dict[str, Any] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look_on, daemon=True)
        self._thread.start()

    @property
    def tasks(self) -> int:
        return sum(self._done.values())

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()
        again = {stage for stage, attempt in self._done if attempt > 0}
        if self.told:
            self.told |= {
                "tasks_that_failed": sum(self._failed.values()),
                "stages_run_again": len(again),
            }

    def _look_on(self) -> None:
        tracker = self._context.statusTracker()
        began = time.perf_counter()
        while not self._stopped.wait(0.1):
            for job in tracker.getJobIdsForGroup(None):
                found = tracker.getJobInfo(job)
                for stage in found.stageIds if found else ():
                    if info := tracker.getStageInfo(stage):
                        key = (stage, info.currentAttemptId)
                        self._done[key] = info.numCompletedTasks
                        self._failed[key] = info.numFailedTasks
            if self._after is not None and not self.told and self.tasks >= self._after:
                self.told = {
                    "killed_after_tasks": self.tasks,
                    "killed_after_seconds": round(time.perf_counter() - began, 1),
                    "executors_before": _executors(self._context),
                }
                # The worker and its executor: as when the machine is gone.
                os.killpg(self._worker.pid, signal.SIGKILL)


@contextlib.contextmanager
def _running_cluster(scratch: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A standalone master and two workers of one core each."""
    import pyspark

    launcher = str(Path(pyspark.__file__).parent / "bin" / "spark-class")
    port = _free_port()
    url = f"spark://127.0.0.1:{port}"
    master = ["master.Master", "--host", "127.0.0.1", "--port", str(port), "--webui-port", "0"]
    commands = [master]
    for number in range(2):
        place = ["--work-dir", str(scratch / f"work_{number}"), "--webui-port", "0"]
        resources = ["--cores", "1", "--memory", MEMORY, "--host", "127.0.0.1"]
        commands.append(["worker.Worker", *resources, *place, url])
    environment = os.environ | {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_DAEMON_MEMORY": "256m"}
    processes = []
    try:
        for name, *arguments in commands:
            with (scratch / f"{len(processes)}.log").open("wb") as log:
                process = subprocess.Popen(
                    [launcher, f"org.apache.spark.deploy.{name}", *arguments],
                    env=environment,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            processes.append(process)
            if name == "master.Master":
                _wait_for(lambda: _listens(port), "the master")
        yield url, processes[1:]
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _wait_for(met: Any, what: str, seconds: int = 300) -> None:
    until = time.monotonic() + seconds
    while not met():
        if time.monotonic() > until:
            message = f"{what}: not there after {seconds} seconds"
            raise TimeoutError(message)
        time.sleep(0.2)


def _tree_memory_gb(root: int) -> float:
    """Resident memory of a process and of all that it started; Linux only."""
    parents, resident = {}, {}
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            status = dict(
                line.split(":", 1) for line in (place / "status").read_text().splitlines()
            )
            parents[int(place.name)] = int(status["PPid"])
            resident[int(place.name)] = int(status.get("VmRSS", "0 kB").split()[0])
    family, size = {root}, 0
    while len(family) > size:
        size = len(family)
        family |= {process for process, parent in parents.items() if parent in family}
    return sum(resident.get(process, 0) for process in family) / 2**20


def _compare(folder: str, output: str) -> dict[str, Any]:
    """Largest relative difference of any number from the embedded engine's; all else is exactly equal."""
    import numpy as np
    import pandas as pd

    from poverty_risk.prediction_folder import read_predictions

    households, largest, identical, count = 0, 0.0, 0, 0
    for path in sorted(Path(folder, "plain").glob("*/predictions.parquet")):
        expected = read_predictions(path).sort_index()
        found = read_predictions(Path(folder, output, path.parent.name, path.name)).sort_index()
        numbers = [name for name, kind in expected.dtypes.items() if kind == "float64"]
        pd.testing.assert_frame_equal(found.drop(columns=numbers), expected.drop(columns=numbers))
        for name in numbers:
            theirs, ours = expected[name].to_numpy(), found[name].to_numpy()
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=0)
            with np.errstate(invalid="ignore", divide="ignore"):
                largest = max(largest, float(np.nanmax(np.abs(ours / theirs - 1), initial=0)))
            count += len(ours)
            identical += int(((ours == theirs) | (np.isnan(ours) & np.isnan(theirs))).sum())
        households += len(expected)
    return {
        "households": households,
        "columns_equal": True,
        "largest_relative_difference": largest,
        "numbers_equal_to_the_bit": f"{identical} of {count}",
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    java = subprocess.run(["java", "-version"], capture_output=True, text=True, check=True).stderr
    figures: dict[str, Any] = {
        "pyspark": metadata.version("pyspark"),
        "java": java.splitlines()[0],
    }
    for size, households in (("county", options.households), ("larger", options.larger)):
        if not households:
            continue
        with tempfile.TemporaryDirectory() as folder:
            found = run_fresh(__file__, "prepare", str(households), folder)
            found["plain"] = run_fresh(__file__, "plain", folder)
            found["local"] = run_fresh(__file__, "local", folder)
            found["local_to_plain"] = round(
                found["local"]["seconds"] / found["plain"]["seconds"], 2
            )
            found["cluster"] = run_fresh(__file__, "cluster", folder, "no", "0")
            tasks = str(found["cluster"]["tasks"])
            found["cluster_that_loses_a_worker"] = run_fresh(
                __file__, "cluster", folder, "yes", tasks
            )
        figures[size] = found
    return figures


if __name__ == "__main__":
    run_script(
        __file__,
        __doc__,
        measure,
        {"prepare": prepare, "plain": plain, "local": local, "cluster": cluster},
        {"households": 20_000, "larger": 100_000},
    )
