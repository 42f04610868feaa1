"""Data of sequential models: one training row per user, and masking of seen items in full-ranking evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from logging import getLogger
from typing import Any, Optional

import numpy as np
import torch
from recbole.data import transform
from recbole.data.dataset import SequentialDataset
from recbole.utils import ModelType

from recbole_diffusion.data import fit_on
from recbole_diffusion.data.pairs import item_lists, sequence_pairs


class UserSequenceDataset(SequentialDataset):
    """Sequential data with one training row per user, the longest, for models with a loss at every position.

    Of several longest rows it is the last. Validation and test are RecBole's. Two attributes of the train split
    describe its original rows: ``all_targets`` holds their (user, next item), int64 (N, 2), and ``all_pairs`` the
    result of :func:`sequence_pairs`.
    """

    def build(self) -> list[Any]:
        train, *evaluation = fit_on.joined(self.config, super().build())
        rows = train.inter_feat
        users, lengths = rows[train.uid_field].numpy(), rows[train.item_list_length_field].numpy()
        train.all_pairs = sequence_pairs(train)
        train.all_targets = np.stack([users, rows[train.iid_field].numpy()], axis=1)
        order = np.lexsort((np.arange(len(users)), lengths, users))
        last = np.append(users[order][1:] != users[order][:-1], True)
        train.inter_feat = rows[torch.from_numpy(np.sort(order[last]))]
        return [train, *evaluation]


class TargetsDataset(UserSequenceDataset):
    """Sequential data with one training row per prefix, or with ``targets: last`` one per user.

    ``targets: all`` are RecBole's own rows.
    """

    def build(self) -> list[Any]:
        return super().build() if self.config["targets"] == "last" else SequentialDataset.build(self)


class SeenItems:
    """The items to mask for each evaluation row: those of the user in earlier splits, and those of the row's sequence.

    Args:
        earlier: the earlier splits.
        split: the evaluated split. It may have several rows of a user, whose sequences differ.
    """

    def __init__(self, earlier: Sequence[Any], split: Any) -> None:
        self.pairs = np.unique(np.concatenate([*map(sequence_pairs, earlier)]), axis=0)
        self.items = torch.from_numpy(self.pairs[:, 1].copy())
        self.counts = torch.from_numpy(np.bincount(self.pairs[:, 0], minlength=split.user_num))
        whole = getattr(split, "whole_lists", None)
        self.whole: Optional[tuple[torch.Tensor, torch.Tensor]] = None
        if whole is not None:
            self.whole = torch.from_numpy(whole.items.copy()), torch.from_numpy(whole.counts.copy())

    def to_mask(
        self, users: torch.Tensor, sequences: torch.Tensor, rows: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The (row in the batch, item) pairs to mask. A target that the user has seen before is masked too.

        Args:
            users: (B,).
            sequences: the padded item lists, (B, L).
            rows: the indices of the batch in the split, (B,).

        Returns:
            Rows and items, (n,) each.
        """
        user_rows, user_items = _gather(self.items, self.counts, users)
        if self.whole is not None:
            sequence_rows, sequence_items = _gather(*self.whole, rows)
        else:
            sequence_rows, sequence_items = sequences.nonzero()[:, 0], sequences[sequences > 0]
        return torch.cat([user_rows, sequence_rows]), torch.cat([user_items, sequence_items])

    def count_masked_targets(self, split: Any) -> int:
        """The number of rows of the split whose target is masked."""
        users, targets = (split.inter_feat[field].numpy() for field in (split.uid_field, split.iid_field))
        factors = np.array([split.item_num, 1])  # one number for each (user, item) pair
        masked = np.isin(np.stack([users, targets], axis=1) @ factors, self.pairs @ factors)
        if self.whole is not None:
            rows, items = _gather(*self.whole, torch.arange(len(users)))
            masked[rows.numpy()[items.numpy() == targets[rows.numpy()]]] = True
        else:
            masked |= (item_lists(split).numpy() == targets[:, None]).any(axis=1)
        return int(masked.sum())


