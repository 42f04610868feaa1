"""The data pipeline: from the settings to RecBole's data set, its three splits and their loaders.

Also the (user, item) pairs of the splits, their counts and their fingerprint.
"""

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
    fit_on,
    hooks,
    presplit,
    saved_data,
    sequences,
    setting_columns,
    sharding,
    split_checks,
    time_order,
    train_noise,
)
from recbole_diffusion.data.account import account_of, warnings_noted
from recbole_diffusion.data.loaders import FullSortLoader, get_dataloader
from recbole_diffusion.data.pairs import sequence_pairs
from recbole_diffusion.settings.config import Config
from recbole_diffusion.support.atomic_folder import unchanged
from recbole_diffusion.support.yaml_files import load_yaml

#: Suffixes of the files that RecBole reads of a data set.
SUFFIXES = (".inter", ".user", ".item", ".kg", ".link", ".net")


def create_dataset(config: Config) -> Any:
    """Load and filter RecBole's data set, with the rows in chronological order where the order matters.

    RecBole casts timestamps to float32 (steps of 64 to 128 s for Unix time) before it sorts by them. On raw ml-100k
    that changes the last item of 149 of 943 users. Here the rows are sorted by their exact times first, and RecBole's
    stable sorts keep that order; see :mod:`recbole_diffusion.data.time_order`. ``keep_time_order: False`` restores
    RecBole's order.

    Raises:
        ValueError: the data set does not exist, or lacks a column; the message names the way out.
    """
    download_error = _check_files(config)
    resolve_columns(config)
    dataset = _load(config, download_error)
    time_order.check_times(dataset)  # also of a data set that was saved by an earlier run
    if dataset.time_field not in dataset.inter_feat:
        return dataset
    if time_order.model_needs_time(config):
        time_order.add_ranks(dataset)
    ordered = config["eval_args"]["order"] == "TO" and config["benchmark_filename"] is None
    if config["keep_time_order"] and ordered:
        time_order.sort_rows(dataset)
    return dataset


def resolve_columns(config: Config) -> None:
    """Add the columns that the settings, the model or the time order need to ``load_col``.

    Does nothing while the files do not exist (before a download).

    Raises:
        ValueError: a file lacks one of these columns.
    """
    setting_columns.resolve_columns(config)
    train_noise.check(config)
    sequences.check_settings(config)
    presplit.resolve_columns(config)
    _load_time(config)


def _load(config: Config, download_error: Optional[str]) -> Any:
    """Read or download the data set; ``download_error`` is the message for a failed download, None without one."""
    try:
        with unchanged(Path(config["data_path"]), SUFFIXES), hooks.hooked(config):
            return saved_data.dataset(config)
    except (OSError, EOFError, RuntimeError, SystemExit) as error:
        if download_error is None:
            raise
        if (Path(config["data_path"]) / f"{config['dataset']}.inter").is_file():
            raise  # the download succeeded, so the error is another one
        shutil.rmtree(config["data_path"], ignore_errors=True)  # the download created it
        raise ValueError(download_error) from error


def _check_files(config: Config) -> Optional[str]:
    """Check that the data set's folder has files, or that RecBole knows where to download it.

    Returns:
        None if the files exist; otherwise the message to raise if the download fails.

    Raises:
        ValueError: the files do not exist and RecBole knows no address.
    """
    folder, name = Path(config["data_path"]), config["dataset"]
    if config["dataset_save_path"] or (folder.is_dir() and any(folder.iterdir())):
        return None
    urls = load_yaml(registry.recbole_folder() / "properties" / "dataset" / "url.yaml")
    way_out = (
        f"put the file {name}.inter (first line 'user_id:token<TAB>item_id:token<TAB>timestamp:float') into "
        f"{os.path.abspath(folder)}, or set data_path to the folder that holds {name}/"
    )
    if name not in urls:
        siblings = (
            sorted(path.name for path in folder.parent.iterdir() if path.name[0] != ".")
            if folder.parent.is_dir()
            else []
        )
        listed = f" (there: {', '.join(siblings)})" if siblings else ""
        raise ValueError(f"dataset={name!r} is not in {os.path.abspath(folder.parent)}{listed}; {way_out}")
    return f"dataset={name!r} could not be downloaded from {urls[name]}; {way_out}"


