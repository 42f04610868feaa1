"""Training of a base model on the split of the run, with a cache that several processes share.

The cache is a ``.npz`` file per split, model and settings, in ``pretrain_dir`` or in ``checkpoint_dir/pretrain``. A
lock file lets one process train while the others wait.
"""

from __future__ import annotations

import hashlib
import json
from logging import getLogger
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple, Optional

import numpy as np
import torch
from filelock import FileLock, Timeout
from recbole.data.utils import create_samplers
from recbole.utils import init_seed
from tqdm import tqdm

from recbole_diffusion import registry
from recbole_diffusion.compat import repairs
from recbole_diffusion.data import fit_on, names, pipeline
from recbole_diffusion.model.embeddings.pretrained import TrainedModel
from recbole_diffusion.model.embeddings.tables import Embeddings, embeddings_of
from recbole_diffusion.settings import precedence, scopes
from recbole_diffusion.settings.config import Config
from recbole_diffusion.support import npz_files, terminal
from recbole_diffusion.support.atomic_write import atomic_write
from recbole_diffusion.support.random_state import random_state, restore_random_state
from recbole_diffusion.training import run_folder
from recbole_diffusion.training.trainer import trainer_class

#: Increased when the same settings would give another content.
CACHE_FORMAT = 4
#: Settings that change neither the weights nor the best epoch, and are left out of the cache key.
IGNORED_SETTINGS = scopes.without_effect() | scopes.keys(scopes.Scope.DEVICE)
#: The data set is the run's, and the cache key has a hash of its split.
IGNORED_SETTINGS |= {"load_col", "dataset_save_path", "dataloaders_save_path"}


class PretrainingTime(NamedTuple):
    """Seconds of a pretraining.

    Attributes:
        training_s: of the training itself, in this run or in an earlier one.
        this_run_s: that this run spent on training, on waiting for another process, or on reading the cache.
    """

    training_s: float
    this_run_s: float


class CachedBase(NamedTuple):
    """A trained base model in the cache.

    Attributes:
        embeddings: of users and items, in the ids of the data set.
        weights: the model's state dict.
        seconds: of its training.
    """

    embeddings: Embeddings
    weights: dict[str, np.ndarray]
    seconds: float

    @classmethod
    def of(cls, net: Any, dataset: Any, seconds: float) -> CachedBase:
        """Extract the content of the cache from a trained model."""
        weights = {key: value.detach().cpu().numpy() for key, value in net.state_dict().items()}
        return cls(embeddings_of(net, dataset), weights, seconds)


def trained(config: Any, base: Config, train_data: Any, valid_data: Any) -> TrainedModel:
    """Train a base model, or read it from the cache; ``config.pretraining`` gets the seconds.

    Args:
        config: of the run.
        base: of the base model.
        train_data, valid_data: loaders of the run's split.

    Raises:
        ValueError: no validation split to choose the number of epochs by, which is not set.
    """
    if fit_on.is_joined(config) and base.source("epochs") != precedence.GIVEN:
        raise ValueError(
            f"fit_on={config['fit_on']!r} leaves no validation split for {base['model']} below {config['model']}; set "
            "its number of epochs, base_config: {epochs: N} or pretrain: {model: NAME, config: {epochs: N}}"
        )
    folder, start = run_folder.pretrain_folder(config), perf_counter()
    show_progress = terminal.shows_progress(config["show_progress"])
    cached = _train_or_read(folder, base, train_data, valid_data, show_progress)
    config.pretraining = PretrainingTime(cached.seconds, perf_counter() - start)

    def rebuild() -> Any:
        net = untrained(base, train_data)
        net.load_state_dict({key: torch.from_numpy(value) for key, value in cached.weights.items()})
        return net

    return TrainedModel(cached.embeddings, rebuild)


def untrained(base: Config, loader: Any) -> Any:
    """Build the base model with new weights. The random state is restored afterwards."""
    state = random_state()
    try:
        return _build(base, loader)
    finally:
        restore_random_state(state)


