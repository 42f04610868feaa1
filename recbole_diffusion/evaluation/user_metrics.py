"""The metrics of each user, which RecBole averages and discards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Optional

import numpy as np
import torch

from recbole_diffusion.evaluation.collect import users_of
from recbole_diffusion.evaluation.list_metrics import UserListMetric
from recbole_diffusion.evaluation.per_user import UserMetrics
from recbole_diffusion.settings.recbole_config import TopkMetric

__all__ = ["UserMetrics", "collect", "recorded", "users_of"]


@contextlib.contextmanager
def recorded(evaluator: Any) -> Iterator[dict[str, np.ndarray]]:
    """Record the values that the evaluator's metrics average over the users.

    Every such metric ends in ``topk_result(name, values)`` with values of shape (n_users, largest k), which is wrapped
    here. Coverage, Gini and entropy are metrics of all users together, and GAUC weights the users by their positives;
    these have no values per user.

    Args:
        evaluator: of RecBole.

    Yields:
        A dict that is filled while the evaluator runs: values by metric, e.g. ``ndcg@10``, float64, (n_users,).
    """
    values_by_metric: dict[str, np.ndarray] = {}
    wrapped_metrics: list[Any] = [
        metric for metric in evaluator.metric_class.values() if isinstance(metric, (TopkMetric, UserListMetric))
    ]

    def record(metric: Any, original: Any, name: str, values: np.ndarray) -> Any:
        values_by_metric.update({f"{name}@{k}": np.asarray(values[:, k - 1], dtype=np.float64) for k in metric.topk})
        return original(name, values)

    for metric in wrapped_metrics:
        original = metric.topk_result
        metric.topk_result = lambda name, values, m=metric, o=original: record(m, o, name, values)
    try:
        yield values_by_metric
    finally:
        for metric in wrapped_metrics:
            del metric.topk_result


def collect(users: Sequence[torch.Tensor], metrics: dict[str, np.ndarray]) -> Optional[UserMetrics]:
    """The metrics by user. A user with several evaluation rows gets their mean.

    Args:
        users: ids of each batch's rows.
        metrics: values by metric, (n_rows,) each.

    Returns:
        None where a metric does not have one value per row.
    """
    ids = torch.cat(list(users)).cpu().numpy() if users else np.empty(0, dtype=np.int64)
    if not metrics or any(len(values) != len(ids) for values in metrics.values()):
        return None
    unique_ids, index = np.unique(ids, return_inverse=True)
    if len(unique_ids) == len(ids):
        return UserMetrics(ids, dict(metrics))
    return UserMetrics(unique_ids, {key: _means(index, values) for key, values in metrics.items()})


def _means(index: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The mean of each user's rows that have a value; nan for a user without one.

    Args:
        index: the user of each row, (n_rows,).
        values: (n_rows,), nan where a row has no value.
    """
    has_value = ~np.isnan(values)
    counts = np.bincount(index, has_value)
    totals = np.bincount(index, np.where(has_value, values, 0.0))
    return np.divide(totals, counts, out=np.full(len(counts), np.nan), where=counts > 0)
