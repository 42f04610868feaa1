"""Models of users' rows on ml-1m in time, beside strong simple baselines: who gains from weights by rank in time?

    python benchmarks/in_time.py --data PATH/ml-1m.inter.xz [--seeds 1 2 3] [--models EASE DiffRec ...]
    python benchmarks/in_time.py --data ml-100k --models DiffRec TDiffRec GiffCF "GiffCF, recency" ...

Ratings of 4 and 5, users and items with at least 10 of them; each user's rows in time, the first 7 tenths to train on,
the next tenth to choose the epoch, the last two tenths to test. Every model is fed the train rows and ranks what is in
neither train nor valid. "EASE in time" is EASE fed T-DiffRec's weighted rows; lambda is chosen on the validation part.
L- and LT-DiffRec cluster the items by the embeddings of the LightGCN in the table; ml-100k, which RecBole brings, has
one cluster. "recency": rows with weights from .1 to 1, the graph of binary rows. Markdown, on stdout.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import lzma
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np
import torch
from recbole.model.general_recommender import EASE
from scipy.sparse import csr_matrix

from recbole_diffusion import run
from recbole_diffusion.model.rows.history import rank_weights
from recbole_diffusion.training.run_folder import environment

METRICS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")
COMMON: dict[str, Any] = {
    "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
    "val_interval": {"rating": "[4,inf)"},
    "user_inter_num_interval": "[10,inf)",
    "item_inter_num_interval": "[10,inf)",
    "eval_args": {"split": {"RS": [0.7, 0.1, 0.2]}, "order": "TO", "group_by": "user", "mode": "full"},
    "topk": [10, 20],
    "metrics": ["Recall", "NDCG"],
    "valid_metric": "Recall@20",
    "use_gpu": False,
    "state": "error",
    "show_progress": False,
    "epochs": 500,
    "eval_step": 5,
    "stopping_step": 9,  # 50 epochs without a gain: the paper's 20 stop the latent models early
}
#: The official training on ml-1m_clean; the rest are our defaults.
OFFICIAL: dict[str, Any] = {"learner": "adamw", "learning_rate": 1e-3}
MODELS: dict[str, dict[str, Any]] = {
    "EASE": {"eval_step": 1},  # its only epoch
    "EASE in time": {"eval_step": 1},
    "LightGCN": {"learning_rate": 5e-3, "train_batch_size": 8192, "n_layers": 2, "stopping_step": 3},
    "MultiVAE": {"learning_rate": 1e-3, "train_batch_size": 400, "train_neg_sample_args": None},
    "DiffRec": OFFICIAL,
    "TDiffRec": OFFICIAL,
    "LDiffRec": OFFICIAL,
    "LTDiffRec": OFFICIAL,
    "FlowCF": {"learning_rate": 1e-3},
    "FlowCF, recency": {"learning_rate": 1e-3, "row_weights": "recency"},
    "GiffCF": {"learning_rate": 1e-3},
    "GiffCF, recency": {"learning_rate": 1e-3, "row_weights": "recency"},
}
#: RecBole's own small data set.
BUNDLED = "ml-100k"
LAMBDAS = (200.0, 500.0, 1000.0)


class TimedEASE(EASE):
    """EASE as it is, but fed rows that weight the user's items as T-DiffRec does: what do the weights alone give?"""

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        users, items, times = (dataset.inter_feat[field].numpy() for field in ("user_id", "item_id", "timestamp"))
        weights = rank_weights(users, times, 0.1, 1.0).astype(np.float32)
        self.interaction_matrix = csr_matrix((weights, (users, items)), shape=self.interaction_matrix.shape)


class Row(NamedTuple):
    """One run: its settings in short, best epoch (from 1), metrics in the order of :data:`METRICS`, seconds."""

    what: str
    best_epoch: Optional[int]
    valid: float
    test: tuple[float, ...]
    seconds: float


