"""Metrics of ranked lists without a model or data set: stored lists of a run, or lists of other software.

The metrics are the classes that a run uses, RecBole's and ours, on the same entries of a collector. So equal lists give
equal values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np

from recbole_diffusion.evaluation.per_user import UserMetrics
from recbole_diffusion.evaluation.split_data import SplitData

#: RecBole's default of metric_decimal_place.
DECIMAL_PLACES = 4
#: Metrics that need the scores of all candidates.
NOT_OF_LISTS = frozenset({"gauc", "auc", "mae", "rmse", "logloss"})


class RankedLists(NamedTuple):
    """The ranked lists of an evaluation, one per evaluated row; a row is a user, or with sequences a target.

    Attributes:
        users: ids, (n_rows,).
        items: ids, the best first, filled up with 0 (no item), (n_rows, length).
        hits: whether each item is a target of the row, bool, (n_rows, length).
        n_positives: the number of targets of each row, at least 1, (n_rows,).
        targets: (row, item) of each target, each pair once, (n_targets, 2). None: those of ``SplitData.targets`` by
            user. Needed by the recall of groups of items only.
    """

    users: np.ndarray
    items: np.ndarray
    hits: np.ndarray
    n_positives: np.ndarray
    targets: Optional[np.ndarray] = None


def evaluate_lists(
    lists: RankedLists,
    metrics: Sequence[str],
    topk: Sequence[int],
    data: SplitData,
    settings: Optional[Mapping[str, Any]] = None,
) -> tuple[dict[str, float], UserMetrics]:
    """Compute metrics of ranked lists.

    RecBole's metric classes must be repaired: call :func:`recbole_diffusion.compat.repairs.apply` first. They import
    torch.

    Args:
        lists: the lists, of ``max(topk)`` items or more.
        metrics: names in any case, e.g. ``["Recall", "ILD"]``.
        topk: the cut-offs.
        data: of the split. Lists without categories and training pairs can be evaluated by the metrics that do not
            need them.
        settings: keys of the metrics, e.g. ``tail_ratio``, ``popularity_shares``, ``metric_decimal_place``; others are
            ignored, missing ones have their defaults.

    Returns:
        Each metric's value, as a run reports it, and the values of each user, by id.

    Raises:
        ValueError: a metric is unknown or needs scores, or a cut-off is longer than the lists.
    """
    from recbole_diffusion.evaluation import user_metrics

    config = _Settings(settings or {})
    config.update(metrics=list(metrics), topk=sorted({*topk}))
    evaluator = _evaluator(config)
    _check_length(lists, config["topk"])
    struct = _struct(lists, data, config, evaluator)
    with user_metrics.recorded(evaluator) as values:
        result = evaluator.evaluate(struct)
    rows = [_tensor(lists.users)]
    per_user = user_metrics.collect(rows, values) or UserMetrics(lists.users, {})
    return {name: float(value) for name, value in result.items()}, per_user


class _Settings(dict[str, Any]):
    """Settings as a metric reads them: a missing key is None."""

    def __missing__(self, key: str) -> Any:
        return DECIMAL_PLACES if key == "metric_decimal_place" else None


def _evaluator(config: _Settings) -> Any:
    """RecBole's evaluator.

    Raises:
        ValueError: a metric is unknown or needs scores.
    """
    from recbole_diffusion.settings.recbole_config import Evaluator, metrics_dict

    allowed = {name: metric.__name__ for name, metric in metrics_dict.items() if name not in NOT_OF_LISTS}
    for metric in config["metrics"]:
        if metric.lower() in NOT_OF_LISTS:
            raise ValueError(f"metrics={metric!r} is not allowed here: it needs the scores of all candidates")
        if metric.lower() not in allowed:
            raise ValueError(f"metrics={metric!r} is not allowed; allowed: {' | '.join(sorted(allowed.values()))}")
    return Evaluator(config)


def _check_length(lists: RankedLists, topk: Sequence[int]) -> None:
    length = lists.items.shape[1]
    if max(topk) > length:
        raise ValueError(f"topk={max(topk)} is more than the {length} items of the lists")
    if not len(lists.users):
        raise ValueError("there is no list to evaluate")
    if not (lists.n_positives > 0).all():
        raise ValueError("a row without a target cannot be evaluated; leave it out")


def _struct(lists: RankedLists, data: SplitData, config: _Settings, evaluator: Any) -> Any:
    """Fill the entries of RecBole's collector that the metrics need."""
    from recbole_diffusion.settings.recbole_config import DataStruct

    k = max(config["topk"])
    needed = {entry for metric in evaluator.metric_class.values() for entry in metric.metric_need}
    struct = DataStruct()
    hits = np.concatenate([lists.hits[:, :k], lists.n_positives[:, None]], axis=1)
    struct.set("rec.items", _tensor(lists.items[:, :k]))
    struct.set("rec.topk", _tensor(hits).int())
    struct.set("rec.users", _tensor(lists.users))
    struct.set("data.split", data)
    for key, value in data.counters().items():
        struct.set(key, value)
    if "rec.group_positives" in needed:
        struct.set("rec.group_positives", _tensor(_group_positives(lists, data, config)))
    return struct


def _group_positives(lists: RankedLists, data: SplitData, config: _Settings) -> np.ndarray:
    """The number of targets of each row in each group of items, (n_rows, n_groups)."""
    from recbole_diffusion.evaluation.groups import target_groups

    groups = target_groups(data, config)
    rows, items = _targets(lists, data).T
    return np.stack([np.bincount(rows, member[items], len(lists.users)) for member in groups.T], axis=1)


def _targets(lists: RankedLists, data: SplitData) -> np.ndarray:
    """The (row, item) pairs of the targets.

    Raises:
        ValueError: they do not follow from the targets of the users.
    """
    from recbole_diffusion.evaluation.split_data import unique_pairs

    if lists.targets is not None:
        return lists.targets
    row_of_user = np.full(data.n_users, -1)
    row_of_user[lists.users] = np.arange(len(lists.users))
    pairs = unique_pairs(data.targets, data.n_items)
    pairs = pairs[row_of_user[pairs[:, 0]] >= 0]
    rows = row_of_user[pairs[:, 0]]
    counts = np.bincount(rows, minlength=len(lists.users))
    if len(np.unique(lists.users)) < len(lists.users) or not np.array_equal(counts, lists.n_positives):
        raise ValueError(
            "recall by groups of items needs the targets of each row: the lists have several rows of a user, or other "
            "targets than the split's"
        )
    return np.stack([rows, pairs[:, 1]], axis=1)


def _tensor(array: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64))
