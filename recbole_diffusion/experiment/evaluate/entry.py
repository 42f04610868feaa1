"""One evaluated checkpoint or file of lists: its metrics, and their intervals over users."""

from __future__ import annotations

import math
from typing import NamedTuple, Optional

import numpy as np

from recbole_diffusion.evaluation.per_user import UserMetrics, half_width
from recbole_diffusion.experiment.report import significance

#: Above this number of users intervals are normal: the bootstrap would draw 10,000 numbers per user.
BOOTSTRAP_USERS = 20_000


class Entry(NamedTuple):
    """One evaluated checkpoint, or one file of lists.

    Attributes:
        label: its name in tables.
        source: the file, or ``DataFrame``.
        kind: ``checkpoint`` or ``lists``.
        metrics: the value of each metric, e.g. ``ndcg@10``.
        users: the values of each user, by name; None where a metric is not a mean over users.
        notes: about the model's data, or about what was left out of the lists; a line each.
        counts: of rows and users that were left out of lists; empty for checkpoints.
    """

    label: str
    source: str
    kind: str
    metrics: dict[str, float]
    users: Optional[UserMetrics]
    notes: list[str]
    counts: dict[str, int]

    def n_values(self, metric: str) -> Optional[int]:
        """The number of users with a value of the metric; None for metrics that are not means over users."""
        if self.users is None or metric not in self.users.metrics:
            return None
        return int((~np.isnan(self.users.metrics[metric])).sum())

    def intervals(self) -> dict[str, tuple[float, float]]:
        """The 95 % interval of each metric that is a mean over users; empty with fewer than two users."""
        if self.users is None or not self.users.metrics or len(self.users.users) < 2:
            return {}
        return dict(zip(self.users.metrics, _intervals(np.stack(list(self.users.metrics.values())))))


def _intervals(values: np.ndarray) -> list[tuple[float, float]]:
    """The 95 % interval of each row's mean; values (n_metrics, n_users), nan where a user has no value."""
    if values.shape[1] <= BOOTSTRAP_USERS:
        return [significance.interval(means) for means in significance.bootstrap_means(values)]
    return [_normal_interval(row) for row in values]


def _normal_interval(values: np.ndarray) -> tuple[float, float]:
    half = half_width(values)
    if half is None:
        return math.nan, math.nan
    mean = float(np.nanmean(values))
    return mean - half, mean + half
