"""Replacements for methods of RecBole's collector: lists of candidates only, exact ranks, counts of the train split.

RecBole ranks all items and gives those that are not candidates the score -inf: the padding item, items of the user's
past, and in sampled evaluation every item that was not drawn. Where a user has fewer candidates than the largest k,
RecBole's list continues with such items. Here the list ends, and the remaining places hold the padding item 0.
"""

from __future__ import annotations

import math
from collections import Counter
from time import perf_counter
from typing import Any, Callable

import numpy as np
import torch
from torch import Tensor

from recbole_diffusion.data import item_categories
from recbole_diffusion.evaluation.groups import target_groups
from recbole_diffusion.evaluation.split_data import SplitData

#: Fills a list after the last candidate of a user.
NO_ITEM = 0
#: The keys of the kept lists in the collector's data: items, hits, and the number of positives of each row.
KEPT = KEPT_ITEMS, KEPT_HITS, KEPT_POSITIVES = ("kept.items", "kept.hits", "kept.positives")
#: Entries of the collector that hold a row for each evaluated row.
ROW_KEYS = (
    *("rec.items", "rec.topk", "rec.meanrank", "rec.score", "rec.users", "rec.group_positives", "data.label"),
    *KEPT,
)


def collect_batch(collector: Any, scores: Tensor, rows: Any, positive_u: Tensor, positive_i: Tensor) -> None:
    """Collect a batch of scores; replaces ``Collector.eval_batch_collect``.

    Args:
        collector: of RecBole; its ``register`` lists what the metrics need. Its ``list_length``, where it has one, is
            the length of the lists to keep; the seconds for them are added to its ``list_seconds``.
        scores: (n_users, n_items) for a ranking, -inf where an item is not a candidate; (n_rows,) for values.
        rows: the batch, with the labels of values.
        positive_u, positive_i: row and item of each positive, (n_positives,) each; a repeated pair counts once.
    """
    need, struct = collector.register.need, collector.data_struct
    if need("rec.users"):
        struct.update_tensor("rec.users", users_of(rows, collector.config["USER_ID_FIELD"], len(scores)))
    k = max(collector.topk) if need("rec.items") or need("rec.topk") else 0
    length = getattr(collector, "list_length", 0) if scores.dim() > 1 else 0
    if k or length or need("rec.meanrank") or need("rec.group_positives"):
        positives = torch.zeros_like(scores, dtype=torch.bool)
        positives[positive_u, positive_i] = True
    if k:
        items = top_items(scores, k)
        if need("rec.items"):
            struct.update_tensor("rec.items", items)
        if need("rec.topk"):
            struct.update_tensor("rec.topk", torch.cat([_hits(items, positives), _count(positives)], dim=1).int())
    if length:
        start = perf_counter()
        lists = lists_to_keep(scores, items if k else scores.new_empty((len(scores), 0), dtype=torch.int64), length)
        struct.update_tensor(KEPT_ITEMS, lists.int())
        struct.update_tensor(KEPT_HITS, _hits(lists, positives).byte())
        struct.update_tensor(KEPT_POSITIVES, _count(positives).int())
        collector.list_seconds += perf_counter() - start
    if need("rec.group_positives"):
        groups = target_groups(struct.get("data.split"), collector.config)
        struct.update_tensor("rec.group_positives", group_positives(positives, groups))
    if need("rec.meanrank"):
        struct.update_tensor("rec.meanrank", rank_sums(collector, scores, positives))
    if need("rec.score"):
        struct.update_tensor("rec.score", scores)
    if need("data.label"):
        collector.label_field = collector.config["LABEL_FIELD"]
        struct.update_tensor("data.label", rows[collector.label_field].to(collector.device))


def all_finite(scores: Tensor, ranking: bool) -> bool:
    """Whether all scores are finite; in a ranking -inf is allowed, for items that are not candidates."""
    extremes = [float(scores.max()), *([] if ranking else [float(scores.min())])]  # max and min propagate nan
    return all(math.isfinite(extreme) or (ranking and extreme == -math.inf) for extreme in extremes)


def top_items(scores: Tensor, k: int) -> Tensor:
    """The ``k`` best candidates of each row, (n_users, k), filled up with :data:`NO_ITEM`.

    Args:
        scores: (n_users, n_items), -inf where an item is not a candidate.
        k: length of the lists.
    """
    best, items = torch.topk(scores, k, dim=-1)
    return items.masked_fill(best == -torch.inf, NO_ITEM)


def lists_to_keep(scores: Tensor, items: Tensor, length: int) -> Tensor:
    """The best candidates of each row in a list that begins with ``items``, (n_users, length).

    ``torch.topk`` orders equal scores in a way that depends on k. The lists begin with the items that the metrics see,
    so that they give the same values at the measured cut-offs.

    Args:
        scores: (n_users, n_items), -inf where an item is not a candidate.
        items: :func:`top_items` of a smaller k, (n_users, k); k may be 0.
        length: of the lists; at most the number of items counts.
    """
    k, length = items.shape[1], min(length, scores.shape[1])
    if length <= k:
        return items[:, :length]
    lists = top_items(scores, length)
    return lists if torch.equal(lists[:, :k], items) else _begin_with(items, lists)


