"""How much faster a comparison is on n of Ray's workers than in one process, of one or more source trees in turn.

    python benchmarks/workers.py [--what=small,long] [--workers=2] [--tree=. --tree=../before] [--rounds=3]

``small``: eight runs of one to a few seconds (Pop, EASE, BPR and DiffRec with two seeds, three epochs). ``long``: four
runs of DiffRec with ``--epochs`` epochs. Each is a whole command in a new process, from its start to its end: imports,
plan, Ray's start and end, report. One thread a run. A tree's numbers must
be equal with and without workers, which is checked.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any, Optional

from measured import Cost, measured, tree_name


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--what", default="small,long")
    options.add_argument("--tree", type=Path, action="append")
    for name, default in (("workers", 2), ("epochs", 60), ("rounds", 3)):
        options.add_argument(f"--{name}", type=int, default=default)
    arguments = options.parse_args()
    trees = [tree.resolve() for tree in arguments.tree or [Path()]]
    commands = {
        "small": ["--models=Pop,EASE,BPR,DiffRec", "--seeds=2", "--epochs=3"],
        "long": [
            "--models=DiffRec", "--seeds=4", f"--epochs={arguments.epochs}", f"--stopping_step={arguments.epochs}"
        ],
    }  # fmt: skip
    for what in arguments.what.split(","):
        _compare(what, commands[what], trees, arguments.workers, arguments.rounds)


def _compare(what: str, words: list[str], trees: list[Path], workers: int, rounds: int) -> None:
    """Measure one kind in rounds, and print its table."""
    costs: dict[tuple[Path, Optional[int]], list[Cost]] = {}
    loads: list[float] = []
    numbers: dict[Path, Any] = {}
    for _ in range(rounds):
        for tree in trees:
            for count in (None, workers):
                cost, results = _run(words, tree, count)
                costs.setdefault((tree, count), []).append(cost)
                loads.append(os.getloadavg()[0])
                if results != numbers.setdefault(tree, results):
                    raise SystemExit(f"the numbers of {tree_name(tree)} differ: {results}, {numbers[tree]}")
                if not results:
                    raise SystemExit(f"{tree_name(tree)} left no results")
    print(f"\n{what}: compare {' '.join(words)}; load {min(loads):.1f} to {max(loads):.1f} on {os.cpu_count()} cores\n")
    print("| source | | wall s (median) | CPU s (median) | speed-up (median; least to most) |")
    print("| --- | --- | ---: | ---: | --- |")
    for tree in trees:
        for count in (None, workers):
            name = "one process" if count is None else f"{count} workers"
            wall = statistics.median(cost.wall for cost in costs[tree, count])
            cpu = statistics.median(cost.cpu for cost in costs[tree, count])
            ratios = [one.wall / two.wall for one, two in zip(costs[tree, None], costs[tree, count])]
            speed = f"{statistics.median(ratios):.2f}; {min(ratios):.2f} to {max(ratios):.2f}" if count else ""
            print(f"| {tree_name(tree)} | {name} | {wall:.1f} | {cpu:.1f} | {speed} |", flush=True)


def _run(words: list[str], tree: Path, workers: Optional[int]) -> tuple[Cost, Any]:
    """The cost of one comparison, and the test metrics of its runs."""
    with tempfile.TemporaryDirectory() as folder:
        where = [f"--workers={workers}"] if workers else []
        more = ["--metric_decimal_place=6", "--folder=compared", *where]
        cost = measured(["compare", "--dataset=ml-100k", *words, *more], tree, Path(folder))
        files = [file for name in ("runs", "cells") for file in Path(folder, "compared", name).glob("*.json")]
        records = [json.loads(file.read_text()) for file in files]  # cells: the folder's name in older sources
    return cost, sorted((record["label"], record["seed"], str(record["test"])) for record in records)


if __name__ == "__main__":
    main()
