"""The metrics of each user, beside the means that RecBole keeps."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Optional

import numpy as np
import torch

from recbole_diffusion.evaluation.list_metrics import OfEachList
from recbole_diffusion.evaluation.per_user import UserMetrics
from recbole_diffusion.settings.recbole_config import TopkMetric

__all__ = ["UserMetrics", "collect", "recorded", "users_of"]


@contextlib.contextmanager
def recorded(evaluator: Any) -> Iterator[dict[str, np.ndarray]]:
    """What the evaluator's metrics average over the users, each vector of shape (n_users,), filled in while it works.

    Every such metric ends in ``topk_result(name, values)`` with values of shape (n_users, largest k). Coverage, Gini
    and entropy are of all users together; GAUC weights the users by their positives.
    """
    kept: dict[str, np.ndarray] = {}
    wrapped: list[Any] = [
        each for each in evaluator.metric_class.values() if isinstance(each, (TopkMetric, OfEachList))
    ]

    def keep(metric: Any, original: Any, name: str, values: np.ndarray) -> Any:
        kept.update({f"{name}@{k}": np.asarray(values[:, k - 1], dtype=np.float64) for k in metric.topk})
        return original(name, values)

    for metric in wrapped:
        original = metric.topk_result
        metric.topk_result = lambda name, values, m=metric, o=original: keep(m, o, name, values)
    try:
        yield kept
    finally:
        for metric in wrapped:
            del metric.topk_result


def users_of(rows: Any, field: str, count: int) -> torch.Tensor:
    """The users of an evaluation batch in the order of its ``count`` rows of scores, shape (count,)."""
    users: torch.Tensor = rows[field]
    return users if len(users) == count else torch.unique_consecutive(users)  # sampled: a row per candidate


def collect(users: Sequence[torch.Tensor], metrics: dict[str, np.ndarray]) -> Optional[UserMetrics]:
    """The vectors by user, of one with several evaluation rows their mean; None where they are not one per row."""
    ids = torch.cat(list(users)).cpu().numpy() if users else np.empty(0, dtype=np.int64)
    if not metrics or any(len(values) != len(ids) for values in metrics.values()):
        return None
    unique, place = np.unique(ids, return_inverse=True)
    if len(unique) == len(ids):
        return UserMetrics(ids, dict(metrics))
    counts = np.bincount(place)
    return UserMetrics(unique, {key: np.bincount(place, values) / counts for key, values in metrics.items()})
