"""Products of a fixed sparse matrix with a table of embeddings, with gradients in the table."""

from __future__ import annotations

import warnings
from typing import Any, Optional

import numpy as np
import torch
from scipy.sparse import csr_matrix, diags, eye
from torch import Tensor, nn


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Tensor, transposed: Tensor, table: Tensor) -> Tensor:
        ctx.transposed = transposed
        return matrix @ table

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return None, None, ctx.transposed @ gradients[0].contiguous()


class SparseProduct(nn.Module):
    """``matrix @ table`` in CSR form: a third of the time of torch's COO product, whose gradient is slower still.

    The buffers follow from the data set and are not in the state dict. Indices are int32, which MKL takes as they are.
    """

    forth_values: Tensor

    def __init__(self, matrix: csr_matrix, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.shape = matrix.shape
        for name, each in (("forth", matrix.tocsr()), ("back", matrix.T.tocsr())):
            each.sort_indices()
            self.register_buffer(f"{name}_indptr", torch.from_numpy(each.indptr.astype(np.int32)), persistent=False)
            self.register_buffer(f"{name}_columns", torch.from_numpy(each.indices.astype(np.int32)), persistent=False)
            self.register_buffer(f"{name}_values", torch.from_numpy(each.data).to(dtype), persistent=False)
        self._built: Optional[tuple[torch.device, tuple[Tensor, Tensor]]] = None

    def forward(self, table: Tensor) -> Tensor:
        """table: (columns, d); returns (rows, d), in the matrix' dtype: there is no such product in half precision."""
        if self._built is None or self._built[0] != table.device:
            self._built = (table.device, (self._csr("forth", self.shape), self._csr("back", self.shape[::-1])))
        with torch.autocast(table.device.type, enabled=False):
            found: Tensor = _Product.apply(*self._built[1], table.to(self.forth_values.dtype))
        return found

    def _csr(self, name: str, shape: tuple[int, int]) -> Tensor:
        indptr, columns, values = (getattr(self, f"{name}_{part}") for part in ("indptr", "columns", "values"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # "beta state"
            return torch.sparse_csr_tensor(indptr, columns, values, size=shape)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_built": None}  # torch cannot copy CSR tensors everywhere


def row_normalised(users: np.ndarray, items: np.ndarray, shape: tuple[int, int]) -> csr_matrix:
    r""":math:`D^{-1}(A + I)` of the bipartite graph, users first, (U + I, U + I); HGCF, section 3.2."""
    n_users, n_items = shape
    size = n_users + n_items
    ones = np.ones(len(users))
    upper = csr_matrix((ones, (users, items + n_users)), shape=(size, size))
    upper.data[:] = 1  # repeated pairs count once
    matrix = upper + upper.T + eye(size)
    return diags(1 / np.asarray(matrix.sum(axis=1)).ravel()).dot(matrix).tocsr()


def row_means(indptr: Tensor, columns: Tensor, width: int) -> SparseProduct:
    """The operator that takes a table (width, d) to the means of the rows that each CSR row names; none: 0."""
    counts = np.diff(indptr.cpu().numpy())
    values = np.repeat(1 / np.maximum(counts, 1), counts)
    return SparseProduct(csr_matrix((values, columns.cpu().numpy(), indptr.cpu().numpy()), shape=(len(counts), width)))
