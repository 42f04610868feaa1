"""Metrics of finished runs that they did not measure, computed from the lists that they have kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np

from recbole_diffusion.evaluation.metric_names import paper_name
from recbole_diffusion.evaluation.per_user import UserMetrics
from recbole_diffusion.evaluation.ranked_lists import ListsOfSplit

#: Recall of groups of users by the length of their history, and of groups of items by their popularity.
USER_GROUPS = ("recalllowactivity", "recallmediumactivity", "recallhighactivity")
ITEM_GROUPS = ("recallhead", "recallmid", "recalltail")


def complete(
    lists: ListsOfSplit, record: dict[str, Any], users: Optional[UserMetrics], metrics: Sequence[str]
) -> Optional[UserMetrics]:
    """Add metrics to the test of a run.

    Args:
        lists: of the run.
        record: of the run; ``test`` is modified.
        users: its metrics per user.
        metrics: to add, e.g. ``recall@50``.

    Returns:
        The metrics per user, with the new ones.

    Raises:
        ValueError: a metric is unknown or needs scores, a cut-off is beyond the lists, or the lists are of other users.
    """
    values, of_users = compute(lists, metrics, record.get("settings") or {})
    record["test"] = {**record["test"], **values}
    if users is None:
        return of_users
    if not np.isin(users.users, of_users.users).all():
        raise ValueError("the lists of a run lack users of its metrics: one of its files is another run's")
    order = np.argsort(of_users.users, kind="stable")
    places = order[np.searchsorted(of_users.users, users.users, sorter=order)]
    return UserMetrics(
        users.users, {**users.metrics, **{name: of_user[places] for name, of_user in of_users.metrics.items()}}
    )


def compute(
    lists: ListsOfSplit, metrics: Sequence[str], settings: Mapping[str, Any]
) -> tuple[dict[str, float], UserMetrics]:
    """Compute metrics such as ``recall@50``: their values, and those of each user by name.

    Raises:
        ValueError: see :func:`complete`.
    """
    from recbole_diffusion.compat import repairs
    from recbole_diffusion.evaluation.list_evaluation import evaluate_lists

    repairs.apply()
    names = list(dict.fromkeys(metric.partition("@")[0] for metric in metrics))
    for metric in metrics:
        k = metric.partition("@")[2]
        if not k.isdigit() or int(k) < 1:
            raise ValueError(
                f"{paper_name(metric)} is not measured, and lists have no such metric; write e.g. Recall@50"
            )
    cut_offs = sorted({int(metric.partition("@")[2]) for metric in metrics})
    length, longest = lists.lists.items.shape[1], cut_offs[-1]
    if longest > length:
        raise ValueError(f"topk={longest} is more than the {length} items of the kept lists; --keep-lists={longest}")
    values, users = evaluate_lists(lists.lists, names, cut_offs, lists.split, settings)
    user_names = lists.split.user_names
    assert user_names is not None  # kept lists have names
    of_users = {name: of_user for name, of_user in users.metrics.items() if name in metrics}
    return {name: values[name] for name in metrics}, UserMetrics(np.asarray(user_names)[users.users], of_users)


def groups(lists: ListsOfSplit, k: str, settings: Mapping[str, Any]) -> dict[str, float]:
    """Recall at k of the groups of users and of items; without those of items where a user has several lists."""
    result: dict[str, float] = {}
    for family in (USER_GROUPS, ITEM_GROUPS):
        try:
            result.update(compute(lists, [f"{name}@{k}" for name in family], settings)[0])
        except ValueError:  # the lists are shorter than k, or have several rows of a user
            continue
    return {name: value for name, value in result.items() if not np.isnan(value)}
