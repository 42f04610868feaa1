"""How fast DDRM or HDRM trains and ranks, and the memory that its scoring takes: ours beside the official code.

    python benchmarks/embeddings.py --model DDRM --data PATH/ml-1m_noisy.npz [--tables PATH/ml-1m_noisy_lightgcn.npz]
        [--official CHECKOUT] [--parts speed memory] [--repeats N] [--steps N] [--users N]
    python benchmarks/embeddings.py --model HDRM --data PATH/ml-1m_clean.npz [--official CHECKOUT] ...

Checkouts are clones of Polaris-JZ/DDRM at ad4034c and yuanmeng-cpu/HDRM at 9f90145. Everything runs on the CPU, with
the official settings for ml-1m, on the same embeddings: without ``--tables`` random ones, on whose values no cost
depends (``embedding_competitors.py``). Markdown, on stdout.

Speed: both in one process and in rounds (A B A B ...); medians of the seconds and of the rounds' ratios. As in
``speed.py``: other work on the machine changes the seconds, the ratios much less, and fewer of them by the clock of the
processor (the default; one thread).

- A training epoch is the steps for all interactions, scaled from those of a round, and the batches that the loader
  hands out for them; the official code's also the drawing of the triples, which is in our steps.
- An evaluation is the whole test of all users, with four metrics at four cut-offs: ours as it is, the official one
  scaled from ``--users``. Scoring is a part of it: the scores of all items for those users, without masks and metrics.
- ``our products`` are the bare matrix products of our step, and of our reverse chain and scores: a floor.

Memory: each competitor in a process of its own, at growing width d of random embeddings. Reported is how far the peak
of resident memory in the scoring of 512 users lies above what was resident after a first such scoring of one user. All
arrays of 64 KiB and more are given back to the system at once, so that none hides in what was free already. The
official DDRM holds users x items x d numbers; the official HDRM goes user by user and holds items x d.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Optional

import torch
from embedding_competitors import (
    CODE,
    MINE,
    SPECS,
    USERS_PER_BATCH,
    Files,
    Official,
    Ours,
    lacking,
    write_files,
    write_table,
)
from memory import forget_peak, peak, resident
from sequences import CLOCKS, ratio
from speed import Task, cpu_name, products, rounds
from torch import nn

from recbole_diffusion.compat import repairs
from recbole_diffusion.training.run_folder import environment, hide_known_warnings

MIB = 2**20
WIDTHS = (16, 64, 256)
PARTS = ("speed", "memory")
#: What is timed of each competitor, in the order of the table.
TASKS = ("draw", "load", "train", "score", "evaluate")
#: The rows of the table.
DRAW, LOAD, STEP, EPOCH = "an epoch's triples", "an epoch's loader", "training step", "training epoch"
SCORING, EVALUATION = "scoring of all users", "evaluation of all users"
AIMS = {EPOCH: "2", EVALUATION: "20"}  # official code : ours, at least
FLOOR = "our products"
RATIOS = ((CODE, MINE), (MINE, FLOOR), (CODE, FLOOR))


# -- speed ---------------------------------------------------------------------------------------------------------


class Floor:
    """The matrix products of our training step and of our scoring, and nothing else."""

    name, draws_in_step = FLOOR, True

    def __init__(self, mine: Ours) -> None:
        self.batches, self.batch, self.interactions, self.users = (
            mine.batches,
            mine.batch,
            mine.interactions,
            mine.users,
        )
        diffusion, items, calls = mine.net.diffusion, mine.net.n_items, mine.net.nfe
        self.parameters = mine.parameters
        self.steps = [products(net, mine.batch) for net in (diffusion.user_denoiser, diffusion.item_denoiser)]
        parts = mine.users.split(USERS_PER_BATCH)
        self.chains = [chain_products(diffusion.item_denoiser, len(part), calls, items) for part in parts]

    def train(self) -> None:
        for _ in self.batches:
            for task in self.steps:
                task()

    def score(self) -> None:
        for task in self.chains:
            task()


def chain_products(net: Any, rows: int, calls: int, items: int) -> Task:
    """The products of scoring ``rows`` users: the condition's once, the layers' at each call, the scores'."""

    def product(layer: nn.Linear) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        weight = layer.weight.detach().clone()
        return torch.randn(rows, weight.shape[1]), weight.t(), torch.empty(rows, len(weight))

    each = [product(layer) for layer in (net.input, *net.hidden, net.output)]
    once = [product(net.condition), product(nn.Linear(net.output.out_features, items))]

    def all_of_them() -> None:
        for a, b, out in once + calls * each:
            torch.mm(a, b, out=out)

    return all_of_them


