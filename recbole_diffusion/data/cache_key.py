"""What a filtered and split data set depends on: settings, contents of files, versions; for keys of kept data."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from recbole.utils import ModelType, dataset_arguments

from recbole_diffusion.settings.config import Config
from recbole_diffusion.support.versions import version

#: What else RecBole's data sets read beside ``dataset_arguments``, and what orders the split.
_MORE: tuple[str, ...] = ("repeatable", "encoding", "discretization", "numerical_features", "keep_time_order")
_MORE += ("time-aware", "kg_reverse_r", "entity_kg_num_interval", "relation_kg_num_interval")
#: All settings that the filtered data depend on.
DATA_KEYS = tuple(sorted({*dataset_arguments, *_MORE}))
_VERSIONS = ("recbole-diffusion", "recbole", "pandas", "numpy", "torch")


def data_inputs(config: Config) -> dict[str, Any]:
    """What the filtered data depend on, as values for json."""
    content = {name: config[name] or None for name in DATA_KEYS}  # models without a key read it as None
    content["dataset"] = config["dataset"]
    content["files"] = files_hash(Path(config["data_path"]), config["dataset"])
    content["needs_time"] = bool(config.spec is not None and "time" in config.spec.needs)
    content["versions"] = {package: version(package) for package in _VERSIONS}
    return through_json(content)


def split_inputs(config: Config) -> dict[str, Any]:
    """What the split depends on beside the data, as values for json."""
    sequential = config["MODEL_TYPE"] == ModelType.SEQUENTIAL
    content = {f"eval_args.{name}": value for name, value in config["eval_args"].items() if name != "mode"}
    content["kind"] = (config.spec and config.spec.dataset) or ("sequences" if sequential else "interactions")
    content["seed"] = config["seed"] if config["split_seed"] is None else config["split_seed"]
    return through_json(content)


def through_json(content: dict[str, Any]) -> dict[str, Any]:
    """The content as it comes back from json."""
    values: dict[str, Any] = json.loads(json.dumps(content, sort_keys=True, default=str))
    return values


def digest(content: dict[str, Any]) -> str:
    """A hash of the content, 20 hexadecimal digits."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:20]


def files_hash(folder: Path, dataset: str) -> str:
    """A sha256 of names and contents of the data set's files, empty where there are none (before a download).

    Sizes and times are not enough: a copy of other data may have the same.
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
