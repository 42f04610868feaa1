"""Cache of filtered and split data sets, so that many runs on one split read and sort the files once.

The cache files are pickles, which can run code. They are read only from the folder that ``prepared_data`` names, which
must be the user's own.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from filelock import FileLock
from recbole.utils import ModelType

from recbole_diffusion.data import cache_key, pipeline
from recbole_diffusion.settings.config import Config
from recbole_diffusion.support.atomic_write import atomic_write


def can_prepare(config: Config) -> bool:
    """Whether the data can be cached: plain interactions or RecBole's sequences, determined by settings we know."""
    import recbole.data.dataset as datasets

    has_own_class = config.spec is None and hasattr(datasets, f"{config['model']}Dataset")
    saved_by_recbole = config["save_dataset"] or config["dataset_save_path"] or config["dataloaders_save_path"]
    plain = config["MODEL_TYPE"] in (ModelType.GENERAL, ModelType.TRADITIONAL, ModelType.SEQUENTIAL)
    return plain and not has_own_class and not saved_by_recbole


def load(config: Config, folder: Path) -> tuple[Any, list[Any]]:
    """Load the data set and its three splits from the cache; create and cache them if needed.

    Several processes may call this at once: one creates the file, the others wait for it. A file that cannot be read,
    or has another key, is created again.

    Args:
        config: the settings of the run.
        folder: the cache, created if needed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key_of_run = key(config)
    file = folder / f"{config['dataset']}-{key_of_run}.pkl"
    content = _read(file, key_of_run)
    if content is None:
        with FileLock(f"{file}.lock"):
            content = _read(file, key_of_run) or _create(config, file, key_of_run)
    dataset, parts = content
    for part in (dataset, *parts):
        part.config = config
    return dataset, parts


def key(config: Config) -> str:
    """The cache key: a hash of everything that the filtered and split data depend on."""
    content = {**cache_key.data_inputs(config), **cache_key.split_inputs(config)}
    vocabulary = getattr(config, "vocabulary", None)
    if vocabulary is not None:  # the warnings that are cached with the data name its source
        content["ids"] = [vocabulary.fingerprint, vocabulary.source]
    return cache_key.digest(content)


def _read(file: Path, expected_key: str) -> Any:
    """The data set and its splits; None for a file that is missing, damaged, or of another key."""
    try:
        with open(file, "rb") as stream:
            stored_key, *content = pickle.load(stream)
    except FileNotFoundError:
        return None
    except Exception:  # the unpickler raises anything on a damaged file
        return None
    return content if stored_key == expected_key else None


def _create(config: Config, file: Path, key_of_run: str) -> Any:
    """Load and split the data set, write it to ``file`` and read it back, so that all runs use the same objects."""
    dataset = pipeline.create_dataset(config)
    parts = pipeline.build(config, dataset)
    for part in (dataset, *parts):
        part.config = None  # belongs to this run
    atomic_write(file, lambda stream: pickle.dump((key_of_run, dataset, parts), stream, protocol=4))
    with open(file, "rb") as stream:
        _, *content = pickle.load(stream)
    return content
