"""The metrics of each user. This module needs numpy only, so that a report reads them without torch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class UserMetrics(NamedTuple):
    """The metrics of one evaluation by user.

    Attributes:
        users: (n_users,); ids in the trainer, names from the data's files in results.
        metrics: the values of each metric that is a mean over users, e.g. ``ndcg@10``, in the order of ``users``;
            float64, (n_users,).
    """

    users: np.ndarray
    metrics: dict[str, np.ndarray]
