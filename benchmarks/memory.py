"""How much memory training takes on a wide catalogue: L-DiffRec beside DiffRec.

    python benchmarks/memory.py --data PATH/gowalla.inter.xz [--models DiffRec LDiffRec] [--batches 30]

Each model trains in a process of its own, on the CPU, through our trainer's own loop. What is reported is resident
memory as the kernel counts it: before the model is built (Python, torch, the data set), and the highest while it is
built and trained. Where the kernel can forget the highest value so far (Linux), the preparation's own peak is left
out. Markdown, on stdout.

L-DiffRec needs clusters of items: they come from a random table (``pretrain: FILE``), so that nothing is trained
before. The encoders' size depends on how even the clusters are, from half of all items down: see ``--small-cluster``.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import lzma
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Optional

import numpy as np
import torch
from recbole.utils import init_seed

from recbole_diffusion import registry
from recbole_diffusion.compat import repairs
from recbole_diffusion.data import pipeline
from recbole_diffusion.pretraining import bases
from recbole_diffusion.quick_start import configure
from recbole_diffusion.training.run_folder import environment, hide_known_warnings
from recbole_diffusion.training.trainer import trainer_class

COMMON: dict[str, Any] = {
    "seed": 1,
    "use_gpu": False,
    "state": "error",
    "learner": "adamw",
    "train_batch_size": 400,
    "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "group_by": "user", "mode": "full"},
}
#: By column of the table and model; a model that is not named here has its defaults.
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "our defaults": {},
    "the paper's for large data": {
        "DiffRec": {"dims": [1000]},
        "TDiffRec": {"dims": [1000]},
        "LDiffRec": {"in_dims": [300]},
        "LTDiffRec": {"in_dims": [300]},
    },
}
MIB = 2**20


# -- one model, in a process of its own ----------------------------------------------------------------------------


def resident() -> float:
    """Resident memory now, MiB."""
    return _status("VmRSS") or _highest()


def peak() -> float:
    """The highest resident memory since :func:`forget_peak`, or of the process where it cannot be forgotten; MiB."""
    return _status("VmHWM") or _highest()


def forget_peak() -> bool:
    """Whether the kernel now counts the peak from here on."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _status(field: str) -> Optional[float]:
    file = Path("/proc/self/status")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:")), None)


def _highest() -> float:
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MIB


class Batches(list):
    """The first batches of an epoch; ``seconds``: what the loop that iterates took for each."""

    def __init__(self, loader: Any, count: int) -> None:
        super().__init__(itertools.islice(itertools.cycle(loader), count))
        self.seconds: list[float] = []

    def __iter__(self) -> Any:
        for batch in super().__iter__():
            start = perf_counter()
            yield batch
            self.seconds.append(perf_counter() - start)


def measure(model: str, keys: dict[str, Any], batches: int) -> dict[str, Any]:
    """Prepare the data, build the model, train it for some batches."""
    config = configure(model, keys["dataset"], config_dict={**COMMON, **keys})
    init_seed(config["seed"], config["reproducibility"])
    loaders = pipeline.prepare(config, pipeline.create_dataset(config))
    bases.attach(config, loaders)
    first = Batches(loaders[0], batches)
    gc.collect()
    exact, before = forget_peak(), resident()
    net = config.model_class(config, loaders[0]._dataset)
    trainer = trainer_class(registry.get_trainer(config["MODEL_TYPE"], model, model))(config, net)
    built = peak()
    forget_peak()
    trainer._train_epoch(first, 0)
    latent = getattr(net.diffusion, "autoencoder", None)
    return {
        "parameters": sum(each.numel() for each in net.parameters()),
        "clusters": latent.counts if latent is not None else None,
        "before": before,
        "building": built,
        "training": peak(),
        "seconds": median(first.seconds),
        "exact": exact,
    }


# -- all of them, and the report -----------------------------------------------------------------------------------


def unpack(file: Path, folder: Path) -> Path:
    """The decompressed data set where RecBole looks for it."""
    name = file.name.split(".")[0]
    target = folder / name / f"{name}.inter"
    target.parent.mkdir(parents=True)
    with lzma.open(file) if file.suffix == ".xz" else open(file, "rb") as source, open(target, "wb") as sink:
        shutil.copyfileobj(source, sink)
    return target