def timed(competitors: Sequence[Any], options: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """By row of the table and competitor, the seconds of each round."""
    clock = CLOCKS[options.clock]
    seconds: dict[str, dict[str, list[float]]] = {}
    for task in TASKS:
        tasks: dict[str, Task] = {each.name: getattr(each, task) for each in competitors if hasattr(each, task)}
        if task in {"train", "score"}:
            rounds(tasks, 1)  # warm up: caches, and the optimisers' state
        seconds[task] = rounds(tasks, options.repeats, clock=clock)
    rows: dict[str, dict[str, list[float]]] = {DRAW: seconds["draw"], LOAD: seconds["load"]}
    rows.update({name: {} for name in (STEP, EPOCH, SCORING, EVALUATION)})
    everyone = competitors[0].evaluated
    for each in competitors:
        name = each.name
        around = [
            seconds[part][name] for part in ("load",) + ("draw",) * (not each.draws_in_step) if name in seconds[part]
        ]
        rows[STEP][name] = [value / len(each.batches) for value in seconds["train"][name]]
        rows[EPOCH][name] = [value * each.interactions / each.batch for value in rows[STEP][name]]
        rows[EPOCH][name] = [sum(parts) for parts in zip(rows[EPOCH][name], *around)]
        rows[SCORING][name] = [value * everyone / len(each.users) for value in seconds["score"][name]]
        if name in seconds["evaluate"]:
            rows[EVALUATION][name] = [value * everyone / each.evaluated for value in seconds["evaluate"][name]]
    return rows


def compare_speed(model: str, competitors: Sequence[Any], options: argparse.Namespace) -> None:
    """The table of seconds and ratios."""
    rows, names, mine = timed(competitors, options), [each.name for each in competitors], competitors[0]
    pairs = [pair for pair in RATIOS if {*pair} <= {*names}]
    print(f"### {model}: speed\n")
    tested = "".join(f"; tested by the official code: {each.evaluated}" for each in competitors if each.name == CODE)
    print(
        f"Medians of {options.repeats} rounds of {len(mine.batches)} steps; {mine.batch} triples a step, "
        f"{mine.interactions / mine.batch:.1f} steps an epoch. Scored: {len(mine.users)} of {mine.evaluated} users, in "
        f"batches of {USERS_PER_BATCH}{tested}; scaled per user.\n"
    )
    heads = [*names, *(f"{one} : {other}" for one, other in pairs), f"aim for {CODE} : {MINE}"]
    print(f"| {model}, seconds | {' | '.join(heads)} |\n{'|---' * (1 + len(heads))}|")
    print(f"| parameters | {' | '.join(f'{each.parameters:,}' for each in competitors)} |{' |' * (1 + len(pairs))}")
    for row, seconds in rows.items():
        values = [f"{median(seconds[name]):.3f}" if name in seconds else "–" for name in names]
        values += [ratio(seconds, *pair) for pair in pairs]
        print(f"| {row} | {' | '.join(values)} | {AIMS.get(row, '')} |")
    print(flush=True)


# -- memory --------------------------------------------------------------------------------------------------------


def measure(name: str, model: str, files: Sequence[str], checkout: str) -> dict[str, Any]:
    """Scoring of 512 users by one competitor, in a process of its own."""
    one = competitor(name, model, Files(*files), 0, USERS_PER_BATCH, Path(checkout))
    users = one.users
    one.users = users[:1]
    one.score()
    one.users = users
    gc.collect()
    exact, before = forget_peak(), resident()
    one.score()
    return {"above": peak() - before, "exact": exact, "items": one.n_items}


def in_process(*what: Any) -> dict[str, Any]:
    """:func:`measure` in a new interpreter."""
    command = [sys.executable, str(Path(__file__).resolve()), "--one", json.dumps(what)]
    own = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=own)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare_memory(model: str, files: Files, checkout: Optional[Path], options: argparse.Namespace) -> None:
    """The table of peaks by width."""
    names = [MINE, CODE] if checkout else [MINE]
    print(f"### {model}: memory of scoring {USERS_PER_BATCH} users, MiB above what was resident\n")
    print(f"| d | users x items | users x items x d | {' | '.join(names)} |\n{'|---' * (3 + len(names))}|")
    exact = True
    for width in options.widths:
        table = write_table(model, files, width)
        found = [in_process(name, model, table, str(checkout)) for name in names]
        scores = 4 * USERS_PER_BATCH * found[0]["items"] / MIB
        above = " | ".join(f"{each['above']:.0f}" for each in found)
        print(f"| {width} | {scores:.0f} | {scores * width:.0f} | {above} |", flush=True)
        exact &= all(each["exact"] for each in found)
    print("" if exact else "\nHere the peak cannot be forgotten: it is the process's, preparation included.\n")


