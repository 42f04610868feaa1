"""The measures of ``gpu.py``: epochs, evaluations and steps at the published shapes, beside their matrix products."""

from __future__ import annotations

import gc
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Callable, NamedTuple, Optional

import gpu_data
import numpy as np
import torch
from gpu_report import Row, Task, duration, forget_peak, kernel_seconds, peak_note, seconds
from torch import nn

from recbole_diffusion import quick_start
from recbole_diffusion.data.convert import LEAVE_ONE_OUT
from recbole_diffusion.data.convert import settings as reading
from recbole_diffusion.model import hooks
from recbole_diffusion.testing.building import trainer_of
from recbole_diffusion.training import numerics
from recbole_diffusion.training.epoch_loop import Step

Keys = dict[str, Any]
COMMON: Keys = {
    "state": "ERROR",
    "seed": 1,
    "topk": [10, 20],
    "metrics": ["Recall", "NDCG"],
    "valid_metric": "Recall@20",
    "train_neg_sample_args": None,
    "show_progress": False,
}
#: The official settings of the DiffRec family, those of each data set on top.
OF_ROWS: Keys = {"learner": "adamw", "weight_decay": 0.0, "train_batch_size": 400, "learning_rate": 1e-4, "steps": 10}
HIDDEN = {"ml-1m_clean": [200, 600], "yelp_clean": [1000], "amazon-book_clean": [1000]}
AIMS = {"ml-1m_clean": 0.020, "yelp_clean": 0.4, "amazon-book_clean": 2.0}
#: What differs from the models' defaults, which are the published sizes. ADRec starts without a pretrained table.
SEQUENTIAL: dict[str, Keys] = {
    "FMRec": {},
    "ADRec": {"pretrain": None, "warmup_epochs": 0},
    "DreamRec": {"MAX_ITEM_LIST_LENGTH": 10},
    "PreferDiff": {"MAX_ITEM_LIST_LENGTH": 10, "steps": 2000},
}
#: Evaluation: at most this times its products, counted in aims; the issue's times are of an H100.
EVALUATION_RATIO = 3.0
STEP_RATIO = 1.5


class Prepared(NamedTuple):
    """A model with its trainer and loaders, on the device."""

    config: Any
    model: Any
    trainer: Any
    loaders: tuple[Any, Any, Any]


class Bench:
    """What all measures share.

    Args:
        device: where the models are.
        folder: for the data.
        scale: of users and items; 1 is the published shape.
        repeats: of each timing.
    """

    def __init__(self, device: torch.device, folder: Path, scale: float, repeats: int) -> None:
        self.device, self.folder, self.scale, self.repeats = device, folder, scale, repeats

    def rows(self, name: str) -> Keys:
        """The keys that read one of :data:`gpu_data.ROWS`, which is written at its first use."""
        if not (self.folder / name).exists():
            gpu_data.write_rows(self.folder, name, gpu_data.ROWS[name].scaled(self.scale))
        return {**COMMON, **reading(self.folder), "dataset": name}

    def sequences(self, name: str) -> Keys:
        """The same of :data:`gpu_data.SEQUENCES`."""
        if not (self.folder / name).exists():
            gpu_data.write_sequences(self.folder, name, gpu_data.SEQUENCES[name].scaled(self.scale))
        small: Keys = {} if self.scale == 1 else {"train_batch_size": 64, "steps": 2}  # only to see that it runs
        return {**COMMON, **LEAVE_ONE_OUT, **small, "data_path": str(self.folder), "dataset": name}

    def length(self, published: int) -> int:
        """Of sequences; short below scale 1, where only the code is tried."""
        return published if self.scale == 1 else min(published, 20)

    def build(self, model: str, keys: Keys, loaders: Any = None) -> Prepared:
        """Build a model with its trainer; with the ``loaders`` of another one whose keys of the data are the same."""
        keys = {**keys, "use_gpu": self.device.type == "cuda"}
        config = quick_start.configure(model, keys.pop("dataset"), config_dict=keys)
        if loaders is None:
            _, loaders = quick_start.prepare(config)
        net = quick_start.build_model(config, loaders)
        trainer = trainer_of(config, net)
        numerics.compile_networks(config, net)  # as ``fit`` does
        trainer._allow_graphs()
        trainer.eval_collector.data_collect(loaders[0])
        return Prepared(config, net, trainer, loaders)

    def epoch(self, ready: Prepared) -> float:
        return seconds(lambda: ready.trainer._train_epoch(ready.loaders[0], 0), self.device, self.repeats)

    def evaluation(self, ready: Prepared) -> float:
        evaluate = partial(ready.trainer.evaluate, ready.loaders[2], load_best_model=False)
        return seconds(evaluate, self.device, self.repeats, warm=int(self.device.type == "cuda"))

    def step(self, ready: Prepared) -> float:
        """One training step on batches that are on the device already; a graph's with ``cuda_graphs``."""
        batches = [batch.to(self.device) for batch in itertools.islice(ready.loaders[0], 4)]
        source, plain = itertools.cycle(batches), Step(ready.trainer, ready.model.calculate_loss)
        step = ready.trainer.graphed_steps(plain) or plain
        ready.model.train()
        return seconds(lambda: step(next(source)), self.device, 10 * self.repeats, warm=6)


