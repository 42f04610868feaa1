r"""Beyond-accuracy metrics of the recommended lists: coverage, Gini, entropy, popularity, tail, novelty.

They replace RecBole's metrics of the same names (:func:`recbole_diffusion.compat.repairs.metrics.list_metrics`) and
differ from these:

- Coverage and Gini are taken over the :math:`n` items of the data set; RecBole counts the padding item too.
- The entropy is Shannon's; RecBole divides it by the number of recommended items.
- Lists end where a user has no candidate left (:mod:`recbole_diffusion.evaluation.collect`); RecBole fills them with
  items that were masked or not drawn.
- Items without a training interaction are tail items. Items that tie at the border of the tail count in part.

With :math:`R_u` the first K items recommended to user u, and :math:`q_i` the number of lists that item i is in,
:math:`p_i = q_i / \sum_j q_j`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from recbole.utils import EvaluatorType

from recbole_diffusion.evaluation.collect import NO_ITEM
from recbole_diffusion.settings.recbole_config import AbstractMetric


class ListMetric(AbstractMetric):
    """Base class of the list metrics; ``rec.items`` holds each user's list, (n_users, largest k)."""

    metric_type = EvaluatorType.RANKING

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.topk = config["topk"]
        self.name = type(self).__name__.lower()


class AllListsMetric(ListMetric):
    """Base class of metrics over all users' lists together."""

    metric_need = ["rec.items", "data.num_items"]

    def calculate_metric(self, dataobject: Any) -> dict[str, float]:
        """The value of each ``topk``."""
        items, size = dataobject.get("rec.items").numpy(), dataobject.get("data.num_items")
        result: dict[str, float] = {}
        for k in self.topk:
            lists = np.bincount(items[:, :k].ravel(), minlength=size)[NO_ITEM + 1 :]
            result[f"{self.name}@{k}"] = round(float(self.from_list_counts(lists)), self.decimal_place)
        return result

    def from_list_counts(self, lists: np.ndarray) -> float:
        """The metric's value.

        Args:
            lists: q, the number of lists that each item is in, (n,), not all 0.
        """
        raise NotImplementedError


class ItemCoverage(AllListsMetric):
    r"""The share of items in at least one list: :math:`|\{i: q_i > 0\}| / n`."""

    def from_list_counts(self, lists: np.ndarray) -> float:
        return np.count_nonzero(lists) / len(lists)


class ShannonEntropy(AllListsMetric):
    r"""The entropy of the recommended items in nats: :math:`-\sum_i p_i \ln p_i`; at most :math:`\ln n`."""

    def from_list_counts(self, lists: np.ndarray) -> float:
        shares = lists[lists > 0] / max(lists.sum(), 1)
        return float(-(shares * np.log(shares)).sum()) + 0.0  # not -0.0


class GiniIndex(AllListsMetric):
    r"""The Gini coefficient of q over all items: 0 for equal :math:`q_i`, :math:`1 - 1/n` for one recommended item.

    .. math:: \frac{\sum_{i=1}^n (2i - n - 1)\, q_{(i)}}{n \sum_i q_i}, \quad q_{(1)} \le \dots \le q_{(n)}
    """

    smaller = True

    def from_list_counts(self, lists: np.ndarray) -> float:
        size = len(lists)
        weights = 2 * np.arange(1, size + 1) - size - 1
        return float(weights @ np.sort(lists) / (size * max(lists.sum(), 1)))


class UserListMetric(ListMetric):
    """Base class of metrics that are means over users; a user without a value, nan, is left out."""

    def topk_result(self, metric: str, value: np.ndarray) -> dict[str, float]:
        """The mean over the users for each ``topk``; nan where no user has a value.

        Args:
            metric: its name.
            value: (n_users, largest k), of which the columns of ``topk`` are read; nan where a user has no value.
        """
        result: dict[str, float] = {}
        for k in self.topk:
            with_value = value[~np.isnan(value[:, k - 1]), k - 1]
            mean = float(with_value.mean()) if len(with_value) else float("nan")
            result[f"{metric}@{k}"] = round(mean, self.decimal_place)
        return result