def one_run(model: str, keys: dict[str, Any], what: str, saved: bool = False) -> tuple[Row, dict[str, Any]]:
    """A run whose own table goes to stderr: stdout is for ours."""
    with contextlib.redirect_stdout(sys.stderr):
        chosen = TimedEASE if model == "EASE in time" else model.partition(",")[0]
        name = "ml-1m" if "data_path" in keys else BUNDLED
        result = run(chosen, name, config_dict={**COMMON, **MODELS[model], **keys}, saved=saved)
    test = tuple(result["test_result"][metric] for metric in METRICS)
    best = result["timing"]["best_epoch"]
    valid = result["best_valid_result"]["recall@20"]
    return Row(what, best, valid, test, result["timing"]["total_s"]), result


def rows_of(model: str, data: dict[str, Any], seeds: Sequence[int], lightgcn: Optional[str]) -> list[Row]:
    """The runs of one model: over lambda for EASE, one for LightGCN, else over the seeds."""
    if model.startswith("EASE"):
        rows = [one_run(model, {**data, "reg_weight": each}, f"lambda {each:.0f}")[0] for each in LAMBDAS]
        return [max(rows, key=lambda row: row.valid)]
    if model in {"LDiffRec", "LTDiffRec"} and not data:
        data = {"n_cate": 1}
    elif model in {"LDiffRec", "LTDiffRec"}:
        if lightgcn is None:
            sys.exit(f"{model} takes LightGCN's embeddings: add LightGCN to --models, before it, or give --lightgcn")
        data = {**data, "pretrain": lightgcn}
    return [one_run(model, {**data, "seed": seed}, f"seed {seed}")[0] for seed in seeds]


def show(model: str, rows: Sequence[Row]) -> None:
    """A line per run, and with several their mean and sample standard deviation."""
    for row in rows:
        values = " | ".join(f"{value:.4f}" for value in (row.valid, *row.test))
        print(f"| {model} | {row.what} | {row.best_epoch or ''} | {values} | {row.seconds:.0f} |")
    if len(rows) > 1:
        table = np.array([(row.valid, *row.test) for row in rows])
        pairs = zip(table.mean(axis=0), table.std(axis=0, ddof=1))
        values = " | ".join(f"{mean:.4f} ± {spread:.4f}" for mean, spread in pairs)
        print(f"| **{model}** | mean of {len(rows)} | | {values} | |")
    sys.stdout.flush()


def main(arguments: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", required=True, type=Path, help=f"ml-1m.inter.xz or ml-1m.inter, with timestamps; or {BUNDLED}"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--lightgcn", type=Path, help="embeddings or checkpoint of an earlier run's LightGCN")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    raw = b"" if str(options.data) == BUNDLED else options.data.read_bytes()
    lightgcn = str(options.lightgcn.resolve()) if options.lightgcn else None
    print(f"{options.data.name.partition('.')[0]} in time: " + json.dumps(environment()) + "\n", flush=True)
    print(
        "| model | | best epoch | valid R@20 | R@10 | R@20 | N@10 | N@20 | s |\n|---|---|---|---|---|---|---|---|---|"
    )
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)  # RecBole logs where it is started
        data = {}
        if raw:
            folder = Path(name) / "data" / "ml-1m"
            folder.mkdir(parents=True)
            (folder / "ml-1m.inter").write_bytes(lzma.decompress(raw) if options.data.suffix == ".xz" else raw)
            data = {"data_path": str(folder.parent)}
        for model in options.models:
            if model == "LightGCN":
                row, result = one_run(model, {**data, "seed": options.seeds[0]}, f"seed {options.seeds[0]}", saved=True)
                lightgcn = result["checkpoint"]
                show(model, [row])
            else:
                show(model, rows_of(model, data, options.seeds, lightgcn))
        os.chdir(here)  # Windows cannot remove a folder that is in use


if __name__ == "__main__":
    main()
