"""What carries DDRM's and HDRM's results: the base, the mean of a user's items, one call, the chain, the noise?

    python benchmarks/on_embeddings.py DDRM --data PATH/ml-1m_noisy.npz --tables PATH/ml-1m_noisy_lightgcn.npz
    python benchmarks/on_embeddings.py DDRM --data PATH/ml-1m_noisy.npz --base LightGCN --depths 2 3 4
    python benchmarks/on_embeddings.py HDRM --data PATH/ml-1m_clean.npz --size 64

For each base: its own ranking; the ranking by the plain mean of the embeddings of a user's items, which is where the
chain starts; the model, trained for --epochs with the epoch chosen on the validation part; and the same weights with
other keys at inference. --trained adds lines with other keys in training. Everything is on the official protocol, test
and validation part, so that a line may be chosen on the latter. Markdown, on stdout.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import torch

from recbole_diffusion import load, registry, run
from recbole_diffusion.data import convert
from recbole_diffusion.settings.schema import parse_value
from recbole_diffusion.training.trainer import trainer_class

METRICS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")
QUIET = {"state": "error", "show_progress": False, "use_gpu": False, "metric_decimal_place": 6}
EVALUATION = {"metrics": ["Recall", "NDCG"], "topk": [10, 20], "valid_metric": "Recall@10"}
STRONG = {"noise_scale": 1.0, "noise_min": 0.01, "noise_max": 0.5, "beta_fixed": False}
#: What is changed in training, beside the model as its defaults have it.
TRAINED: dict[str, dict[str, dict[str, Any]]] = {
    "DDRM": {
        "no noise, one call": {"noise_scale": 0, "inference_steps": 1},
        "no noise, no dropout, one call": {"noise_scale": 0, "inference_steps": 1, "dropout_prob": 0.0},
        "strong noise (variance .01 to .5)": STRONG,
        "no condition (guidance False)": {"guidance": False},
        "ranking loss only (recon_weight 0)": {"recon_weight": 0.0},
        "reconstruction only (recon_weight 1)": {"recon_weight": 1.0},
        "mix 0.5, reconstruction only": {"recon_weight": 1.0, "mix": 0.5},
        "RecBole's triples (triple_sampling interaction)": {"triple_sampling": "interaction"},
        "the base trained on (freeze_base False)": {"freeze_base": False},
    },
    "HDRM": {
        "mix 1": {"mix": 1.0},
        "restrict directional": {"restrict": "directional"},
        "restrict radial": {"restrict": "radial"},
        "restrict both": {"restrict": "both"},
        "restrict both, strong noise (variance .01 to .5)": {
            "restrict": "both", **STRONG,
        },
        "mix 0.2": {"mix": 0.2},
        "mix 0.5, reconstruction only (recon_weight 1)": {"mix": 0.5, "recon_weight": 1.0},
    },
}  # fmt: skip
#: What is changed at inference, with the weights of the model as its defaults have it.
INFERRED: dict[str, dict[str, dict[str, Any]]] = {
    "DDRM": {
        "... one call": {"inference_steps": 1, "sampling_steps": 0},
        "... all calls, no noise": {"sampling_steps": 0},
        "... as many calls as steps": {"infer_factor": 1.0},
        "... another draw of the noise": {"eval_seed": 7},
        "... from the user's embedding": {"start": "user"},
        "... from the mean of all items": {"start": "item_mean"},
        "... users denoised too": {"denoise_users": True},
    },
    "HDRM": {
        "... one call": {"inference_steps": 1, "sampling_steps": 0},
        "... all calls, no noise": {"sampling_steps": 0},
        "... what is generated alone (mix 1)": {"mix": 1.0},
    },
}
BASES = {"DDRM": "LightGCN", "HDRM": "HGCF"}


def measured(file: str, keys: dict[str, Any], represent: Any = None) -> tuple[dict[str, float], dict[str, float]]:
    """Metrics of a checkpoint on the validation and the test part; with another way to a user's vector."""
    with contextlib.redirect_stdout(sys.stderr):
        config, model, _, _, valid, test = load(file, trust=True, config_dict={**QUIET, **keys})
        if represent is not None:
            model.represent = types.MethodType(represent, model)
        kind = registry.get_trainer(config["MODEL_TYPE"], config.requested_model, config["model"])
        trainer = trainer_class(kind)(config, model)
        return trainer.evaluate(valid, load_best_model=False), trainer.evaluate(test, load_best_model=False)


