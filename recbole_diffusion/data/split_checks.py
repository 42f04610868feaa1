"""Warnings about a split: empty parts, test pairs that are not masked, users and items never seen in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from recbole.utils import EvaluatorType, ModelType

from recbole_diffusion.data import fit_on

PHASES = ("train", "valid", "test")


def notes(
    config: Any, train: np.ndarray, valid: np.ndarray, test: np.ndarray, dataset: Any, sizes: list[int]
) -> list[str]:
    """The warnings about a split.

    Args:
        config: the settings of the run.
        train: the (user, item) pairs of the training split, int (N, 2), with the first items of sequences.
        valid: the pairs of the validation split, int (K, 2).
        test: the pairs of the test split, int (M, 2).
        dataset: the data set that was split.
        sizes: the number of rows of train, valid and test.

    Returns:
        One line each.
    """
    empty = [phase for phase, size in zip(PHASES, sizes) if size == 0 and phase not in fit_on.trained_phases(config)]
    lines = [f"the {phase} split is empty: eval_args={config['eval_args']}" for phase in empty]
    if len(test) == 0:
        return lines
    sequential = config["MODEL_TYPE"] == ModelType.SEQUENTIAL
    if not sequential:
        lines += _repeated_pairs(config, train, valid, test, dataset.item_num) + _cold_users(train, test)
    if config["benchmark_filename"] is not None:
        return lines + _unseen_items(train, test)
    return lines + _untested_users(config, test, dataset)


def check_negatives(config: Any, parts: Sequence[Any], dataset: Any) -> None:
    """Check that no user has all items: RecBole's samplers, also those of full ranking, could draw no negative.

    Raises:
        ValueError: a user has; the message names one, and their number.
    """
    drawn = [config[f"{phase}_neg_sample_args"]["distribution"] != "none" for phase in PHASES]
    if config["repeatable"] or not any(drawn):
        return
    rows = [part.inter_feat[field].numpy() for field in (dataset.uid_field, dataset.iid_field) for part in parts]
    users, items = np.concatenate(rows[: len(parts)]), np.concatenate(rows[len(parts) :])
    counts = np.bincount(np.unique(users.astype(np.int64) * dataset.item_num + items) // dataset.item_num)
    complete_users = np.flatnonzero(counts == dataset.item_num - 1)
    if len(complete_users):
        name, items = dataset.field2id_token[dataset.uid_field][complete_users[0]], dataset.item_num - 1
        raise ValueError(
            f"the user {str(name)!r} of {config['dataset']!r} has all {items} items ({len(complete_users)} such "
            "users): nothing is left to rank or to draw for them; leave them out, e.g. user_inter_num_interval: "
            f"'[0,{items})'"
        )


def _repeated_pairs(config: Any, train: np.ndarray, valid: np.ndarray, test: np.ndarray, n_items: int) -> list[str]:
    """Test pairs that are also in train or valid. RecBole does not mask them, so the model has seen the target."""
    if config["repeatable"] or config["eval_type"] != EvaluatorType.RANKING:
        return []
    factors = np.array([n_items, 1])  # one number for each pair
    presplit = config["benchmark_filename"] is not None
    way_out = "leave them out of one of the files" if presplit else "set rm_dup_inter: first"
    counts = {
        part: int(np.isin(test @ factors, rows @ factors).sum()) for part, rows in (("train", train), ("valid", valid))
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


def _untested_users(config: Any, test: np.ndarray, dataset: Any) -> list[str]:
    """Users with too few interactions for leave-one-out: general models need two, sequential ones three."""
    if "LS" not in (config["eval_args"]["split"] or {}):
        return []
    users, least = dataset.user_num - 1, 3 if config["MODEL_TYPE"] == ModelType.SEQUENTIAL else 2
    untested = users - len(np.unique(test[:, 0]))
    if not untested:
        return []
    return [f"{untested} of {users} users are not tested: leave-one-out needs {least} interactions of a user"]
