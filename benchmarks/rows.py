"""Training epoch and ranking of FlowCF and GiffCF: ours, the official code, and the bare products of GiffCF's shapes.

    python benchmarks/rows.py --data PATH/ml-1m_clean.npz [--models GiffCF FlowCF] [--flowcf CHECKOUT]
        [--giffcf CHECKOUT --tensorflow PYTHON]

Seconds of one CPU, of the process and not of the clock, the best of the repetitions, which alternate. A ratio is the
median of the ratios of neighbouring measurements, which a busy machine slows down alike. Checkouts:
chengkai-liu/FlowCF at c7db8f3, VinciZhu/GiffCF at 3f67e02; PYTHON is an interpreter with TensorFlow 2.14. An epoch is
the losses, gradients and steps of Adam over batches of users; ranking computes the scores of all users, without
metrics. Markdown, on stdout.
"""

from __future__ import annotations

import argparse
import importlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Callable, Optional

import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_diffusion import quick_start
from recbole_diffusion.data import convert

NAME = "ml-1m_clean"
QUIET = {"state": "error", "show_progress": False, "use_gpu": False}
OFFICIAL_FLOWCF = {"n_steps": 9, "s_steps": 2, "dims_mlp": [300, 300], "time_embedding_size": 10}
MODELS = ("FlowCF", "GiffCF")
EPOCH = "GiffCF, ours: epoch, batch 100"
PRODUCTS = "GiffCF, products: epoch, batch 100"
Task = Callable[[], object]

#: Run by the interpreter with TensorFlow: CPU seconds of an epoch and of a ranking, the best of the repetitions.
TENSORFLOW = """
import sys, time
sys.path.insert(0, sys.argv[1])
import numpy as np, scipy.sparse as sp, tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
from models.giff_cf import GiffCF
from utils.data import array_to_dataset
pairs = np.load(sys.argv[2])["train"]
rows = sp.csr_array((np.ones(len(pairs), np.float32), pairs.T))
model = GiffCF(rows, embed_dim=200, T=3, alpha=1.5, noise_decay=0.5)
model(rows[:1].toarray())
model.compile()
dataset = array_to_dataset(rows)
rank = tf.function(lambda x: model(x, training=False))
def epoch():
    model.fit(dataset, n_epochs=1, batch_size=100, verbose=0)
def ranking():
    for x in dataset.batch(400):
        rank(x)
for name, task in (("epoch", epoch), ("ranking", ranking)):
    task()
    seconds = []
    for _ in range(int(sys.argv[3])):
        start = time.process_time()
        task()
        seconds.append(time.process_time() - start)
    print(name, min(seconds))
"""