def _load_time(config: Config) -> None:
    """Add the time column to ``load_col`` where the order or the model needs it."""
    fields = columns.header(config, columns.interaction_files(config)[0]) or {}
    if time_order.time_requirement(config) is not None and config["TIME_FIELD"] in fields:
        columns.add_to_load_col(config, config["TIME_FIELD"])


def prepare(config: Config, dataset: Any, parts: Optional[Sequence[Any]] = None) -> tuple[Any, Any, Any]:
    """Split ``dataset`` and create the train, valid and test loaders; replaces RecBole's ``data_preparation``.

    Warnings about the split are added to ``config.notes``.

    Args:
        config: the settings of the run.
        dataset: what :func:`create_dataset` returned.
        parts: the three splits, if they exist already.

    Raises:
        ValueError: the train split is empty, ``topk`` exceeds the number of items, or a user has every item.
    """
    with warnings_noted(account_of(dataset).note):
        saved = saved_data.loaders(config, dataset)
        if saved is not None:
            dataset._change_feat_format()
        loaders = saved or _loaders(config, dataset, parts or build(config, dataset))
    _check_topk(config, dataset)
    if not config["single_spec"]:
        sharding.shard_loaders(loaders)
    sequences.check_lengths(config, loaders)
    sequences.mask_seen_items(config, loaders)
    _note_split(config, dataset, loaders)
    return loaders


def _check_topk(config: Config, dataset: Any) -> None:
    """Check that no cutoff of ``topk`` exceeds the number of items.

    Raises:
        ValueError: one does.
    """
    largest = max([config["topk"]] if isinstance(config["topk"], int) else config["topk"])
    if config["eval_type"] == EvaluatorType.RANKING and largest > dataset.item_num:
        raise ValueError(
            f"topk={config['topk']!r} is more than the {dataset.item_num - 1} items of {config['dataset']!r}"
        )


def _note_split(config: Config, dataset: Any, loaders: tuple[Any, Any, Any]) -> None:
    """Add the warnings about the split, its evaluation and the dropped rows to ``config.notes``."""
    account = account_of(dataset)
    first_items = sequences.count_first_items(config, loaders)
    account.record_dropped("first items of users who have no answer in train: in sequences only", first_items, True)
    sizes = [len(loader._dataset) for loader in loaders]
    train, valid, test = interactions(loaders[0]), pairs(loaders[1]), pairs(loaders[2])
    notes = split_checks.notes(config, train, valid, test, dataset, sizes)
    notes += evaluation_notes.notes(config, loaders)
    config.notes += [note for note in (*notes, *account.notes) if note not in config.notes]


def build(config: Config, dataset: Any) -> list[Any]:
    """Split a data set into train, valid and test; see :mod:`recbole_diffusion.data.hooks` for what is replaced."""
    with hooks.hooked(config), warnings_noted(account_of(dataset).note):
        train_noise.number_rows(config, dataset)
        parts = fit_on.joined(config, dataset.build())
    train_noise.add(config, dataset, parts)
    for part in (dataset, *parts):
        time_order.discard_exact_times(part)
    return parts


def _loaders(config: Config, dataset: Any, parts: Sequence[Any]) -> tuple[Any, Any, Any]:
    """Create the loaders of the three splits, and save them with ``save_dataloaders``."""
    if len(parts[0]) == 0:
        raise ValueError(f"the train split of {config['dataset']!r} is empty with eval_args={config['eval_args']}")
    split_checks.check_negatives(config, parts, dataset)
    samplers = recbole_data.create_samplers(config, dataset, parts)
    loaders = []
    for phase, part, sampler in zip(("train", "valid", "test"), parts, samplers):
        has_graph = phase == "train" and config["MODEL_TYPE"] == ModelType.KNOWLEDGE
        graph_samplers = [_graph_sampler(config, dataset)] if has_graph else []
        shuffle = phase == "train" and (config["shuffle"] or has_graph)
        loader = get_dataloader(config, phase)
        if fit_on.is_joined(config) and not len(part):
            loader = FullSortLoader  # RecBole's loaders with sampled negatives need a row
        loaders.append(loader(config, part, sampler, *graph_samplers, shuffle=shuffle))
    if config["save_dataloaders"]:
        saved_data.save_loaders(config, loaders)
    return loaders[0], loaders[1], loaders[2]