def random_table(inter: Path, target: Path, small_cluster: float) -> Path:
    """A random embedding of each item; the clusters of two will hold ``small_cluster`` of the items and the rest."""
    with open(inter, encoding="utf-8") as lines:
        place = next(lines).rstrip("\n").split("\t").index("item_id:token")
        tokens = sorted({line.rstrip("\n").split("\t")[place] for line in lines})
    table = np.random.default_rng(1).normal(size=(len(tokens), 64)).astype(np.float32)
    table[: round(small_cluster * len(tokens)), 0] += 100
    np.savez(target, item=table, item_token=np.array(tokens))
    return target


def in_process(model: str, keys: dict[str, Any], batches: int) -> dict[str, Any]:
    """:func:`measure` in a new interpreter."""
    command = [sys.executable, str(Path(__file__).resolve()), "--one", json.dumps([model, keys, batches])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def report(found: dict[str, dict[str, Any]], title: str) -> None:
    """The rows of one column of settings, and the ratios to the first model."""
    models = list(found)
    print(f"### {title}\n")
    print("| | " + " | ".join(models) + " | " + " | ".join(f"{model} : {models[0]}" for model in models[1:]) + " |")
    print("|---" * (2 * len(models)) + "|")
    rows = [
        ("parameters", "{:,}", lambda row: row["parameters"]),
        ("resident before the model is built, MiB", "{:.0f}", lambda row: row["before"]),
        ("peak while it is built, MiB", "{:.0f}", lambda row: row["building"]),
        ("peak in training, MiB", "{:.0f}", lambda row: row["training"]),
        ("peak in training above what was there before, MiB", "{:.0f}", lambda row: row["training"] - row["before"]),
        ("seconds per batch", "{:.2f}", lambda row: row["seconds"]),
    ]
    for name, form, value in rows:
        values = [value(found[model]) for model in models]
        ratios = [f"{each / values[0]:.0%}" for each in values[1:]]
        print("| " + " | ".join([name, *map(form.format, values), *ratios]) + " |")
    for model in models:
        if found[model]["clusters"]:
            print(f"\nItems in the clusters of {model}: {found[model]['clusters']}.")
    if not all(each["exact"] for each in found.values()):
        print("\nHere the peak cannot be forgotten: it is the process's, preparation of the data included.")
    print(flush=True)


def main(arguments: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="gowalla.inter.xz, or any .inter file with user_id and item_id")
    parser.add_argument("--models", nargs="+", default=["DiffRec", "LDiffRec"], help="the first is what ratios are to")
    parser.add_argument("--batches", type=int, default=30, help="batches of 400 users")
    parser.add_argument("--small-cluster", type=float, default=0.5, help="share of the items in the smaller cluster")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))
    repairs.apply()
    with hide_known_warnings():
        if options.one:
            print(json.dumps(measure(*json.loads(options.one))))
            return
        if options.data is None:
            parser.error("--data is needed")
        compare(options)


def compare(options: argparse.Namespace) -> None:
    """All models at all settings, one process after the other."""
    file, here = options.data.resolve(), Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chdir(folder)  # RecBole writes where it is started
        inter = unpack(file, folder / "data")
        table = random_table(inter, folder / "random.npz", options.small_cluster)
        env = environment()
        versions = ", ".join(f"{key} {env[key]}" for key in ("python", "recbole-diffusion", "recbole", "torch"))
        print(
            f"{inter.stem}, {options.batches} batches of {COMMON['train_batch_size']} users; {versions}; no GPU used."
        )
        print("Clusters are those of a random table: no model is trained for them.\n", flush=True)
        keys = {"data_path": str(folder / "data"), "dataset": inter.stem}
        for title, settings in SETTINGS.items():
            found = {}
            for model in options.models:
                latent = {"pretrain": str(table), "n_cate": 2} if model in {"LDiffRec", "LTDiffRec"} else {}
                found[model] = in_process(model, {**keys, **latent, **settings.get(model, {})}, options.batches)
            report(found, title)
        os.chdir(here)  # Windows cannot remove a folder that is in use


if __name__ == "__main__":
    main()
