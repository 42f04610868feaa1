r"""Linear filters of rows: normalised interaction matrices N, the item-item matrix P = N^T N, and its spectrum.

P is one dense (items, items) matrix, or two sparse products with N, which are exact too and need memory for the
interactions only.
"""

from __future__ import annotations

from typing import Any, Callable, Optional

import numpy as np
import torch
from numpy.polynomial import Polynomial
from scipy.sparse import csr_matrix, diags
from scipy.sparse.linalg import svds
from torch import Tensor, nn

from recbole_diffusion.model.interactions.propagation import SparseProduct
from recbole_diffusion.model.rows.history import SparseRows

#: Largest (items, items) matrix of ``item_graph: auto``, in float32: 8,192 items. It lies in the memory of the device
#: and, for the filters, in the checkpoint; its computation in float64 takes up to six times as much.
MAX_DENSE_BYTES = 2**28
#: Up to this size of the smaller side the whole spectrum is computed, without iteration.
MAX_FULL_SPECTRUM = 500
#: The whole spectrum is computed too if more than this share of the singular vectors is needed.
MAX_ITERATED_SHARE = 0.25
#: With more entries in the singular vectors than this, they are computed by a randomised block method: the Lanczos
#: method takes minutes on Gowalla. Its iterations, and the share of vectors that it iterates in addition.
MAX_LANCZOS_ENTRIES, BLOCK_ITERATIONS, OVERSAMPLING = 3_000_000, 8, 0.25
#: Singular values below this share of the largest one count as 0.
RANK_TOLERANCE = 1e-10
#: Rows that sparse products filter at once on a CPU: 64 columns of Gowalla's items, 10 MB, stay in the cache, and the
#: products take half of the time that they take with 256.
CACHED_ROWS = 64


def is_dense(item_graph: str, n_items: int) -> bool:
    """Whether the key ``item_graph`` (auto, dense or sparse) means a dense matrix for this number of items."""
    return item_graph == "dense" or (item_graph == "auto" and 4 * n_items**2 <= MAX_DENSE_BYTES)


