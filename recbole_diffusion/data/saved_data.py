"""RecBole's ``save_dataset`` and ``save_dataloaders``, read again only where they are what the run would make itself.

RecBole takes a file that lies in ``checkpoint_dir`` unasked, and compares a few settings only. Here each file ends with
a record: all that its content depends on, and a hash of the names behind its ids. The record is compared before the
file is unpickled. The files are RecBole's otherwise: pickles, which can run code; their readers ignore what follows.

A file that does not fit, or has no record, is not used where the run has merely found it. One that
``dataset_save_path`` or ``dataloaders_save_path`` names is refused where it does not fit; without a record it is used,
which is noted.
"""

from __future__ import annotations

import functools
import importlib
import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable, Optional

import torch
from recbole.utils import ModelType

from recbole_diffusion import registry
from recbole_diffusion.data import cache_key, names
from recbole_diffusion.settings import scopes
from recbole_diffusion.settings.config import Config
from recbole_diffusion.support.atomic_write import atomic_write

_MARK = b"recbole-diffusion/saved/1"
#: Settings that loaders keep beside those of the data and the split; torch's loaders keep the sizes of their batches.
_LOADER_KEYS = tuple(sorted(scopes.keys(scopes.Scope.LOADER)))
#: Differences with which a file that was named is used all the same.
_DOUBTS = {"versions", "files, which are not there to compare"}
_CLASSES = {ModelType.SEQUENTIAL: "SequentialDataset", ModelType.KNOWLEDGE: "KnowledgeBasedDataset"}


def dataset(config: Config) -> Any:
    """The run's filtered data set: a saved one that fits, or made from the files, and saved with ``save_dataset``.

    Raises:
        ValueError: the file that ``dataset_save_path`` names is not there or does not fit.
    """
    kind = _dataset_class(config)
    default = Path(config["checkpoint_dir"]) / f"{config['dataset']}-{kind.__name__}.pth"

    def content() -> dict[str, Any]:
        return {**cache_key.data_inputs(config), "class": f"{kind.__module__}.{kind.__qualname__}"}

    saved = _read(config, "dataset_save_path", default, content)
    if saved is not None:
        saved.config = config  # RecBole leaves the settings of the run that saved it
        _check_ids(config, "dataset_save_path", saved)
        return saved
    made = kind(config)
    if config["save_dataset"] and _may_save(config, "save_dataset"):
        _write(default, content(), made, made)
    return made


def loaders(config: Config, whole: Any) -> Optional[tuple[Any, Any, Any]]:
    """The saved loaders of the run's splits; None where there are none that fit.

    Args:
        config: the settings of the run.
        whole: its data set, whose ids are compared.

    Raises:
        ValueError: the file that ``dataloaders_save_path`` names is not there or does not fit.
    """
    content = functools.partial(_content_of_loaders, config)
    saved = _read(config, "dataloaders_save_path", _loaders_file(config), content)
    if saved is None:
        return None
    parts = []
    for loader, state in saved:
        generator = torch.Generator()
        generator.set_state(state)
        loader.generator = loader.sampler.generator = generator  # a loader of two copies it
        loader.update_config(config)
        loader._dataset.config = config
        parts.append(loader)
    if not names.same_names(parts[0]._dataset, whole):
        raise ValueError(_unfit(config, "dataloaders_save_path", ["the names behind the ids"]))
    return parts[0], parts[1], parts[2]


def save_loaders(config: Config, parts: Sequence[Any]) -> None:
    """Write loaders as RecBole does, without their generators; the loaders themselves stay as they are."""
    if not _may_save(config, "save_dataloaders"):
        return
    generators = [loader.generator for loader in parts]
    states = [generator.get_state() for generator in generators]
    for loader in parts:
        loader.generator = loader.sampler.generator = None
    try:
        _write(_loaders_file(config), _content_of_loaders(config), list(zip(parts, states)), parts[0]._dataset)
    finally:
        for loader, generator in zip(parts, generators):
            loader.generator = loader.sampler.generator = generator


def _content_of_loaders(config: Config) -> dict[str, Any]:
    more = {key: config[key] or None for key in _LOADER_KEYS}
    more["eval_args.mode"], more["model"] = config["eval_args"]["mode"], config.model_name()
    return cache_key.through_json({**cache_key.data_inputs(config), **cache_key.split_inputs(config), **more})


