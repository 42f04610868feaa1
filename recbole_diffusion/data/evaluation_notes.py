"""Warnings about evaluations that differ from what their settings suggest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from recbole.utils import ModelType


def notes(config: Any, loaders: Sequence[Any]) -> list[str]:
    """The warnings about the evaluation of the test split.

    Args:
        config: the settings of the run.
        loaders: of train, valid and test.
    """
    loader = loaders[2]
    if not len(loader._dataset):
        return []
    return [*_few_negatives(config, loader), *_several_targets(config, loader)]


def _users(loader: Any) -> np.ndarray:
    users: np.ndarray = loader._dataset.inter_feat[loader._dataset.uid_field].numpy()
    return users


def _few_negatives(config: Any, loader: Any) -> list[str]:
    """Users with fewer unseen items than sampled negatives. RecBole draws with replacement; duplicates count once."""
    mode = config["eval_args"]["mode"]["test"]
    if not mode.startswith(("uni", "pop")) or not hasattr(loader._sampler, "used_ids"):
        return []
    negatives, users = int(mode[3:]), np.unique(_users(loader))
    unseen = loader._dataset.item_num - 1 - np.array([len(loader._sampler.used_ids[user]) for user in users])
    affected = int((unseen < negatives).sum())
    if not affected:
        return []
    return [
        f"{mode}: {affected} of {len(users)} users have fewer than {negatives} items to draw from (one has "
        f"{unseen.min()}), so that they are ranked among fewer"
    ]


def _several_targets(config: Any, loader: Any) -> list[str]:
    """Sequential models have one evaluation row per target, general models one per user."""
    if config["MODEL_TYPE"] != ModelType.SEQUENTIAL:
        return []
    rows = _users(loader)
    users = len(np.unique(rows))
    if users == len(rows):
        return []
    counted = f"the test split has {len(rows)} answers of {users} users"
    if config["eval_args"]["mode"]["test"] == "full":
        return [f"{counted}: metrics are means over answers, those of general models are means over users"]
    return [f"{counted}: in sampled evaluation a user's answers share one list, each scored after its own past"]
