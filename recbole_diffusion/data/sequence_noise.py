"""Noise in training sequences: added interactions have a place in their user's sequence.

RecBole turns the interactions of a user into rows, one for each item but the first, with the items before it. Noise is
put among the training interactions, of which the training rows are then made anew: an added item is a target in one row
and part of the history in later ones. The histories of validation and test stay clean.

- ``random``: after the interaction whose user, time and other columns it has.
- ``natural``: by its own exact time, before the first interaction that is later.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple, Optional

import numpy as np
import pandas as pd
import torch
from recbole.data.dataset import SequentialDataset
from recbole.data.interaction import Interaction
from recbole.utils import ModelType

from recbole_diffusion.data import removed_rows, sequence_rows, train_noise


def hooks(config: Any) -> list[tuple[Any, str, Any]]:
    """The methods of RecBole that are replaced; see :mod:`recbole_diffusion.data.hooks`."""
    if config["train_noise"] is None or config["MODEL_TYPE"] != ModelType.SEQUENTIAL:
        return []
    build = vars(SequentialDataset)["build"]

    def data_augmentation(dataset: Any) -> None:
        interactions = _Interactions(dataset.inter_feat, _times_by_user(dataset))
        sequence_rows.augment(dataset)  # sorts them in place, and puts the rows in their stead
        dataset.interactions = interactions

    def build_with_noise(dataset: Any) -> list[Any]:
        parts: list[Any] = build(dataset)
        interactions = dataset.__dict__.pop("interactions", None)
        for part in parts:
            part.__dict__.pop("interactions", None)
        removed = removed_rows.take(dataset, parts)
        if train_noise.is_wanted(dataset.config):
            if interactions is None:
                raise ValueError(
                    f"train_noise={dataset.config['train_noise']!r} is not possible for {dataset.config['model']}: its "
                    f"data set, {type(dataset).__name__}, makes its training rows itself; leave train_noise out"
                )
            rows = _with_noise(dataset, parts, interactions, removed)
            noisy = copy.copy(dataset)
            noisy.inter_feat = rows
            noisy.sort = lambda *_, **__: None  # they are in order
            sequence_rows.augment(noisy)
            columns = parts[0].inter_feat.columns
            parts[0].inter_feat = Interaction({name: noisy.inter_feat[name] for name in columns})
        return parts

    replaced = {"data_augmentation": data_augmentation, "build": build_with_noise}
    return [(SequentialDataset, name, method) for name, method in replaced.items()]


class _Interactions(NamedTuple):
    """All interactions of a data set, by user and in order of time.

    Attributes:
        table: the columns.
        times: the exact times, float64, (n,); None if they are not known.
    """

    table: Any
    times: Optional[np.ndarray]


def _times_by_user(dataset: Any) -> Optional[np.ndarray]:
    """The exact times in the order in which RecBole sorts the interactions: by user and float32 time, stably."""
    times = getattr(dataset, "exact_times", None)
    if times is None:
        return None
    users, column = (dataset.inter_feat[field].numpy() for field in (dataset.uid_field, dataset.time_field))
    numbers = column if column.ndim == 1 else column[:, 0]  # pairs with numerical_features
    in_order: np.ndarray = times[np.lexsort((numbers, users))]
    return in_order


def _with_noise(dataset: Any, parts: Any, interactions: _Interactions, removed: Optional[Any]) -> Any:
    """The training interactions and the noise, by user and in order of time.

    Args:
        dataset: the whole data set.
        parts: train, valid and test.
        interactions: of all parts.
        removed: the interactions that natural noise is drawn from.
    """
    chosen = _training_places(dataset, parts[0].inter_feat, interactions.table)
    train = interactions.table[torch.from_numpy(chosen)]
    times = None if interactions.times is None else interactions.times[chosen]
    split = train_noise.Split(dataset, train, [interactions.table], times)
    rows = train_noise.draw(dataset.config, split, removed)
    rows.insert_ranks(dataset, [train, dataset.inter_feat, *(part.inter_feat for part in parts)])
    added, order = split.copies(rows), torch.from_numpy(_order(split, rows))
    return Interaction({name: torch.cat([train[name], added[name]])[order] for name in train.columns})


def _order(split: train_noise.Split, rows: train_noise.Rows) -> np.ndarray:
    """The order of the training interactions, followed by the noise, by user and in order of time; the sort is stable.

    Random noise comes after its donor.
    """
    keys: tuple[Any, Any] = (np.arange(len(split.users)), rows.donors + 0.5)
    if rows.times is not None:  # with keep_time_order: False, interactions may be out of order in the exact times
        keys = pd.Series(split.times).groupby(split.users).cummax().to_numpy(), rows.times
    return np.lexsort((np.concatenate(keys), np.concatenate([split.users, split.users[rows.donors]])))


def _training_places(dataset: Any, rows: Any, interactions: Any) -> np.ndarray:
    """The places of the interactions of which the training rows are made: a user's first ones, (n,).

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
    return np.flatnonzero(in_train)