def line(what: str, epoch: str, valid: dict[str, float], test: dict[str, float], seconds: str = "") -> None:
    values = " | ".join(f"{part[key]:.4f}" for part in (valid, test) for key in METRICS)
    print(f"| {what} | {epoch} | {values} | {seconds} |", flush=True)


def by_the_base(model: Any, users: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = model._ranking_tables()[0][users]
    return found


def by_the_mean(model: Any, users: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = model._ranking_tables()[1][users]
    return found


def by_both(model: Any, users: torch.Tensor) -> torch.Tensor:
    return (by_the_base(model, users) + by_the_mean(model, users)) / 2


def table(model: str, title: str, keys: dict[str, Any], trained: Sequence[str], alone: bool) -> None:
    """``alone``: the first line's model is left out, and trained as far only as its base needs."""
    print(
        f"\n{title}\n\n| | best epoch | valid R@10 | R@20 | N@10 | N@20 "
        "| test R@10 | R@20 | N@10 | N@20 | s per epoch |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|", flush=True)
    variants = {
        f"{model}, defaults": {"epochs": 1} if alone else {},
        **{name: TRAINED[model][name] for name in trained},
    }
    for number, (what, own) in enumerate(variants.items()):
        with contextlib.redirect_stdout(sys.stderr):
            result = run(model, str(keys["dataset"]), config_dict={**keys, **own})
        file, timing = result["checkpoint"], result["timing"]
        if number == 0:
            line(f"the base, {keys['base_model']}, alone", "", *measured(file, {}, by_the_base))
            line(
                "the mean of the user's items, no network", "", *measured(file, {"start": "history_mean"}, by_the_mean)
            )
            line("the middle between the two", "", *measured(file, {"start": "history_mean"}, by_both))
        if number == 0 and alone:
            continue
        seconds = f"{timing['train_s_per_epoch']:.0f}"
        line(what, str(timing["best_epoch"]), *measured(file, {}), seconds)
        for more, inference in INFERRED[model].items() if number == 0 else ():
            line(more, "", *measured(file, inference))


def main(arguments: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=BASES)
    parser.add_argument("--data", required=True, type=Path, help="ml-1m_noisy.npz or ml-1m_clean.npz")
    parser.add_argument("--base", help="a recommender to train here; default: LightGCN for DDRM, HGCF for HDRM")
    parser.add_argument("--base-config", default="{}", help="its settings, as yaml")
    parser.add_argument("--tables", type=Path, help="layer-0 tables in place of its training")
    parser.add_argument("--depths", nargs="+", type=int, default=[], help="its n_layers, one table each")
    parser.add_argument("--size", type=int, default=64, help="its embedding_size")
    names = sorted({name for each in TRAINED.values() for name in each})
    parser.add_argument("--trained", nargs="*", default=[], choices=["all", *names], help="further lines")
    parser.add_argument("--alone", action="store_true", help="leave the model as its defaults have it out")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="where the trained bases are kept for another run")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    data, name, here = options.data.resolve(), options.data.stem, Path.cwd()
    tables = options.tables.resolve() if options.tables else None
    base, own = (
        options.base or BASES[options.model],
        {"embedding_size": options.size, **parse_value(options.base_config)},
    )
    trained = list(TRAINED[options.model]) if options.trained == ["all"] else options.trained
    with tempfile.TemporaryDirectory() as folder:
        where = (options.keep or Path(folder) / "saved").resolve()
        os.chdir(folder)  # RecBole logs where it is started
        convert.write_split(data, "data", name, "official")
        common = {**convert.settings("data"), **EVALUATION, **QUIET, "checkpoint_dir": str(where), "dataset": name}
        common |= {"seed": options.seed, "epochs": options.epochs, "stopping_step": 1000, "base_model": base}
        for depth in options.depths or [None]:
            config = own if depth is None else {**own, "n_layers": depth}
            more = {"base_config": config, **({"base_checkpoint": str(tables)} if tables else {})}
            title = f"{options.model} on {name}, base {base} {config}" + (
                f", tables of {tables.name}" if tables else ""
            )
            table(options.model, f"{title}, seed {options.seed}", {**common, **more}, trained, options.alone)
        os.chdir(here)  # Windows cannot remove a folder that is in use


if __name__ == "__main__":
    main()