def _dataset_class(config: Config) -> Any:
    """The class of the model's data set, by RecBole's rule."""
    module = importlib.import_module("recbole.data.dataset")
    if config.spec is not None and config.spec.dataset is not None:
        return registry.load_object(config.spec.dataset)
    own = getattr(module, f"{config['model']}Dataset", None)
    return own or getattr(module, _CLASSES.get(config["MODEL_TYPE"], "Dataset"))


def _read(config: Config, key: str, default: Path, content: Callable[[], dict[str, Any]]) -> Any:
    """What the file holds that ``key`` names, or the one in the default place; None where it is not to be used.

    ``content`` hashes the data's files, and is called only where there is something to compare.
    """
    named = config[key]
    file = Path(named) if named else default
    if not file.is_file():
        if named:
            raise ValueError(f"{key}={str(named)!r} does not exist; leave it out, or name a saved file")
        return None
    record = _record(file)
    if record is None and not named:
        config.notes.append(
            f"{file} is not used: it has no record of what it was made of; {key}: {file} takes it all the same"
        )
        return None
    differs = [] if record is None else _differences(config, record, content())
    if named and not {*differs} <= _DOUBTS:
        raise ValueError(_unfit(config, key, differs))
    if differs and not named:
        config.notes.append(f"{file} is not used: it was saved with other {', '.join(differs)}")
        return None
    doubt = f", saved with other {', '.join(differs)}" if differs else ""
    doubt = ", which has no record of what it was made of" if record is None else doubt
    config.notes.append(f"the {'data set is' if key.startswith('dataset') else 'splits are'} read from {file}{doubt}")
    try:
        with open(file, "rb") as stream:
            return pickle.load(stream)
    except Exception as error:  # whatever the unpickler makes of another file
        raise ValueError(f"{key}={str(file)!r} cannot be read: it is no saved data, or damaged") from error


def _differences(config: Config, record: dict[str, Any], content: dict[str, Any]) -> list[str]:
    """What a saved file was made of otherwise, in words."""
    stored = record["content"]
    differs = [name for name in sorted({*stored, *content}) if stored.get(name) != content.get(name)]
    if "files" in differs and not content["files"]:
        differs[differs.index("files")] = "files, which are not there to compare"
    vocabulary = getattr(config, "vocabulary", None)
    if vocabulary is not None and record["ids"] != vocabulary.user_item_fingerprint:
        differs.append("names behind the ids")
    return differs


def _check_ids(config: Config, key: str, saved: Any) -> None:
    vocabulary = getattr(config, "vocabulary", None)
    if vocabulary is not None and names.first_difference(vocabulary, saved) is not None:
        raise ValueError(_unfit(config, key, [f"the names behind the ids, which are not those of {vocabulary.source}"]))


def _unfit(config: Config, key: str, differs: Sequence[str]) -> str:
    return (
        f"{key}={str(config[key])!r} does not fit: it was saved with other {', '.join(differs)}; "
        "leave it out to read the data's files"
    )


def _may_save(config: Config, key: str) -> bool:
    """Whether the ids are in order of appearance; those of a checkpoint would make another run of a later one."""
    vocabulary = getattr(config, "vocabulary", None)
    if vocabulary is not None:
        config.notes.append(f"{key} is left out: the ids are those of {vocabulary.source}")
    return vocabulary is None


def _write(file: Path, content: dict[str, Any], saved: Any, whole: Any) -> None:
    """Write the pickle, the record, the length of the record and the mark."""
    file.parent.mkdir(parents=True, exist_ok=True)
    record = json.dumps({"content": content, "ids": names.user_item_fingerprint(whole)}).encode()

    def write(stream: Any) -> None:
        pickle.dump(saved, stream, protocol=4)
        stream.write(record + len(record).to_bytes(8, "little") + _MARK)

    atomic_write(file, write)


def _record(file: Path) -> Optional[dict[str, Any]]:
    """The record at the end of a saved file; None where there is none."""
    end, total = len(_MARK) + 8, file.stat().st_size
    with open(file, "rb") as stream:
        stream.seek(max(total - end, 0))
        length, mark = stream.read(8), stream.read()
        if mark != _MARK:
            return None
        stream.seek(total - end - int.from_bytes(length, "little"))
        record: dict[str, Any] = json.loads(stream.read()[:-end])
    return record


def _loaders_file(config: Config) -> Path:
    return Path(config["checkpoint_dir"]) / f"{config['dataset']}-for-{config['model']}-dataloader.pth"
