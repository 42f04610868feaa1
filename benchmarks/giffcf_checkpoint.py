"""Rank ml-1m_clean by the weights that GiffCF's authors release: the chain, one call of the network, inputs left out.

    python benchmarks/giffcf_checkpoint.py --data PATH/ml-1m_clean.npz CHECKOUT/checkpoints/movielens.keras ...

CHECKOUT is a clone of https://github.com/VinciZhu/GiffCF (commit 3f67e02). The files are HDF5: needs h5py. Their README
counts Recall as hits / min(k, number of targets); the last two columns do too. Markdown, on stdout.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

import h5py
import numpy as np
import torch
from torch import Tensor

from recbole_diffusion import quick_start
from recbole_diffusion.data import convert
from recbole_diffusion.testing import trainer_of

NAME = "ml-1m_clean"
METRICS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")
#: Our layers in the order in which Keras numbered theirs.
LAYERS = [
    f"{net}.{part}" for net in ("latent_time", "item_time", "latent_mixer", "item_mixer") for part in ("hidden", "out")
]
KEYS: dict[str, Any] = {
    "item_init": "glorot",
    "metrics": ["Recall", "NDCG"],
    "topk": [10, 20],
    "valid_metric": "Recall@20",
    "state": "error",
    "show_progress": False,
    "use_gpu": False,
}
ONE_CALL = {"inference_steps": 1, "noise_decay": 0.0}
VARIANTS: dict[str, dict[str, Any]] = {
    "chain of 3 (noise_decay .5)": {},
    "chain, noise_decay 1": {"noise_decay": 1.0},
    "chain, noise_decay 0": {"noise_decay": 0.0},
    "one call (inference_steps 1)": {"inference_steps": 1},
    "one call, no residual (noise_decay 0)": ONE_CALL,
    "... no smoothed row z (wo_latent)": {**ONE_CALL, "ablation": "wo_latent"},
    "... no projection of the row (wo_precond)": {**ONE_CALL, "ablation": "wo_precond"},
    "... no rows at the end (wo_postcond)": {**ONE_CALL, "ablation": "wo_postcond"},
}


class Weights(NamedTuple):
    """Official weights in our layout: parameters by name, the item matrix in the order of the official ids."""

    state: dict[str, Tensor]
    items: Tensor


def read(file: Path) -> Weights:
    """Read a released checkpoint. Keras stores (inputs, outputs), and the sines before the cosines."""
    state, items = {}, None
    with h5py.File(file, "r") as content:
        for path, values in _datasets(content):
            *_, layer, name = path.split("/")
            if name.startswith("item_embed"):
                items = torch.from_numpy(values)
                continue
            ours = LAYERS[int(layer.partition("_")[2] or 0)]
            if name.startswith("kernel"):
                kernel = torch.from_numpy(values).t()
                state[f"{ours}.weight"] = kernel.roll(10, dims=1) if ours.endswith("time.hidden") else kernel
            else:
                state[f"{ours}.bias"] = torch.from_numpy(values)
    assert items is not None
    return Weights(state, items)


def _datasets(group: Any, path: str = "") -> Iterator[tuple[str, np.ndarray]]:
    for name, entry in group.items():
        if isinstance(entry, h5py.Dataset):
            yield f"{path}/{name}", entry[()]
        else:
            yield from _datasets(entry, f"{path}/{name}")


def truncated_recalls(config: Any, model: Any, loaders: Any) -> list[float]:
    """Hits / min(k, number of targets), k = 10 and 20, with train and valid masked; averaged over the users."""
    pairs = [
        np.stack([loader._dataset.inter_feat[field].numpy() for field in ("user_id", "item_id")]) for loader in loaders
    ]
    seen, targets = np.concatenate(pairs[:2], axis=1), pairs[2]
    totals, n_users = np.zeros(2), 0
    for users in np.array_split(np.unique(targets[0]), 12):
        with torch.no_grad():
            scores = model.full_sort_predict({"user_id": torch.from_numpy(users)}).numpy()
        wanted = np.zeros(scores.shape, dtype=bool)
        for (owners, items), value in ((seen, None), (targets, True)):
            mine = np.isin(owners, users)
            rows = np.searchsorted(users, owners[mine])
            if value:
                wanted[rows, items[mine]] = True
            else:
                scores[rows, items[mine]] = -np.inf
        best = np.argsort(-scores, axis=1)[:, :20]
        hits = np.take_along_axis(wanted, best, axis=1)
        for place, k in enumerate((10, 20)):
            totals[place] += (hits[:, :k].sum(1) / np.minimum(wanted.sum(1), k)).sum()
        n_users += len(users)
    return [float(total / n_users) for total in totals]


def rank(weights: Weights, keys: dict[str, Any]) -> list[float]:
    """The four metrics of the test part, and the two truncated recalls."""
    config = quick_start.configure("GiffCF", NAME, config_dict={**KEYS, **keys})
    dataset, loaders = quick_start.prepare(config)
    model = quick_start.build_model(config, loaders).eval()
    order = torch.tensor([int(token) for token in dataset.field2id_token["item_id"][1:]])
    model.diffusion.denoiser.load_state_dict({**weights.state, "items": weights.items[order]})
    result = trainer_of(config, model).evaluate(loaders[2], load_best_model=False)
    return [*(result[metric] for metric in METRICS), *truncated_recalls(config, model, loaders)]


def main(arguments: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, help="ml-1m_clean.npz")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("checkpoints", nargs="+", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    data, files = options.data.resolve(), [file.resolve() for file in options.checkpoints]
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        convert.write_split(data, Path(folder) / "official", NAME, "official")
        for file in files:
            weights = read(file)
            print(f"\n{'/'.join(file.parts[-2:])}\n\n| | R@10 | R@20 | N@10 | N@20 | R'@10 | R'@20 |\n|{'---|' * 7}")
            for variant in options.variants:
                values = rank(weights, {**convert.settings(Path(folder) / "official"), **VARIANTS[variant]})
                print(f"| {variant} | {' | '.join(f'{value:.4f}' for value in values)} |", flush=True)
        os.chdir(here)  # Windows cannot remove a folder that is in use


if __name__ == "__main__":
    main()
