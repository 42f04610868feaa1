"""What carries a result on ml-1m_clean: the chain, the noise, the weights, the dropout, the mask, the clusters?

    python benchmarks/ablation.py --data PATH/ml-1m_clean.npz [--seeds 1] [--models DiffRec LDiffRec FlowCF GiffCF]

Each variant is trained as published but for the keys named, chosen on the official validation part and tested on the
official test part. "test, only train masked" ranks for the same weights and the same targets, with the user's later
items left among the candidates. Lines without a training of their own use the first line's weights. Markdown, on
stdout.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import torch

from recbole_diffusion import load, registry, run
from recbole_diffusion.data import convert
from recbole_diffusion.experiment.reproduce import load_setting
from recbole_diffusion.training.trainer import trainer_class

NAME = "ml-1m_clean"
METRICS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")
QUIET = {"state": "error", "show_progress": False, "use_gpu": False}
#: What is changed in training.
TRAINED: dict[str, dict[str, dict[str, Any]]] = {
    "EASE": {"lambda 1000": {"reg_weight": 1000.0}},
    "DiffRec": {
        "as published": {},
        "weights 1, steps drawn uniformly": {"reweight": False, "timestep_sampling": "uniform"},
        "no noise, weights 1, 40 passes": {"noise_scale": 0},
        "no noise, one step: a denoising auto-encoder": {"noise_scale": 0, "steps": 1},
        "no dropout": {"dropout_prob": 0.0},
    },
    "LDiffRec": {
        "as published": {},
        "no clusters (n_cate 1)": {"n_cate": 1},
        "weight of the diffusion's loss 0 (lamda 0, anneal_cap 0)": {"lamda": 0.0, "anneal_cap": 0.0},
    },
    "FlowCF": {
        "as published": {},
        "prior zero: mere masking": {"prior": "zero"},
        "prior uniform": {"prior": "uniform"},
    },
    "GiffCF": {
        "as published": {},
        "no dropout": {"dropout_prob": 0.0},
    },
}
#: What is changed at inference, with the weights of the first line.
INFERRED: dict[str, dict[str, dict[str, Any]]] = {
    "EASE": {},
    "DiffRec": {
        "... one pass (inference_steps 1)": {"inference_steps": 1},
        "... last 5 steps": {"inference_steps": 5},
        "... noised start (sampling_steps 40)": {"sampling_steps": 40},
        "... noise in the reverse steps": {"sampling_noise": True},
        "... fed train and valid (test_input)": {"test_input": "train+valid"},
    },
    "LDiffRec": {"... one pass (inference_steps 1)": {"inference_steps": 1}},
    "FlowCF": {
        "... one pass (inference_steps 1)": {"inference_steps": 1},
        "... all 9 steps": {"inference_steps": 9},
    },
    "GiffCF": {
        "... one pass (inference_steps 1)": {"inference_steps": 1},
        "... one pass, no residual (noise_decay 0)": {"inference_steps": 1, "noise_decay": 0.0},
        "... one pass, no smoothed row z (ablation wo_latent)": {
            "inference_steps": 1,
            "noise_decay": 0.0,
            "ablation": "wo_latent",
        },
        "... one pass, no projection of the row (ablation wo_precond)": {
            "inference_steps": 1,
            "noise_decay": 0.0,
            "ablation": "wo_precond",
        },
        "... one pass, no rows at the end (ablation wo_postcond)": {
            "inference_steps": 1,
            "noise_decay": 0.0,
            "ablation": "wo_postcond",
        },
    },
}


def evaluate(file: str, keys: dict[str, Any], phase: str) -> dict[str, float]:
    """The metrics of a checkpoint's weights on a part of the data that ``keys`` name."""
    config, model, _, _, valid, test = load(file, trust=True, config_dict=keys)
    trainer = trainer_class(registry.get_trainer(config["MODEL_TYPE"], config.requested_model, config["model"]))(
        config, model
    )
    found = trainer.evaluate(valid if phase == "valid" else test, load_best_model=False)
    assert found is not None
    return found


def line(what: str, epoch: Any, found: dict[str, float], unmasked: dict[str, float]) -> None:
    values = " | ".join([*(f"{found[key]:.4f}" for key in METRICS), f"{unmasked['recall@20']:.4f}"])
    print(f"| {what} | {epoch} | {values} |", flush=True)


def ablate(model: str, seed: int, official: dict[str, Any], proper: dict[str, Any]) -> None:
    """``official``, ``proper``: settings of the protocols; in the order of time the part valid is the official test."""
    published = {} if model == "EASE" else load_setting(model, NAME).settings
    evaluation = {"metrics": ["Recall", "NDCG"], "topk": [10, 20], "valid_metric": "Recall@20"}
    print(f"\n{model}, seed {seed}\n\n| | best epoch | R@10 | R@20 | N@10 | N@20 | test R@20, only train masked |")
    print("|---|---|---|---|---|---|---|", flush=True)
    first = None
    for what, keys in TRAINED[model].items():
        with contextlib.redirect_stdout(sys.stderr):
            result = run(
                model, NAME, config_dict={**evaluation, **published, **official, **QUIET, **keys, "seed": seed}
            )
        first = first or result["checkpoint"]
        best = result["timing"]["best_epoch"]
        unmasked = evaluate(result["checkpoint"], {**QUIET, **proper}, "valid")
        line(what, best, result["test_result"], unmasked)
        for more, inference in INFERRED[model].items() if what == next(iter(TRAINED[model])) else ():
            found = evaluate(first, {**QUIET, **official, **inference}, "test")
            line(more, "", found, evaluate(first, {**QUIET, **proper, **inference}, "valid"))


def main(arguments: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, help="ml-1m_clean.npz")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--models", nargs="+", choices=TRAINED, default=list(TRAINED))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    file, here = options.data.resolve(), Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)  # RecBole logs where it is started
        both = []
        for protocol in convert.PROTOCOLS:
            convert.write_split(file, Path(name) / protocol, NAME, protocol)
            both.append(convert.settings(Path(name) / protocol))
        embeddings = {"pretrain": convert.settings(Path(name) / "official", NAME).get("pretrain")}
        for model in options.models:
            for seed in options.seeds:
                ablate(model, seed, {**both[0], **(embeddings if model == "LDiffRec" else {})}, both[1])
        os.chdir(here)  # Windows cannot remove a folder that is in use


if __name__ == "__main__":
    main()
