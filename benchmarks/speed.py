"""How fast DiffRec trains and ranks: ours, RecBole's and the official code, and our step beside its matrix products.

    python benchmarks/speed.py --data PATH/ml-1m_clean.npz [--official PATH_TO_CHECKOUT] [--repeats N]

Everything is timed in one process, in rounds (ours, RecBole's, official, ours, ...), on the CPU, and reported as
medians: other work on the machine changes the seconds, the ratios much less. That holds for one thread, the default;
of two threads each waits for the other, and whoever is disturbed then takes up to ten times as long. Markdown, on
stdout.

The official code comes from a checkout of https://github.com/YiyanXu/DiffRec (commit d35a6c6) and is run as it is,
its ``main.py`` in three pieces: what comes before the training loop, the loop over an epoch's batches, ``evaluate``.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib.util
import io
import os
import sys
import tempfile
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Callable, NamedTuple, Optional
from unittest import mock

import numpy as np
import scipy.sparse
import torch
from official_split import settings, write_split
from recbole.config import Config as RecBoleConfig
from recbole.data import create_dataset as recbole_create_dataset
from recbole.data import data_preparation
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.model.general_recommender import DiffRec as RecBoleDiffRec
from recbole.trainer import Trainer
from recbole.utils import init_seed
from torch import nn

from recbole_diffusion import compat, data, registry
from recbole_diffusion.model import denoiser
from recbole_diffusion.quick_start import configure
from recbole_diffusion.runs import environment, quiet
from recbole_diffusion.trainer import trainer_class

Task = Callable[[], object]
NAME = "ml-1m_clean"
BATCH = 400
COMMON: dict[str, Any] = {
    "seed": 1,
    "use_gpu": False,
    "state": "error",
    "topk": [10, 20],
    "metrics": ["Recall", "NDCG"],
    "valid_metric": "Recall@20",
    "train_neg_sample_args": None,
}
#: The official training of ml-1m_clean; our defaults hold the rest.
OURS: dict[str, Any] = {"learning_rate": 1e-3, "learner": "adamw", "weight_decay": 0.0, "train_batch_size": BATCH}
#: The official settings in RecBole's keys; its default of eval_batch_size stays.
TYPED_IN: dict[str, Any] = {
    **OURS,
    "noise_schedule": "linear-var",
    "noise_scale": 0.005,
    "noise_min": 0.005,
    "noise_max": 0.01,
    "steps": 40,
    "dims_dnn": [600, 200, 600],
}
#: RecBole's default settings of its DiffRec, in our keys.
RECBOLE_DEFAULTS: dict[str, Any] = {
    "learning_rate": 1e-3,
    "learner": "adam",
    "weight_decay": 0.0,
    "train_batch_size": 2048,
    "noise_schedule": "linear",
    "noise_scale": 0.001,
    "noise_min": 0.0005,
    "noise_max": 0.005,
    "steps": 5,
    "dims_dnn": [300],
}
#: The official settings on the command line of the official main.py.
OFFICIAL = (
    f"--lr=1e-3 --weight_decay=0 --batch_size={BATCH} --dims=[200,600] --emb_size=10 --mean_type=x0 --steps=40 "
    "--noise_schedule=linear-var --noise_scale=0.005 --noise_min=0.005 --noise_max=0.01 --sampling_steps=0"
).split()


#: Names of the competitors.
MINE, MINE_SMALL = "ours, official settings", "ours, RecBole's default settings"
RECBOLE, RECBOLE_TYPED = "RecBole's, its defaults", "RecBole's, official settings"
CODE = "official code"
#: Which seconds are divided by which, and what is aimed at.
RATIOS = (
    (RECBOLE, MINE, "evaluation at least 15"),
    (RECBOLE, MINE_SMALL, "none: the same model, like for like"),
    (RECBOLE_TYPED, MINE, "none: the same model, like for like"),
    (CODE, MINE, "training at least 1.3, evaluation at least 3"),
)


class Competitor(NamedTuple):
    """``evaluate`` ranks the items for ``users`` users; ``every``: in one round of how many it is timed."""

    name: str
    epoch: Task
    evaluate: Task
    users: int
    every: int = 1


# -- the competitors -----------------------------------------------------------------------------------------------


def ours(name: str, folder: Path, keys: dict[str, Any]) -> tuple[Competitor, Any]:
    """Ours, with the trainer, whose model and optimiser :func:`step` uses."""
    config = configure("DiffRec", NAME, config_dict={**COMMON, **keys, **settings(folder)})
    init_seed(config["seed"], config["reproducibility"])
    dataset = data.create_dataset(config)
    train, valid, _ = data.prepare(config, dataset)
    model = config.model_class(config, train._dataset)
    trainer = trainer_class(registry.get_trainer(config["MODEL_TYPE"], "DiffRec", "DiffRec"))(config, model)
    trainer.eval_collector.data_collect(train)
    return _competitor(name, trainer, train, valid), trainer


def recbole(name: str, folder: Path, keys: dict[str, Any], users: int, every: int = 1) -> Competitor:
    """RecBole's DiffRec in RecBole's own configuration, loaders and trainer; ``users``: how many are ranked."""
    with mock.patch.object(sys, "argv", sys.argv[:1]), mock.patch.dict(os.environ):  # it reads one and sets the other
        config = RecBoleConfig(RecBoleDiffRec, NAME, config_dict={**COMMON, **keys, **settings(folder)})
    init_seed(config["seed"], config["reproducibility"])
    dataset = recbole_create_dataset(config)
    train, valid, _ = data_preparation(config, dataset)
    trainer = Trainer(config, RecBoleDiffRec(config, train._dataset))
    trainer.eval_collector.data_collect(train)
    return _competitor(name, trainer, train, _first_users(config, valid, users), every)


def _competitor(name: str, trainer: Any, train: Any, valid: Any, every: int = 1) -> Competitor:
    return Competitor(
        name,
        lambda: trainer._train_epoch(train, 0),
        lambda: trainer.evaluate(valid, load_best_model=False),
        valid.sample_size,
        every,
    )


def _first_users(config: Any, loader: Any, count: int) -> Any:
    """RecBole's loader with ``count`` users, evenly spread: the cost of its one-user batches does not vary."""
    part = loader._dataset
    users = loader.uid_list.numpy()
    if count >= len(users):
        return loader
    chosen = users[np.linspace(0, len(users) - 1, count).astype(int)]
    inside = np.isin(part.inter_feat[part.uid_field].numpy(), chosen)
    return FullSortEvalDataLoader(config, part.copy(part.inter_feat[torch.from_numpy(inside)]), loader._sampler)


