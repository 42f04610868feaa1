"""The graph of items that users have in common, as a linear operator on rows."""

from __future__ import annotations

from typing import Optional

import numpy as np
import torch
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn

from recbole_diffusion.model.interactions.item_filter import MAX_FULL_SPECTRUM, degrees, powers, scaled
from recbole_diffusion.model.interactions.propagation import SparseProduct
from recbole_diffusion.model.rows.history import SparseRows


class ItemGraph(nn.Module):
    r"""The operator :math:`A = Q^\top Q / s_1^2` with :math:`Q = D_U^{p} X D_I^{-1/2}` (GiffCF, section 3.1).

    :math:`s_1` is the largest singular value of Q, so that A has spectral norm 1. Users and items without interactions
    have degree 0 and weight 0. The operator is one dense matrix, or two sparse products, which give the same rows and
    need memory for the interactions only. Its buffers can be computed from the data and are not in the state dict.

    Args:
        matrix: X, (users, items); the degrees are its sums.
        user_power: p, the exponent of the users' degrees.
        ideal_weight: weight w of the ideal low-pass filter, see :meth:`forward`.
        ideal_cutoff: number of eigenvectors of the ideal low-pass filter.
        dense: whether A is one dense matrix, see :func:`.item_filter.is_dense`.
    """

    matrix: Optional[Tensor]
    basis: Optional[Tensor]

    def __init__(
        self,
        matrix: csr_matrix,
        user_power: float = -0.25,
        ideal_weight: float = 0.0,
        ideal_cutoff: int = 200,
        dense: bool = True,
    ) -> None:
        super().__init__()
        self.ideal_weight, self.n_items = ideal_weight, matrix.shape[1]
        factor = _factor(matrix, user_power)
        self._factor = factor / np.sqrt(_top_eigenpairs(factor, 1)[0][0] or 1.0)
        basis = self.eigenvectors(ideal_cutoff) if ideal_weight else None
        self.register_buffer("basis", basis, persistent=False)
        self.register_buffer("matrix", None)
        self.products: Optional[nn.ModuleList] = None
        if dense:
            product = torch.from_numpy((self._factor.T @ self._factor).toarray(order="C"))
            if basis is not None:
                product = (product + ideal_weight * basis @ basis.t()) / (1 + ideal_weight)
            self.register_buffer("matrix", product.float(), persistent=False)
        else:
            self.products = nn.ModuleList([SparseProduct(self._factor), SparseProduct(self._factor.T.tocsr())])

    def eigenvectors(self, count: int) -> Tensor:
        """Eigenvectors of the largest ``count`` eigenvalues of A, float64, (n_items, count); fewer if there are fewer.

        The entry with the largest magnitude is positive in each, so that all machines have the same signs.
        """
        vectors = _top_eigenpairs(self._factor, min(count, self.n_items))[1]
        largest = np.abs(vectors).argmax(axis=0)
        return torch.from_numpy(vectors * np.sign(vectors[largest, np.arange(vectors.shape[1])]))

    def forward(self, rows: Tensor) -> Tensor:
        r"""Smooth dense rows y (B, n_items): :math:`y A`, or :math:`(y A + w\,y V V^\top) / (1 + w)`."""
        if self.matrix is not None:
            return rows @ self.matrix
        assert self.products is not None
        smoothed = self.products[1](self.products[0](rows.t().contiguous())).t()
        if self.basis is None:
            return smoothed
        basis = self.basis.to(rows.dtype)
        return (smoothed + self.ideal_weight * (rows @ basis) @ basis.t()) / (1 + self.ideal_weight)

    def sparse_forward(self, rows: SparseRows) -> Tensor:
        """Smooth sparse rows (B, n_items): the sum of the rows of A that they name, weighted."""
        if self.matrix is None:
            return self(rows.dense())
        return rows.times(self.matrix)


def _factor(matrix: csr_matrix, user_power: float) -> csr_matrix:
    """Q, float64; degrees of 0 give rows and columns of zeros."""
    users, items = degrees(matrix)
    return scaled(matrix, powers(users, user_power), powers(items, -0.5))


def _top_eigenpairs(factor: csr_matrix, count: int) -> tuple[np.ndarray, np.ndarray]:
    r"""Largest eigenvalues of :math:`Q^\top Q`, falling, (count,), and their eigenvectors, (n_items, count).

    The iteration starts from a fixed vector, so that two runs agree.
    """
    n_items = factor.shape[1]
    if n_items <= max(MAX_FULL_SPECTRUM, count + 1):
        values, vectors = np.linalg.eigh((factor.T @ factor).toarray())
    else:
        operator = LinearOperator((n_items, n_items), matvec=lambda x: factor.T @ (factor @ x), dtype=np.float64)
        start = np.random.default_rng(0).standard_normal(n_items)
        values, vectors = eigsh(operator, k=count, which="LA", v0=start)
    order = np.argsort(values)[::-1][:count]
    return values[order], vectors[:, order]