def _begin_with(items: Tensor, lists: Tensor) -> Tensor:
    """Lists that begin with ``items`` and go on with the other items of ``lists`` in their order."""
    is_repeated = (lists[:, :, None] == items[:, None, :]).any(dim=2)
    order = torch.argsort(is_repeated.byte(), dim=1, stable=True)[:, : lists.shape[1] - items.shape[1]]
    others = lists.masked_fill(is_repeated, NO_ITEM).gather(1, order)
    return torch.cat([items, others], dim=1)


def _hits(items: Tensor, positives: Tensor) -> Tensor:
    """Whether each item is a positive of its row, bool, (n_users, length)."""
    return positives.gather(1, items) & (items != NO_ITEM)


def _count(positives: Tensor) -> Tensor:
    """The number of positives of each row, (n_users, 1)."""
    return positives.sum(1, keepdim=True)


def rank_sums(collector: Any, scores: Tensor, positives: Tensor) -> Tensor:
    """The rank sums that GAUC is computed from.

    Equal scores share their mean rank. A positive that is not a candidate ranks behind all candidates.

    Args:
        collector: of RecBole.
        scores: (n_users, n_items), -inf where an item is not a candidate.
        positives: bool, (n_users, n_items).

    Returns:
        The sum of the positives' ranks, the number of ranked items and the number of positives; float64, (n_users, 3).
    """
    ordered, order = torch.sort(scores, dim=-1, descending=True)
    is_candidate = ordered > -torch.inf
    ranked_positives = positives.gather(1, order) & is_candidate
    ranks = collector._average_rank(ordered).double().masked_fill(~ranked_positives, 0).sum(1)
    candidates, count = is_candidate.sum(1), positives.sum(1)
    unranked = count - ranked_positives.sum(1)
    ranks += unranked * candidates + unranked * (unranked + 1) / 2
    return torch.stack([ranks, (candidates + unranked).double(), count.double()], dim=1)


def group_positives(positives: Tensor, groups: np.ndarray) -> Tensor:
    """The number of positives of each row in each group of items, int32, (n_users, n_groups).

    Args:
        positives: bool, (n_users, n_items).
        groups: bool, (n_items, n_groups).
    """
    rows, items = positives.nonzero(as_tuple=True)
    members = torch.from_numpy(groups).to(positives.device)[items].int()
    counts = torch.zeros(len(positives), groups.shape[1], dtype=torch.int32, device=positives.device)
    return counts.index_add_(0, rows, members)


def users_of(rows: Any, field: str, count: int) -> Tensor:
    """The user of each row of scores of an evaluation batch, (count,).

    Args:
        rows: the batch. A sampled evaluation has one row per candidate.
        field: the column of the users.
        count: number of rows of scores.
    """
    users: Tensor = rows[field]
    return users if len(users) == count else torch.unique_consecutive(users)


def clear(collector: Any) -> None:
    """Delete the rows of an earlier or interrupted evaluation."""
    for key in ROW_KEYS:
        collector.data_struct._data_dict.pop(key, None)


def collect_train_data(collector: Any, loader: Any) -> None:
    """Collect the counts of the training data that the metrics need; replaces ``Collector.data_collect``.

    RecBole reads ``loader.dataset``, which the loader of knowledge-aware models does not have.
    """
    dataset = loader._dataset
    for key, value in (
        ("data.num_items", "item_num"),
        ("data.num_users", "user_num"),
        ("data.count_users", "user_counter"),
    ):
        if collector.register.need(key):
            collector.data_struct.set(key, getattr(dataset, value))
    fields = (dataset.uid_field, dataset.iid_field)
    pairs = np.stack([dataset.inter_feat[field].numpy() for field in fields], axis=1)
    collect_counts(collector, dataset, lambda: pairs)


def collect_counts(collector: Any, dataset: Any, pairs: Callable[[], np.ndarray]) -> None:
    """Count interactions (``data.count_items``) and users (``data.item_users``) of each item in the train split.

    Also collects ``data.split``, see :class:`recbole_diffusion.evaluation.split_data.SplitData`.

    Args:
        collector: of RecBole; its ``register`` lists what the metrics need.
        dataset: the train split.
        pairs: returns the (user, item) pairs of the train split, (N, 2). Called only where a metric needs the counts.
    """
    need, struct = collector.register.need, collector.data_struct
    if need("data.count_items"):
        struct.set("data.count_items", Counter(pairs()[:, 1].tolist()))
    if need("data.item_users"):
        struct.set("data.item_users", Counter(np.unique(pairs(), axis=0)[:, 1].tolist()))
    if need("data.split"):
        categories = item_categories.read(collector.config, dataset) if need("data.categories") else None
        struct.set("data.split", SplitData(dataset.user_num, dataset.item_num, pairs(), categories=categories))
