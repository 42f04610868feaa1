"""The interaction matrix in sparse form; only the rows of a batch become dense."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_diffusion.data.time_order import RANK_FIELD


def rank_weights(users: np.ndarray, times: np.ndarray, w_min: float, w_max: float) -> np.ndarray:
    r"""T-DiffRec's weight of each interaction: ``linspace(w_min, w_max, M)`` over a user's M interactions in time.

    Args:
        users, times: (N,), user and timestamp of each interaction; equal times keep their order.
        w_min, w_max: weights of a user's first and last interaction.

    Returns:
        float64, (N,). A user's only interaction has weight ``w_min``, as in the official code.
    """
    order = np.lexsort((times, users))
    count = np.bincount(users)
    start = np.cumsum(count) - count
    rank = np.arange(len(users)) - start[users[order]]
    weights = np.empty(len(users))
    weights[order] = w_min + rank / np.maximum(count[users[order]] - 1, 1) * (w_max - w_min)
    return weights


class SparseRows(NamedTuple):
    """B rows of a sparse matrix.

    ``columns`` (nnz,) int64 and ``values`` (nnz,) float32: the entries, row after row. ``offsets`` (B + 1,) int64: row
    r has the entries ``offsets[r]:offsets[r + 1]``. ``width``: the number of columns.
    """

    columns: Tensor
    values: Tensor
    offsets: Tensor
    width: int

    def row_index(self) -> Tensor:
        """Row of each entry, int64 (nnz,)."""
        rows = torch.arange(len(self.offsets) - 1, device=self.offsets.device)
        return torch.repeat_interleave(rows, self.offsets.diff())

    def dense(self) -> Tensor:
        """Dense matrix, (B, width)."""
        matrix = torch.zeros(len(self.offsets) - 1, self.width, dtype=self.values.dtype, device=self.values.device)
        matrix[self.row_index(), self.columns] = self.values
        return matrix

    def select(self, mask: Tensor) -> SparseRows:
        """Keep the entries where ``mask`` (nnz,) is True, and all rows."""
        offsets = F.pad(mask.cumsum(0), (1, 0))[self.offsets]
        return SparseRows(self.columns[mask], self.values[mask], offsets, self.width)

    @classmethod
    def of(cls, dense: Tensor) -> SparseRows:
        """Convert a dense matrix (B, width), e.g. rows of users who are not in the training data."""
        row, columns = dense.nonzero(as_tuple=True)
        offsets = F.pad(torch.bincount(row, minlength=len(dense)).cumsum(0), (1, 0))
        return cls(columns, dense[row, columns], offsets, dense.shape[1])


class InteractionMatrix(nn.Module):
    """The (users, items) interaction matrix in CSR form; column j is RecBole's item id j + 1.

    RecBole's :class:`AutoEncoderMixin` stores a dense (users, longest history) matrix instead, which is 44 times as
    large on ml-1m and grows with the longest history. The padding item has no column here, so that no loss includes it.

    The buffers can be computed from the data set and are not in the state dict.

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
    ) -> InteractionMatrix:
        """Build the matrix from interactions with RecBole's ids.

        Args:
            users, items: (N,).
            shape: (n_users, n_items).
            weights: (N,), default 1; for a repeated pair the last weight counts.
        """
        values = np.ones(len(users)) if weights is None else weights
        pair_keys = users.astype(np.int64) * shape[1] + items
        _, last = np.unique(pair_keys[::-1], return_index=True)
        keep = len(pair_keys) - 1 - last
        return cls(csr_matrix((values[keep], (users[keep], items[keep])), shape=shape))

    def with_pairs(self, users: np.ndarray, items: np.ndarray) -> InteractionMatrix:
        """Copy the matrix and add interactions (RecBole's ids) with weight 1; existing pairs keep their weight."""
        indptr, old_items, values = (buffer.cpu().numpy() for buffer in (self.indptr, self.items, self.values))
        old_users = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
        return InteractionMatrix.of(
            np.concatenate([users, old_users]),
            np.concatenate([items, old_items + 1]),
            (len(indptr) - 1, self.n_columns + 1),
            np.concatenate([np.ones(len(users)), values]),
        )

    def sparse(self, users: Tensor) -> SparseRows:
        """Return the rows of ``users`` (B,)."""
        start = self.indptr[users]
        offsets = F.pad((self.indptr[users + 1] - start).cumsum(0), (1, 0))
        row = SparseRows(self.items, self.values, offsets, self.n_columns).row_index()
        index = torch.arange(len(row), device=users.device) + (start - offsets[:-1])[row]
        return SparseRows(self.items[index], self.values[index], offsets, self.n_columns)

    def rows(self, users: Tensor) -> Tensor:
        """Return the rows of ``users`` (B,), dense float32, (B, n_items - 1)."""
        return self.sparse(users).dense()


def binary_history(dataset: Any) -> InteractionMatrix:
    """Build the interaction matrix of RecBole's data set with weight 1 for every interaction."""
    return InteractionMatrix.of(*_pairs(dataset), (dataset.user_num, dataset.item_num))


def time_history(dataset: Any, w_min: float, w_max: float) -> InteractionMatrix:
    """Build the interaction matrix with weights by rank in time (T-DiffRec; see :func:`rank_weights`).

    Raises:
        ValueError: the data set has no timestamps.
    """
    field = RANK_FIELD if RANK_FIELD in dataset.inter_feat else dataset.time_field
    if field not in dataset.inter_feat:
        raise ValueError(
            f"weights by rank in time need the field {dataset.time_field!r} (TIME_FIELD): add it to load_col.inter, or "
            "to the data set"
        )
    times = dataset.inter_feat[field].numpy()
    order = np.argsort(times, kind="stable")  # InteractionMatrix.of keeps the last, here the latest, of a repeated pair
    users, items = (ids[order] for ids in _pairs(dataset))
    return InteractionMatrix.of(
        users, items, (dataset.user_num, dataset.item_num), rank_weights(users, times[order], w_min, w_max)
    )


def _pairs(dataset: Any) -> tuple[np.ndarray, np.ndarray]:
    return tuple(dataset.inter_feat[field].numpy() for field in (dataset.uid_field, dataset.iid_field))
