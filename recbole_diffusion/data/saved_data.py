"""RecBole's ``save_dataset`` and ``save_dataloaders``, with a check that a saved file equals what the run would create.

RecBole reads any file of the right name in ``checkpoint_dir`` and compares only a few settings. Here each file ends
with a record: all inputs of its content, and a hash of the names behind its ids. The record is compared before the file
is unpickled, by :mod:`recbole_diffusion.data.saved_objects`, which runs no code of the file; so is the checksum of the
pickle, which the record holds. Apart from the record the files are RecBole's: pickles; unpicklers ignore the record.

A file in ``checkpoint_dir`` is not used if it does not fit or has no record. A file that ``dataset_save_path`` or
``dataloaders_save_path`` names is an error if it does not fit; without a record it is used with a warning.
"""

from __future__ import annotations

import functools
import importlib
import pickle
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Callable, Optional

import torch
from recbole.data.dataset.dataset import Dataset
from recbole.utils import ModelType

from recbole_diffusion import registry
from recbole_diffusion.data import cache_key, names, saved_objects, saved_records
from recbole_diffusion.settings import scopes
from recbole_diffusion.settings.config import Config
from recbole_diffusion.support import trusted_files
from recbole_diffusion.support.atomic_write import atomic_write

#: Settings that loaders depend on, beside those of the data and the split.
_LOADER_KEYS = tuple(sorted(scopes.keys(scopes.Scope.LOADER)))
#: Differences that make a file named by the user doubtful, but not unusable.
_TOLERATED = {"versions", "files, which are not there to compare"}
_CLASSES = {ModelType.SEQUENTIAL: "SequentialDataset", ModelType.KNOWLEDGE: "KnowledgeBasedDataset"}


def dataset(config: Config) -> Any:
    """Load the run's filtered data set from a saved file that fits, or create it and save it with ``save_dataset``.

    Raises:
        ValueError: the file that ``dataset_save_path`` names does not exist or does not fit.
    """
    kind = dataset_class(config)
    default = Path(config["checkpoint_dir"]) / f"{config['dataset']}-{kind.__name__}.pth"

    def content() -> dict[str, Any]:
        return {**cache_key.data_inputs(config), "class": f"{kind.__module__}.{kind.__qualname__}"}

    saved = _read(config, "dataset_save_path", default, content)
    if saved is not None:
        saved.config = config  # RecBole leaves the settings of the run that saved it
        _check_ids(config, "dataset_save_path", saved)
        return saved
    new = kind(config)
    if config["save_dataset"] and _may_save(config, "save_dataset"):
        _write(default, content(), new, new)
    return new


def loaders(config: Config, whole: Any) -> Optional[tuple[Any, Any, Any]]:
    """Load saved train, valid and test loaders; None if no saved file fits.

    Args:
        config: the settings of the run.
        whole: its data set, whose ids are compared.

    Raises:
        ValueError: the file that ``dataloaders_save_path`` names does not exist or does not fit.
    """
    content = functools.partial(_content_of_loaders, config)
    saved = _read(config, "dataloaders_save_path", _loaders_file(config), content)
    if saved is None:
        return None
    restored = []
    for loader, generator_state in saved:
        generator = torch.Generator()
        generator.set_state(generator_state)
        loader.generator = loader.sampler.generator = generator  # KnowledgeLoader passes a copy to its second loader
        loader.update_config(config)
        loader._dataset.config = config
        restored.append(loader)
    if not names.same_names(restored[0]._dataset, whole):
        raise ValueError(_does_not_fit(config, "dataloaders_save_path", ["the names behind the ids"]))
    return restored[0], restored[1], restored[2]


def save_loaders(config: Config, loaders: Sequence[Any]) -> None:
    """Write loaders as RecBole does: without generators, whose states are saved instead. The loaders do not change."""
    if not _may_save(config, "save_dataloaders"):
        return
    generators = [loader.generator for loader in loaders]
    states = [generator.get_state() for generator in generators]
    for loader in loaders:
        loader.generator = loader.sampler.generator = None
    try:
        _write(_loaders_file(config), _content_of_loaders(config), list(zip(loaders, states)), loaders[0]._dataset)
    finally:
        for loader, generator in zip(loaders, generators):
            loader.generator = loader.sampler.generator = generator


def _content_of_loaders(config: Config) -> dict[str, Any]:
    """All inputs of the loaders, as values for json."""
    loader_inputs = {key: config[key] or None for key in _LOADER_KEYS}
    loader_inputs["eval_args.mode"], loader_inputs["model"] = config["eval_args"]["mode"], config.model_name()
    return cache_key.through_json({**cache_key.data_inputs(config), **cache_key.split_inputs(config), **loader_inputs})


def dataset_class(config: Config) -> Any:
    """The class of the model's data set, by RecBole's rule."""
    module = importlib.import_module("recbole.data.dataset")
    if config.spec is not None and config.spec.dataset is not None:
        return registry.load_object(config.spec.dataset)
    class_of_model = getattr(module, f"{config['model']}Dataset", None)
    return class_of_model or getattr(module, _CLASSES.get(config["MODEL_TYPE"], "Dataset"))


