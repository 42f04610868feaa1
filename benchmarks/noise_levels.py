"""Does a sequential model's diffusion carry anything, at any level of noise? The same network with and without it.

    python benchmarks/noise_levels.py --data ml-100k [--models DreamRec] [--levels none weak ...] [--seeds 1 2 3]
    python benchmarks/noise_levels.py --data PATH/amazon-beauty.inter.xz --models DreamRec --gpu

DreamRec has an MLP denoiser here, width 128, T = 20 and cross-entropy, which its published loss lacks. Its noise goes
from variances of .01 to .1 a step ("weak") up to .5 to .9 ("stronger"); "none": the network does not see x_t. DiffuRec
has width 64 and several factors lambda of x_t; its embeddings start with x_t's norm. The budget is the same for all: at
most --epochs, a validation every third, patience of three. Leave-one-out in time, all items are ranked, the past is
masked, and the epoch is chosen by NDCG@10 on validation. Markdown, on stdout; the runs' own tables on stderr.
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
from typing import Any, Optional

import numpy as np
import torch

from recbole_diffusion import run
from recbole_diffusion.data import convert
from recbole_diffusion.training.run_folder import environment

METRICS = ("hit@5", "hit@10", "hit@20", "ndcg@10", "itemcoverage@10")
COMMON: dict[str, Any] = {
    **convert.LEAVE_ONE_OUT,
    "metrics": ["Hit", "NDCG", "ItemCoverage"],
    "topk": [5, 10, 20],
    "valid_metric": "NDCG@10",
    "mask_history": True,
    "train_batch_size": 512,
    "learning_rate": 1e-3,
    "eval_step": 3,
    "stopping_step": 3,
    "state": "error",
    "show_progress": False,
}
#: Settings of all levels.
NETWORKS: dict[str, dict[str, Any]] = {
    "DreamRec": {"hidden_size": 128, "denoiser": "mlp", "ce_weight": 1.0, "guidance": 0.0, "steps": 20},
    "DiffuRec": {"hidden_size": 64, "n_layers": 2, "n_heads": 2, "MAX_ITEM_LIST_LENGTH": 20, "inference_steps": 8},
}
LEVELS: dict[str, dict[str, dict[str, Any]]] = {
    "DreamRec": {
        "none": {"use_state": False, "inference_steps": 1},
        "weak": {"noise_min": 0.01, "noise_max": 0.1},
        "mid": {"noise_min": 0.05, "noise_max": 0.3},
        "strong": {"noise_min": 0.2, "noise_max": 0.5},
        "stronger": {"noise_min": 0.5, "noise_max": 0.9},
        "published": {"steps": 500},
    },
    "DiffuRec": {
        "none": {"lambda_uncertainty": 0.0, "lambda_std": 0.0},
        "published": {"lambda_uncertainty": 0.001},
        "lambda .1": {"lambda_uncertainty": 0.1},
        "lambda 1": {"lambda_uncertainty": 1.0, "lambda_std": 0.0},
    },
}


def one_run(model: str, level: str, dataset: str, keys: dict[str, Any]) -> tuple[int, float, tuple[float, ...]]:
    """Train one model; return its best epoch, NDCG@10 on validation and :data:`METRICS` of test."""
    settings = {**COMMON, **NETWORKS[model], **LEVELS[model][level], **keys}
    with contextlib.redirect_stdout(sys.stderr):
        result = run(model, dataset, config_dict=settings, saved=False)
    test = tuple(result["test_result"][metric] for metric in METRICS)
    return result["timing"]["best_epoch"], result["best_valid_result"]["ndcg@10"], test


def show(model: str, level: str, seeds: Sequence[int], dataset: str, keys: dict[str, Any]) -> None:
    """Print a line per seed, and with several their mean and sample standard deviation."""
    rows = []
    for seed in seeds:
        best, valid, test = one_run(model, level, dataset, {**keys, "seed": seed})
        rows.append((valid, *test))
        print(f"| {model} | {level} | {seed} | {best} | " + " | ".join(f"{value:.4f}" for value in rows[-1]) + " |")
    if len(rows) > 1:
        values = zip(np.mean(rows, axis=0), np.std(rows, axis=0, ddof=1))
        cells = " | ".join(f"{mean:.4f} ± {spread:.4f}" for mean, spread in values)
        print(f"| {model} | **{level}** | mean of {len(rows)} | | {cells} |")
    sys.stdout.flush()


def main(arguments: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="ml-100k, or an atomic file with timestamps (.inter, .inter.xz)")
    parser.add_argument("--models", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--levels", nargs="+", help="default: all of a model")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--gpu", action="store_true", help="train on the GPU, with TF32 and CUDA graphs")
    options = parser.parse_args(arguments)
    keys: dict[str, Any] = {"epochs": options.epochs, "use_gpu": options.gpu}
    if options.gpu:
        keys.update(matmul_precision="high", cuda_graphs=True)
    torch.set_num_threads(1)
    print(f"{Path(options.data).name}, at most {options.epochs} epochs: {json.dumps(environment())}\n")
    print(
        "| model | x_t's noise | seed | best epoch | valid NDCG@10 | Hit@5 | Hit@10 | Hit@20 | NDCG@10 | coverage@10 |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    here, source = Path.cwd(), Path(options.data).resolve()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # RecBole logs where it is started
        dataset = "ml-100k"
        if options.data != "ml-100k":
            dataset = source.name.partition(".")[0]
            convert.write_sequences(source, folder, dataset)
            keys["data_path"] = folder
        for model in options.models:
            for level in options.levels or LEVELS[model]:
                if level in LEVELS[model]:
                    show(model, level, options.seeds, dataset, keys)
        os.chdir(here)  # Windows cannot remove a folder that is in use


if __name__ == "__main__":
    main()
