"""Data sets kept filtered and split, so that many runs on one split read and sort the files once.

A file holds a pickle: it is read from the folder that ``prepared_data`` names only, which is to be the user's own.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

from filelock import FileLock
from recbole.utils import ModelType, dataset_arguments

from recbole_diffusion import data
from recbole_diffusion.atomic_write import atomic_write
from recbole_diffusion.config import Config
from recbole_diffusion.versions import version

#: What else RecBole's data sets read beside ``dataset_arguments``, and what draws and orders the split.
_MORE = ("repeatable", "encoding", "discretization", "numerical_features", "keep_time_order", "time-aware", "data_path")
_VERSIONS = ("recbole-diffusion", "recbole", "pandas", "numpy", "torch")


def possible(config: Config) -> bool:
    """Whether the model's data are plain interactions or RecBole's sequences, made from settings known here."""
    import recbole.data.dataset as datasets

    own_in_recbole = config.spec is None and hasattr(datasets, f"{config['model']}Dataset")
    kept_by_recbole = config["save_dataset"] or config["dataset_save_path"] or config["dataloaders_save_path"]
    plain = config["MODEL_TYPE"] in (ModelType.GENERAL, ModelType.TRADITIONAL, ModelType.SEQUENTIAL)
    return plain and not own_in_recbole and not kept_by_recbole


def load(config: Config, folder: Path) -> tuple[Any, list[Any]]:
    """The data set and its three splits, from ``folder`` or made now and kept there for the next.

    Several processes may ask at once: one makes it, the others wait. A file that cannot be read is made again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{config['dataset']}-{key(config)}.pkl"
    found = _read(file)
    if found is None:
        with FileLock(f"{file}.lock"):
            found = _read(file) or _make(config, file)
    dataset, parts = found
    for each in (dataset, *parts):
        each.config = config
    return dataset, parts


def key(config: Config) -> str:
    """A hash of what the filtered and split data depend on."""
    keys = sorted({*dataset_arguments, *_MORE})
    content = {name: config[name] or None for name in keys}  # models without a key read it as None
    content["data"] = _files(Path(config["data_path"]))
    content["eval_args"] = {name: value for name, value in config["eval_args"].items() if name != "mode"}
    sequential = config["MODEL_TYPE"] == ModelType.SEQUENTIAL
    content["kind"] = (config.spec and config.spec.dataset) or ("sequences" if sequential else "interactions")
    content["needs_time"] = bool(config.spec is not None and config.spec.needs_time)
    content["seed"] = config["seed"] if config["split_seed"] is None else config["split_seed"]
    content["versions"] = [version(package) for package in _VERSIONS]
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:20]


def _files(folder: Path) -> list[Any]:
    """Name, size and time of each file of the data set, so that changed data are not taken for the old."""
    if not folder.is_dir():  # still to be downloaded
        return []
    return [[each.name, each.stat().st_size, each.stat().st_mtime_ns] for each in sorted(folder.iterdir())]


def _read(file: Path) -> Any:
    try:
        with open(file, "rb") as stream:
            return pickle.load(stream)
    except FileNotFoundError:
        return None
    except Exception:  # whatever the unpickler makes of a damaged file
        return None


def _make(config: Config, file: Path) -> tuple[Any, list[Any]]:
    dataset = data.create_dataset(config)
    parts = data.build(config, dataset)
    for each in (dataset, *parts):
        each.config = None  # of this one run
    atomic_write(file, lambda stream: pickle.dump((dataset, parts), stream, protocol=4))
    with open(file, "rb") as stream:  # what the next ones read: no run differs from the others
        found: tuple[Any, list[Any]] = pickle.load(stream)
    return found
