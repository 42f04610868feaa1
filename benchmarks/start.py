"""How long commands take before they work: processor seconds and wall time, of one or more source trees in turn.

    python benchmarks/start.py [--tree=. --tree=../before] [--rounds=5]

The trees take turns within a round, so that the machine's load is the same for all. ``run`` trains one epoch of BPR
and of DiffRec on ml-100k, where what is imported is most of it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from pathlib import Path

from measured import Cost, measured, tree_name

_RUN = ("--dataset=ml-100k", "--epochs=1", "--no-save", "--show_progress=False", "--state=ERROR")
COMMANDS = {
    "--help": ("--help",),
    "models": ("models",),
    "run --help --model=DiffRec": ("run", "--help", "--model=DiffRec"),
    "run --dry-run, DiffRec": ("run", "--model=DiffRec", "--dataset=ml-100k", "--dry-run"),
    "run --dry-run, BPR": ("run", "--model=BPR", "--dataset=ml-100k", "--dry-run"),
    "run, DiffRec, one epoch": ("run", "--model=DiffRec", *_RUN),
    "run, BPR, one epoch": ("run", "--model=BPR", *_RUN),
    "report of two runs": ("report", "compared"),
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--tree", type=Path, action="append")
    options.add_argument("--rounds", type=int, default=5)
    arguments = options.parse_args()
    trees = [tree.resolve() for tree in arguments.tree or [Path()]]
    costs: dict[tuple[str, Path], list[Cost]] = {}
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name, str(number)) for number in range(len(trees))]
        compare = ("compare", "--models=Pop,EASE", "--dataset=ml-100k", "--seeds=1", "--folder=compared")
        for tree, folder in zip(trees, folders):
            folder.mkdir()
            measured(compare, tree, folder)
        for _ in range(arguments.rounds):
            for command, words in COMMANDS.items():
                for tree, folder in zip(trees, folders):
                    costs.setdefault((command, tree), []).append(measured(words, tree, folder))
    print(f"medians of {arguments.rounds}; load at the end {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
    names = [tree_name(tree) for tree in trees]
    print("| command |" + "".join(f" CPU s, {name} | wall s, {name} |" for name in names))
    print("| --- |" + " ---: | ---: |" * len(trees))
    for command in COMMANDS:
        parts = [_median(costs[command, tree]) for tree in trees]
        print(f"| `{command}` |" + "".join(f" {cost.cpu:.2f} | {cost.wall:.2f} |" for cost in parts))


def _median(costs: list[Cost]) -> Cost:
    return Cost(statistics.median(cost.wall for cost in costs), statistics.median(cost.cpu for cost in costs))


if __name__ == "__main__":
    main()
