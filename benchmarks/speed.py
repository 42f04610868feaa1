"""How fast the four models train and rank: ours, RecBole's, the official code; DiffRec's step beside its products.

    python benchmarks/speed.py --data PATH/ml-1m_clean.npz [--official CHECKOUT] [--models NAME ...] [--repeats N]

Everything is timed in one process, in rounds (ours, RecBole's, official, ours, ...), on the CPU, and reported as
medians: other work on the machine changes the seconds, the ratios much less. That holds for one thread, the default;
of two threads each waits for the other, and whoever is disturbed then takes up to ten times as long. Markdown, on
stdout. Who is timed and at which settings: ``competitors.py``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Callable, Optional
from unittest import mock

import numpy as np
import torch
from competitors import (
    BATCH,
    CODE,
    MINE,
    MINE_SMALL,
    OURS,
    RECBOLE,
    RECBOLE_TYPED,
    SPECS,
    Competitor,
    Files,
    Task,
    official,
    official_arguments,
    ours,
    recbole,
    write_files,
)
from torch import nn

from recbole_diffusion.compat import repairs
from recbole_diffusion.model.networks import denoiser
from recbole_diffusion.model.rows.history import time_history
from recbole_diffusion.training.run_folder import environment, hide_known_warnings

LIKE_FOR_LIKE = "none: the same model, like for like"
#: Which seconds are divided by which, and what is aimed at for DiffRec.
RATIOS = (
    (RECBOLE, MINE, "evaluation at least 15"),
    (RECBOLE, MINE_SMALL, LIKE_FOR_LIKE),
    (RECBOLE_TYPED, MINE, LIKE_FOR_LIKE),
    (CODE, MINE, "training at least 1.3, evaluation at least 3"),
)


# -- our step ------------------------------------------------------------------------------------------------------


def batches(trainer: Any) -> Iterator[dict[str, torch.Tensor]]:
    """Full batches of different users, without end."""
    users = trainer.model.history.indptr.diff().nonzero().flatten()
    while True:
        order = users[torch.randperm(len(users))]
        for start in range(0, len(order) - BATCH + 1, BATCH):
            yield {trainer.model.USER_ID: order[start : start + BATCH]}


def step(trainer: Any, source: Iterator[Any]) -> Task:
    """One training step: rows, loss, gradients, update."""

    def one() -> None:
        trainer.model.train()
        trainer.optimizer.zero_grad()
        trainer.model.calculate_loss(next(source)).backward()
        trainer.optimizer.step()

    return one


def products(net: nn.Module, rows: int = BATCH) -> Task:
    """The matrix products of a step and nothing else: of each layer forward, its weight's gradient, its input's.

    Neither the row nor the step's embedding needs a gradient, nor does DDRM's condition.
    """
    calls: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    for name, layer in net.named_modules():
        if not isinstance(layer, nn.Linear):
            continue
        weight = layer.weight.detach().clone()
        x, grad = torch.randn(rows, layer.in_features), torch.randn(rows, layer.out_features)
        calls.append((x, weight.t(), torch.empty_like(grad)))
        calls.append((grad.t(), x, torch.empty_like(weight)))
        if name not in {"input", "time", "condition"}:
            calls.append((grad, weight, torch.empty_like(x)))

    def all_of_them() -> None:
        for a, b, out in calls:
            torch.mm(a, b, out=out)

    return all_of_them


class Clock:
    """Seconds by stage; what a stage within another takes counts for the inner one only."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}
        self.inner: list[float] = []  # of each open stage, what the stages within it took

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self.inner.append(0.0)
        start = perf_counter()
        yield
        took = perf_counter() - start
        self.seconds.setdefault(name, []).append(took - self.inner.pop())
        if self.inner:
            self.inner[-1] += took

    def watch(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function``, each call of it a stage."""

        def timed_function(*args: Any, **keys: Any) -> Any:
            with self.stage(name):
                return function(*args, **keys)

        return timed_function


def watched_step(trainer: Any, source: Iterator[Any], clock: Clock) -> Task:
    """The step of :func:`step` with a clock in the functions that it calls."""
    model = trainer.model
    places: list[tuple[str, Any, str]] = [
        ("the rest of the loss", model, "calculate_loss"),
        ("rows of the history", model.history, "rows"),
        ("drawing the steps t", model.diffusion.timesteps, "sample"),
        ("history of losses", model.diffusion.timesteps, "update"),
        ("noise", torch, "randn_like"),
        ("q_sample", model.diffusion.process, "q_sample"),
        ("layers, forward", model.diffusion.denoiser, "forward"),
        ("dropout", denoiser, "dropout"),
        ("optimiser", trainer.optimizer, "step"),
        ("optimiser", trainer.optimizer, "zero_grad"),
    ]
    plain = step(trainer, source)

    def one() -> None:
        with contextlib.ExitStack() as stack:
            for name, owner, function in places:
                watch = clock.watch(name, getattr(owner, function))
                stack.enter_context(mock.patch.object(owner, function, watch))
            with clock.stage("backward and what is between"):
                plain()

    return one


# -- timing and report ---------------------------------------------------------------------------------------------


def timed(task: Task, clock: Callable[[], float] = perf_counter) -> float:
    """Seconds of one call."""
    start = clock()
    task()
    return clock() - start


def rounds(
    tasks: dict[str, Task],
    repeats: int,
    every: Optional[dict[str, int]] = None,
    clock: Callable[[], float] = perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each task in ``repeats`` rounds over all of them; one with ``every`` n takes part in each n-th."""
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for index in range(repeats):
        for name, task in tasks.items():
            if index % (every or {}).get(name, 1) == 0:
                seconds[name].append(timed(task, clock))
    return seconds


def entrants(model: str, files: Files, checkout: Optional[Path], options: argparse.Namespace) -> list[Competitor]:
    """Everyone who is timed beside our ``model`` at the official settings, which comes first."""
    spec = SPECS[model]
    found = [
        ours(MINE, model, files, OURS),
        recbole(RECBOLE, model, files, {}, options.default_users),
        ours(MINE_SMALL, model, files, spec.small),
        recbole(RECBOLE_TYPED, model, files, spec.typed, options.typed_users),
    ]
    return [*found, official(model, checkout, files)] if checkout else found


def compare(model: str, competitors: Sequence[Competitor], repeats: int) -> None:
    """The tables of epochs and evaluations."""
    for each in competitors:
        each.epoch()  # warm up: caches, and the first batches' cheaper history of losses
    train = rounds({each.name: each.epoch for each in competitors}, repeats)
    every = {each.name: each.every for each in competitors}
    rank = rounds({each.name: each.evaluate for each in competitors}, repeats, every)
    users = competitors[0].users
    epoch = {name: median(seconds) for name, seconds in train.items()}
    full = {each.name: median(rank[each.name]) * users / each.users for each in competitors}
    print(f"| {model} | parameters | training epoch, s | evaluation of all users, s | timed |\n|---|---|---|---|---|")
    for each in competitors:
        note = f"{len(train[each.name])} epochs, {len(rank[each.name])} evaluations"
        if each.users < users:
            note += f" of {each.users} of {users} users, scaled per user"
        print(f"| {each.name} | {each.parameters:,} | {epoch[each.name]:.2f} | {full[each.name]:.2f} | {note} |")
    print(f"\n| {model}: seconds of … : those of … | training epoch | evaluation | aim |\n|---|---|---|---|")
    for other, mine, aim in RATIOS:
        if other in epoch:
            ratios = f"{epoch[other] / epoch[mine]:.2f} | {full[other] / full[mine]:.2f}"
            print(f"| {other} : {mine} | {ratios} | {aim if model == 'DiffRec' or aim == LIKE_FOR_LIKE else 'none'} |")
    print(flush=True)


def compare_weights(competitors: Sequence[Competitor], repeats: int) -> None:
    """The making of T-DiffRec's weighted rows: ours, and the part of RecBole's constructor that does it."""
    mine, theirs = (next(each for each in competitors if each.name == name) for name in (MINE, RECBOLE))
    net = theirs.trainer.model
    tasks: dict[str, Task] = {
        "ours": lambda: time_history(mine.dataset, net.w_min, net.w_max),
        "RecBole's": lambda: net.build_histroy_items(theirs.dataset),
    }
    seconds = {name: median(values) for name, values in rounds(tasks, repeats).items()}
    print(f"| rows weighted by time, {len(mine.dataset):,} interactions | s (median of {repeats}) |\n|---|---|")
    for name, value in seconds.items():
        print(f"| {name} | {value:.2f} |")
    first, second = seconds.values()
    print(f"| RecBole's : ours | {second / first:.1f} |\n", flush=True)


def look_at_step(trainer: Any, repeats: int) -> None:
    """Our step beside its matrix products, and its parts."""
    source, clock = batches(trainer), Clock()
    tasks = {
        "step": step(trainer, source),
        "products": products(trainer.model.diffusion.denoiser),
        "watched": watched_step(trainer, source, clock),
    }
    rounds(tasks, 3)
    clock.seconds.clear()
    seconds = rounds(tasks, repeats)
    ratio = median(a / b for a, b in zip(seconds["step"], seconds["products"]))
    low, high = np.quantile(np.array(seconds["step"]) / np.array(seconds["products"]), [0.25, 0.75])
    print(f"| our training step, {BATCH} users | ms (median of {repeats}) |\n|---|---|")
    print(f"| step | {1e3 * median(seconds['step']):.1f} |")
    print(f"| its bare matrix products | {1e3 * median(seconds['products']):.1f} |")
    print(f"| step : products, median of the rounds' ratios | {ratio:.2f} (quartiles {low:.2f} to {high:.2f}) |\n")
    print("Aim: at most 1.4.\n")
    parts = {stage: np.reshape(values, (repeats, -1)).sum(axis=1) for stage, values in clock.seconds.items()}
    total = median(seconds["watched"])
    print("| part of the step | ms (median) | share |\n|---|---|---|")
    for stage, values in sorted(parts.items(), key=lambda part: -np.median(part[1])):
        print(f"| {stage} | {1e3 * np.median(values):.2f} | {np.median(values) / total:.0%} |")
    print(f"| all | {1e3 * total:.2f} | |\n")


def cpu_name() -> str:
    """The processor's name where the system tells."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown CPU")


def heading(threads: int, models: Sequence[str]) -> None:
    """Machine, versions, settings."""
    env = environment()
    versions = ", ".join(f"{key} {env[key]}" for key in ("python", "recbole-diffusion", "recbole", "torch", "numpy"))
    print(f"Machine: {cpu_name()}, {env['cpu_count']} CPUs, {threads} threads; {versions}; no GPU used.\n")
    print(
        "Settings: ml-1m_clean (5,949 users, 2,810 items), official split, metrics Recall and NDCG at 10 and 20 on the "
        f"part valid. Ours: {OURS}, else our defaults, which are the official settings; clusters of the official item "
        "embeddings. RecBole's clusters and the official code's are ours. The official code's loader has no workers.\n"
    )
    for model in models:
        spec = SPECS[model]
        print(f"- {model}: RecBole's line with official settings: { ({**spec.typed, **spec.always}) }.")
        print(f"  Official: {' '.join(official_arguments(model))}")
    print(flush=True)


def main(arguments: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, help="ml-1m_clean.npz")
    parser.add_argument("--official", type=Path, help="a checkout of the official repository; left out without")
    parser.add_argument("--models", nargs="+", choices=list(SPECS), default=list(SPECS), help="default: all four")
    parser.add_argument("--repeats", type=int, default=5, help="rounds of epochs and of evaluations")
    parser.add_argument("--step-repeats", type=int, default=100, help="rounds of the single step; 0: leave it out")
    parser.add_argument("--default-users", type=int, default=6000, help="users that RecBole at its defaults ranks")
    parser.add_argument("--typed-users", type=int, default=300, help="the same for RecBole at the official settings")
    parser.add_argument("--threads", type=int, default=1, help="more than 1 only on a machine with nothing else to do")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    file, here = options.data.resolve(), Path.cwd()
    checkout = options.official.resolve() if options.official else None
    repairs.apply()
    with tempfile.TemporaryDirectory() as name, hide_known_warnings():
        os.chdir(name)  # RecBole writes where it is started
        files = write_files(file, Path(name))
        heading(options.threads, options.models)
        for model in options.models:
            if model == "DiffRec" and options.step_repeats:
                look_at_step(ours(MINE, model, files, OURS).trainer, options.step_repeats)
            if options.repeats:
                competitors = entrants(model, files, checkout, options)
                compare(model, competitors, options.repeats)
                if model == "TDiffRec":
                    compare_weights(competitors, options.repeats)
        os.chdir(here)  # Windows cannot remove a folder that is in use


if __name__ == "__main__":
    main()
