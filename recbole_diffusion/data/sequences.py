"""Data for sequential models: one training row per user, and the past masked at evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from logging import getLogger
from typing import Any, Optional

import numpy as np
import torch
from recbole.data.dataset import SequentialDataset
from recbole.utils import ModelType

from recbole_diffusion.data.pairs import item_lists, sequence_pairs


class UserSequenceDataset(SequentialDataset):
    """Of each user's training rows only the longest, the last of these: for models that learn at every place.

    Validation and test are RecBole's. The train split knows what all of its rows were: ``all_targets`` are their (user,
    next item), ``all_pairs`` the pairs of :func:`sequence_pairs`.
    """

    def build(self) -> list[Any]:
        train, *others = super().build()
        rows = train.inter_feat
        users, lengths = rows[train.uid_field].numpy(), rows[train.item_list_length_field].numpy()
        train.all_pairs = sequence_pairs(train)
        train.all_targets = np.stack([users, rows[train.iid_field].numpy()], axis=1)
        order = np.lexsort((np.arange(len(users)), lengths, users))
        last = np.append(users[order][1:] != users[order][:-1], True)
        train.inter_feat = rows[torch.from_numpy(np.sort(order[last]))]
        return [train, *others]


class SeenItems:
    """What each user had before an evaluation row: the items of the earlier splits, and those of the row's sequence.

    Args:
        before: the earlier splits.
        own: the split itself; its rows are looked up one by one, since it may hold several of a user.
    """

    def __init__(self, before: Sequence[Any], own: Any) -> None:
        self.pairs = np.unique(np.concatenate([*map(sequence_pairs, before)]), axis=0)
        self.items = torch.from_numpy(self.pairs[:, 1].copy())
        self.count = torch.from_numpy(np.bincount(self.pairs[:, 0], minlength=own.user_num))
        whole = getattr(own, "whole_lists", None)
        self.whole: Optional[tuple[torch.Tensor, torch.Tensor]] = None
        if whole is not None:
            self.whole = torch.from_numpy(whole.items.copy()), torch.from_numpy(whole.counts.copy())

    def of(self, users: torch.Tensor, sequences: torch.Tensor, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(rows, items) to mask. An answer that comes again is masked too.

        Args:
            users: (B,).
            sequences: (B, L).
            rows: their places in the split, (B,).
        """
        row, items = _gather(self.items, self.count, users)
        if self.whole is not None:
            inside, own = _gather(*self.whole, rows)
        else:
            inside, own = sequences.nonzero()[:, 0], sequences[sequences > 0]
        return torch.cat([row, inside]), torch.cat([items, own])

    def answers_had(self, own: Any) -> int:
        """How many answers of the split are among the items that are masked for their row."""
        users, answers = (own.inter_feat[field].numpy() for field in (own.uid_field, own.iid_field))
        codes = np.array([own.item_num, 1])
        had = np.isin(np.stack([users, answers], axis=1) @ codes, self.pairs @ codes)
        if self.whole is not None:
            row, items = _gather(*self.whole, torch.arange(len(users)))
            had[row.numpy()[items.numpy() == answers[row.numpy()]]] = True
        else:
            had |= (item_lists(own).numpy() == answers[:, None]).any(axis=1)
        return int(had.sum())


def _gather(items: torch.Tensor, count: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The groups ``wanted`` (B,) of ``items``, which are ``count`` (G,) each: (which of the B, item), (n,) each."""
    start, size = (count.cumsum(0) - count)[wanted], count[wanted]
    row = torch.repeat_interleave(torch.arange(len(wanted)), size)
    place = torch.arange(len(row)) - (size.cumsum(0) - size)[row] + start[row]
    return row, items[place]


def check_settings(config: Any) -> None:
    """Check the length of sequences against what BERT4Rec masks of them.

    Raises:
        ValueError: it would mask less than one item, which RecBole notices in the first batch.
    """
    if config["transform"] != "mask_itemseq":
        return
    share, length = config["mask_ratio"], config["MAX_ITEM_LIST_LENGTH"]
    if int((share or 0) * length) < 1:
        raise ValueError(
            f"mask_ratio={share!r} of MAX_ITEM_LIST_LENGTH={length!r} is less than one item; raise one of them "
            f"({config['model']} masks int(mask_ratio * MAX_ITEM_LIST_LENGTH) items of each sequence)"
        )


def check_lengths(config: Any, loaders: Sequence[Any]) -> None:
    """Whether every sequence has an item; those of pre-split files may have none.

    Raises:
        ValueError: one has none, and no model can read it.
    """
    if config["MODEL_TYPE"] != ModelType.SEQUENTIAL:
        return
    for part in (loader._dataset for loader in loaders):
        lengths = part.inter_feat[part.item_list_length_field]
        if len(lengths) and int(lengths.min()) < 1:
            raise ValueError(f"{config['dataset']!r} has sequences without items; leave these rows out of its files")


def count_first_items(config: Any, loaders: Sequence[Any]) -> int:
    """How many rows of the file are in no split, since they begin sequences whose first answer is not in train.

    The first items of the others count as interactions of train.
    """
    if config["MODEL_TYPE"] != ModelType.SEQUENTIAL or config["benchmark_filename"] is not None:
        return 0
    train, *others = (np.unique(loader._dataset.inter_feat[loader._dataset.uid_field].numpy()) for loader in loaders)
    return len(np.setdiff1d(np.concatenate(others), train))


def mask_seen_items(config: Any, loaders: Sequence[Any]) -> None:
    """Give the loaders of a sequential model's full ranking what ``mask_history`` takes from the candidates."""
    if config["MODEL_TYPE"] != ModelType.SEQUENTIAL:
        return
    parts = [loader._dataset for loader in loaders]
    for number, (part, loader) in enumerate(zip(parts, loaders)):
        if not hasattr(loader, "seen_items"):  # training, or sampled evaluation
            continue
        loader.seen_items = SeenItems(parts[:number], part) if config["mask_history"] and len(part) else None
        repeated = loader.seen_items.answers_had(part) if loader.seen_items is not None else 0
        if repeated:
            phase = ("train", "valid", "test")[number]
            _warn(
                config,
                f"{repeated} of {len(part)} answers of the {phase} split are items that the user had, which "
                "mask_history: True leaves out; set mask_history: False where users take items again",
            )


def _warn(config: Any, line: str) -> None:
    """Into the run's warnings; into the log under ``enable()``, where RecBole's Config has none."""
    notes = getattr(config, "notes", None)
    if notes is None:
        getLogger().warning(line)
    elif line not in notes:
        notes.append(line)
