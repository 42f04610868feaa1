"""The order of lists: by score, then by id, without a dependence on k or on the batch."""

from __future__ import annotations

import numpy as np
import torch

from recbole_diffusion.serving.ranking import best_items, mean_jaccard


def by_hand(scores: np.ndarray, k: int) -> list[list[int]]:
    """The order of Python's sort: falling score, rising id; 0 for items that are not candidates."""
    lists = []
    for row in scores:
        order = sorted(range(len(row)), key=lambda item: (-row[item], item))[:k]
        lists.append([item if row[item] > -np.inf else 0 for item in order])
    return lists


def test_ties_are_ordered_by_id_for_every_k() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 4, size=(10, 30)).astype(np.float32)  # many ties, also at the end of a list
    scores[:, 0] = -np.inf
    scores[3, 5:] = -np.inf
    for k in (1, 7, 29, 30):
        items, values = best_items(torch.from_numpy(scores), k)
        assert items.tolist() == by_hand(scores, k)
        expected = np.take_along_axis(scores, np.argsort(-scores, axis=1, kind="stable"), 1)[:, :k]
        assert np.array_equal(values.numpy(), expected)


def test_a_list_of_one_user_equals_the_list_in_a_batch() -> None:
    scores = torch.from_numpy(np.random.default_rng(1).integers(0, 3, size=(6, 50)).astype(np.float32))
    together = best_items(scores, 9)[0]
    assert all(torch.equal(best_items(scores[row : row + 1], 9)[0][0], together[row]) for row in range(6))


def test_jaccard_is_the_mean_over_pairs_of_lists() -> None:
    lists = torch.tensor([[[1, 2, 3]], [[3, 4, 1]], [[5, 6, 0]]])
    # pairs: {1,2,3} and {3,4,1}: 2 of 4; the other two pairs: 0
    assert mean_jaccard(lists).tolist() == [np.float32(0.5 / 3)]