def prepared(name: str, keys: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Settings, train data set and model of ours."""
    config = quick_start.configure(name, NAME, config_dict={**QUIET, **keys})
    _, loaders = quick_start.prepare(config)
    return config, loaders[0]._dataset, quick_start.build_model(config, loaders)


def official_flowcf(checkout: Path, config: Any, dataset: Any) -> Any:
    """The official FlowCF on RecBole's train data set."""
    sys.path.insert(0, str(checkout))
    for key, value in OFFICIAL_FLOWCF.items():
        config.final_config_dict[key] = value
    return importlib.import_module("model.flowcf").FlowCF(config, dataset)


def batches(n_users: int, size: int) -> Iterator[Interaction]:
    """Batches of all users in random order, without the padding user."""
    for users in (torch.randperm(n_users - 1) + 1).split(size):
        yield Interaction({"user_id": users})


def tasks(model: Any, size: int) -> tuple[Task, Task]:
    """An epoch of training and a ranking of all users."""
    groups = model.parameter_groups() if hasattr(model, "parameter_groups") else None
    fused = {"fused": True} if model.__class__.__module__.startswith("recbole_diffusion") else {}  # as the trainer does
    optimizer = torch.optim.Adam(groups or model.parameters(), lr=1e-3, **fused)

    def epoch() -> None:
        model.train()
        for batch in batches(model.n_users, size):
            optimizer.zero_grad()
            model.calculate_loss(batch).backward()
            optimizer.step()

    @torch.no_grad()
    def ranking() -> None:
        model.eval()
        for batch in batches(model.n_users, 400):
            model.full_sort_predict(batch)

    return epoch, ranking


def products(model: Any) -> Task:
    """GiffCF's matrix products of an epoch: five with the item matrix, two of sparse rows with the graph."""
    items = torch.rand_like(model.diffusion.denoiser.items)
    graph = model.diffusion.graph

    def epoch() -> None:
        for batch in batches(model.n_users, 100):
            rows = model.history.sparse(batch["user_id"])
            x: Tensor = graph.sparse_forward(rows)
            graph.sparse_forward(rows._replace(values=rows.values * 0.5))
            h = x @ items
            scores = h @ items.t()
            gradient = scores @ items
            x.t() @ gradient
            scores.t() @ h

    return epoch


def measure(named: dict[str, Task], repetitions: int) -> dict[str, list[float]]:
    """CPU seconds of each task, of every repetition; the tasks alternate."""
    seconds: dict[str, list[float]] = {name: [] for name in named}
    for repetition in range(repetitions + 1):
        for name, task in named.items():
            start = time.process_time()
            task()
            if repetition:  # the first one warms up
                seconds[name].append(time.process_time() - start)
    return seconds


def ratio(seconds: dict[str, list[float]], name: str, to: str) -> float:
    """Median of the ratios of two tasks' seconds in the same repetition."""
    return statistics.median(one / other for one, other in zip(seconds[name], seconds[to]))


def flowcf_tasks(keys: dict[str, Any], checkout: Optional[Path]) -> dict[str, Task]:
    """Epochs and rankings of FlowCF, ours and the official one, on the data of the settings ``keys``."""
    config, dataset, ours = prepared("FlowCF", keys)
    models, named = {"FlowCF, ours": ours}, {}
    if checkout:
        models["FlowCF, official"] = official_flowcf(checkout, config, dataset)
    for size in (400, 4096):
        for name, model in models.items():
            named[f"{name}: epoch, batch {size}"], named[f"{name}: ranking"] = tasks(model, size)
    return named


def giffcf_tasks(keys: dict[str, Any]) -> dict[str, Task]:
    """Epoch, its products, and rankings of GiffCF on the data of the settings ``keys``."""
    model = prepared("GiffCF", keys)[2]
    one_call = prepared("GiffCF", {**keys, "item_init": "glorot", "inference_steps": 1})[2]
    epoch, ranking = tasks(model, 100)
    named = {PRODUCTS: products(model), EPOCH: epoch, "GiffCF, ours: ranking": ranking}
    return {**named, "GiffCF, ours, one call: ranking": tasks(one_call, 100)[1]}


def main(arguments: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, help="ml-1m_clean.npz")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--flowcf", type=Path, help="checkout of chengkai-liu/FlowCF")
    parser.add_argument("--giffcf", type=Path, help="checkout of VinciZhu/GiffCF")
    parser.add_argument("--tensorflow", type=Path, help="interpreter with TensorFlow")
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    data, here, named = options.data.resolve(), Path.cwd(), {}
    flowcf, giffcf = (path and path.resolve() for path in (options.flowcf, options.giffcf))
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        convert.write_split(data, Path(folder) / "official", NAME, "official")
        keys = convert.settings(Path(folder) / "official")
        if "FlowCF" in options.models:
            named.update(flowcf_tasks(keys, flowcf))
        if "GiffCF" in options.models:
            named.update(giffcf_tasks(keys))
        seconds = measure(named, options.repetitions)
        os.chdir(here)  # Windows cannot remove a folder that is in use
    if giffcf and options.tensorflow:
        command = [str(options.tensorflow), "-c", TENSORFLOW, str(giffcf), str(data), str(options.repetitions)]
        environment = {**os.environ, "PYTHONPATH": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
        for line in subprocess.check_output(command, text=True, env=environment).splitlines():
            task, value = line.split()
            seconds[f"GiffCF, official: {task}"] = [float(value)]
    print("| | CPU seconds |\n|---|---|")
    for name, values in seconds.items():
        print(f"| {name} | {min(values):.2f} |")
    if EPOCH in seconds:
        print(f"\nGiffCF's epoch / the products of its shapes: {ratio(seconds, EPOCH, PRODUCTS):.2f}")


if __name__ == "__main__":
    main()