# -- all of it -----------------------------------------------------------------------------------------------------


def competitor(name: str, model: str, files: Files, steps: int, users: int, checkout: Optional[Path]) -> Any:
    """By its name."""
    if name == MINE or checkout is None:
        return Ours(model, files, steps, users)
    return Official(model, files, steps, users, checkout)


def main(arguments: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(SPECS), default="DDRM")
    parser.add_argument("--data", type=Path, help="ml-1m_noisy.npz (DDRM), ml-1m_clean.npz (HDRM)")
    parser.add_argument("--tables", type=Path, help="ml-1m_noisy_lightgcn.npz; default: random embeddings")
    parser.add_argument("--official", type=Path, help="a checkout of the official repository; left out without")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    parser.add_argument("--steps", type=int, help="training steps of a round; default: DDRM 10, HDRM 1")
    parser.add_argument("--users", type=int, default=1023, help="users to score, and for the official test")
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS, help="for the memory")
    parser.add_argument("--threads", type=int, default=1, help="more than 1 only on a machine with nothing else to do")
    parser.add_argument("--clock", choices=list(CLOCKS), default="cpu", help="wall: where nothing else runs")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    repairs.apply()
    if options.one:
        with hide_known_warnings():
            print(json.dumps(measure(*json.loads(options.one))))
        return
    if options.data is None or not options.data.is_file():
        parser.error("--data is needed, and must be a file")
    if options.official and lacking(options.model, options.official):
        parser.error(f"--official: {options.official} is no clone of {SPECS[options.model].repository}")
    if options.users % USERS_PER_BATCH == 0:
        parser.error(f"--users: the official test fails for multiples of {USERS_PER_BATCH}")
    compare(options)


def compare(options: argparse.Namespace) -> None:
    """All parts of one model."""
    model, here = options.model, Path.cwd()
    data, tables, checkout = (each and each.resolve() for each in (options.data, options.tables, options.official))
    with tempfile.TemporaryDirectory() as name, hide_known_warnings():
        os.chdir(name)  # RecBole and the official code write where they are started
        env = environment()
        packages = ("python", "recbole-diffusion", "recbole", "torch", "numpy")
        versions = ", ".join(f"{each} {env[each]}" for each in packages)
        machine = f"{cpu_name()}, {env['cpu_count']} CPUs, {options.threads} threads, {options.clock} clock"
        print(f"{model} on {data.stem}. Machine: {machine}; {versions}; no GPU used.\n", flush=True)
        files = write_files(data, Path(name))
        if "speed" in options.parts:
            table = write_table(model, files, SPECS[model].width, tables)
            names, steps = [MINE, CODE] if checkout else [MINE], options.steps or SPECS[model].steps
            competitors = [competitor(each, model, table, steps, options.users, checkout) for each in names]
            compare_speed(model, [competitors[0], Floor(competitors[0]), *competitors[1:]], options)
        if "memory" in options.parts:
            compare_memory(model, files, checkout, options)
        os.chdir(here)  # Windows cannot remove a folder that is in use


if __name__ == "__main__":
    main()
