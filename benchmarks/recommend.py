"""Memory and time of ``recommend`` for all users of a wide data set: yelp2018's shape, DiffRec with random weights.

    python benchmarks/recommend.py [--users 31668] [--items 38048] [--rows 1561406] [-k 20] [--out FOLDER]

The data are drawn, so that none are needed. The peak is the resident memory of the process above what it had with data
and model in place. Markdown, on stdout.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
import psutil
import torch

from recbole_diffusion import quick_start
from recbole_diffusion.serving import output
from recbole_diffusion.serving.recommendation import Recommender, Request


def draw(file: Path, users: int, items: int, rows: int) -> None:
    """An interaction file in which every user and every item occurs."""
    random = np.random.default_rng(0)
    drawn_users = np.concatenate([np.arange(users), random.integers(0, users, rows - users)])
    drawn_items = np.concatenate([random.integers(0, items, rows - items), np.arange(items)])
    frame = pd.DataFrame({"user_id:token": drawn_users, "item_id:token": drawn_items}).drop_duplicates()
    file.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(file, sep="\t", index=False)


def resident_mib(peak: bool = False) -> float:
    """Resident memory of this process in MiB, now or at its peak since :func:`reset_peak`."""
    if not peak:
        return psutil.Process().memory_info().rss / 2**20
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def reset_peak() -> None:
    """Let Linux count the peak of the resident memory from now on."""
    Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    """Draw the data, build the model, write the lists of all users, and print memory and time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=31_668)
    parser.add_argument("--items", type=int, default=38_048)
    parser.add_argument("--rows", type=int, default=1_561_406)
    parser.add_argument("-k", type=int, default=20)
    parser.add_argument("--out", help="folder of data and lists; default: a temporary one")
    options = parser.parse_args()
    folder = Path(options.out or tempfile.mkdtemp(prefix="recbole-diffusion-"))
    file = folder / "dataset" / "wide" / "wide.inter"
    if not file.is_file():
        draw(file, options.users, options.items, options.rows)
    settings = {"data_path": str(folder / "dataset"), "load_col": {"inter": ["user_id", "item_id"]}, "state": "ERROR"}
    config = quick_start.configure("DiffRec", "wide", config_dict=settings)
    dataset, loaders = quick_start.prepare(config)
    loaded = quick_start.Loaded(config, quick_start.build_model(config, loaders).eval(), dataset, *loaders)
    before = resident_mib()
    reset_peak()
    start, processor = perf_counter(), sum(os.times()[:2])
    output.write(str(folder / "top.csv"), Recommender(loaded, Request(k=options.k)).batches())
    wall, processor = perf_counter() - start, sum(os.times()[:2]) - processor
    with open(folder / "top.csv") as file_of_lists:
        lines = sum(1 for _ in file_of_lists) - 1
    print("| users | items | k | lines | MiB with data and model | MiB above | s | CPU s | users/s | threads |")
    print("| ---: " * 10 + "|")
    print(
        f"| {dataset.user_num - 1:,} | {dataset.item_num - 1:,} | {options.k} | {lines:,} | {before:,.0f} "
        f"| {resident_mib(peak=True) - before:,.0f} | {wall:.1f} | {processor:.1f} "
        f"| {(dataset.user_num - 1) / wall:,.0f} | {torch.get_num_threads()} |"
    )


if __name__ == "__main__":
    main()