def degrees(matrix: csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the rows (users) and columns (items) of an interaction matrix, float64."""
    users, items = (np.asarray(matrix.sum(axis=axis), dtype=np.float64).ravel() for axis in (1, 0))
    return users, items


def powers(values: np.ndarray, exponent: float, shift: float = 0.0) -> np.ndarray:
    """Powers ``(values + shift) ** exponent`` of degrees; 0 where the degree is not positive."""
    return np.power(values + shift, exponent, out=np.zeros_like(values), where=values > 0)


def scaled(matrix: csr_matrix, users: np.ndarray, items: np.ndarray) -> csr_matrix:
    """Multiply the rows by ``users`` and the columns by ``items``."""
    return csr_matrix(diags(users) @ matrix @ diags(items))


def symmetric(matrix: csr_matrix) -> csr_matrix:
    r"""Normalise X symmetrically: :math:`N = D_U^{-1/2} X D_I^{-1/2}`."""
    users, items = degrees(matrix)
    return scaled(matrix, powers(users, -0.5), powers(items, -0.5))


def right_singular(factor: csr_matrix, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Largest singular values of N and their right singular vectors.

    They are exact up to :data:`MAX_LANCZOS_ENTRIES`; beyond, the vectors next to the cut are approximate. The
    iterations start from fixed vectors, so that two runs agree. Singular values of 0 are left out.

    Args:
        factor: N, (users, items).
        count: number of singular values.

    Returns:
        Values, falling, (k,), and vectors, (items, k), float64; k is ``count``, or the rank if it is smaller.
    """
    size = min(factor.shape)
    count = min(count, size)
    if size <= MAX_FULL_SPECTRUM or count > MAX_ITERATED_SHARE * size:
        values, vectors = _full_spectrum(factor)
    elif size * count > MAX_LANCZOS_ENTRIES:
        values, vectors = _block_iteration(factor, count)
    else:
        start = np.random.default_rng(0).standard_normal(size)
        _, values, transposed = svds(factor, k=count, v0=start, return_singular_vectors="vh")
        vectors = transposed.T
    order = np.argsort(values)[::-1][:count]
    order = order[values[order] > RANK_TOLERANCE * values.max(initial=0)]
    return values[order], vectors[:, order]


def _block_iteration(factor: csr_matrix, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Approximate the largest singular values and right singular vectors by randomised subspace iteration.

    Halko et al., *Finding Structure with Randomness*, SIAM Review 2011, algorithm 4.4.
    """
    from sklearn.utils.extmath import randomized_svd

    oversampling = int(OVERSAMPLING * count) + 10
    _, values, transposed = randomized_svd(
        factor, count, n_oversamples=oversampling, n_iter=BLOCK_ITERATIONS, flip_sign=False, random_state=0
    )
    return values, transposed.T


def _full_spectrum(factor: csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """All non-zero singular values and right singular vectors, by the smaller of the two Gram matrices."""
    wide = factor.shape[0] < factor.shape[1]
    squares, vectors = np.linalg.eigh((factor @ factor.T if wide else factor.T @ factor).toarray())
    positive = squares > RANK_TOLERANCE * squares.max(initial=0)
    values, vectors = np.sqrt(squares[positive]), vectors[:, positive]
    return values, factor.T @ vectors / values if wide else vectors


class GramProduct(nn.Module):
    r"""The product of rows with :math:`P = N^\top N`, whose entries may be raised to a power.

    The buffers can be computed from the data and are not in the state dict.

    Args:
        factor: N, (users, items).
        power: power of each entry of P. With 1 P is never computed; else it is, as a sparse matrix.
        products: whether to set up the products of tensors, which :meth:`forward` needs.
    """

    def __init__(self, factor: csr_matrix, power: float = 1.0, products: bool = True) -> None:
        super().__init__()
        self.factor, self.power = factor, power
        self.products: Optional[nn.ModuleList] = None
        if products:
            matrices = [factor, factor.T.tocsr()] if power == 1 else [self.matrix()]
            self.products = nn.ModuleList(SparseProduct(matrix) for matrix in matrices)

    def matrix(self) -> csr_matrix:
        """P as a sparse matrix, float64."""
        product = csr_matrix(self.factor.T @ self.factor)
        product.data **= self.power
        return product

    def forward(self, columns: Tensor) -> Tensor:
        """Multiply P and columns (items, B), which are transposed rows; P is symmetric."""
        assert self.products is not None
        for product in self.products:
            columns = product(columns)
        return columns

    def of_rows(self, rows: np.ndarray) -> np.ndarray:
        """Multiply rows (B, items) and P."""
        if self.power != 1:
            return rows @ self.matrix()
        return (self.factor.T @ (self.factor @ rows.T)).T


def filter_in_blocks(rows: SparseRows, operator: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply an operator to rows in blocks of :data:`CACHED_ROWS`, on a GPU to all at once.

    Args:
        rows: (B, items).
        operator: maps columns (items, b), which are transposed rows, to (items, b).

    Returns:
        A new tensor, (B, items).
    """
    n_rows = len(rows.offsets) - 1
    if rows.values.device.type != "cpu":
        return operator(rows.transposed()).t().contiguous()
    filtered = torch.empty(n_rows, rows.width, dtype=rows.values.dtype)
    for start in range(0, n_rows, CACHED_ROWS):
        stop = min(start + CACHED_ROWS, n_rows)
        filtered[start:stop] = operator(rows.slice(start, stop).transposed()).t()
    return filtered


def apply_polynomial(polynomial: Polynomial, x: Any, apply: Callable[[Any], Any]) -> Any:
    r"""Compute :math:`\sum_k c_k P^k x` by Horner's rule, with as many applications of P as the degree.

    Args:
        polynomial: the coefficients :math:`c_0, c_1, \dots`.
        x: what P is applied to, a tensor or an array.
        apply: multiplies by P.
    """
    coefficients = [float(value) for value in polynomial.coef]
    total = coefficients[-1] * x
    for coefficient in reversed(coefficients[:-1]):
        total = apply(total)
        if coefficient:
            is_tensor = isinstance(total, Tensor)
            total = torch.add(total, x, alpha=coefficient) if is_tensor else total + coefficient * x
    return total


def polynomial_of_matrix(polynomial: Polynomial, matrix: np.ndarray) -> np.ndarray:
    """Compute the polynomial of a dense matrix P (n, n)."""
    size, coefficients = len(matrix), [float(value) for value in polynomial.coef]
    if len(coefficients) == 1:
        return coefficients[0] * np.eye(size)
    total = coefficients[-1] * matrix
    for position in range(len(coefficients) - 2, -1, -1):
        total[np.diag_indices(size)] += coefficients[position]
        if position:
            total = total @ matrix
    return total
