"""Train each model and print what came out, to the last bit: two runs with one seed must print the same.

    python tests/reliability/same_twice.py [--threads 2] [--noisy] [--models DiffRec TEASE] [--dataset ml-100k]

A line of JSON holds, by case, a checksum of weights, losses, metrics and scores, and the values that show how far two
numbers of threads are apart. The settings are those of the model's card (``contract``), with two epochs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SHORT = {"epochs": 2, "stopping_step": 99, "metric_decimal_place": 17, "show_progress": False, "state": "ERROR"}


def cases(models: list[str], noisy: bool = False) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The name, model and settings of each case: of the model's card, and with ``noisy`` each of its variants."""
    from recbole_diffusion.testing import noisy as variants_of

    for model in models:
        keys = quick_of(model)
        yield model, model, keys
        for number, variant in enumerate(variants_of(model) if noisy else [], 1):
            yield f"{model} {number}", model, {**keys, **_short(variant)}


def quick_of(model: str) -> dict[str, Any]:
    """The settings of the model's card with one epoch of the models below."""
    from recbole_diffusion.testing import quick

    return _short(quick(model))


def _short(keys: dict[str, Any]) -> dict[str, Any]:
    keys = dict(keys)
    if "base_config" in keys:
        keys["base_config"] = {**keys["base_config"], "epochs": 1}
    if keys.get("pretrain"):
        keys["pretrain"] = {**keys["pretrain"], "config": {**keys["pretrain"].get("config", {}), "epochs": 1}}
    return keys


def train(argument: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """Train a model in a folder of its own, its base model included.

    Args:
        argument: the model, and settings with ``data_path`` absolute and ``dataset`` (default ``board``).

    Returns:
        ``sha256`` of all numbers below and of the weights; ``parts``, a checksum of each; ``test``, the metrics.
    """
    from recbole_diffusion import load, run
    from recbole_diffusion.testing import users_of

    model, keys = argument
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            result = run(model, keys.get("dataset", "board"), config_dict={**keys, **SHORT, "save_per_user": True})
            loaded = load(result["checkpoint"])
            users = users_of((loaded.train_data, loaded.valid_data, loaded.test_data))
            parts = {
                "weights": dict(sorted(loaded.model.state_dict().items())),
                "losses": [epoch.get("train_loss") for epoch in result["epochs"]],
                "valid": dict(result["best_valid_result"]),
                "test": dict(result["test_result"]),
                "users": result["per_user"].metrics,
                "scores": loaded.model.full_sort_predict(users),
            }
        finally:
            os.chdir(before)
    sums = {name: _checksum(part) for name, part in parts.items()}
    return {"sha256": _checksum([*sums.values()]), "parts": sums, "test": parts["test"]}


def _checksum(value: Any) -> str:
    """Of the bits of all numbers; names and their order count."""
    digest = hashlib.sha256()
    _add(digest, value)
    return digest.hexdigest()[:16]


def _add(digest: Any, value: Any) -> None:
    import numpy as np

    if isinstance(value, dict):
        for name, entry in value.items():
            digest.update(str(name).encode())
            _add(digest, entry)
    elif isinstance(value, (list, tuple)):
        for entry in value:
            _add(digest, entry)
    elif hasattr(value, "detach"):
        dense = value.detach().to_dense() if value.is_sparse else value.detach()
        _add(digest, dense.cpu().numpy())
    elif isinstance(value, np.ndarray):
        digest.update(f"{value.dtype.str}{value.shape}".encode() + np.ascontiguousarray(value).tobytes())
    else:
        digest.update(repr(value).encode())


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--noisy", action="store_true", help="the variants of the cards too")
    options.add_argument("--models", nargs="*")
    options.add_argument("--dataset", default="board", help="'board', or one that RecBole brings along")
    chosen = options.parse_args()
    import torch
    from threadpoolctl import threadpool_limits

    from recbole_diffusion import registry
    from recbole_diffusion.testing import SETTINGS, write_board

    torch.set_num_threads(chosen.threads)
    keys: dict[str, Any] = {"dataset": chosen.dataset}
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(chosen.threads):
        if chosen.dataset == "board":
            keys = {**SETTINGS, "data_path": str(write_board(Path(folder)))}
        for name, model, own in cases(chosen.models or [spec.name for spec in registry.ours()], chosen.noisy):
            print(json.dumps({name: train((model, {**keys, **own}))}), flush=True)


if __name__ == "__main__":
    main()
