"""Inputs of a filtered and split data set, for cache keys: settings, file contents, library versions."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from recbole.utils import ModelType, dataset_arguments

from recbole_diffusion.data import fit_on
from recbole_diffusion.data.time_order import model_needs_time
from recbole_diffusion.settings.config import Config
from recbole_diffusion.support.versions import version

#: Settings beside ``dataset_arguments`` that RecBole's data sets read, or that the order of the rows depends on.
_FURTHER_KEYS: tuple[str, ...] = ("repeatable", "encoding", "discretization", "numerical_features", "keep_time_order")
_FURTHER_KEYS += ("time-aware", "kg_reverse_r", "entity_kg_num_interval", "relation_kg_num_interval")
#: All settings that the filtered data depend on.
DATA_KEYS = tuple(sorted({*dataset_arguments, *_FURTHER_KEYS}))
_VERSIONS = ("recbole-diffusion", "recbole", "pandas", "numpy", "torch")


def data_inputs(config: Config) -> dict[str, Any]:
    """All inputs of the filtered data, as values for json."""
    content = {name: config[name] or None for name in DATA_KEYS}  # a key that the model lacks is None
    content["dataset"] = config["dataset"]
    content["files"] = files_hash(Path(config["data_path"]), config["dataset"])
    content["needs_time"] = model_needs_time(config)
    content["versions"] = {package: version(package) for package in _VERSIONS}
    return through_json(content)


def split_inputs(config: Config) -> dict[str, Any]:
    """The inputs of the split beside :func:`data_inputs`, as values for json."""
    sequential = config["MODEL_TYPE"] == ModelType.SEQUENTIAL
    content = {f"eval_args.{name}": value for name, value in config["eval_args"].items() if name != "mode"}
    content["kind"] = (config.spec and config.spec.dataset) or ("sequences" if sequential else "interactions")
    if config["targets"] is not None:  # which rows of a sequence are trained on
        content["targets"] = config["targets"]
    content["seed"] = config["seed"] if config["split_seed"] is None else config["split_seed"]
    if config["train_noise"] is not None:
        names = ("train_noise", "train_noise_ratio", "train_noise_seed")
        content["noise"] = {name: config[name] for name in names}
        if config["train_noise"] == "natural":
            content["noise"]["revision"] = 2  # 1 had wrong times in normalised and ranked columns
    if fit_on.is_joined(config):
        content["fit_on"] = config["fit_on"]
    return through_json(content)


def through_json(content: dict[str, Any]) -> dict[str, Any]:
    """Convert the content to json and back, so that it compares equal to content read from a file."""
    values: dict[str, Any] = json.loads(json.dumps(content, sort_keys=True, default=str))
    return values


def digest(content: dict[str, Any]) -> str:
    """A hash of the content, 20 hexadecimal digits."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:20]


def files_hash(folder: Path, dataset: str) -> str:
    """A sha256 of names and contents of the data set's files; empty if none exists (before a download).

    Sizes and modification times do not suffice, since other data may have the same.
    """
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    files = [file for file in files if file.name.startswith(f"{dataset}.") and file.is_file()]
    lines = [f"{file.name}:{file_hash(file)}\n" for file in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest() if files else ""


def file_hash(file: Path) -> str:
    """The sha256 of a file's content."""
    content = hashlib.sha256()
    with open(file, "rb") as stream:
        while block := stream.read(2**22):
            content.update(block)
    return content.hexdigest()