def _graph_sampler(config: Config, dataset: Any) -> KGSampler:
    arguments = config["train_neg_sample_args"]
    return KGSampler(dataset, arguments["distribution"], arguments["alpha"])


def pairs(loader: Any) -> np.ndarray:
    """The (user, item) pairs of a loader's split, sorted by user and item, int64, (N, 2)."""
    return _pairs(loader._dataset)


def _pairs(part: Any) -> np.ndarray:
    users, items = (part.inter_feat[field].numpy() for field in (part.uid_field, part.iid_field))
    if hasattr(part, "all_targets"):  # UserSequenceDataset keeps one row a user, and its original pairs here
        users, items = part.all_targets.T
    order = np.lexsort((items, users))
    return np.stack([users[order], items[order]], axis=1)


def interactions(train_loader: Any) -> np.ndarray:
    """The (user, item) pairs of the training split, int64, (N, 2); sequences include each user's first item."""
    part = train_loader._dataset
    return sequence_pairs(part) if _is_sequential(part) else _pairs(part)


def _is_sequential(part: Any) -> bool:
    return hasattr(part, "item_list_length_field") and part.item_list_length_field in part.inter_feat


def valid_pairs(loader: Any) -> Optional[np.ndarray]:
    """The (user, item) pairs of the validation split, int64, (N, 2), read from the sampler of an evaluation loader.

    The sampler's ``used_ids`` do not serve: at test they include the test items.

    Returns:
        The pairs; None if the sampler does not hold the splits.
    """
    sampler = getattr(loader, "_sampler", None)
    parts = dict(zip(getattr(sampler, "phases", ()), getattr(sampler, "datasets", ())))
    return _pairs(parts["valid"]) if "valid" in parts else None


def describe(dataset: Any, loaders: Sequence[Any]) -> dict[str, Any]:
    """Count users, items and interactions, and compute the fingerprint of the split.

    Two splits have the same fingerprint exactly if their users, items and (user, item) pairs are the same. It hashes
    names instead of RecBole's ids, and counts sequences as the interactions that they were made from. It is therefore
    the same for general and for sequential models.

    Args:
        dataset: the whole data set.
        loaders: of train, valid and test.

    Returns:
        ``users`` and ``items`` (without the padding id), ``train``, ``valid``, ``test`` (interactions),
        ``split_sha256`` and ``account`` (see :meth:`Account.plain`).
    """
    digest = hashlib.sha256()
    name_ranks = []  # of users and of items: the place of each id's name in alphabetical order
    for field in (dataset.uid_field, dataset.iid_field):
        names = np.asarray(dataset.field2id_token[field], dtype=str)
        order = np.argsort(names, kind="stable")
        digest.update("\n".join(names[order]).encode())
        name_ranks.append(np.argsort(order, kind="stable"))
    counts = {"users": dataset.user_num - 1, "items": dataset.item_num - 1}
    for phase, loader in zip(("train", "valid", "test"), loaders):
        rows = interactions(loader) if phase == "train" else pairs(loader)
        counts[phase] = len(rows)
        codes = name_ranks[0][rows[:, 0]] * len(name_ranks[1]) + name_ranks[1][rows[:, 1]]  # one number a pair
        digest.update(np.sort(codes).astype("<i8").tobytes() + b"|")
    return {**counts, "split_sha256": digest.hexdigest(), "account": account_of(dataset).plain()}
