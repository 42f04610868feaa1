"""From settings to RecBole's data set, its three splits and their loaders; counts and a hash of the split."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np
from recbole.data import utils as recbole_data
from recbole.sampler import KGSampler
from recbole.utils import EvaluatorType, ModelType

from recbole_diffusion import registry
from recbole_diffusion.data import (
    columns,
    evaluation_notes,
    hooks,
    presplit,
    saved_data,
    sequences,
    setting_columns,
    sharding,
    split_checks,
    time_order,
)
from recbole_diffusion.data.account import account_of, warnings_noted
from recbole_diffusion.data.loaders import get_dataloader
from recbole_diffusion.data.pairs import sequence_pairs
from recbole_diffusion.settings.config import Config
from recbole_diffusion.support.yaml_files import load_yaml


def create_dataset(config: Config) -> Any:
    """RecBole's data set, rows in true order of time where the order matters.

    RecBole turns timestamps into float32 (steps of 64 to 128 s for Unix time) before it sorts by them: on raw
    ml-100k that changes the last item of 149 of 943 users. Rows sorted by the exact time before stay in
    that order through RecBole's stable sorts; see :mod:`recbole_diffusion.data.time_order`. ``keep_time_order: False``
    gives RecBole's order.

    Raises:
        ValueError: the data set is not there, or its columns do not suffice; the message names the way out.
    """
    hint = _check_files(config)
    settle(config)
    dataset = _load(config, hint)
    time_order.check_type(dataset)  # a data set that was saved before, too
    if dataset.time_field not in dataset.inter_feat:
        return dataset
    if time_order.model_needs_time(config):
        time_order.add_ranks(dataset)
    ordered = config["eval_args"]["order"] == "TO" and config["benchmark_filename"] is None
    if config["keep_time_order"] and ordered:
        time_order.sort_rows(dataset)
    return dataset


def settle(config: Config) -> None:
    """Load the columns that the settings, the model or the order need beside those of ``load_col``.

    Without the files it does nothing.

    Raises:
        ValueError: a file lacks one of them.
    """
    setting_columns.settle(config)
    sequences.check_settings(config)
    presplit.settle(config)
    _load_time(config)


def _load(config: Config, hint: Optional[str]) -> Any:
    """The data set's object; ``hint`` is what to say where it has to be downloaded and that fails."""
    try:
        with hooks.hooked(config):
            return saved_data.dataset(config)
    except (OSError, EOFError, RuntimeError, SystemExit) as error:
        if hint is None:
            raise
        if (Path(config["data_path"]) / f"{config['dataset']}.inter").is_file():
            raise  # the download went well
        shutil.rmtree(config["data_path"], ignore_errors=True)  # it was not there before
        raise ValueError(hint) from error


def _check_files(config: Config) -> Optional[str]:
    """None where the files are there; what to say if the download fails where RecBole knows an address.

    Raises:
        ValueError: they are not there and RecBole knows none.
    """
    folder, name = Path(config["data_path"]), config["dataset"]
    if config["dataset_save_path"] or (folder.is_dir() and any(folder.iterdir())):
        return None
    urls = load_yaml(registry.recbole_folder() / "properties" / "dataset" / "url.yaml")
    put = (
        f"put the file {name}.inter (first line 'user_id:token<TAB>item_id:token<TAB>timestamp:float') into "
        f"{os.path.abspath(folder)}, or set data_path to the folder that holds {name}/"
    )
    if name not in urls:
        near = sorted(each.name for each in folder.parent.iterdir()) if folder.parent.is_dir() else []
        there = f" (there: {', '.join(near)})" if near else ""
        raise ValueError(f"dataset={name!r} is not in {os.path.abspath(folder.parent)}{there}; {put}")
    return f"dataset={name!r} could not be downloaded from {urls[name]}; {put}"


def _load_time(config: Config) -> None:
    """Load the time column where the order or the model needs it and ``load_col`` leaves it out."""
    fields = columns.header(config, columns.interaction_files(config)[0]) or {}
    if time_order.need(config) is not None and config["TIME_FIELD"] in fields:
        columns.load_too(config, config["TIME_FIELD"])


def prepare(config: Config, dataset: Any, parts: Optional[Sequence[Any]] = None) -> tuple[Any, Any, Any]:
    """Split ``dataset`` and make the train, valid and test loaders, as RecBole's ``data_preparation`` with ours.

    ``parts``: the three splits, where they have been made before.
    """
    with warnings_noted(account_of(dataset).note):
        saved = saved_data.loaders(config, dataset)
        if saved is not None:
            dataset._change_feat_format()
        loaders = saved or _loaders(config, dataset, parts or build(config, dataset))
    most = max([config["topk"]] if isinstance(config["topk"], int) else config["topk"])
    if config["eval_type"] == EvaluatorType.RANKING and most > dataset.item_num:
        raise ValueError(
            f"topk={config['topk']!r} is more than the {dataset.item_num - 1} items of {config['dataset']!r}"
        )
    if not config["single_spec"]:
        sharding.shard_loaders(loaders)
    sequences.check_lengths(config, loaders)
    sequences.mask_past(config, loaders)
    first = sequences.count_first_items(config, loaders)
    account_of(dataset).drop("first items of users who have no answer in train: in sequences only", first, True)
    sizes = [len(loader._dataset) for loader in loaders]
    parts_of_pairs = interactions(loaders[0]), pairs(loaders[1]), pairs(loaders[2])
    lines = split_checks.notes(config, *parts_of_pairs, dataset, sizes)
    lines += evaluation_notes.notes(config, loaders)
    config.notes += [note for note in (*lines, *account_of(dataset).notes) if note not in config.notes]
    return loaders


