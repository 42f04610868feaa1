"""The metrics of each user, beside the means that RecBole keeps; and novelty, which RecBole lacks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np
import torch
from recbole.evaluator.base_metric import AbstractMetric
from recbole.utils import EvaluatorType


class UserMetrics(NamedTuple):
    """The metrics of one evaluation, user by user.

    Attributes:
        users: the users, shape (n_users,): ids in the trainer, names as in the data's files in results.
        metrics: of each metric that is a mean over users, e.g. ``ndcg@10``, its values in the same order, float64,
            shape (n_users,).
    """

    users: np.ndarray
    metrics: dict[str, np.ndarray]


class Novelty(AbstractMetric):
    r"""How little known the recommended items are: their mean self-information in bits.

    .. math:: \mathrm{Novelty@K} = \frac{1}{|U| K} \sum_u \sum_{i \in R_u} -\log_2 \frac{\max(c_i, 1)}{N}

    c_i: the training interactions of item i, N: the users of the data set. Zhou et al., "Solving the apparent
    diversity-accuracy dilemma of recommender systems", PNAS 2010, who leave items that nobody had undefined: here they
    count as if one user had had them.
    """

    metric_type = EvaluatorType.RANKING
    metric_need = ["rec.items", "data.count_items", "data.num_users"]

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.topk = config["topk"]

    def calculate_metric(self, dataobject: Any) -> dict[str, float]:
        """The value of each ``topk``."""
        items: np.ndarray = dataobject.get("rec.items").numpy()
        counts = np.ones(max(int(items.max()), *map(int, dataobject.get("data.count_items"))) + 1)
        for item, count in dataobject.get("data.count_items").items():
            counts[item] = max(count, 1)
        bits = np.log2(dataobject.get("data.num_users") - 1) - np.log2(counts)  # less the padding user
        return self.topk_result("novelty", bits[items].cumsum(axis=1) / np.arange(1, items.shape[1] + 1))

    def topk_result(self, metric: str, value: np.ndarray) -> dict[str, float]:
        """Means over the users of ``value``, shape (n_users, largest k)."""
        mean = value.mean(axis=0)
        return {f"{metric}@{k}": round(float(mean[k - 1]), self.decimal_place) for k in self.topk}


@contextlib.contextmanager
def recorded(evaluator: Any) -> Iterator[dict[str, np.ndarray]]:
    """What the evaluator's metrics average over the users, each vector of shape (n_users,), filled in while it works.

    Every such metric of RecBole's ends in ``topk_result(name, values)`` with values of shape (n_users, largest k).
    Coverage, Gini, entropy and the tail's share are of all users together.
    """
    kept: dict[str, np.ndarray] = {}
    wrapped = [each for each in evaluator.metric_class.values() if _averages_users(each)]

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


def _averages_users(metric: Any) -> bool:
    from recbole.evaluator.base_metric import TopkMetric
    from recbole.evaluator.metrics import AveragePopularity

    return isinstance(metric, (TopkMetric, AveragePopularity, Novelty))


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