# -- floors --------------------------------------------------------------------------------------------------------


def training_products(net: nn.Module, rows: int, device: torch.device, first: Sequence[str] = ("input",)) -> Task:
    """The matrix products of a training step: of each layer forward, its weight's gradient, its input's.

    The input of a layer in ``first`` needs no gradient.
    """
    calls: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    for name, layer in net.named_modules():
        if not isinstance(layer, nn.Linear):
            continue
        weight = layer.weight.detach()
        x = torch.randn(rows, layer.in_features, device=device)
        grad = torch.randn(rows, layer.out_features, device=device)
        calls.append((x, weight.t(), torch.empty_like(grad)))
        calls.append((grad.t(), x, torch.empty_like(weight)))
        if name.split(".")[-1] not in first:
            calls.append((grad, weight, torch.empty_like(x)))

    def products() -> None:
        for a, b, out in calls:
            torch.mm(a, b, out=out)

    return products


def scoring_products(net: nn.Module, rows: int, device: torch.device) -> Task:
    """The wide products of a folded chain: into the first hidden layer and out of the last one, once each."""
    wide = sorted(
        (layer for layer in net.modules() if isinstance(layer, nn.Linear)), key=lambda layer: -layer.weight.numel()
    )
    calls = [(torch.randn(rows, layer.in_features, device=device), layer.weight.detach().t()) for layer in wide[:2]]

    def products() -> None:
        for a, b in calls:
            torch.mm(a, b)

    return products


# -- the DiffRec family --------------------------------------------------------------------------------------------


def rows_of(name: str, keys: Optional[Keys] = None) -> Keys:
    return {**OF_ROWS, "dims": HIDDEN[name], **(keys or {})}


def diffrec(bench: Bench, name: str) -> Iterator[Row]:
    """Epoch and evaluation of DiffRec, in float32; on a GPU also with TF32, in bfloat16 and as graphs."""
    start = perf_counter()
    shape = bench.rows(name)
    written, loaders = perf_counter() - start, None
    variants: dict[str, Keys] = {"float32": {}}
    if bench.device.type == "cuda":
        variants["TF32"] = {"matmul_precision": "high"}
        variants["bfloat16"] = {"matmul_precision": "high", "enable_amp": True, "amp_dtype": "bfloat16"}
        variants["TF32, graphs"] = {"matmul_precision": "high", "cuda_graphs": True}
    for variant, keys in variants.items():
        forget_peak(bench.device)
        start = perf_counter()
        ready = bench.build("DiffRec", {**shape, **rows_of(name, keys)}, loaders)
        loaders = ready.loaders
        built = perf_counter() - start
        with precision(ready.config):
            took = bench.epoch(ready)
            batches = len(ready.loaders[0])
            floor = (
                kernel_seconds(training_products(ready.model.diffusion.denoiser, 400, bench.device), bench.device)
                * batches
            )
            note = f"{batches} batches; data written in {written:.0f} s, read and split in {built:.0f} s"
            note = "; ".join(filter(None, [note, peak_note(bench.device)]))
            row = Row(
                "measure",
                f"DiffRec epoch, {name}, {variant}",
                duration(took),
                f"products {duration(floor)}",
                took / floor,
                note=note,
            )
            row.aim, row.verdict = _aim(bench, took, AIMS[name])
            row.numbers = {"seconds": took, "floor": floor, "batches": batches}
            yield row
            if variant in ("float32", "TF32") and not (variant == "float32" and name == "amazon-book_clean"):
                yield _evaluated(bench, ready, f"DiffRec evaluation, {name}, {variant}")
        written = 0.0
        _free(ready)