def official(checkout: Path, file: Path, folder: Path) -> Competitor:
    """The official code at its settings. What does not run today is patched while its first piece runs."""
    source = checkout / "DiffRec" if (checkout / "DiffRec").is_dir() else checkout
    arrays = folder / "arrays"
    arrays.mkdir()
    with np.load(file) as content:
        for part in ("train", "valid", "test"):
            np.save(arrays / f"{part}_list.npy", content[part])
    before, epoch = _pieces(source / "main.py")
    space: dict[str, Any] = {"__name__": "official_main"}
    with _runnable(source, [*OFFICIAL, f"--data_path={arrays}{os.sep}"]):
        exec(before, space)

    def evaluate() -> object:
        return space["evaluate"](space["test_loader"], space["valid_y_data"], space["train_data"], [10, 20])

    return Competitor(CODE, lambda: exec(epoch, space), evaluate, space["n_user"])


def _pieces(main: Path) -> tuple[types.CodeType, types.CodeType]:
    """What comes before the loop over epochs, and in it, from ``model.train()``, the loop over the batches."""
    body = ast.parse(main.read_text(encoding="utf-8")).body
    place = next(place for place, statement in enumerate(body) if isinstance(statement, ast.For))
    epoch = body[place].body  # type: ignore[attr-defined]
    end = next(index for index, statement in enumerate(epoch) if isinstance(statement, ast.For))
    inner = [statement for statement in epoch[: end + 1] if not isinstance(statement, ast.If)]  # If: the early stop
    before, batches = (
        compile(ast.Module(body=part, type_ignores=[]), str(main), "exec") for part in (body[:place], inner)
    )
    return before, batches


@contextlib.contextmanager
def _runnable(source: Path, arguments: Sequence[str]) -> Iterator[None]:
    """Arguments and import path; a loader without workers and pinned memory; an unused import; scipy's ``.A``."""
    loader = torch.utils.data.DataLoader

    def plain_loader(dataset: Any, batch_size: int, shuffle: bool, **_: Any) -> Any:
        return loader(dataset, batch_size=batch_size, shuffle=shuffle)

    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(sys, "argv", ["main.py", *arguments]))
        stack.enter_context(mock.patch.object(sys, "path", [str(source), *sys.path]))
        stack.enter_context(mock.patch.dict(os.environ))
        if importlib.util.find_spec("bottleneck") is None:
            sys.modules["bottleneck"] = types.ModuleType("bottleneck")
            stack.callback(sys.modules.pop, "bottleneck")
        stack.enter_context(mock.patch.object(torch.utils.data, "DataLoader", plain_loader))
        if not hasattr(scipy.sparse.csr_matrix, "A"):
            dense = property(lambda self: self.toarray())
            stack.enter_context(mock.patch.object(scipy.sparse.csr_matrix, "A", dense, create=True))
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        yield


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


