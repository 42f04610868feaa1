"""Products of a fixed sparse matrix with a table of embeddings, differentiable in the table."""

from __future__ import annotations

import warnings
from typing import Any, Optional

import numpy as np
import torch
from scipy.sparse import csr_matrix, diags, eye
from torch import Tensor, nn


class _Product(torch.autograd.Function):
    """``matrix @ table``; the gradient of the table is ``transposed @ gradient``."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, transposed: Tensor, table: Tensor) -> Tensor:
        ctx.transposed = transposed
        return matrix @ table

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return None, None, ctx.transposed @ gradients[0].contiguous()


class SparseProduct(nn.Module):
    """``matrix @ table`` in CSR form: a third of the time of torch's COO product, and less of its gradient's.

    The buffers can be computed from the data set and are not in the state dict. Indices are int32, which MKL uses
    without conversion.

    Args:
        matrix: (rows, columns).
        dtype: dtype of the values.
    """

    forth_values: Tensor

    def __init__(self, matrix: csr_matrix, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.shape = matrix.shape
        for name, csr in (("forth", matrix.tocsr()), ("back", matrix.T.tocsr())):
            csr.sort_indices()
            self.register_buffer(f"{name}_indptr", torch.from_numpy(csr.indptr.astype(np.int32)), persistent=False)
            self.register_buffer(f"{name}_columns", torch.from_numpy(csr.indices.astype(np.int32)), persistent=False)
            self.register_buffer(f"{name}_values", torch.from_numpy(csr.data).to(dtype), persistent=False)
        self._csr_matrices: Optional[tuple[torch.device, tuple[Tensor, Tensor]]] = None

    def forward(self, table: Tensor) -> Tensor:
        """Multiply ``table`` (columns, d); returns (rows, d) in the dtype of the matrix, also under autocast.

        torch has no such product in half precision.
        """
        if self._csr_matrices is None or self._csr_matrices[0] != table.device:
            matrices = (self._csr_tensor("forth", self.shape), self._csr_tensor("back", self.shape[::-1]))
            self._csr_matrices = (table.device, matrices)
        with torch.autocast(table.device.type, enabled=False):
            product: Tensor = _Product.apply(*self._csr_matrices[1], table.to(self.forth_values.dtype))
        return product

    def _csr_tensor(self, name: str, shape: tuple[int, int]) -> Tensor:
        """CSR tensor of the matrix (``forth``) or its transpose (``back``)."""
        indptr, columns, values = (getattr(self, f"{name}_{array}") for array in ("indptr", "columns", "values"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # "Sparse CSR tensor support is in beta state"
            return torch.sparse_csr_tensor(indptr, columns, values, size=shape)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_csr_matrices": None}  # not every torch version can copy CSR tensors


def row_normalised(users: np.ndarray, items: np.ndarray, shape: tuple[int, int]) -> csr_matrix:
    r"""Row-normalised adjacency matrix :math:`D^{-1}(A + I)` of the bipartite graph (HGCF, section 3.2).

    Args:
        users, items: (N,), the interactions; repeated pairs count once.
        shape: numbers of users and items.

    Returns:
        (n_users + n_items, n_users + n_items), users first.
    """
    n_users, n_items = shape
    size = n_users + n_items
    ones = np.ones(len(users))
    upper = csr_matrix((ones, (users, items + n_users)), shape=(size, size))
    upper.data[:] = 1  # repeated pairs count once
    matrix = upper + upper.T + eye(size)
    return diags(1 / np.asarray(matrix.sum(axis=1)).ravel()).dot(matrix).tocsr()


def row_means(indptr: Tensor, columns: Tensor, width: int) -> SparseProduct:
    """Make the operator that averages the rows of a table over each CSR row; 0 for empty CSR rows.

    Args:
        indptr, columns: row pointers (R + 1,) and column indices of a CSR matrix.
        width: number of rows of the table.

    Returns:
        A product that maps (width, d) to (R, d).
    """
    counts = np.diff(indptr.cpu().numpy())
    values = np.repeat(1 / np.maximum(counts, 1), counts)
    return SparseProduct(csr_matrix((values, columns.cpu().numpy(), indptr.cpu().numpy()), shape=(len(counts), width)))
