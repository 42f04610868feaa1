"""Data sets kept filtered and split, so that many runs on one split read and sort the files once.

A file holds a pickle: it is read from the folder that ``prepared_data`` names only, which is to be the user's own.
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
    """Whether the model's data are plain interactions or RecBole's sequences, made from settings known here."""
    import recbole.data.dataset as datasets

    own_in_recbole = config.spec is None and hasattr(datasets, f"{config['model']}Dataset")
    kept_by_recbole = config["save_dataset"] or config["dataset_save_path"] or config["dataloaders_save_path"]
    plain = config["MODEL_TYPE"] in (ModelType.GENERAL, ModelType.TRADITIONAL, ModelType.SEQUENTIAL)
    return plain and not own_in_recbole and not kept_by_recbole


def load(config: Config, folder: Path) -> tuple[Any, list[Any]]:
    """The data set and its three splits, from ``folder`` or made now and kept there for the next.

    Several processes may ask at once: one makes it, the others wait. A file that cannot be read, or is of other data,
    is made again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = key(config)
    file = folder / f"{config['dataset']}-{wanted}.pkl"
    found = _read(file, wanted)
    if found is None:
        with FileLock(f"{file}.lock"):
            found = _read(file, wanted) or _make(config, file, wanted)
    dataset, parts = found
    for each in (dataset, *parts):
        each.config = config
    return dataset, parts


def key(config: Config) -> str:
    """A hash of what the filtered and split data depend on."""
    content = {**cache_key.of_data(config), **cache_key.of_split(config)}
    vocabulary = getattr(config, "vocabulary", None)
    if vocabulary is not None:  # the notes that are kept with the data name the source
        content["ids"] = [vocabulary.fingerprint, vocabulary.source]
    return cache_key.digest(content)


def _read(file: Path, wanted: str) -> Any:
    """The data set and its splits; None where there is no file, a damaged one, or one of another key."""
    try:
        with open(file, "rb") as stream:
            stored, *found = pickle.load(stream)
    except FileNotFoundError:
        return None
    except Exception:  # whatever the unpickler makes of a damaged file
        return None
    return found if stored == wanted else None


def _make(config: Config, file: Path, wanted: str) -> Any:
    dataset = pipeline.create_dataset(config)
    parts = pipeline.build(config, dataset)
    for each in (dataset, *parts):
        each.config = None  # of this one run
    atomic_write(file, lambda stream: pickle.dump((wanted, dataset, parts), stream, protocol=4))
    with open(file, "rb") as stream:  # what the next ones read: no run differs from the others
        _, *found = pickle.load(stream)
    return found
