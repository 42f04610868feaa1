"""Base class of graph filters that multiply a user's row by a polynomial of the item-item matrix P."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

import numpy as np
from numpy.polynomial import Polynomial
from scipy.sparse import csr_matrix
from torch import Tensor

from recbole_diffusion.model.interactions.item_filter import (
    GramProduct,
    apply_polynomial,
    degrees,
    filter_in_blocks,
    is_dense,
    polynomial_of_matrix,
    powers,
    right_singular,
    symmetric,
)
from recbole_diffusion.model.rows.closed_form import ClosedFormRecommender, weighted_sum
from recbole_diffusion.model.rows.history import SparseRows


class Response(NamedTuple):
    r"""A filter: :math:`s(x) = x\,p(P) + x J q(P)`.

    Attributes:
        rows: p.
        ideal: q, for the ideal low-pass filter J; None: without it.
        cutoff: rank of J.
    """

    rows: Polynomial
    ideal: Optional[Polynomial] = None
    cutoff: int = 0


class PolynomialFilterRecommender(ClosedFormRecommender):
    r"""Graph filter :math:`s(x) = x\,p(P) + x J q(P)` of a user's row x.

    :math:`P = N^\top N` is the item-item matrix of the normalised interactions N, and
    :math:`J = D_I^{-1/2} V_k V_k^\top D_I^{1/2}` the ideal low-pass filter with the top right singular vectors
    :math:`V_k` of N. A subclass implements :meth:`response`, and may override :meth:`normalised` and :meth:`power`.

    With few items the filter is one dense matrix. With many, p is applied by sparse products to each batch, and the
    low-pass filter is a product of two thin matrices.
    """

    def response(self, config: Any) -> Response:
        """Return the filter for the settings."""
        raise NotImplementedError

    def normalised(self, config: Any, matrix: csr_matrix) -> csr_matrix:
        """Return N for the interactions X, both (n_users, n_items - 1)."""
        return symmetric(matrix)

    def power(self, config: Any) -> float:
        """Return the power to which each entry of P is raised."""
        return 1.0

    def prepare(self, config: Any, matrix: csr_matrix) -> None:
        """Normalise the interactions, and set up the sparse products if there are many items."""
        self.filter = self.response(config)
        self.is_dense = is_dense(config["item_graph"], matrix.shape[1])
        self.gram = GramProduct(self.normalised(config, matrix), self.power(config), products=not self.is_dense)

    def fit(self, config: Any, matrix: csr_matrix) -> dict[str, np.ndarray]:
        """Compute the dense ``matrix`` of the filter, or the factors ``left, right`` of its low-pass part."""
        low_pass = self._low_pass(matrix) if self.filter.ideal is not None else None
        if not self.is_dense:
            return {} if low_pass is None else {"left": low_pass[0], "right": low_pass[1]}
        total = polynomial_of_matrix(self.filter.rows, self.gram.matrix().toarray())
        return {"matrix": total if low_pass is None else total + low_pass[0] @ low_pass[1]}

    def _low_pass(self, matrix: csr_matrix) -> tuple[np.ndarray, np.ndarray]:
        r"""Factors of :math:`J q(P)`: :math:`D_I^{-1/2} V_k`, (items, k), and :math:`V_k^\top D_I^{1/2} q(P)`."""
        assert self.filter.ideal is not None
        items = degrees(matrix)[1]
        vectors = right_singular(self.gram.factor, self.filter.cutoff)[1]
        right = apply_polynomial(self.filter.ideal, vectors.T * powers(items, 0.5), self.gram.of_rows)
        return powers(items, -0.5)[:, None] * vectors, right

    def score(self, rows: SparseRows) -> Tensor:
        """Filter the rows (B, n_items - 1)."""
        if "matrix" in self.fitted:
            return weighted_sum(rows, self.fitted["matrix"])
        scores = filter_in_blocks(rows, lambda columns: apply_polynomial(self.filter.rows, columns, self.gram))
        if "left" in self.fitted:
            scores.addmm_(weighted_sum(rows, self.fitted["left"]), self.fitted["right"])
        return scores