def _gather(items: torch.Tensor, counts: torch.Tensor, groups: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Select groups of concatenated items.

    Args:
        items: the items of all groups, (N,).
        counts: the number of items of each group, (G,).
        groups: the indices of the groups to select, (B,).

    Returns:
        The position in ``groups`` and the item, (n,) each.
    """
    starts, sizes = (counts.cumsum(0) - counts)[groups], counts[groups]
    positions = torch.repeat_interleave(torch.arange(len(groups)), sizes)
    places = torch.arange(len(positions)) - (sizes.cumsum(0) - sizes)[positions] + starts[positions]
    return positions, items[places]


#: RecBole's transforms of a batch that change its sequences.
_OF_SEQUENCES = frozenset({"mask_itemseq", "inverse_itemseq", "crop_itemseq", "reorder_itemseq"})


def check_settings(config: Any) -> None:
    """Check ``transform``; RecBole fails in the first batch otherwise.

    Raises:
        ValueError: it changes sequences and the model has none, it masks less than one item of a sequence, or it is
            the user's own and RecBole's empty class stands in its place.
    """
    name = config["transform"]
    if name == "user_defined" and transform.UserDefinedTransform.__call__.__module__ == transform.__name__:
        raise ValueError(
            f"transform={name!r}: recbole.data.transform.UserDefinedTransform is empty; replace it by your class "
            "before the run, or allowed: null"
        )
    if name in _OF_SEQUENCES and config["MODEL_TYPE"] != ModelType.SEQUENTIAL:
        raise ValueError(f"transform={name!r} changes sequences, which {config['model']} does not have; allowed: null")
    if name != "mask_itemseq":
        return
    ratio, length = config["mask_ratio"], config["MAX_ITEM_LIST_LENGTH"]
    if int((ratio or 0) * length) < 1:
        raise ValueError(
            f"mask_ratio={ratio!r} of MAX_ITEM_LIST_LENGTH={length!r} is less than one item; raise one of them "
            f"(transform={name!r} masks int(mask_ratio * MAX_ITEM_LIST_LENGTH) items of each sequence)"
        )


def check_lengths(config: Any, loaders: Sequence[Any]) -> None:
    """Check that every sequence has an item; sequences of pre-split files may be empty.

    Raises:
        ValueError: one is empty.
    """
    if config["MODEL_TYPE"] != ModelType.SEQUENTIAL:
        return
    for part in (loader._dataset for loader in loaders):
        lengths = part.inter_feat[part.item_list_length_field]
        if len(lengths) and int(lengths.min()) < 1:
            raise ValueError(f"{config['dataset']!r} has sequences without items; leave these rows out of its files")


def count_first_items(config: Any, loaders: Sequence[Any]) -> int:
    """Count the rows of the file that are in no split.

    These are the first items of users who have no target in train. The first items of other users count as training
    interactions.
    """
    if config["MODEL_TYPE"] != ModelType.SEQUENTIAL or config["benchmark_filename"] is not None:
        return 0
    users = [np.unique(loader._dataset.inter_feat[loader._dataset.uid_field].numpy()) for loader in loaders]
    return len(np.setdiff1d(np.concatenate(users[1:]), users[0]))


def mask_seen_items(config: Any, loaders: Sequence[Any]) -> None:
    """Set ``seen_items`` of a sequential model's full-ranking loaders, as ``mask_history`` requests.

    Warns if targets are masked.
    """
    if config["MODEL_TYPE"] != ModelType.SEQUENTIAL:
        return
    parts = [loader._dataset for loader in loaders]
    for number, (part, loader) in enumerate(zip(parts, loaders)):
        if not hasattr(loader, "seen_items"):  # training, or sampled evaluation
            continue
        loader.seen_items = SeenItems(parts[:number], part) if config["mask_history"] and len(part) else None
        repeated = loader.seen_items.count_masked_targets(part) if loader.seen_items is not None else 0
        if repeated:
            phase = ("train", "valid", "test")[number]
            _warn(
                config,
                f"{repeated} of {len(part)} answers of the {phase} split are items that the user had, which "
                "mask_history: True leaves out; set mask_history: False where users take items again",
            )


def _warn(config: Any, line: str) -> None:
    """Add a line to the run's notes, or log it under ``enable()``, where RecBole's Config has no notes."""
    notes = getattr(config, "notes", None)
    if notes is None:
        getLogger().warning(line)
    elif line not in notes:
        notes.append(line)
