"""The metrics of each user. This module needs numpy only, so that a report reads them without torch."""

from __future__ import annotations

import math
from typing import NamedTuple, Optional

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
#: Half the width of a 95 % interval in standard errors of the normal distribution.
_Z = 1.959963984540054


class UserMetrics(NamedTuple):
    """The metrics of one evaluation by user.

    Attributes:
        users: (n_users,); ids in the trainer, names from the data's files in results.
        metrics: the values of each metric that is a mean over users, e.g. ``ndcg@10``, in the order of ``users``;
            float64, (n_users,). nan where a user does not have a metric of :data:`PARTIAL`.
    """

    users: np.ndarray
    metrics: dict[str, np.ndarray]


def half_width(values: np.ndarray) -> Optional[float]:
    """Half the width of the 95 % interval of the mean over the users with a value, by the normal distribution.

    Args:
        values: of one metric, (n_users,); nan where a user does not have it.

    Returns:
        None with fewer than two values.
    """
    values = values[~np.isnan(values)]
    return float(_Z * values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None


def may_be_nan(metric: str) -> bool:
    """Whether a user may be without a value of the metric, e.g. ``recallcold@10``."""
    return metric.partition("@")[0].lower() in PARTIAL