class PerListMetric(UserListMetric):
    """Base class of metrics that average over each list and then over users; users without a candidate are left out."""

    def calculate_metric(self, dataobject: Any) -> dict[str, float]:
        """The value of each ``topk``."""
        items = dataobject.get("rec.items").numpy()
        is_item = items != NO_ITEM
        totals = np.where(is_item, self.item_values(dataobject)[items], 0.0).cumsum(axis=1)
        lengths = is_item.cumsum(axis=1)
        means = np.divide(totals, lengths, out=np.full(items.shape, np.nan), where=lengths > 0)
        return self.topk_result(self.name, means)

    def item_values(self, dataobject: Any) -> np.ndarray:
        """The value of each item, (1 + n,), with the padding item first."""
        raise NotImplementedError

    def topk_result(self, metric: str, value: np.ndarray) -> dict[str, float]:
        """The mean over the users for each ``topk``.

        Args:
            metric: its name.
            value: (n_users, largest k); nan where a user has no list.
        """
        with_list = value[~np.isnan(value).any(axis=1)]
        mean = with_list.mean(axis=0) if len(with_list) else np.full(value.shape[1], np.nan)
        return {f"{metric}@{k}": round(float(mean[k - 1]), self.decimal_place) for k in self.topk}


def _by_item(dataobject: Any, key: str) -> np.ndarray:
    """A counter of the train split as an array over all items, (1 + n,)."""
    item_counts = np.zeros(dataobject.get("data.num_items"), dtype=np.int64)
    for item, count in dataobject.get(key).items():
        item_counts[item] = count
    return item_counts


class AveragePopularity(PerListMetric):
    r"""The mean number of training interactions of the recommended items, repeated interactions included."""

    smaller = True
    metric_need = ["rec.items", "data.num_items", "data.count_items"]

    def item_values(self, dataobject: Any) -> np.ndarray:
        return _by_item(dataobject, "data.count_items")


class TailPercentage(PerListMetric):
    """The share of tail items in the recommended lists, from 0 to 1.

    - ``tail_ratio`` up to 1 (default 0.1): the tail is that share of all items, rounded down but at least one item,
      with the fewest training interactions. Items that tie at the border count in equal parts, so that the value does
      not depend on the order of lines in the file.
    - ``tail_ratio`` above 1: the tail is all items with at most ``tail_ratio`` training interactions.

    Raises:
        ValueError: ``tail_ratio`` is not above 0.
    """

    metric_need = ["rec.items", "data.num_items", "data.count_items"]

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.tail_ratio = 0.1 if config["tail_ratio"] is None else config["tail_ratio"]
        if not self.tail_ratio > 0:
            raise ValueError(
                f"tail_ratio={self.tail_ratio!r} is not allowed; allowed: a share of the items in (0, 1], or above "
                "1 the most interactions of a tail item"
            )

    def item_values(self, dataobject: Any) -> np.ndarray:
        counts = _by_item(dataobject, "data.count_items")[NO_ITEM + 1 :]
        if self.tail_ratio > 1:
            return np.append(0.0, counts <= self.tail_ratio)
        tail_size = max(int(len(counts) * self.tail_ratio + 1e-9), 1)
        border = np.sort(counts)[tail_size - 1]
        below, tied = counts < border, counts == border
        return np.append(0.0, below + tied * (tail_size - below.sum()) / tied.sum())


class Novelty(PerListMetric):
    r"""The mean self-information of the recommended items, in bits.

    .. math:: \frac{1}{|U|} \sum_u \frac{1}{|R_u|} \sum_{i \in R_u} -\log_2 \frac{\max(c_i, 1)}{N}

    :math:`c_i` is the number of users with item i in training, N the number of users of the data set. Source: Zhou et
    al., "Solving the apparent diversity-accuracy dilemma of recommender systems", PNAS 2010. The paper does not define
    items without a user; here they count as items with one user.
    """

    metric_need = ["rec.items", "data.num_items", "data.item_users", "data.num_users"]

    def item_values(self, dataobject: Any) -> np.ndarray:
        item_users = np.maximum(_by_item(dataobject, "data.item_users"), 1)
        n_users = dataobject.get("data.num_users") - 1  # without the padding user
        bits: np.ndarray = np.log2(n_users) - np.log2(item_users)
        return bits


ALL = (AveragePopularity, GiniIndex, ItemCoverage, Novelty, ShannonEntropy, TailPercentage)
