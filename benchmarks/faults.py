"""What a comparison loses when something goes wrong: each fault is injected for real, then the comparison resumed.

    python benchmarks/faults.py [--workers 2] [--executors serial ray] [--out FILE]

Three trainings of DiffRec and three of EASE on ml-100k for each fault, and three of a model that fails; a table of what
was finished, what was lost, and what was left behind after the comparison had been resumed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable, Optional

import psutil

from recbole_diffusion.experiment.jobs.store import Store

DRIVE = """
import errno, sys
from recbole_diffusion.experiment import compare as module
from recbole_diffusion.experiment.jobs.store import Store

workers = int(sys.argv[2]) or None
own = {"DiffRec": {"epochs": 8, "stopping_step": 100}}
models = ["EASE", "DiffRec"]
fault = sys.argv[3]
if fault == "NaN":
    models, own["MultiVAE"] = [*models, "MultiVAE"], {"learning_rate": 1e30}
if fault == "a setting that one model refuses":
    models, own["LDiffRec"] = [*models, "LDiffRec"], {"steps": 0}
if fault == "out of memory":
    models, own["MultiVAE"] = [*models, "MultiVAE"], {"mlp_hidden_size": [600000000]}
if fault == "disk full":
    finish, seen = Store.finish, []
    def full(self, key, record, users=None):
        seen.append(key)
        if len(seen) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        finish(self, key, record, users)
    Store.finish = full
if __name__ == "__main__":
    module.compare(models, ["ml-100k"], [1, 2, 3], sys.argv[1], {}, own, resources=module.Resources(workers=workers))
"""
RESUME = "import sys; from recbole_diffusion.experiment.compare import resume; resume(sys.argv[1])"


def main(words: Optional[Sequence[str]] = None) -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--workers", type=int, default=2, help="of the runs on Ray")
    options.add_argument("--executors", nargs="+", default=["serial", "ray"], choices=["serial", "ray"])
    options.add_argument("--faults", nargs="+", default=[""], help="only those whose names begin so")
    options.add_argument("--out", type=Path, help="also write the table there")
    given = options.parse_args(words)
    serial: list[tuple[str, Any]] = [("driver killed (kill -9)", kill), ("driver interrupted (Ctrl-C)", interrupt)]
    inside: list[tuple[str, Any]] = [(name, None) for name in ("NaN", "disk full", "out of memory")]
    inside.append(("a setting that one model refuses", None))
    rows = []
    for workers in [{"serial": 0, "ray": given.workers}[name] for name in given.executors]:
        worker: list[tuple[str, Any]] = [("worker killed (kill -9)", kill_worker)] if workers else []
        every = [*worker, *serial, *inside]
        for fault, inject in (each for each in every if each[0].startswith(tuple(given.faults))):
            rows.append(_row(fault, workers, inject))
            print(_line(rows[-1]), flush=True)
    text = "\n".join([_line(list(rows[0])), "|" + "---|" * len(rows[0]), *(_line(list(row.values())) for row in rows)])
    print(f"\n{text}")
    if given.out:
        given.out.write_text(text + "\n", encoding="utf-8")


def _line(cells: Any) -> str:
    values = cells.values() if isinstance(cells, dict) else cells
    return "| " + " | ".join(str(value) for value in values) + " |"


def _row(fault: str, workers: int, inject: Optional[Callable[[subprocess.Popen[bytes], Path], None]]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as place:
        folder, script = Path(place) / "comparison", Path(place) / "drive.py"
        script.write_text(DRIVE, encoding="utf-8")
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with open(Path(place) / "log", "wb") as log:
            process = subprocess.Popen(
                [sys.executable, str(script), str(folder), str(workers), fault], stdout=log, stderr=log, env=environment
            )
            if inject is not None:
                _wait_for(folder, process, 3)
                inject(process, folder)
            process.wait()
        store, (finished, failed) = Store(folder), _counts(folder)
        reasons = sorted({json.loads(file.read_text())["error"] for file in (folder / "failed").glob("*.json")})
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
        again = subprocess.Popen([sys.executable, "-c", RESUME, str(folder)], **quiet)
        again.wait()
        time.sleep(2)
        total = sum(len(keys) for model in store.plan()["models"] for keys in model["runs"].values())
        after, _ = _counts(folder)
        return {
            "fault": fault,
            "executor": f"Ray, {workers} workers" if workers else "serial",
            "runs": total,
            "finished": finished,
            "failed, with reason": f"{failed}: {reasons[0][:80]}" if failed else 0,
            "not finished": total - finished - failed,
            "finished after resume": after,
            "left in temporary folders and processes": len(_left([process.pid, again.pid])),
        }


def _counts(folder: Path) -> tuple[int, int]:
    return len(list((folder / "runs").glob("*.json"))), len(list((folder / "failed").glob("*.json")))


def _wait_for(folder: Path, process: subprocess.Popen[bytes], count: int) -> None:
    """Until so many runs are finished and another one is at work."""
    while process.poll() is None:
        if folder.is_dir() and _counts(folder)[0] >= count and list((folder / "work").glob("*")):
            time.sleep(1.0)
            return
        time.sleep(0.1)


def kill(process: subprocess.Popen[bytes], _: Path) -> None:
    process.send_signal(signal.SIGKILL)


def interrupt(process: subprocess.Popen[bytes], _: Path) -> None:
    process.send_signal(signal.SIGINT)


def kill_worker(process: subprocess.Popen[bytes], folder: Path) -> None:
    """The first of Ray's workers that stands in a run's folder."""
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if Path(child.cwd()).parent == (folder / "work").resolve():
                child.kill()
                return
        except psutil.Error:
            continue
    raise RuntimeError("no worker at work was found")


def _left(drivers: Sequence[int]) -> list[str]:
    """Temporary folders of these drivers' sessions, and processes that name one."""
    marks = [f"recdiff-ray-{driver}-" for driver in drivers]
    names = [each.name for each in Path(tempfile.gettempdir()).iterdir() if any(mark in each.name for mark in marks)]
    for each in psutil.process_iter(["pid", "cmdline"]):
        words = " ".join(each.info["cmdline"] or [])
        names += [f"process {each.info['pid']}"] if any(mark in words for mark in marks) else []
    return names


if __name__ == "__main__":
    main()