def _train_or_read(folder: Path, base: Config, train_data: Any, valid_data: Any, show_progress: bool) -> CachedBase:
    """Read the cache; where there is none, train under a lock and write it."""
    ids = names.user_item_fingerprint(train_data._dataset)  # the split's hash is of names, the tables are in id order
    file = folder / f"{base['model']}-{base['dataset']}-{_cache_key(base, train_data, valid_data, ids)}.npz"
    cached = _read_cache(file, ids)
    if cached is not None:  # without a lock, so that a read-only folder works too
        getLogger().info(f"{base['model']} read from {file}")
        return cached
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(str(file) + ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        getLogger().info(f"waiting for another process that trains {base['model']} for {file}")
        lock.acquire()
    try:
        cached = _read_cache(file, ids)
        if cached is None:
            cached = _train(base, train_data, valid_data, show_progress)
            _write_cache(file, cached, ids)
            getLogger().info(f"{base['model']} kept in {file}")
        else:
            getLogger().info(f"{base['model']} read from {file}")
    finally:
        lock.release()
    return cached


def _cache_key(base: Config, train_data: Any, valid_data: Any, ids: str) -> str:
    """A hash of format, split, id order, model and settings."""
    key = {
        "format": CACHE_FORMAT,
        "split": pipeline.describe(train_data._dataset, (train_data, valid_data))["split_sha256"],
        "ids": ids,
        "settings": {key: value for key, value in base.plain().items() if key not in IGNORED_SETTINGS},
    }
    return hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _read_cache(file: Path, ids: str) -> Optional[CachedBase]:
    """Read a cache file; None where it does not exist, is damaged or has another id order."""
    try:
        content = npz_files.read(file)
        if str(content["ids"]) != ids:
            raise ValueError("its rows are those of other users or items")
        embeddings = Embeddings(content["user"], content["item"], float(content["curvature"]))
        prefix = "weights/"
        weights = {key[len(prefix) :]: content[key] for key in content if key.startswith(prefix)}
        return CachedBase(embeddings, weights, float(content["seconds"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        getLogger().warning(f"{file} cannot be read ({error}) and is made anew")
        return None


def _write_cache(file: Path, cached: CachedBase, ids: str) -> None:
    arrays = {**cached.embeddings._asdict(), **{f"weights/{key}": value for key, value in cached.weights.items()}}
    atomic_write(file, lambda stream: np.savez(stream, seconds=cached.seconds, ids=ids, **arrays))


def _train(base: Config, train_data: Any, valid_data: Any, show_progress: bool) -> CachedBase:
    """Train with early stopping on the validation split and take the weights of the best epoch."""
    state, start = random_state(), perf_counter()
    try:
        init_seed(base["seed"], base["reproducibility"])
        loaders = _loaders(base, train_data, valid_data)
        net = _build(base, loaders[0])
        embeddings_of(net, loaders[0]._dataset)  # raises for a model without embeddings before the training, not after
        kind = registry.get_trainer(base["MODEL_TYPE"], base.requested_model, base["model"])
        trainer = trainer_class(kind)(base, net)
        name = f"pretrain {base['model']}"
        getLogger().info(f"{name}: at most {base['epochs']} epochs")
        with tqdm(total=base["epochs"], disable=not show_progress, ncols=100, desc=name, unit=" epochs") as bar:

            def show_epoch(epoch: int, score: float) -> None:
                bar.update(epoch + 1 - bar.n)
                bar.set_postfix_str(f"{base['valid_metric']} {score:.4f}")

            score, _ = trainer.fit(*loaders, verbose=False, saved=False, show_progress=False, callback_fn=show_epoch)
        getLogger().info(f"{name}: {base['valid_metric']} {score:.4f} on the validation split")
        return CachedBase.of(net, loaders[0]._dataset, perf_counter() - start)
    finally:
        restore_random_state(state)


def _build(base: Config, loader: Any) -> Any:
    repairs.repair_model(base.model_class)
    init_seed(base["seed"], base["reproducibility"])
    return base.model_class(base, loader._dataset).to(base["device"])


def _loaders(base: Config, train_data: Any, valid_data: Any) -> tuple[Any, Any]:
    """Loaders of the kind that the base model needs, over the same split."""
    datasets = [train_data._dataset, valid_data._dataset]
    train_sampler, valid_sampler, _ = create_samplers(base, datasets[0], [*datasets, datasets[1]])
    train = pipeline.get_dataloader(base, "train")(base, datasets[0], train_sampler, shuffle=True)
    valid = pipeline.get_dataloader(base, "valid")(base, datasets[1], valid_sampler, shuffle=False)
    return train, valid
