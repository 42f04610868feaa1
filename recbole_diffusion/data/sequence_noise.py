"""Noise in training sequences: added interactions have a place in their user's sequence.

RecBole turns the interactions of a user into rows, one for each item but the first, with the items before it. Noise is
put among the training interactions, of which the training rows are then made anew: an added item is a target in one row
and part of the history in later ones. The histories of validation and test stay clean.

- ``random``: after the interaction whose user, time and other columns it has.
- ``natural``: by its own time, as exact as RecBole's float32 is (64 s for today's Unix times).
"""

from __future__ import annotations

import copy
from typing import Any, Optional

import numpy as np
import torch
from recbole.data.dataset import SequentialDataset
from recbole.data.interaction import Interaction
from recbole.utils import ModelType

from recbole_diffusion.data import sequence_rows, train_noise


def hooks(config: Any) -> list[tuple[Any, str, Any]]:
    """The methods of RecBole that are replaced; see :mod:`recbole_diffusion.data.hooks`."""
    if config["train_noise"] is None or config["MODEL_TYPE"] != ModelType.SEQUENTIAL:
        return []
    build = vars(SequentialDataset)["build"]

    def data_augmentation(dataset: Any) -> None:
        interactions = dataset.inter_feat
        sequence_rows.augment(dataset)  # sorts them in place, and puts the rows in their stead
        dataset.interactions = interactions

    def build_with_noise(dataset: Any) -> list[Any]:
        parts: list[Any] = build(dataset)
        interactions = dataset.__dict__.pop("interactions")
        for part in parts:
            part.__dict__.pop("interactions", None)
        removed = train_noise.take_removed_rows(dataset, parts)
        if train_noise.is_wanted(dataset.config):
            rows = _with_noise(dataset, parts[0].inter_feat, interactions, removed)
            noisy = copy.copy(dataset)
            noisy.inter_feat = rows
            noisy.sort = lambda *_, **__: None  # they are in order
            sequence_rows.augment(noisy)
            columns = parts[0].inter_feat.columns
            parts[0].inter_feat = Interaction({name: noisy.inter_feat[name] for name in columns})
        return parts

    replaced = {"data_augmentation": data_augmentation, "build": build_with_noise}
    return [(SequentialDataset, name, method) for name, method in replaced.items()]


def _with_noise(dataset: Any, rows_of_train: Any, interactions: Any, removed: Optional[Any]) -> Any:
    """The training interactions and the noise, by user and in order of time.

    Args:
        dataset: the whole data set.
        rows_of_train: the rows of the train split.
        interactions: of all parts, by user and in order of time.
        removed: the interactions that natural noise is drawn from.
    """
    train = _training_interactions(dataset, rows_of_train, interactions)
    split = train_noise.Split(dataset, train, [interactions])
    rows = train_noise.draw(dataset.config, split, removed)
    time, numbers = dataset.time_field, rows.numbers
    if dataset.config["time-aware"]:  # the column then holds ranks
        numbers.pop(time, None)
    own_time = numbers.get(time, np.zeros(len(rows.donors)))
    is_earlier = np.zeros(len(rows.donors), dtype=bool)
    if time in numbers:
        is_earlier = own_time < train[time].numpy()[rows.donors]
    place = np.concatenate([np.arange(len(train)), rows.donors + np.where(is_earlier, -0.5, 0.5)])
    users = np.concatenate([split.users, split.users[rows.donors]])
    tie = np.concatenate([np.zeros(len(train)), own_time])
    order = torch.from_numpy(np.lexsort((tie, place, users)))
    added = split.copies(rows)
    return Interaction({name: torch.cat([train[name], added[name]])[order] for name in train.columns})


def _training_interactions(dataset: Any, rows: Any, interactions: Any) -> Any:
    """The interactions of which the training rows are made: a user's first ones.

    Raises:
        ValueError: the training rows of a user are not its first ones.
    """
    user_field, item_field = dataset.uid_field, dataset.iid_field
    users, items = (interactions[field].numpy() for field in (user_field, item_field))
    targets = np.bincount(rows[user_field].numpy(), minlength=dataset.user_num)
    place = np.arange(len(users)) - np.searchsorted(users, users)
    in_train = (targets[users] > 0) & (place <= targets[users])
    is_target = in_train & (place > 0)
    expected = np.stack([users[is_target], items[is_target]])
    found = np.stack([rows[field].numpy() for field in (user_field, item_field)])
    if not np.array_equal(*(pairs[:, np.lexsort(pairs)] for pairs in (expected, found))):
        raise ValueError("train_noise needs a split in which the train rows of a sequential user are the first ones")
    return interactions[torch.from_numpy(np.flatnonzero(in_train))]
