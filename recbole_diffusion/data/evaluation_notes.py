"""What an evaluation measures otherwise than its settings suggest, as warnings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from recbole.utils import ModelType


def notes(config: Any, loaders: Sequence[Any]) -> list[str]:
    """Warnings of the test split's evaluation. loaders: train, valid, test."""
    loader = loaders[2]
    if not len(loader._dataset):
        return []
    return [*_few_items(config, loader), *_several_rows(config, loader)]


def _users(loader: Any) -> np.ndarray:
    users: np.ndarray = loader._dataset.inter_feat[loader._dataset.uid_field].numpy()
    return users


def _few_items(config: Any, loader: Any) -> list[str]:
    """Users who lack fewer items than are drawn: RecBole draws with replacement, and what comes again counts once."""
    mode = config["eval_args"]["mode"]["test"]
    if not mode.startswith(("uni", "pop")) or not hasattr(loader._sampler, "used_ids"):
        return []
    wanted, users = int(mode[3:]), np.unique(_users(loader))
    left = loader._dataset.item_num - 1 - np.array([len(loader._sampler.used_ids[user]) for user in users])
    few = int((left < wanted).sum())
    if not few:
        return []
    return [
        f"{mode}: {few} of {len(users)} users have fewer than {wanted} items to draw from (one has {left.min()}), so "
        "that they are ranked among fewer"
    ]


def _several_rows(config: Any, loader: Any) -> list[str]:
    """Sequential models have an evaluation row for each answer, general ones for each user."""
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
