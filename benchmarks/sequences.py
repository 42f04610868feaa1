"""How fast sequential models train and rank, and the memory they take: ours, the official code, RecBole's SASRec.

    python benchmarks/sequences.py --data PATH/amazon-beauty.inter.xz [--diffurec CHECKOUT] [--cddrec CHECKOUT]
        [--fmrec CHECKOUT] [--adrec CHECKOUT] [--dreamrec CHECKOUT] [--preferdiff CHECKOUT]
        [--models DiffuRec CDDRec FMRec ADRec DreamRec PreferDiff] [--parts speed memory] [--rounds N]

Checkouts are clones of WHUIR/DiffuRec at f6f70c9, YuWang-1024/CDDRec at edfe0ff, FengLiu-1/FMRec at 1c39b17,
Nemo-1024/ADRec at 0a30ef7, YangZhengyi98/DreamRec at 454133c and lswhim/PreferDiff at fdf45b0; without one the official
code is left out. Everything runs on the CPU, with the published settings for Amazon Beauty
(``sequence_competitors.py``). Markdown, on stdout.

Speed: all competitors in one process and in rounds (A B C A B C ...), on the same batches; medians of the seconds and
of the rounds' ratios. A training step is zero_grad, loss, backward and step of the optimiser: the official code's Adam,
our trainer's fused one, RecBole's for SASRec. An evaluation gives a batch of users the scores of all items, without
masks and metrics; with ``--batches N`` N batches, after one call of ``eval()``, and their first 20 items. As in
``speed.py``: other work on the machine changes the seconds, the ratios much less. Where there is much of it, ``--clock
cpu`` counts the seconds that the processor worked for us (of all threads: use one).

Memory: each competitor in a process of its own, which loads the data, makes model and optimiser, and then trains two
steps. Reported is how much the peak of resident memory in these lies above what was resident before them. The official
CDDRec keeps the graphs of all steps: 1 GiB at T = 3, so expect ten at T = 30.

What differs:

- The official code gets its batches ready-made. Its loader, a Python loop over rows, is not timed; our packing of rows
  (DiffuRec) and our drawing of second views and negatives (CDDRec) are in our steps.
- ``ours`` of DiffuRec leaves padding out (``mask_mode: key``): another model than the official one, whose mask shows
  it. ``ours, mask_mode official`` is the same model; it computes the last block only where it is read.
- Noise: both draw it on the CPU. At inference all users of our DiffuRec share it, place by place from the last one; the
  official code draws it for every user.
- ``ours, the same work`` of CDDRec is the official model but for dropout in the decoder: the self-attention's is shared
  by the steps, so that it is computed once, and the weights of attention to the step's vector have none. ``ours``
  attends within a sequence and leaves padding out.
- The official FMRec reconstructs the histories, in training by a loop over rows, and decodes them at every step of the
  inference too. ``ours, mask_mode official`` reconstructs them in training; ``ours`` does not, which is the default.
- The official ADRec runs two backward passes, one of each loss, and at inference all places at every step.
- The official DreamRec never calls ``eval()``; here its dropout is off while it ranks. Ours ranks in closed form, and
  ``the chain step by step`` takes the steps one after another, with one pass each for the guidance. PreferDiff has
  width 512 in place of 3,072. The official codes draw noise for every user.
- SASRec has DiffuRec's width, layers, heads, length and batches, an inner width of 4 d, and its CE loss. Importing it
  imports all of RecBole's sequential models, one of which turns on torch's anomaly mode for the whole process: that is
  timed in a row of its own and off for everyone else.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any, Callable, Optional

import torch
from memory import forget_peak, peak, resident, unpack
from sequence_competitors import ANOMALY, CODE, SPECS, UNRANKED, UNTRAINED, Competitor, Keys, lacking, makers, prepare
from speed import cpu_name, rounds, step

from recbole_diffusion.compat import repairs
from recbole_diffusion.training.run_folder import environment, hide_known_warnings

STEPS_OF_MEMORY = 2
CLOCKS = {"wall": perf_counter, "cpu": process_time}


# -- speed ---------------------------------------------------------------------------------------------------------


def training_step(competitor: Competitor) -> Callable[[], None]:
    """Each call takes the next batch; all competitors have the same ones in the same order."""
    plain = step(competitor.trainer, itertools.cycle(competitor.batches))

    def one() -> None:
        with torch.autograd.set_detect_anomaly(competitor.name == ANOMALY):
            plain()

    return one


def evaluation(competitor: Competitor) -> Callable[[], None]:
    """The scores of all items for the users, batch by batch, and with several batches their first 20 items."""
    model = competitor.trainer.model

    def one() -> None:
        model.eval()
        for users in competitor.users:
            scores = model.full_sort_predict(users)
            if len(competitor.users) > 1:
                scores.topk(20)

    return one


def ratio(seconds: dict[str, list[float]], one: str, other: str) -> str:
    """The median over the rounds of ``one`` divided by ``other``; a dash where one of them was not timed."""
    if one not in seconds or other not in seconds:
        return "–"
    return f"{median(a / b for a, b in zip(seconds[one], seconds[other])):.2f}"


def compare_speed(model: str, keys: Keys, checkout: Optional[Path], options: argparse.Namespace) -> None:
    """The tables of one model's seconds and ratios."""
    prepared = prepare(model, keys, options.rounds + 1, options.users, options.batches)
    competitors = [make() for make in makers(model, keys, prepared, checkout).values()]
    train = {each.name: training_step(each) for each in competitors if each.name not in UNTRAINED}
    rank = {each.name: evaluation(each) for each in competitors if each.name not in UNRANKED}
    clock = CLOCKS[options.clock]
    rounds(train, 1)  # warm up: caches, and the optimisers' state
    trained = rounds(train, options.rounds, clock=clock)
    rounds(rank, 1)
    ranked = rounds(rank, options.rounds * SPECS[model].rankings, clock=clock)
    rows, users = len(prepared.batches[0]), sum(map(len, prepared.users))
    config, of = prepared.config, prepared.dataset
    print(f"### {model}: speed\n")
    print(
        f"{of.item_num - 1:,} items, length {config['MAX_ITEM_LIST_LENGTH']}, width {config['hidden_size']}, "
        f"{config['n_layers'] or 1} blocks, T = {config['steps']}; medians of {options.rounds} rounds "
        f"of steps, {options.rounds * SPECS[model].rankings} of evaluations.\n"
    )
    print(f"| {model} | parameters | training step of {rows} rows, s | evaluation of {users} users, s |")
    print("|---|---|---|---|")
    for each in competitors:
        step_s = f"{median(trained[each.name]):.3f}" if each.name in trained else "as above"
        rank_s = f"{median(ranked[each.name]):.4f}" if each.name in ranked else "as above"
        print(f"| {each.name} | {each.parameters:,} | {step_s} | {rank_s} |")
    print(f"\n| {model}: seconds of … : those of … | training step | evaluation |\n|---|---|---|")
    for one, other in SPECS[model].ratios:
        if {one, other} <= {each.name for each in competitors}:
            print(f"| {one} : {other} | {ratio(trained, one, other)} | {ratio(ranked, one, other)} |")
    print(flush=True)


