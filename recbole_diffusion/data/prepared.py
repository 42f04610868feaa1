"""Cache of filtered and split data sets, so that many runs on one split read and sort the files once.

The cache files hold arrays and json (:mod:`recbole_diffusion.data.stored_objects`) and run no code when they are read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np
from filelock import FileLock
from recbole.utils import ModelType

from recbole_diffusion.data import cache_key, pipeline, saved_data, stored_objects
from recbole_diffusion.data.account import account_of
from recbole_diffusion.settings.config import Config
from recbole_diffusion.support import npz_files
from recbole_diffusion.support.atomic_folder import unchanged
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
    with unchanged(Path(config["data_path"]), pipeline.SUFFIXES) as check:
        key_of_run = key(config)
        file = folder / f"{config['dataset']}-{key_of_run}.prepared"
        content = _read(config, file, key_of_run)
        if content is None:
            with FileLock(f"{file}.lock"):
                content = _read(config, file, key_of_run) or _create(config, file, key_of_run, check)
    dataset, *parts = content
    for part in content:
        part.config = config
    return dataset, parts


def key(config: Config) -> str:
    """The cache key: a hash of everything that the filtered and split data depend on."""
    content = {**cache_key.data_inputs(config), **cache_key.split_inputs(config)}
    vocabulary = getattr(config, "vocabulary", None)
    if vocabulary is not None:  # the warnings that are cached with the data name its source
        content["ids"] = [vocabulary.fingerprint, vocabulary.source]
    return cache_key.digest(content)


def _read(config: Config, file: Path, expected_key: str) -> Optional[list[Any]]:
    """The data set and its splits; None for a file that is missing, damaged, or of another key."""
    try:
        arrays = npz_files.read(file)
        if str(arrays.pop("key")) != expected_key:
            return None
        datasets = stored_objects.unpack(arrays, saved_data.dataset_class(config))
    except Exception:  # a damaged file may miss any array, or refer to one that it has not
        return None
    return datasets if len(datasets) > 1 else None


def _create(config: Config, file: Path, key_of_run: str, check: Callable[[], None]) -> list[Any]:
    """Load and split the data set, write it to ``file`` and read it back, so that all runs use the same objects.

    Data sets with attributes that the format does not know are not cached, which is noted.

    Args:
        config: the settings of the run.
        file: the cache file.
        key_of_run: of the data.
        check: raises a ValueError if the files were replaced since the key was made; called before the file is written.
    """
    dataset = pipeline.create_dataset(config)
    datasets = [dataset, *pipeline.build(config, dataset)]
    try:
        arrays = stored_objects.pack(datasets)
    except stored_objects.NotStorable as error:
        account_of(dataset).note(f"prepared_data keeps nothing: this version cannot store {error} of a data set")
        return datasets
    check()
    atomic_write(file, lambda stream: np.savez(stream, key=np.array(key_of_run), **arrays))
    return _read(config, file, key_of_run) or datasets
