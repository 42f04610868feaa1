"""How much faster n of Ray's workers are than one process: the same trainings, one thread each, in one run.

    python benchmarks/workers.py [--workers 2] [--cells 8] [--epochs 60] [--rounds 3] [--model DiffRec]

Wall time, since that is what workers are for; alternating rounds, medians, and the time that Ray needs to start, and
each worker to import, beside it. The numbers of both must be equal, which is checked.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Sequence
from time import perf_counter
from typing import Any, Optional

os.environ.setdefault("OMP_NUM_THREADS", "1")

from recbole_diffusion.experiment.jobs.cell import Job, run_cell
from recbole_diffusion.experiment.jobs.executor import executor
from recbole_diffusion.experiment.jobs.store import Cell


def main(words: Optional[Sequence[str]] = None) -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("workers", 2), ("cells", 8), ("epochs", 60), ("rounds", 3)):
        options.add_argument(f"--{name}", type=int, default=default)
    options.add_argument("--model", default="DiffRec")
    given = options.parse_args(words)
    found: dict[str, list[dict[str, float]]] = {"serial": [], "ray": []}
    numbers: dict[str, Any] = {}
    for _ in range(given.rounds):
        for name, workers in (("serial", None), ("ray", given.workers)):
            seconds, results = _round(given, workers)
            found[name].append(seconds)
            if numbers.setdefault("all", results) != results:
                raise SystemExit(f"the numbers of {name} differ: {results} against {numbers['all']}")
    what = f"{given.cells} trainings of {given.model} on ml-100k, {given.epochs} epochs each"
    print(f"{what}; load {os.getloadavg()[0]:.1f}\n")
    print("| | seconds in all (median) | to start Ray | a training, wall | of it in run() |\n|---|---|---|---|---|")
    for name, rounds in found.items():
        middle = {part: statistics.median(each[part] for each in rounds) for part in rounds[0]}
        label = "one process" if name == "serial" else f"Ray, {given.workers} workers"
        print(f"| {label} | {middle['all']:.1f} | {middle['start']:.1f} | {middle['cell']:.2f} | {middle['run']:.2f} |")
    ratios = [one["all"] / two["all"] for one, two in zip(found["serial"], found["ray"])]
    working = [one["work"] / two["work"] for one, two in zip(found["serial"], found["ray"])]
    print(
        f"\nspeed-up {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}); without Ray's start "
        f"{statistics.median(working):.2f} ({min(working):.2f} to {max(working):.2f}); equal numbers"
    )


def _round(given: argparse.Namespace, workers: Optional[int]) -> tuple[dict[str, float], list[Any]]:
    with tempfile.TemporaryDirectory() as folder:
        settings = {"epochs": given.epochs, "stopping_step": given.epochs, "state": "ERROR", "prepared_data": folder}
        settings.update(split_seed=1, metric_decimal_place=6)
        cells = [Cell(given.model, given.model, "ml-100k", seed, settings) for seed in range(1, given.cells + 1)]
        jobs = [(cell.key, Job(cell, folder)) for cell in cells]
        begin = perf_counter()
        with executor(workers) as pool:
            ready = perf_counter()
            done = list(pool.map(run_cell, jobs))
            ended = perf_counter()
        closed = perf_counter()
    for each in done:
        if each.error is not None:
            raise SystemExit(each.error)
    records = sorted((each.value.record for each in done), key=lambda record: record["seed"])
    seconds = {
        "all": closed - begin,
        "start": ready - begin,
        "work": ended - ready,
        "cell": statistics.mean(each.seconds for each in done),
        "run": statistics.mean(record["timing"]["wall_s"] for record in records),
    }
    return seconds, [record["test"] for record in records]


if __name__ == "__main__":
    main()