def _evaluated(bench: Bench, ready: Prepared, name: str) -> Row:
    forget_peak(bench.device)
    took = bench.evaluation(ready)
    users = len(ready.loaders[2].uid_list)
    step = min(ready.loaders[2].step, users)
    products = scoring_products(ready.model.diffusion.denoiser, step, bench.device)
    floor = kernel_seconds(products, bench.device) * users / step
    row = Row("measure", name, duration(took), f"products {duration(floor)}", took / floor)
    row.note = f"{users} users, {step} at once, {users / took:,.0f} users/s; {peak_note(bench.device)}"
    row.aim = f"<= {EVALUATION_RATIO:g} x products"
    row.verdict = "met" if row.ratio is not None and row.ratio <= EVALUATION_RATIO else "missed"
    row.numbers = {"seconds": took, "floor": floor, "users": users}
    return row


def _aim(bench: Bench, took: float, aim: float) -> tuple[str, str]:
    """The aims are of a GPU at the published shape."""
    if bench.device.type != "cuda" or bench.scale != 1:
        return f"<= {duration(aim)} on an H100", ""
    return f"<= {duration(aim)}", "met" if took <= aim else "missed"


def family(bench: Bench, name: str) -> list[Row]:
    """Steps of L-DiffRec and T-DiffRec beside DiffRec's, TF32."""
    shape = {**bench.rows(name), "matmul_precision": "high"}
    table = bench.folder / "items.npz"
    items = gpu_data.ROWS[name].scaled(bench.scale).items
    np.savez(
        table,
        item=np.random.default_rng(0).normal(size=(items, 16)).astype(np.float32),
        item_token=np.arange(items).astype(str),
    )
    latent: Keys = {**OF_ROWS, "pretrain": str(table), "n_cate": 2}
    took, peaks = {}, {}
    for model, keys in (("DiffRec", rows_of(name)), ("TDiffRec", rows_of(name)), ("LDiffRec", latent)):
        forget_peak(bench.device)
        ready = bench.build(model, {**shape, **keys})
        with precision(ready.config):
            took[model] = bench.step(ready)
        peaks[model] = peak_note(bench.device)
        _free(ready)
    return [
        Row(
            "measure",
            f"{model} training step, {name}",
            duration(value),
            f"DiffRec {duration(took['DiffRec'])}",
            value / took["DiffRec"],
            note=peaks[model],
            numbers={"seconds": value},
        )
        for model, value in took.items()
        if model != "DiffRec"
    ]


# -- sequences -----------------------------------------------------------------------------------------------------


