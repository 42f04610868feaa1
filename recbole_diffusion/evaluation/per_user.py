"""The record of the metrics of each user. Needs numpy only, so that a report reads it without torch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class UserMetrics(NamedTuple):
    """The metrics of one evaluation, user by user.

    Attributes:
        users: the users, shape (n_users,): ids in the trainer, names as in the data's files in results.
        metrics: of each metric that is a mean over users, e.g. ``ndcg@10``, its values in the same order, float64,
            shape (n_users,).
    """

    users: np.ndarray
    metrics: dict[str, np.ndarray]
