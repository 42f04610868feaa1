"""Training on the validation and test split too, for the model that is put to use: the key ``fit_on``.

The rows of the splits are joined before the loaders are made. The split's fingerprint, the counts, the masking of seen
items and the checkpoint are therefore those of the joined splits, without further code.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import cat_interactions

#: Number of splits, in the order train, valid, test, whose rows are trained on.
SPLITS = {"train": 1, "train+valid": 2, "all": 3}
SPLIT_NAMES = ("train", "valid", "test")


def is_joined(config: Any) -> bool:
    """Whether other splits than train are trained on."""
    return _count(config) > 1


def _count(config: Any) -> int:
    return SPLITS[config["fit_on"] or "train"]  # RecBole's own runner does not know the key


def joined(config: Any, parts: Sequence[Any]) -> list[Any]:
    """Join the rows of the splits that ``fit_on`` names; those that were added to train are empty then.

    Args:
        config: the settings of the run.
        parts: the splits train, valid and test.
    """
    count = _count(config)
    if count == 1:
        return list(parts)
    train = copy.copy(parts[0])
    train.inter_feat = cat_interactions([part.inter_feat for part in parts[:count]])
    whole_lists = [getattr(part, "whole_lists", None) for part in parts[:count]]
    if whole_lists[0] is not None:  # of pre-split sequences: items and counts
        train.whole_lists = type(whole_lists[0])(*(np.concatenate(arrays) for arrays in zip(*whole_lists)))
    return [train, *(_emptied(part) for part in parts[1:count]), *parts[count:]]


def _emptied(part: Any) -> Any:
    empty = part.copy(part.inter_feat[torch.empty(0, dtype=torch.int64)])
    if getattr(part, "whole_lists", None) is not None:
        empty.whole_lists = part.whole_lists.part(0, 0)
    return empty


def trained_phases(config: Any) -> tuple[str, ...]:
    """The names of the splits that are trained on."""
    return SPLIT_NAMES[: _count(config)]


def check_measured(config: Any, command: str) -> None:
    """Check that a command that chooses by validation has a validation split.

    Raises:
        ValueError: ``fit_on`` leaves none.
    """
    if is_joined(config):
        raise ValueError(
            f"fit_on={config['fit_on']!r} is not allowed in {command}, which needs validation; allowed: train. The "
            "chosen model is trained on all rows by: recbole-diffusion run --like=CHECKPOINT --fit_on=all"
        )
