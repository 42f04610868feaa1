"""The metrics of each user. This module needs numpy only, so that a report reads them without torch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

#: Metrics that some users do not have, e.g. the recall of cold items of a user without such targets. Their values are
#: nan there, and means, intervals and tests leave these users out.
PARTIAL = frozenset(
    {
        "averagepopularity",
        "calibration",
        "ild",
        "novelty",
        "recallcold",
        "recallhead",
        "recallhighactivity",
        "recalllowactivity",
        "recallmediumactivity",
        "recallmid",
        "recalltail",
        "tailpercentage",
    }
)


class UserMetrics(NamedTuple):
    """The metrics of one evaluation by user.

    Attributes:
        users: (n_users,); ids in the trainer, names from the data's files in results.
        metrics: the values of each metric that is a mean over users, e.g. ``ndcg@10``, in the order of ``users``;
            float64, (n_users,). nan where a user does not have a metric of :data:`PARTIAL`.
    """

    users: np.ndarray
    metrics: dict[str, np.ndarray]


def may_be_nan(metric: str) -> bool:
    """Whether a user may be without a value of the metric, e.g. ``recallcold@10``."""
    return metric.partition("@")[0].lower() in PARTIAL
