"""Warnings about a split: parts that are empty, answers in the input, users and items never seen in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from recbole.utils import EvaluatorType, ModelType

PHASES = ("train", "valid", "test")


def notes(
    config: Any, train: np.ndarray, valid: np.ndarray, test: np.ndarray, dataset: Any, sizes: list[int]
) -> list[str]:
    """The warnings about a split, one line each.

    Args:
        train: the (user, item) pairs that are trained on, int (N, 2); of sequences the first items too.
        valid: those of the validation split, int (K, 2).
        test: those of the test split, int (M, 2).
        dataset: the data set that was split.
        sizes: rows of train, valid and test.
    """
    empty = [phase for phase, size in zip(PHASES, sizes) if size == 0 and phase != "train"]
    lines = [f"the {phase} split is empty: eval_args={config['eval_args']}" for phase in empty]
    if len(test) == 0:
        return lines
    sequential = config["MODEL_TYPE"] == ModelType.SEQUENTIAL
    if not sequential:
        lines += _repeats(config, train, valid, test, dataset.item_num) + _cold_users(train, test)
    lines += (
        _unseen_items(train, test) if config["benchmark_filename"] is not None else _untested(config, test, dataset)
    )
    return lines


def check_negatives(config: Any, parts: Sequence[Any], dataset: Any) -> None:
    """Whether each user lacks an item, which RecBole's samplers ask for, those of full ranking too.

    Raises:
        ValueError: names a user who has all items, and how many do.
    """
    drawn = [config[f"{phase}_neg_sample_args"]["distribution"] != "none" for phase in PHASES]
    if config["repeatable"] or not any(drawn):
        return
    rows = [part.inter_feat[field].numpy() for field in (dataset.uid_field, dataset.iid_field) for part in parts]
    users, items = np.concatenate(rows[: len(parts)]), np.concatenate(rows[len(parts) :])
    counts = np.bincount(np.unique(users.astype(np.int64) * dataset.item_num + items) // dataset.item_num)
    all_items = np.flatnonzero(counts == dataset.item_num - 1)
    if len(all_items):
        name, most = dataset.field2id_token[dataset.uid_field][all_items[0]], dataset.item_num - 1
        raise ValueError(
            f"the user {str(name)!r} of {config['dataset']!r} has all {most} items ({len(all_items)} such users): "
            f"nothing is left to rank or to draw for them; leave them out, e.g. user_inter_num_interval: '[0,{most})'"
        )


def _repeats(config: Any, train: np.ndarray, valid: np.ndarray, test: np.ndarray, width: int) -> list[str]:
    """RecBole never masks a pair that is in an earlier part and in test: the answer is in the input, or chose it."""
    if config["repeatable"] or config["eval_type"] != EvaluatorType.RANKING:
        return []
    codes = np.array([width, 1])
    presplit = config["benchmark_filename"] is not None
    way_out = "leave them out of one of the files" if presplit else "set rm_dup_inter: first"
    counts = {
        part: int(np.isin(test @ codes, rows @ codes).sum()) for part, rows in (("train", train), ("valid", valid))
    }
    return [
        f"{count} of {len(test)} test pairs are also in {part} and not masked; {way_out}"
        for part, count in counts.items()
        if count
    ]


def _cold_users(train: np.ndarray, test: np.ndarray) -> list[str]:
    users = np.unique(test[:, 0])
    cold = int((~np.isin(users, train[:, 0])).sum())
    return [f"{cold} of {len(users)} test users have no row in train"] if cold else []


def _unseen_items(train: np.ndarray, test: np.ndarray) -> list[str]:
    unseen = int((~np.isin(test[:, 1], train[:, 1])).sum())
    return [f"{unseen} of {len(test)} test rows have an item without a row in train"] if unseen else []


def _untested(config: Any, test: np.ndarray, dataset: Any) -> list[str]:
    """Leave-one-out leaves a user's first rows in train: general models need two of them, sequential ones three."""
    if "LS" not in (config["eval_args"]["split"] or {}):
        return []
    users, least = dataset.user_num - 1, 3 if config["MODEL_TYPE"] == ModelType.SEQUENTIAL else 2
    untested = users - len(np.unique(test[:, 0]))
    if not untested:
        return []
    return [f"{untested} of {users} users are not tested: leave-one-out needs {least} interactions of a user"]
