"""Users' histories as sparse rows that become dense a batch at a time."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_diffusion.data.time_order import RANK_FIELD


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


class SparseRows(NamedTuple):
    """Some rows of a sparse matrix.

    ``columns`` (nnz,) int64 and ``values`` (nnz,) float32, row after row; row r is ``offsets[r]:offsets[r + 1]`` of
    them, ``offsets`` (B + 1,) int64; ``width``: the number of columns.
    """

    columns: Tensor
    values: Tensor
    offsets: Tensor
    width: int

    def row_index(self) -> Tensor:
        """The row of each entry, int64 (nnz,)."""
        count = torch.arange(len(self.offsets) - 1, device=self.offsets.device)
        return torch.repeat_interleave(count, self.offsets.diff())

    def dense(self) -> Tensor:
        """(B, width)."""
        full = torch.zeros(len(self.offsets) - 1, self.width, dtype=self.values.dtype, device=self.values.device)
        full[self.row_index(), self.columns] = self.values
        return full

    def part(self, mask: Tensor) -> SparseRows:
        """The entries where ``mask`` (nnz,) is True; as many rows as before."""
        kept = F.pad(mask.cumsum(0), (1, 0))[self.offsets]
        return SparseRows(self.columns[mask], self.values[mask], kept, self.width)

    @classmethod
    def of(cls, dense: Tensor) -> SparseRows:
        """From (B, width), e.g. of users that the model has never seen."""
        row, columns = dense.nonzero(as_tuple=True)
        offsets = F.pad(torch.bincount(row, minlength=len(dense)).cumsum(0), (1, 0))
        return cls(columns, dense[row, columns], offsets, dense.shape[1])


class InteractionMatrix(nn.Module):
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
    ) -> InteractionMatrix:
        """From interactions with RecBole's ids; of a repeated pair the last one's weight counts (default 1)."""
        values = np.ones(len(users)) if weights is None else weights
        pair = users.astype(np.int64) * shape[1] + items
        _, last = np.unique(pair[::-1], return_index=True)
        keep = len(pair) - 1 - last
        return cls(csr_matrix((values[keep], (users[keep], items[keep])), shape=shape))

    def with_pairs(self, users: np.ndarray, items: np.ndarray) -> InteractionMatrix:
        """A copy with more interactions (RecBole's ids) of weight 1; a pair that is there keeps its weight."""
        indptr, known_items, values = (part.cpu().numpy() for part in (self.indptr, self.items, self.values))
        known = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
        return InteractionMatrix.of(
            np.concatenate([users, known]),
            np.concatenate([items, known_items + 1]),
            (len(indptr) - 1, self.n_columns + 1),
            np.concatenate([np.ones(len(users)), values]),
        )

    def sparse(self, users: Tensor) -> SparseRows:
        """The rows of ``users`` (B,)."""
        start = self.indptr[users]
        offsets = F.pad((self.indptr[users + 1] - start).cumsum(0), (1, 0))
        rows = SparseRows(self.items, self.values, offsets, self.n_columns)
        row = rows.row_index()
        place = torch.arange(len(row), device=users.device) + (start - offsets[:-1])[row]
        return SparseRows(self.items[place], self.values[place], offsets, self.n_columns)

    def rows(self, users: Tensor) -> Tensor:
        """The rows of ``users`` (B,), dense float32, shape (B, n_items - 1)."""
        return self.sparse(users).dense()


def binary_history(dataset: Any) -> InteractionMatrix:
    """Each interaction of RecBole's data set with weight 1."""
    return InteractionMatrix.of(*_pairs(dataset), (dataset.user_num, dataset.item_num))


def time_history(dataset: Any, w_min: float, w_max: float) -> InteractionMatrix:
    """Each interaction weighted by its rank in the user's time (T-DiffRec; see :func:`rank_weights`).

    Raises:
        ValueError: the data set has no times.
    """
    field = RANK_FIELD if RANK_FIELD in dataset.inter_feat else dataset.time_field
    if field not in dataset.inter_feat:
        raise ValueError(
            f"weights by rank in time need the field {dataset.time_field!r} (TIME_FIELD): add it to load_col.inter, or "
            "to the data set"
        )
    times = dataset.inter_feat[field].numpy()
    order = np.argsort(times, kind="stable")  # so that the last of a repeated pair is the latest
    users, items = (ids[order] for ids in _pairs(dataset))
    return InteractionMatrix.of(
        users, items, (dataset.user_num, dataset.item_num), rank_weights(users, times[order], w_min, w_max)
    )


def _pairs(dataset: Any) -> tuple[np.ndarray, np.ndarray]:
    return tuple(dataset.inter_feat[field].numpy() for field in (dataset.uid_field, dataset.iid_field))