def diffurec(bench: Bench, name: str, length: int) -> Iterator[Row]:
    """DiffuRec's step and evaluation, packed and padded."""
    length = bench.length(length)
    shape = {**bench.sequences(name), "MAX_ITEM_LIST_LENGTH": length, "matmul_precision": "high"}
    took: dict[str, float] = {}
    loaders = None
    for layout in ("packed", "padded", *(["padded, graph"] if bench.device.type == "cuda" else [])):
        forget_peak(bench.device)
        keys = {"sequence_layout": layout.partition(",")[0], "cuda_graphs": layout.endswith("graph")}
        ready = bench.build("DiffuRec", {**shape, **keys}, loaders)
        loaders = ready.loaders
        with precision(ready.config):
            took[layout] = bench.step(ready)
            batches = len(ready.loaders[0])
            ranked = 0.0 if keys["cuda_graphs"] else bench.evaluation(ready)
        row = Row("measure", f"DiffuRec training step, {name}, length {length}, {layout}", duration(took[layout]))
        row.beside = f"an epoch of {batches} batches {duration(took[layout] * batches)}"
        row.note, row.numbers = peak_note(bench.device), {"seconds": took[layout], "batches": batches}
        yield row
        if not keys["cuda_graphs"]:
            yield Row("measure", f"DiffuRec evaluation, {name}, length {length}, {layout}", duration(ranked))
        _free(ready)
    ready = bench.build("DiffuRec", shape, loaders)
    chosen = ready.model.layout(bench.device)
    faster = min(("packed", "padded"), key=lambda layout: took[layout])
    verdict = "met" if chosen == faster or took[chosen] <= 1.05 * took[faster] else "missed"
    yield Row(
        "measure",
        f"DiffuRec layout by default, {name}",
        chosen,
        f"faster: {faster}",
        took["padded"] / took["packed"],
        "the faster one",
        verdict,
    )
    _free(ready)


def cddrec(bench: Bench) -> Iterator[Row]:
    """CDDRec at its official size, the products of its step beside it."""
    return _stepped(bench, "CDDRec", {**bench.sequences("beauty"), "matmul_precision": "high"}, "beauty")


def sequential(bench: Bench, model: str, keys: Keys) -> Iterator[Row]:
    """One of the sequential models that came after DiffuRec, at its official size."""
    length = bench.length(keys.get("MAX_ITEM_LIST_LENGTH", 50))
    keys = {**bench.sequences("beauty"), "matmul_precision": "high", **keys, "MAX_ITEM_LIST_LENGTH": length}
    return _stepped(bench, model, keys, "beauty")


def embedding_keys(bench: Bench, model: str, width: int) -> Keys:
    """Keys of DDRM or HDRM at its official size, on random tables of ``width`` numbers a row."""
    name = "ml-1m_clean"
    shape, table = bench.rows(name), bench.folder / f"{model}.npz"
    size, random = gpu_data.ROWS[name].scaled(bench.scale), np.random.default_rng(0)
    user, item = (random.uniform(-0.1, 0.1, (count, width)).astype(np.float32) for count in (size.users, size.items))
    np.savez(
        table,
        user=user,
        item=item,
        user_token=np.arange(size.users).astype(str),
        item_token=np.arange(size.items).astype(str),
    )
    return {**shape, "base_checkpoint": str(table), "matmul_precision": "high"}


def embeddings(bench: Bench, model: str, width: int) -> Iterator[Row]:
    """DDRM and HDRM at their official sizes on random tables."""
    return _stepped(bench, model, embedding_keys(bench, model, width), "ml-1m_clean")


def _stepped(bench: Bench, model: str, keys: Keys, name: str) -> Iterator[Row]:
    """Step, on a GPU also as a graph if it can be one, and evaluation, beside the products of a step.

    The products: :func:`counted_floor`.
    """
    loaders = None
    for graphed in (False, True) if bench.device.type == "cuda" else (False,):
        forget_peak(bench.device)
        ready = bench.build(model, {**keys, "cuda_graphs": graphed}, loaders)
        loaders = ready.loaders
        with precision(ready.config):
            took, floor = bench.step(ready), counted_floor(bench, ready)
            what = f"{model} training step, {name}" + (", graph" if graphed else "")
            row = Row("measure", what, duration(took), f"products {duration(floor)}", took / floor)
            row.aim, row.verdict = f"<= {STEP_RATIO:g} x products", "met" if took <= STEP_RATIO * floor else "missed"
            row.note, row.numbers = peak_note(bench.device), {"seconds": took, "floor": floor}
            yield row
            if not graphed:
                ranked = bench.evaluation(ready)
                yield Row("measure", f"{model} evaluation, {name}", duration(ranked), numbers={"seconds": ranked})
        capturable = hooks.of(ready.model).step_is_capturable(ready.config["train_batch_size"]) is not None
        _free(ready)
        if not capturable:
            break


