"""The interaction matrix in sparse form; only the rows of a batch become dense."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_diffusion.data.time_order import RANK_FIELD
from recbole_diffusion.model.histories import Histories


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


#: Most places that :meth:`InteractionMatrix.rows` fills without knowing how many interactions there are.
MAX_BOUND = 2**22


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
        return torch.repeat_interleave(rows, self.offsets.diff(), output_size=len(self.columns))

    def dense(self) -> Tensor:
        """Dense matrix, (B, width)."""
        matrix = torch.zeros(len(self.offsets) - 1, self.width, dtype=self.values.dtype, device=self.values.device)
        matrix[self.row_index(), self.columns] = self.values
        return matrix

    def transposed(self) -> Tensor:
        """Transposed dense matrix, (width, B)."""
        matrix = torch.zeros(self.width, len(self.offsets) - 1, dtype=self.values.dtype, device=self.values.device)
        matrix[self.columns, self.row_index()] = self.values
        return matrix

    def slice(self, start: int, stop: int) -> SparseRows:
        """Rows ``start`` to ``stop`` - 1. The host waits for the place of their entries."""
        first, last = int(self.offsets[start]), int(self.offsets[stop])
        offsets = self.offsets[start : stop + 1] - first
        return SparseRows(self.columns[first:last], self.values[first:last], offsets, self.width)

    def times(self, table: Tensor) -> Tensor:
        """Multiply with a table (width, d), differentiable in the table; (B, d)."""
        return F.embedding_bag(
            self.columns,
            table,
            self.offsets,
            mode="sum",
            per_sample_weights=self.values.to(table.dtype),
            include_last_offset=True,
        )

    def select(self, mask: Tensor) -> SparseRows:
        """Keep the entries where ``mask`` (nnz,) is True, and all rows."""
        offsets = F.pad(mask.cumsum(0), (1, 0))[self.offsets]
        index = mask.nonzero().squeeze(1)
        return SparseRows(self.columns[index], self.values[index], offsets, self.width)

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

    Attributes:
        weight_range: ``w_min`` and ``w_max`` of the weights by rank in time (:func:`rank_weights`); None: all are 1.
    """

    indptr: Tensor
    items: Tensor
    values: Tensor
    weight_range: Optional[tuple[float, float]] = None

    def __init__(self, matrix: csr_matrix) -> None:
        super().__init__()
        matrix = csr_matrix(matrix)[:, 1:].tocsr()
        matrix.sort_indices()
        self.n_columns, self.longest = matrix.shape[1], int(np.diff(matrix.indptr).max(initial=0))
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

    def rows_of(self, histories: Histories) -> SparseRows:
        """Rows of users who are given by their items, with this matrix's kind of weights, on its device."""
        users, items = histories.row_index().numpy(), histories.items.numpy()
        weights = None
        if self.weight_range is not None:
            weights = rank_weights(users, np.arange(len(users)), *self.weight_range)
        matrix = InteractionMatrix.of(users, items, (histories.n_users, self.n_columns + 1), weights)
        return matrix.to(self.items.device).sparse(torch.arange(histories.n_users, device=self.items.device))

    def csr(self) -> csr_matrix:
        """Return a copy as scipy's matrix, (n_users, n_items - 1), float64; column j is RecBole's item id j + 1."""
        indptr, items, values = (buffer.cpu().numpy() for buffer in (self.indptr, self.items, self.values))
        return csr_matrix(
            (values.astype(np.float64), items, indptr), shape=(len(indptr) - 1, self.n_columns), copy=True
        )

    def sparse(self, users: Tensor) -> SparseRows:
        """Return the rows of ``users`` (B,). The host waits for the number of their interactions."""
        start = self.indptr[users]
        offsets = F.pad((self.indptr[users + 1] - start).cumsum(0), (1, 0))
        index = torch.arange(int(offsets[-1]), device=users.device)
        row = SparseRows(index, self.values, offsets, self.n_columns).row_index()
        index = index + (start - offsets[:-1])[row]
        return SparseRows(self.items[index], self.values[index], offsets, self.n_columns)

    def rows(self, users: Tensor) -> Tensor:
        """Return the rows of ``users`` (B,), dense float32, (B, n_items - 1)."""
        if users.device.type == "cpu" or not self.fills_without_wait(len(users)):
            return self.sparse(users).dense()
        return self._rows_without_wait(users, len(users) * self.longest)

    def fills_without_wait(self, n_users: int) -> bool:
        """Whether :meth:`rows` on a GPU fills up to a bound instead of waiting for the number of interactions."""
        return n_users * self.longest <= MAX_BOUND

    def _rows_without_wait(self, users: Tensor, bound: int) -> Tensor:
        """Return :meth:`rows`. Up to ``bound`` places are written; those in excess go to an element that is cut off."""
        start, size = self.indptr[users], len(users) * self.n_columns
        ends = (self.indptr[users + 1] - start).cumsum(0)
        position = torch.arange(bound, device=users.device)
        row = torch.searchsorted(ends, position, right=True)
        exists, row = row < len(users), row.clamp(max=len(users) - 1)
        index = (position + (self.indptr[users + 1] - ends)[row]).clamp(max=len(self.items) - 1)
        matrix = torch.zeros(size + 1, dtype=self.values.dtype, device=users.device)
        matrix[torch.where(exists, row * self.n_columns + self.items[index], size)] = self.values[index]
        return matrix[:-1].view(len(users), self.n_columns)


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
    weights = rank_weights(users, times[order], w_min, w_max)
    matrix = InteractionMatrix.of(users, items, (dataset.user_num, dataset.item_num), weights)
    matrix.weight_range = (w_min, w_max)
    return matrix


def row_history(config: Any, dataset: Any) -> InteractionMatrix:
    """Build the rows of a row model by its key ``row_weights``.

    Args:
        config: the settings. ``row_weights``: ``binary`` for weight 1, or ``recency`` for weights from ``w_min`` to
            ``w_max`` by rank in time. RecBole's ``time-aware: True`` means ``recency`` too.
        dataset: the train data set.

    Raises:
        ValueError: ``recency``, and the data set has no timestamps.
    """
    if config["row_weights"] == "recency" or config["time-aware"]:
        return time_history(dataset, config["w_min"], config["w_max"])
    return binary_history(dataset)


def fitted_matrix(config: Any, history: InteractionMatrix) -> csr_matrix:
    """Return the matrix that a model's item-item relations are computed from, by its key ``gram``.

    Args:
        config: the settings. ``gram``: ``binary`` for weight 1 for every interaction, or ``weighted`` for the weights
            of the rows. Without the key: ``binary``.
        history: the rows, from :func:`row_history`.

    Returns:
        (n_users, n_items - 1), float64; column j is RecBole's item id j + 1.
    """
    matrix = history.csr()
    if config["gram"] != "weighted":
        matrix.data[:] = 1
    return matrix


def _pairs(dataset: Any) -> tuple[np.ndarray, np.ndarray]:
    return tuple(dataset.inter_feat[field].numpy() for field in (dataset.uid_field, dataset.iid_field))
