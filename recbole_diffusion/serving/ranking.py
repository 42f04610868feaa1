"""The best items of each user, in an order that does not depend on the batch or the device."""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_diffusion.evaluation.top_lists import NO_ITEM


def best_items(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` best items of each row by falling score; of equal scores the smaller id comes first.

    ``torch.topk`` alone may choose any of the items that tie for the last places.

    Args:
        scores: (B, n_items), -inf where an item is not a candidate.
        k: length of the lists, at most n_items.

    Returns:
        Items, :data:`NO_ITEM` after the last candidate, and their scores; (B, k) each.
    """
    width = min(k + 1, scores.shape[1])
    values, items = torch.topk(scores, width, dim=1)
    if width > k:
        tied = (values[:, k - 1] == values[:, k]) & (values[:, k] > -torch.inf)
        values, items = values[:, :k], items[:, :k]
        rows = tied.nonzero().squeeze(1)
        if len(rows):
            ordered, order = torch.sort(scores[rows], dim=1, descending=True, stable=True)
            values[rows], items[rows] = ordered[:, :k], order[:, :k]
    items, by_id = torch.sort(items, dim=1)
    values, by_score = torch.sort(values.gather(1, by_id), dim=1, descending=True, stable=True)
    return items.gather(1, by_score).masked_fill(values == -torch.inf, NO_ITEM), values


def mean_jaccard(lists: Tensor) -> Tensor:
    r"""Mean similarity of the lists of each user over all pairs of lists, :math:`|A \cap B| / |A \cup B|`; (B,).

    Args:
        lists: the lists of S generations, :data:`NO_ITEM` where a place is empty, (S, B, k); S is at least 2.
    """
    filled, pairs = lists != NO_ITEM, []
    for first in range(len(lists)):
        for second in range(first + 1, len(lists)):
            equal = (lists[first][:, :, None] == lists[second][:, None, :]) & filled[first][:, :, None]
            common = equal.sum((1, 2))
            union = filled[first].sum(1) + filled[second].sum(1) - common
            pairs.append(common / union.clamp(min=1))
    return torch.stack(pairs).mean(0)