def build(config: Config, dataset: Any) -> list[Any]:
    """The three splits, with our own pieces; see :mod:`recbole_diffusion.data.hooks`."""
    with hooks.hooked(config), warnings_noted(account_of(dataset).note):
        parts: list[Any] = dataset.build()
    for each in (dataset, *parts):
        time_order.forget(each)
    return parts


def _loaders(config: Config, dataset: Any, parts: Sequence[Any]) -> tuple[Any, Any, Any]:
    empty = [phase for phase, part in zip(("train", "valid", "test"), parts) if len(part) == 0 and phase == "train"]
    if empty:
        raise ValueError(f"the train split of {config['dataset']!r} is empty with eval_args={config['eval_args']}")
    split_checks.check_negatives(config, parts, dataset)
    samplers = recbole_data.create_samplers(config, dataset, parts)
    loaders = []
    for phase, part, sampler in zip(("train", "valid", "test"), parts, samplers):
        of_graph = phase == "train" and config["MODEL_TYPE"] == ModelType.KNOWLEDGE
        more = [_graph_sampler(config, dataset)] if of_graph else []
        shuffle = phase == "train" and (config["shuffle"] or of_graph)
        loaders.append(get_dataloader(config, phase)(config, part, sampler, *more, shuffle=shuffle))
    if config["save_dataloaders"]:
        saved_data.save_loaders(config, loaders)
    return loaders[0], loaders[1], loaders[2]


def _graph_sampler(config: Config, dataset: Any) -> KGSampler:
    negatives = config["train_neg_sample_args"]
    return KGSampler(dataset, negatives["distribution"], negatives["alpha"])


def pairs(loader: Any) -> np.ndarray:
    """The (user, item) pairs of a loader's split, sorted, int64, shape (N, 2)."""
    return _pairs(loader._dataset)


def _pairs(part: Any) -> np.ndarray:
    users, items = (part.inter_feat[field].numpy() for field in (part.uid_field, part.iid_field))
    if hasattr(part, "all_targets"):  # fewer rows, made from these
        users, items = part.all_targets.T
    order = np.lexsort((items, users))
    return np.stack([users[order], items[order]], axis=1)


def interactions(train_loader: Any) -> np.ndarray:
    """The (user, item) pairs of the training split, int64, (N, 2): of sequences each user's first item too."""
    part = train_loader._dataset
    return sequence_pairs(part) if _is_sequential(part) else _pairs(part)


def _is_sequential(part: Any) -> bool:
    return hasattr(part, "item_list_length_field") and part.item_list_length_field in part.inter_feat


def valid_pairs(loader: Any) -> Optional[np.ndarray]:
    """The pairs of the validation split, from any evaluation loader; None where its sampler does not hold the splits.

    Not from the sampler's ``used_ids``: at test those hold the test items too.
    """
    sampler = getattr(loader, "_sampler", None)
    parts = dict(zip(getattr(sampler, "phases", ()), getattr(sampler, "datasets", ())))
    return _pairs(parts["valid"]) if "valid" in parts else None


def describe(dataset: Any, loaders: Sequence[Any]) -> dict[str, Any]:
    """Counts (without the padding ids) and a hash of the split: the same hash, the same users, items and pairs.

    The hash is that of the names and not of RecBole's ids, and sequences count as the interactions that they were made
    from, so that it is the same for general and for sequential models.
    """
    digest = hashlib.sha256()
    places = []
    for field in (dataset.uid_field, dataset.iid_field):
        names = np.asarray(dataset.field2id_token[field], dtype=str)
        order = np.argsort(names, kind="stable")
        digest.update("\n".join(names[order]).encode())
        places.append(np.argsort(order, kind="stable"))
    counts = {"users": dataset.user_num - 1, "items": dataset.item_num - 1}
    for phase, loader in zip(("train", "valid", "test"), loaders):
        rows = interactions(loader) if phase == "train" else pairs(loader)
        counts[phase] = len(rows)
        ranks = places[0][rows[:, 0]] * len(places[1]) + places[1][rows[:, 1]]
        digest.update(np.sort(ranks).astype("<i8").tobytes() + b"|")
    return {**counts, "split_sha256": digest.hexdigest(), "account": account_of(dataset).plain()}
