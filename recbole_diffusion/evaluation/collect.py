"""What RecBole's collector keeps of an evaluation: lists of candidates only, exact ranks, counts of the train split.

RecBole ranks all items and gives those that are no candidates the score -inf: the padding item, items of the user's
past, and in sampled evaluation every item that was not drawn. Where a user has fewer candidates than the largest k,
its lists go on with such items. Here they end; the places that are left hold the padding item 0.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, Callable

import numpy as np
import torch
from torch import Tensor

#: In place of an item, where a user has no candidate left.
NO_ITEM = 0


def batch(collector: Any, scores: Tensor, rows: Any, positive_u: Tensor, positive_i: Tensor) -> None:
    """Take a batch of scores in, in place of ``Collector.eval_batch_collect``.

    Args:
        collector: RecBole's, whose ``register`` says what the metrics need.
        scores: of rankings (n_users, n_items), -inf where an item is no candidate; of values (n_rows,).
        rows: the batch; holds the label of values.
        positive_u, positive_i: row and item of each positive; a pair may come several times and counts once.
    """
    need, struct = collector.register.need, collector.data_struct
    if need("rec.items") or need("rec.topk") or need("rec.meanrank"):
        positives = torch.zeros_like(scores, dtype=torch.bool)
        positives[positive_u, positive_i] = True
    if need("rec.items") or need("rec.topk"):
        items = top_items(scores, max(collector.topk))
        if need("rec.items"):
            struct.update_tensor("rec.items", items)
        if need("rec.topk"):
            hits = positives.gather(1, items) & (items != NO_ITEM)
            struct.update_tensor("rec.topk", torch.cat([hits, positives.sum(1, keepdim=True)], dim=1).int())
    if need("rec.meanrank"):
        struct.update_tensor("rec.meanrank", rank_sums(collector, scores, positives))
    if need("rec.score"):
        struct.update_tensor("rec.score", scores)
    if need("data.label"):
        collector.label_field = collector.config["LABEL_FIELD"]
        struct.update_tensor("data.label", rows[collector.label_field].to(collector.device))


def all_finite(scores: Tensor, ranking: bool) -> bool:
    """Whether scores are numbers; in rankings -inf is for items that are no candidates."""
    ends = [float(scores.max()), *([] if ranking else [float(scores.min())])]  # nan comes through both
    return all(math.isfinite(end) or (ranking and end == -math.inf) for end in ends)


def top_items(scores: Tensor, k: int) -> Tensor:
    """The ``k`` best candidates of each row, (n_users, k); :data:`NO_ITEM` where there are no more."""
    best, items = torch.topk(scores, k, dim=-1)
    return items.masked_fill(best == -torch.inf, NO_ITEM)


def rank_sums(collector: Any, scores: Tensor, positives: Tensor) -> Tensor:
    """For GAUC, of each row: the sum of the positives' ranks, the numbers of items and positives; float64, (n, 3).

    Equal scores share their mean rank. A positive that is no candidate counts as an item behind all the others.
    """
    ordered, order = torch.sort(scores, dim=-1, descending=True)
    inside = ordered > -torch.inf
    found = positives.gather(1, order) & inside
    ranks = collector._average_rank(ordered).double().masked_fill(~found, 0).sum(1)
    candidates, count = inside.sum(1), positives.sum(1)
    lost = count - found.sum(1)
    ranks += lost * candidates + lost * (lost + 1) / 2
    return torch.stack([ranks, (candidates + lost).double(), count.double()], dim=1)


def clear(collector: Any) -> None:
    """Forget the rows of an evaluation that was broken off."""
    for key in ("rec.items", "rec.topk", "rec.meanrank", "rec.score", "data.label"):
        collector.data_struct._data_dict.pop(key, None)


def train_data(collector: Any, loader: Any) -> None:
    """Take in what the metrics need of the training data, in place of ``Collector.data_collect``.

    RecBole's asks the loader for ``dataset``, which that of knowledge-aware models has not.
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
    counts(collector, lambda: np.stack([dataset.inter_feat[field].numpy() for field in fields], axis=1))


def counts(collector: Any, pairs: Callable[[], np.ndarray]) -> None:
    """Set the metrics' counts of the train split; ``pairs`` gives its (user, item) pairs, (N, 2), where any is needed.

    ``data.count_items``: the interactions of each item; ``data.item_users``: the users who had it.
    """
    need, struct = collector.register.need, collector.data_struct
    if need("data.count_items"):
        struct.set("data.count_items", Counter(pairs()[:, 1].tolist()))
    if need("data.item_users"):
        struct.set("data.item_users", Counter(np.unique(pairs(), axis=0)[:, 1].tolist()))
