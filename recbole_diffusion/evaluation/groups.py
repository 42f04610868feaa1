"""Groups of items by popularity and of users by activity, both from the train split. Needs numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recbole_diffusion.evaluation.split_data import SplitData

#: Defaults of the keys, for configurations without our defaults.
POPULARITY_SHARES = [0.5, 0.8]
ACTIVITY_QUANTILES = [0.333, 0.666]
COLD_MAX_INTERACTIONS = 0
#: Columns of ``rec.group_positives``.
GROUPS = ("head", "mid", "tail", "cold")


def popularity_groups(item_counts: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """The group of each item by popularity: 0 head, 1 mid, 2 tail; int64, (n_items,).

    An item is in the head if the items with more training interactions have less than ``shares[0]`` of all
    interactions, and in the middle if they have less than ``shares[1]``. Items with equal counts are in one group.
    Items without interactions are in the tail.

    Args:
        item_counts: training interactions of each item, (n_items,).
        shares: two increasing shares of the interactions.

    Raises:
        ValueError: the shares decrease.
    """
    _check_increasing("popularity_shares", shares)
    values, index, n_items = np.unique(item_counts, return_inverse=True, return_counts=True)
    interactions = values * n_items
    of_more_popular = interactions.sum() - interactions.cumsum()
    shares_before = of_more_popular / max(interactions.sum(), 1)
    groups = np.searchsorted(np.asarray(shares, dtype=np.float64), shares_before + 1e-12, side="right")
    groups[values == 0] = len(shares)
    return groups[index.reshape(-1)]


def activity_groups(user_counts: np.ndarray, quantiles: Sequence[float]) -> np.ndarray:
    """The group of each user by the number of training interactions: 0 low, 1 medium, 2 high; int64, (n_users,).

    The borders are quantiles of the users with training interactions: the smallest number that at least this share of
    the users does not exceed. Users with equal numbers are in one group.

    Args:
        user_counts: training interactions of each user, (n_users,).
        quantiles: two increasing shares of the users.

    Raises:
        ValueError: the shares decrease.
    """
    _check_increasing("activity_quantiles", quantiles)
    lengths = np.sort(user_counts[user_counts > 0])
    if not len(lengths):
        return np.zeros(len(user_counts), dtype=np.int64)
    places = np.ceil(np.asarray(quantiles) * len(lengths) - 1e-9).astype(np.int64) - 1
    return np.searchsorted(lengths[places.clip(0)], user_counts, side="left")


def _check_increasing(key: str, shares: Sequence[float]) -> None:
    if list(shares) != sorted(shares):
        raise ValueError(f"{key}={list(shares)} is not allowed; allowed: two increasing shares")


def target_groups(data: SplitData, config: Any) -> np.ndarray:
    """Whether each item is in the head, the middle, the tail, and cold; bool, (n_items, 4), see :data:`GROUPS`.

    Args:
        data: of the split.
        config: has ``popularity_shares`` and ``cold_max_interactions``; None: the defaults.
    """
    groups = popularity_groups(data.item_counts, config["popularity_shares"] or POPULARITY_SHARES)
    most = config["cold_max_interactions"]
    cold = data.item_counts <= (COLD_MAX_INTERACTIONS if most is None else most)
    return np.stack([groups == 0, groups == 1, groups == 2, cold], axis=1)
