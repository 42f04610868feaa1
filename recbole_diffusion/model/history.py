"""Users' histories as sparse rows that become dense a batch at a time."""

from __future__ import annotations

from typing import Optional

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn


def rank_weights(users: np.ndarray, times: np.ndarray, w_min: float, w_max: float) -> np.ndarray:
    r"""T-DiffRec's weight of each interaction: ``linspace(w_min, w_max, M)`` over the user's M rows in time.

    Args:
        users, times: (N,); equal times keep their order.

    Returns:
        float64, (N,). A user's single row has ``w_min``, as in the official code.
    """
    order = np.lexsort((times, users))
    count = np.bincount(users)
    start = np.cumsum(count) - count
    rank = np.arange(len(users)) - start[users[order]]
    weights = np.empty(len(users))
    weights[order] = w_min + rank / np.maximum(count[users[order]] - 1, 1) * (w_max - w_min)
    return weights


class History(nn.Module):
    """A (users, items) matrix in CSR form; item column j stands for RecBole's item id j + 1.

    RecBole's :class:`AutoEncoderMixin` holds a dense (users, longest history) matrix instead, 44 times the size
    on ml-1m, and one heavy user ruins it. The padding item has no column here, so that it is in no loss.

    The buffers follow from the data set and are not in the state dict.

    Args:
        matrix: (n_users, n_items) with RecBole's ids; column 0 is dropped.
    """

    indptr: Tensor
    items: Tensor
    values: Tensor

    def __init__(self, matrix: csr_matrix) -> None:
        super().__init__()
        matrix = csr_matrix(matrix)[:, 1:].tocsr()
        matrix.sort_indices()
        self.n_columns = matrix.shape[1]
        self.register_buffer("indptr", torch.from_numpy(matrix.indptr.astype(np.int64)), persistent=False)
        self.register_buffer("items", torch.from_numpy(matrix.indices.astype(np.int64)), persistent=False)
        self.register_buffer("values", torch.from_numpy(matrix.data.astype(np.float32)), persistent=False)

    @classmethod
    def of(
        cls,
        users: np.ndarray,
        items: np.ndarray,
        shape: tuple[int, int],
        weights: Optional[np.ndarray] = None,
    ) -> History:
        """From interactions with RecBole's ids; of a repeated pair the last one's weight counts (default 1)."""
        values = np.ones(len(users)) if weights is None else weights
        pair = users.astype(np.int64) * shape[1] + items
        _, last = np.unique(pair[::-1], return_index=True)
        keep = len(pair) - 1 - last
        return cls(csr_matrix((values[keep], (users[keep], items[keep])), shape=shape))

    def with_pairs(self, users: np.ndarray, items: np.ndarray) -> History:
        """A copy with more interactions (RecBole's ids) of weight 1; a pair that is there keeps its weight."""
        indptr, known_items, values = (part.cpu().numpy() for part in (self.indptr, self.items, self.values))
        known = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
        return History.of(
            np.concatenate([users, known]),
            np.concatenate([items, known_items + 1]),
            (len(indptr) - 1, self.n_columns + 1),
            np.concatenate([np.ones(len(users)), values]),
        )

    def rows(self, users: Tensor) -> Tensor:
        """The rows of ``users`` (B,), dense float32, shape (B, n_items - 1)."""
        start = self.indptr[users]
        length = self.indptr[users + 1] - start
        row = torch.repeat_interleave(torch.arange(len(users), device=users.device), length)
        first = length.cumsum(0) - length
        place = torch.arange(len(row), device=users.device) + (start - first)[row]
        dense = torch.zeros(len(users), self.n_columns, device=users.device)
        dense[row, self.items[place]] = self.values[place]
        return dense
