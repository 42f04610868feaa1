r"""Recall by groups of items and of users, of cold items, truncated recall, and serendipity.

With :math:`R_u` the first K items recommended to user u, and :math:`T_u` the targets of u.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recbole_diffusion.evaluation.groups import ACTIVITY_QUANTILES, GROUPS, activity_groups, target_groups
from recbole_diffusion.evaluation.list_metrics import UserListMetric
from recbole_diffusion.evaluation.split_data import SplitData


class HitMetric(UserListMetric):
    """Base class of metrics of the hits; ``rec.topk`` holds hits and number of targets of each user."""

    metric_need = ["rec.topk"]

    def calculate_metric(self, dataobject: Any) -> dict[str, float]:
        """The value of each ``topk``."""
        table = dataobject.get("rec.topk").numpy()
        return self.topk_result(self.name, self.of_hits(table[:, :-1] > 0, table[:, -1], dataobject))

    def of_hits(self, hits: np.ndarray, n_positives: np.ndarray, dataobject: Any) -> np.ndarray:
        """The metric of each user at each cut-off, (n_users, largest k); nan where a user does not have it.

        Args:
            hits: whether each recommended item is a target, bool, (n_users, largest k).
            n_positives: the number of targets of each user, (n_users,).
            dataobject: of RecBole's collector.
        """
        raise NotImplementedError


class TruncatedRecall(HitMetric):
    r"""Recall that a list of K items can reach: :math:`|R_u \cap T_u| / \min(K, |T_u|)`.

    Source: Liang et al., "Variational Autoencoders for Collaborative Filtering", WWW 2018, section 4.2.
    """

    def of_hits(self, hits: np.ndarray, n_positives: np.ndarray, dataobject: Any) -> np.ndarray:
        reachable = np.minimum(np.arange(1, hits.shape[1] + 1), n_positives[:, None])
        result: np.ndarray = hits.cumsum(axis=1) / reachable
        return result


class _ItemGroupRecall(HitMetric):
    r"""Recall among the targets of a group of items; base class.

    .. math:: \frac{|R_u \cap T_u \cap G|}{|T_u \cap G|}

    Users without a target in the group are left out. Ranking is among all candidates.
    """

    metric_need = ["rec.topk", "rec.items", "rec.group_positives", "data.split"]
    group = ""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.config = config

    def of_hits(self, hits: np.ndarray, n_positives: np.ndarray, dataobject: Any) -> np.ndarray:
        place = GROUPS.index(self.group)
        in_group = target_groups(dataobject.get("data.split"), self.config)[:, place]
        n_targets = dataobject.get("rec.group_positives").numpy()[:, [place]]
        group_hits = (hits & in_group[dataobject.get("rec.items").numpy()]).cumsum(axis=1)
        return np.divide(group_hits, n_targets, out=np.full(hits.shape, np.nan), where=n_targets > 0)


class RecallHead(_ItemGroupRecall):
    """Recall among popular targets, see :func:`recbole_diffusion.evaluation.groups.popularity_groups`.

    Three groups as in Abdollahpouri et al., "Managing Popularity Bias in Recommender Systems with Personalized
    Re-Ranking", FLAIRS 2019; here the borders are shares of the interactions.
    """

    group = "head"


class RecallMid(_ItemGroupRecall):
    """Recall among targets of middle popularity, see :class:`RecallHead`."""

    group = "mid"


class RecallTail(_ItemGroupRecall):
    """Recall among unpopular targets, see :class:`RecallHead`."""

    group = "tail"


class RecallCold(_ItemGroupRecall):
    """Recall among cold targets: those with at most ``cold_max_interactions`` training interactions (default 0)."""

    group = "cold"


class _UserGroupRecall(HitMetric):
    """Recall of a group of users by the length of their training history; base class."""

    metric_need = ["rec.topk", "rec.users", "data.split"]
    group = 0

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.quantiles = config["activity_quantiles"] or ACTIVITY_QUANTILES

    def of_hits(self, hits: np.ndarray, n_positives: np.ndarray, dataobject: Any) -> np.ndarray:
        groups = activity_groups(dataobject.get("data.split").user_counts, self.quantiles)
        in_group = groups[dataobject.get("rec.users").numpy()] == self.group
        recall: np.ndarray = hits.cumsum(axis=1) / n_positives[:, None]
        recall[~in_group] = np.nan
        return recall


class RecallLowActivity(_UserGroupRecall):
    """Recall of the users with the shortest training histories.

    The groups are those of :func:`recbole_diffusion.evaluation.groups.activity_groups`. Users are compared by their
    activity as in Li et al., "User-oriented Fairness in Recommendation", WWW 2021.
    """

    group = 0


class RecallMediumActivity(_UserGroupRecall):
    """Recall of the users with training histories of middle length, see :class:`RecallLowActivity`."""

    group = 1


class RecallHighActivity(_UserGroupRecall):
    """Recall of the users with the longest training histories, see :class:`RecallLowActivity`."""

    group = 2


class Serendipity(HitMetric):
    r"""The share of recommended items that are targets and that a popularity baseline does not recommend.

    .. math:: \frac{1}{K} |(R_u \setminus P_u) \cap T_u|

    :math:`P_u` is the baseline's list of K items: the items with most training interactions that u did not have in
    training. An item is in it if fewer than K such items have more interactions, so that items with equal counts are
    all in or all out.

    Source: Ge, Delgado-Battenfeld and Jannach, "Beyond Accuracy: Evaluating Recommender Systems by Coverage and
    Serendipity", RecSys 2010, with a popularity model as the primitive prediction model and usefulness 1 for a target.
    """

    metric_need = ["rec.topk", "rec.items", "rec.users", "data.split"]

    def of_hits(self, hits: np.ndarray, n_positives: np.ndarray, dataobject: Any) -> np.ndarray:
        items, users = dataobject.get("rec.items").numpy(), dataobject.get("rec.users").numpy()
        rows, places = hits.nonzero()
        ranks = np.zeros(hits.shape, dtype=np.int64)
        ranks[rows, places] = popularity_ranks(dataobject.get("data.split"), users[rows], items[rows, places])
        values = np.full(hits.shape, np.nan)
        for k in self.topk:
            values[:, k - 1] = (hits[:, :k] & (ranks[:, :k] >= k)).sum(axis=1) / k
        return values


def popularity_ranks(data: SplitData, users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """The number of items that are more popular in training than an item, and that its user did not have there.

    Args:
        data: of the split.
        users, items: pairs, (n,) each.

    Returns:
        int64, (n,).
    """
    counts = data.item_counts.astype(np.int64)
    more_popular = len(counts) - 1 - np.searchsorted(np.sort(counts[1:]), counts[items], side="right")
    scale = int(counts.max(initial=0)) + 1
    history_users, history_items = data.histories.T
    keys = np.sort(history_users * scale + counts[history_items])
    in_history = np.searchsorted(keys, (users + 1) * scale) - np.searchsorted(
        keys, users * scale + counts[items], side="right"
    )
    ranks: np.ndarray = more_popular - in_history
    return ranks


ALL = (
    TruncatedRecall,
    RecallHead,
    RecallMid,
    RecallTail,
    RecallCold,
    RecallLowActivity,
    RecallMediumActivity,
    RecallHighActivity,
    Serendipity,
)
