"""EASE and DiffRec on DiffRec's ml-1m_clean split, beside the paper and the official code.

    python benchmarks/ml1m_clean.py --data PATH/ml-1m_clean.npz [--seeds 1 2 3] [--models EASE DiffRec]

EASE has no randomness: its four numbers are an anchor for the split, the mask and the metrics, and the script stops
with an error where they differ. The table is markdown, on stdout.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, Optional

import numpy as np
import torch
from official_split import settings, write_split

from recbole_diffusion import run
from recbole_diffusion.runs import environment

METRICS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")
#: EASE with lambda = 1000, computed outside RecBole; spec of DiffRec, section 11.2.
EASE = (0.1066, 0.1816, 0.0910, 0.1165)
#: SIGIR 2023, table 2; the released checkpoint gives the same.
PAPER = (0.1058, 0.1787, 0.0901, 0.1148)
#: The official code trained anew with seeds 1 to 3: mean and sample standard deviation.
OFFICIAL = (0.0996, 0.1715, 0.0861, 0.1102)
OFFICIAL_STD = (0.0021, 0.0025, 0.0007, 0.0009)

COMMON: dict[str, Any] = {
    "topk": [10, 20],
    "metrics": ["Recall", "NDCG"],
    "valid_metric": "Recall@20",
    "metric_decimal_place": 4,
    "use_gpu": False,
    "state": "error",
    "show_progress": False,
}
#: The official training; the settings of the model itself are our defaults (properties/model/DiffRec.yaml).
DIFFREC: dict[str, Any] = {
    "learning_rate": 1e-3,
    "learner": "adamw",
    "weight_decay": 0.0,
    "train_batch_size": 400,
    "epochs": 1000,
    "eval_step": 5,
    "stopping_step": 2,  # RecBole stops when the count exceeds it: three evaluations without a gain
}


class Row(NamedTuple):
    """One run: epochs are counted from 1, metrics in the order of :data:`METRICS`, seconds are medians."""

    seed: int
    best_epoch: int
    epochs: int
    valid: float
    test: tuple[float, ...]
    train_s: float
    valid_s: float


def _run(model: str, keys: dict[str, Any]) -> dict[str, Any]:
    """A run whose own table goes to stderr: stdout is for ours."""
    with contextlib.redirect_stdout(sys.stderr):
        return run(model, "ml-1m_clean", config_dict={**COMMON, **keys}, saved=False)


def run_ease(data: dict[str, Any]) -> tuple[float, ...]:
    """Test metrics of RecBole's EASE, whose key reg_weight is lambda."""
    result = _run("EASE", {**data, "reg_weight": 1000.0})
    return tuple(result["test_result"][metric] for metric in METRICS)


def run_diffrec(data: dict[str, Any], seed: int) -> Row:
    """One training to the official early stop, and the test of its best epoch."""
    result = _run("DiffRec", {**DIFFREC, **data, "seed": seed})
    epochs = json.loads((Path(result["folder"]) / "epochs.json").read_text(encoding="utf-8"))
    test = tuple(result["test_result"][metric] for metric in METRICS)
    train_s = median(epoch["train_s"] for epoch in epochs)
    valid_s = median(epoch["valid_s"] for epoch in epochs if "valid_s" in epoch)
    valid = result["best_valid_result"]["recall@20"]
    return Row(seed, result["timing"]["best_epoch"] + 1, len(epochs), valid, test, train_s, valid_s)


def check_ease(found: Sequence[float]) -> str:
    """A markdown table; exits where a number differs in its fourth decimal."""
    lines = ["| EASE, lambda 1000 | R@10 | R@20 | N@10 | N@20 |", "|---|---|---|---|---|"]
    lines += [_line("expected", EASE), _line("RecBole's EASE through recbole_diffusion.run", found)]
    if any(abs(a - b) > 5e-5 for a, b in zip(found, EASE)):
        sys.exit("\n".join([*lines, "", "error: split, mask or metrics are not the official ones"]))
    return "\n".join([*lines, "", "Equal to four decimals.", ""])


def _line(name: str, values: Sequence[float], std: Sequence[float] = ()) -> str:
    spread = [f" ± {each:.4f}" for each in std] or [""] * len(values)
    return f"| {name} | " + " | ".join(f"{value:.4f}{s}" for value, s in zip(values, spread)) + " |"


def diffrec_table(rows: Sequence[Row]) -> str:
    """A line per seed, their mean with the sample standard deviation, and the numbers to compare with."""
    lines = [
        "| DiffRec | best epoch (of) | s per epoch | s per validation | valid R@20 | R@10 | R@20 | N@10 | N@20 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        start = f"seed {row.seed} | {row.best_epoch} ({row.epochs}) | {row.train_s:.2f} | {row.valid_s:.2f}"
        lines.append(_line(start, (row.valid, *row.test)))
    values = np.array([(row.valid, *row.test) for row in rows])
    if len(rows) > 1:
        seconds = np.array([(row.train_s, row.valid_s) for row in rows]).mean(axis=0)
        start = f"mean ± sample std of {len(rows)} | | {seconds[0]:.2f} | {seconds[1]:.2f}"
        lines.append(_line(start, values.mean(axis=0), values.std(axis=0, ddof=1)))
    lines.append(_line("official code, 3 seeds | 5 to 15 | | ", (0.1127, *OFFICIAL), (0.0008, *OFFICIAL_STD)))
    lines.append(_line("paper, released checkpoint | | | ", (0.1147, *PAPER)))
    return "\n".join(lines)


def main(arguments: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, help="ml-1m_clean.npz")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--models", nargs="+", choices=["EASE", "DiffRec"], default=["EASE", "DiffRec"])
    parser.add_argument("--protocol", choices=["official", "time-proper"], default="official")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    file, here = options.data.resolve(), Path.cwd()
    print(f"ml-1m_clean, protocol {options.protocol}: " + json.dumps(environment()) + "\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # RecBole logs where it is started
        write_split(file, Path(folder) / "data", "ml-1m_clean", options.protocol)
        data = settings(Path(folder) / "data")
        if "EASE" in options.models:
            found = run_ease(data)
            print(check_ease(found) if options.protocol == "official" else _line("EASE", found), flush=True)
        if "DiffRec" in options.models:
            print(diffrec_table([run_diffrec(data, seed) for seed in options.seeds]), flush=True)
        os.chdir(here)  # Windows cannot remove a folder that is in use


if __name__ == "__main__":
    main()