def products(net: nn.Module) -> Task:
    """The matrix products of a step and nothing else: of each layer forward, its weight's gradient, its input's.

    Neither the row nor the step's embedding needs a gradient.
    """
    calls: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    for name, layer in net.named_modules():
        if not isinstance(layer, nn.Linear):
            continue
        weight = layer.weight.detach().clone()
        x, grad = torch.randn(BATCH, layer.in_features), torch.randn(BATCH, layer.out_features)
        calls.append((x, weight.t(), torch.empty_like(grad)))
        calls.append((grad.t(), x, torch.empty_like(weight)))
        if name not in {"input", "time"}:
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


def timed(task: Task) -> float:
    """Seconds of one call."""
    start = perf_counter()
    task()
    return perf_counter() - start


def rounds(tasks: dict[str, Task], repeats: int, every: Optional[dict[str, int]] = None) -> dict[str, list[float]]:
    """Seconds of each task in ``repeats`` rounds over all of them; one with ``every`` n takes part in each n-th."""
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for index in range(repeats):
        for name, task in tasks.items():
            if index % (every or {}).get(name, 1) == 0:
                seconds[name].append(timed(task))
    return seconds


def compare(competitors: Sequence[Competitor], repeats: int) -> None:
    """The table of epochs and evaluations; the first competitor is ours at the official settings."""
    for each in competitors:
        each.epoch()  # warm up: caches, and the first batches' cheaper history of losses
    train = rounds({each.name: each.epoch for each in competitors}, repeats)
    every = {each.name: each.every for each in competitors}
    rank = rounds({each.name: each.evaluate for each in competitors}, repeats, every)
    users = competitors[0].users
    epoch = {name: median(seconds) for name, seconds in train.items()}
    full = {each.name: median(rank[each.name]) * users / each.users for each in competitors}
    print("| | training epoch, s | evaluation of all users, s | timed |\n|---|---|---|---|")
    for each in competitors:
        note = f"{len(train[each.name])} epochs, {len(rank[each.name])} evaluations"
        if each.users < users:
            note += f" of {each.users} of {users} users, scaled per user"
        print(f"| {each.name} | {epoch[each.name]:.2f} | {full[each.name]:.2f} | {note} |")
    print("\n| seconds of … : those of … | training epoch | evaluation | aim |\n|---|---|---|---|")
    for other, mine, aim in RATIOS:
        if other in epoch:
            print(f"| {other} : {mine} | {epoch[other] / epoch[mine]:.2f} | {full[other] / full[mine]:.2f} | {aim} |")
    print()


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


def heading(threads: int) -> None:
    """Machine, versions, settings."""
    env = environment()
    versions = ", ".join(f"{key} {env[key]}" for key in ("python", "recbole-diffusion", "recbole", "torch", "numpy"))
    print(f"Machine: {cpu_name()}, {env['cpu_count']} CPUs, {threads} threads; {versions}; no GPU used.\n")
    print(
        "Settings: ml-1m_clean (5,949 users, 2,810 items), official split, metrics Recall and NDCG at 10 and 20 on the "
        f"part valid. Ours: {OURS}, else our defaults, which are the official settings. RecBole's line with official "
        f"settings: {TYPED_IN}. Official: {' '.join(OFFICIAL)}, its loader without workers.\n"
    )


def main(arguments: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, help="ml-1m_clean.npz")
    parser.add_argument("--official", type=Path, help="a checkout of the official repository; left out without")
    parser.add_argument("--repeats", type=int, default=5, help="rounds of epochs and of evaluations")
    parser.add_argument("--step-repeats", type=int, default=100, help="rounds of the single step; 0: leave it out")
    parser.add_argument("--default-users", type=int, default=6000, help="users that RecBole at its defaults ranks")
    parser.add_argument("--typed-users", type=int, default=300, help="the same for RecBole at the official settings")
    parser.add_argument("--threads", type=int, default=1, help="more than 1 only on a machine with nothing else to do")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    file, here = options.data.resolve(), Path.cwd()
    checkout = options.official.resolve() if options.official else None
    compat.apply()
    with tempfile.TemporaryDirectory() as name, quiet():
        folder = Path(name)
        os.chdir(folder)  # RecBole writes where it is started
        write_split(file, folder / "data", NAME)
        heading(options.threads)
        mine, trainer = ours(MINE, folder / "data", OURS)
        if options.step_repeats:
            look_at_step(trainer, options.step_repeats)
        if options.repeats:
            competitors = [
                mine,
                recbole(RECBOLE, folder / "data", {}, options.default_users, 2),
                ours(MINE_SMALL, folder / "data", RECBOLE_DEFAULTS)[0],
                recbole(RECBOLE_TYPED, folder / "data", TYPED_IN, options.typed_users, 2),
            ]
            compare(competitors + ([official(checkout, file, folder)] if checkout else []), options.repeats)
        os.chdir(here)  # Windows cannot remove a folder that is in use


if __name__ == "__main__":
    main()