# -- memory --------------------------------------------------------------------------------------------------------


def measure(model: str, name: str, keys: Keys, checkout: Optional[str]) -> dict[str, Any]:
    """Two training steps of one competitor, in a process of its own."""
    prepared = prepare(model, keys, STEPS_OF_MEMORY, 1)
    competitor = makers(model, keys, prepared, Path(checkout) if checkout else None)[name]()
    one = training_step(competitor)
    gc.collect()
    exact, before = forget_peak(), resident()
    for _ in range(STEPS_OF_MEMORY):
        one()
    return {"before": before, "peak": peak(), "exact": exact}


def in_process(threads: int, *what: Any) -> dict[str, Any]:
    """:func:`measure` in a new interpreter."""
    command = [sys.executable, str(Path(__file__).resolve()), "--threads", str(threads), "--one", json.dumps(what)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare_memory(model: str, keys: Keys, checkout: Optional[Path], options: argparse.Namespace) -> None:
    """The table of one model's peaks."""
    names = [CODE] if checkout else []
    names += [name for name in SPECS[model].ours if name not in UNTRAINED]
    path = str(checkout) if checkout else None
    found = {name: in_process(options.threads, model, name, keys, path) for name in names}
    above = {name: row["peak"] - row["before"] for name, row in found.items()}
    print(f"### {model}: memory of training, {STEPS_OF_MEMORY} steps\n")
    print(f"| {model} | resident before, MiB | peak above that, MiB | of {names[0]}'s |\n|---|---|---|---|")
    for name, row in found.items():
        print(f"| {name} | {row['before']:.0f} | {above[name]:.0f} | {above[name] / above[names[0]]:.0%} |")
    if not all(row["exact"] for row in found.values()):
        print("\nHere the peak cannot be forgotten: it is the process's, preparation of the data included.")
    print(flush=True)


# -- all of it -----------------------------------------------------------------------------------------------------


def keys_of(model: str, options: argparse.Namespace) -> Keys:
    """What the command line changes of the model's settings."""
    keys: Keys = {} if options.length is None else {"MAX_ITEM_LIST_LENGTH": options.length}
    if options.steps is not None and model == "CDDRec":
        keys["steps"] = options.steps
    return keys


def main(arguments: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="amazon-beauty.inter.xz, or any .inter file with timestamps")
    for model, spec in SPECS.items():
        parser.add_argument(f"--{model.lower()}", type=Path, help=f"a clone of {spec.repository}; left out without")
    parser.add_argument("--models", nargs="+", choices=list(SPECS), default=list(SPECS), help="default: all")
    parser.add_argument("--parts", nargs="+", choices=["speed", "memory"], default=["speed", "memory"])
    parser.add_argument("--rounds", type=int, default=5, help="rounds of training steps and of evaluations")
    parser.add_argument("--users", type=int, default=128, help="users of a batch of an evaluation")
    parser.add_argument("--batches", type=int, default=1, help="batches of an evaluation; several: with their top 20")
    parser.add_argument("--length", type=int, help="places of a sequence; default: DiffuRec 50, CDDRec 20")
    parser.add_argument("--steps", type=int, help="CDDRec's diffusion steps T; default: 30")
    parser.add_argument("--threads", type=int, default=1, help="more than 1 only on a machine with nothing else to do")
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall", help="cpu: where much else runs; one thread")
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
    checkouts: dict[str, Optional[Path]] = {}
    for model in options.models:
        folder = getattr(options, model.lower())
        checkouts[model] = folder.resolve() if folder else None
        missing = lacking(model, folder) if folder else []
        if missing:
            what = f"lacks {', '.join(missing)}; give a clone of {SPECS[model].repository}"
            parser.error(f"--{model.lower()}: {folder} {what}")
    file, here = options.data.resolve(), Path.cwd()
    with tempfile.TemporaryDirectory() as name, hide_known_warnings():
        os.chdir(name)  # RecBole writes where it is started
        inter = unpack(file, Path(name) / "data")
        env = environment()
        packages = ("python", "recbole-diffusion", "recbole", "torch", "numpy")
        versions = ", ".join(f"{each} {env[each]}" for each in packages)
        machine = f"{cpu_name()}, {env['cpu_count']} CPUs, {options.threads} threads, {options.clock} clock"
        print(f"{inter.stem}. Machine: {machine}; {versions}; no GPU used.\n", flush=True)
        for model in options.models:
            where = {"data_path": str(Path(name) / "data"), "dataset": inter.stem}
            for part in options.parts:
                compare = {"speed": compare_speed, "memory": compare_memory}[part]
                compare(model, {**where, **keys_of(model, options)}, checkouts[model], options)
        os.chdir(here)  # Windows cannot remove a folder that is in use


if __name__ == "__main__":
    main()