def _read(config: Config, key: str, default: Path, content: Callable[[], dict[str, Any]]) -> Any:
    """Unpickle a saved file, if its record fits the run.

    Args:
        config: the settings of the run.
        key: the setting that may name the file.
        default: the file if the setting is empty.
        content: returns the inputs of the run. It hashes the data's files, and is called only if a record exists.

    Returns:
        The content of the file; None if the file does not exist or does not fit.

    Raises:
        ValueError: the setting names a file that does not exist, does not fit or cannot be read.
    """
    path = config[key]
    file = Path(path) if path else default
    if not file.is_file():
        if path:
            raise ValueError(f"{key}={str(path)!r} does not exist; leave it out, or name a saved file")
        return None
    record, damage = saved_records.read(file)
    if damage:
        if path:
            raise ValueError(f"{key}={str(path)!r} is damaged ({damage}); remove it, or leave {key} out")
        config.notes.append(f"{file} is not used: it is damaged ({damage})")
        return None
    if record is None and not path:
        config.notes.append(
            f"{file} is not used: it has no record of what it was made of; {key}: {file} takes it all the same"
        )
        return None
    differences = [] if record is None else _differences(config, record, content())
    if path and not {*differences} <= _TOLERATED:
        raise ValueError(_does_not_fit(config, key, differences))
    if differences and not path:
        config.notes.append(f"{file} is not used: it was saved with other {', '.join(differences)}")
        return None
    if not (trusted_files.torch_can_check() or trusted_files.trusts_all()):
        if path:
            raise ValueError(_could_run_code(file, key, "this torch (< 1.13) cannot check it"))
        config.notes.append(f"{file} is not used: this torch (< 1.13) cannot check that it runs no code when loaded")
        return None
    doubt = f", saved with other {', '.join(differences)}" if differences else ""
    doubt = ", which has no record of what it was made of" if record is None else doubt
    config.notes.append(f"the {'data set is' if key.startswith('dataset') else 'splits are'} read from {file}{doubt}")
    return _unpickle(file, key, {config.model_class, dataset_class(config)})


def _unpickle(file: Path, key: str, classes: Collection[type]) -> Any:
    try:
        with open(file, "rb") as stream:
            value = pickle.load(stream) if trusted_files.trusts_all() else saved_objects.load(stream, classes)
        if not _is_saved(key, value):
            raise TypeError(f"{key}: {type(value)}")
        return value
    except saved_objects.CodeFound as error:
        raise ValueError(_could_run_code(file, key, str(error))) from error
    except MemoryError:
        raise
    except Exception as error:  # the unpickler raises anything on a damaged file
        raise ValueError(f"{key}={str(file)!r} cannot be read: it is no saved data, or damaged") from error


def _is_saved(key: str, value: Any) -> bool:
    """Whether a file's content is a data set, or three pairs of a loader and the state of its generator."""
    if key == "dataset_save_path":
        return isinstance(value, Dataset)
    return type(value) is list and [type(pair) is tuple and len(pair) for pair in value] == [2, 2, 2]


def _could_run_code(file: Path, key: str, reason: str) -> str:
    return (
        f"{key}={str(file)!r} could run code when loaded ({reason}); if you trust where it comes from, load it with "
        "trust=True (--trust-checkpoint)"
    )


def _differences(config: Config, record: dict[str, Any], content: dict[str, Any]) -> list[str]:
    """The inputs that differ between a saved file and the run, for messages."""
    stored = record["content"]
    differences = [name for name in sorted({*stored, *content}) if stored.get(name) != content.get(name)]
    if "files" in differences and not content["files"]:
        differences[differences.index("files")] = "files, which are not there to compare"
    vocabulary = getattr(config, "vocabulary", None)
    if vocabulary is not None and record["ids"] != vocabulary.user_item_fingerprint:
        differences.append("names behind the ids")
    return differences


def _check_ids(config: Config, key: str, saved: Any) -> None:
    """Check that a saved data set has the ids of ``config.vocabulary``, if the run has one.

    Raises:
        ValueError: it has other ids.
    """
    vocabulary = getattr(config, "vocabulary", None)
    if vocabulary is not None and names.first_difference(vocabulary, saved) is not None:
        difference = f"the names behind the ids, which are not those of {vocabulary.source}"
        raise ValueError(_does_not_fit(config, key, [difference]))


def _does_not_fit(config: Config, key: str, differences: Sequence[str]) -> str:
    return (
        f"{key}={str(config[key])!r} does not fit: it was saved with other {', '.join(differences)}; "
        "leave it out to read the data's files"
    )


def _may_save(config: Config, key: str) -> bool:
    """Whether the ids are in order of appearance; with a checkpoint's ids, later runs would get other numbers."""
    vocabulary = getattr(config, "vocabulary", None)
    if vocabulary is not None:
        config.notes.append(f"{key} is left out: the ids are those of {vocabulary.source}")
    return vocabulary is None


def _write(file: Path, content: dict[str, Any], saved: Any, whole: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    record = {"content": content, "ids": names.user_item_fingerprint(whole)}
    atomic_write(file, lambda stream: saved_records.write(stream, saved, record))


def _loaders_file(config: Config) -> Path:
    return Path(config["checkpoint_dir"]) / f"{config['dataset']}-for-{config['model']}-dataloader.pth"
