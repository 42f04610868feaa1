r"""Metrics of the recommended lists as such: coverage, Gini, entropy, popularity, tail, novelty.

They replace RecBole's metrics of the same names (:func:`recbole_diffusion.compat.repairs.metrics.list_metrics`) and
differ from these:

- Items are all items of the data set, :math:`n` of them; RecBole counts the padding item too (coverage, Gini).
- The entropy is an entropy; RecBole divides it by the number of recommended items.
- Lists end where a user has no candidate left (:mod:`recbole_diffusion.evaluation.collect`); RecBole fills them with
  items that were masked or not drawn.
- Items without a training interaction are tail items; items that tie at the tail's border count in part.

With :math:`R_u` the first K items recommended to user u, and :math:`q_i` the number of lists that item i is in,
:math:`p_i = q_i / \sum_j q_j`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from recbole.utils import EvaluatorType

from recbole_diffusion.evaluation.collect import NO_ITEM
from recbole_diffusion.settings.recbole_config import AbstractMetric


class _ListMetric(AbstractMetric):
    """Base class; ``rec.items`` holds each user's list, (n_users, largest k)."""

    metric_type = EvaluatorType.RANKING

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.topk = config["topk"]
        self.name = type(self).__name__.lower()


class OfAllLists(_ListMetric):
    """Base class of metrics of all users' lists together."""

    metric_need = ["rec.items", "data.num_items"]

    def calculate_metric(self, dataobject: Any) -> dict[str, float]:
        """The value of each ``topk``."""
        items, size = dataobject.get("rec.items").numpy(), dataobject.get("data.num_items")
        result: dict[str, float] = {}
        for k in self.topk:
            lists = np.bincount(items[:, :k].ravel(), minlength=size)[NO_ITEM + 1 :]
            result[f"{self.name}@{k}"] = round(float(self.of_counts(lists)), self.decimal_place)
        return result

    def of_counts(self, lists: np.ndarray) -> float:
        """The metric from q, how many lists each item is in, (n,), not all 0."""
        raise NotImplementedError


class ItemCoverage(OfAllLists):
    r"""The share of the items that somebody is recommended: :math:`|\{i: q_i > 0\}| / n`."""

    def of_counts(self, lists: np.ndarray) -> float:
        return np.count_nonzero(lists) / len(lists)


class ShannonEntropy(OfAllLists):
    r"""The entropy of the recommended items in nats: :math:`-\sum_i p_i \ln p_i`; at most :math:`\ln n`."""

    def of_counts(self, lists: np.ndarray) -> float:
        share = lists[lists > 0] / max(lists.sum(), 1)
        return float(-(share * np.log(share)).sum()) + 0.0  # not -0.0


class GiniIndex(OfAllLists):
    r"""Gini's coefficient of q over all items: 0 for equal :math:`q_i`, :math:`1 - 1/n` where one item has all.

    .. math:: \frac{\sum_{i=1}^n (2i - n - 1)\, q_{(i)}}{n \sum_i q_i}, \quad q_{(1)} \le \dots \le q_{(n)}
    """

    smaller = True

    def of_counts(self, lists: np.ndarray) -> float:
        size = len(lists)
        weights = 2 * np.arange(1, size + 1) - size - 1
        return float(weights @ np.sort(lists) / (size * max(lists.sum(), 1)))


class OfEachList(_ListMetric):
    """Base class of means over users of a mean over each one's list; users without any candidate are left out."""

    def calculate_metric(self, dataobject: Any) -> dict[str, float]:
        """The value of each ``topk``."""
        items = dataobject.get("rec.items").numpy()
        inside = items != NO_ITEM
        total = np.where(inside, self.of_items(dataobject)[items], 0.0).cumsum(axis=1)
        length = inside.cumsum(axis=1)
        means = np.divide(total, length, out=np.full(items.shape, np.nan), where=length > 0)
        return self.topk_result(self.name, means)

    def of_items(self, dataobject: Any) -> np.ndarray:
        """The value of each item, (1 + n,), the padding item first."""
        raise NotImplementedError

    def topk_result(self, metric: str, value: np.ndarray) -> dict[str, float]:
        """Means over the users of ``value``, shape (n_users, largest k); nan where a user has no list."""
        known = value[~np.isnan(value).any(axis=1)]
        mean = known.mean(axis=0) if len(known) else np.full(value.shape[1], np.nan)
        return {f"{metric}@{k}": round(float(mean[k - 1]), self.decimal_place) for k in self.topk}


def _by_item(dataobject: Any, key: str) -> np.ndarray:
    """A counter of the train split as an array over all items, (1 + n,)."""
    result = np.zeros(dataobject.get("data.num_items"), dtype=np.int64)
    for item, count in dataobject.get(key).items():
        result[item] = count
    return result


class AveragePopularity(OfEachList):
    r"""The mean number of training interactions of the recommended items; repeated ones count as often as they come."""

    smaller = True
    metric_need = ["rec.items", "data.num_items", "data.count_items"]

    def of_items(self, dataobject: Any) -> np.ndarray:
        return _by_item(dataobject, "data.count_items")


class TailPercentage(OfEachList):
    """The share of tail items in the recommended lists, from 0 to 1.

    ``tail_ratio`` up to 1 (default 0.1): that share of all items, rounded down but at least one, with the fewest
    training interactions. Of the items that tie at the border each counts in the same part, so that the value does not
    depend on the order of the file's lines. ``tail_ratio`` above 1: the items with at most so many interactions.

    Raises:
        ValueError: a ``tail_ratio`` that is not above 0.
    """

    metric_need = ["rec.items", "data.num_items", "data.count_items"]

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.tail = 0.1 if config["tail_ratio"] is None else config["tail_ratio"]
        if not self.tail > 0:
            raise ValueError(
                f"tail_ratio={self.tail!r} is not allowed; allowed: a share of the items in (0, 1], or above 1 the "
                "most interactions of a tail item"
            )

    def of_items(self, dataobject: Any) -> np.ndarray:
        counts = _by_item(dataobject, "data.count_items")[NO_ITEM + 1 :]
        if self.tail > 1:
            return np.append(0.0, counts <= self.tail)
        size = max(int(len(counts) * self.tail + 1e-9), 1)
        border = np.sort(counts)[size - 1]
        below, tied = counts < border, counts == border
        return np.append(0.0, below + tied * (size - below.sum()) / tied.sum())


class Novelty(OfEachList):
    r"""How little known the recommended items are: their mean self-information in bits.

    .. math:: \frac{1}{|U|} \sum_u \frac{1}{|R_u|} \sum_{i \in R_u} -\log_2 \frac{\max(c_i, 1)}{N}

    c_i: the users who had item i in training, N: the users of the data set. Zhou et al., "Solving the apparent
    diversity-accuracy dilemma of recommender systems", PNAS 2010, who leave items that nobody had undefined: here they
    count as if one user had had them.
    """

    metric_need = ["rec.items", "data.num_items", "data.item_users", "data.num_users"]

    def of_items(self, dataobject: Any) -> np.ndarray:
        known = np.maximum(_by_item(dataobject, "data.item_users"), 1)
        bits: np.ndarray = np.log2(dataobject.get("data.num_users") - 1) - np.log2(known)  # less the padding user
        return bits


ALL = (AveragePopularity, GiniIndex, ItemCoverage, Novelty, ShannonEntropy, TailPercentage)