def counted_floor(bench: Bench, ready: Prepared) -> float:
    """Seconds of the matrix products of one training step, each of its shape, run one after the other.

    The shapes are those that a dispatch mode sees in the step.
    """
    from recbole_diffusion.testing.products import Products

    batch = next(iter(ready.loaders[0])).to(bench.device)
    ready.model.train()
    with Products() as seen:
        losses = ready.model.calculate_loss(batch)
        (sum(losses) if isinstance(losses, tuple) else losses).backward()
    return kernel_seconds(seen.replay(bench.device), bench.device)


# -- the official code ---------------------------------------------------------------------------------------------


def official_diffrec(bench: Bench, checkout: Path) -> list[Row]:
    """The official DiffRec beside ours, at ml-1m_clean's shape, with the same settings."""
    from competitors import Files, official

    name = "ml-1m_clean"
    bench.rows(name)
    files = Files(bench.folder, bench.folder / f"{name}-arrays", bench.folder / "items.npz")
    theirs = official("DiffRec", checkout, files, cuda=bench.device.type == "cuda")
    keys = {"noise_scale": 0.005, "noise_min": 0.005, "noise_max": 0.01, "steps": 40, "learning_rate": 1e-3}
    keys = {**keys, "matmul_precision": "high", "cuda_graphs": bench.device.type == "cuda"}
    ready = bench.build("DiffRec", {**bench.rows(name), **rows_of(name, keys)})
    with precision(ready.config):
        ours = bench.epoch(ready), bench.evaluation(ready)
    them = tuple(seconds(task, bench.device, bench.repeats) for task in (theirs.epoch, theirs.evaluate))
    _free(ready)
    return [
        Row(
            "measure",
            f"official DiffRec {what} : ours, {name}",
            duration(one),
            f"ours {duration(mine)}",
            one / mine,
            f">= {aim} x",
            "met" if one >= aim * mine else "missed",
        )
        for what, one, mine, aim in zip(("epoch", "evaluation"), them, ours, (10, 20))
    ]


# -- all of it -----------------------------------------------------------------------------------------------------


def measures(bench: Bench, checkout: Optional[Path]) -> Iterator[tuple[str, float, Callable[[], Iterable[Row]]]]:
    """Names, estimated seconds on an H100 at scale 1, and functions; the most telling first: time may run out.

    Of the seconds, writing and reading the data takes most: 20 s for yelp_clean, half a minute for amazon-book_clean.
    """
    yield "DiffRec, ml-1m_clean", 12, partial(diffrec, bench, "ml-1m_clean")
    yield "DiffRec, yelp_clean", 30, partial(diffrec, bench, "yelp_clean")
    if checkout is not None:
        yield "official DiffRec", 15, partial(official_diffrec, bench, checkout)
    yield "DiffuRec, beauty", 50, partial(diffurec, bench, "beauty", 50)
    yield "DDRM", 12, partial(embeddings, bench, "DDRM", 64)
    yield "HDRM", 12, partial(embeddings, bench, "HDRM", 512)
    yield "CDDRec", 20, partial(cddrec, bench)
    for model, keys in SEQUENTIAL.items():
        yield model, 12, partial(sequential, bench, model, keys)
    yield "DiffRec, amazon-book_clean", 50, partial(diffrec, bench, "amazon-book_clean")
    yield "L-DiffRec, T-DiffRec", 40, partial(family, bench, "yelp_clean")
    yield "DiffuRec, ml-1m_eighth", 40, partial(diffurec, bench, "ml-1m_eighth", 200)


def precision(config: Any) -> Any:
    """As a run does: the precision of float32 products."""
    return numerics.matmul_precision(config["matmul_precision"])


def _free(ready: Prepared) -> None:
    """Give the device's memory back before the next model is built."""
    ready.model.to("cpu")
    ready.trainer.optimizer = None
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    for file in (Path("log_tensorboard"), Path("log")):
        if file.is_dir() and not os.listdir(file):
            file.rmdir()
