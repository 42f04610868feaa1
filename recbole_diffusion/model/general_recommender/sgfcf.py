"""SGFCF: a low-rank filter with a sharpened spectrum, and a full-rank filter.

Reference:
    Shaowen Peng et al. "How Powerful is Graph Filtering for Recommendation." KDD 2024.
    https://arxiv.org/abs/2406.08827

Reference code:
    https://github.com/tanatosuu/sgfcf (commit 118ca84), compared by numbers in
    tests/model/test_parity_graph_filters.py
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from recbole_diffusion.model.interactions.item_filter import (
    GramProduct,
    degrees,
    filter_in_blocks,
    is_dense,
    powers,
    right_singular,
    scaled,
)
from recbole_diffusion.model.rows.closed_form import ClosedFormRecommender, weighted_sum
from recbole_diffusion.model.rows.history import SparseRows


class SGFCF(ClosedFormRecommender):
    r"""Sum of a low-rank and a full-rank graph filter of a user's row, each divided by its row's sum.

    :math:`N = (D_U + \alpha)^{-\epsilon} X (D_I + \alpha)^{-\epsilon}` has the singular values s, divided by the
    largest, and right singular vectors V. With :math:`y = x (D_I + \alpha)^{-\epsilon}` the scores are

    .. math:: \frac{y V_k s^{2\beta - 1} V_k^\top}{\sum} + \gamma \frac{y N^\top N}{\sum}

    The sums are of absolute values; with ``row_sum: signed`` they are plain, as in the official code, where a negative
    one would turn the low-rank ranking round. The user's own degree cancels in both terms, so that any row can be
    scored. The individual exponents of the paper (IGF) are left out.

    Keys: properties/model/SGFCF.yaml.
    """

    def prepare(self, config: Any, matrix: csr_matrix) -> None:
        """Normalise the interactions, and set up the sparse products if there are many items."""
        self.gamma, self.is_absolute = config["gamma"], config["row_sum"] == "absolute"
        self.is_dense = is_dense(config["item_graph"], matrix.shape[1])
        users, self.item_factors = (powers(values, -config["eps"], config["alpha"]) for values in degrees(matrix))
        self.gram = GramProduct(scaled(matrix, users, self.item_factors), products=not self.is_dense)

    def fit(self, config: Any, matrix: csr_matrix) -> dict[str, np.ndarray]:
        """Compute the factors ``left, right`` of the low-rank filter, and ``matrix`` or ``items`` of the other."""
        values, vectors = right_singular(self.gram.factor, config["ideal_cutoff"])
        spectrum = (values / values.max(initial=0)) ** (2 * config["beta"] - 1)
        factors = {"left": self.item_factors[:, None] * vectors, "right": (vectors * spectrum).T.copy()}
        if self.is_dense:
            return {**factors, "matrix": self.item_factors[:, None] * self.gram.matrix().toarray()}
        return {**factors, "items": self.item_factors}

    def score(self, rows: SparseRows) -> Tensor:
        """Filter the rows (B, n_items - 1)."""
        scores = weighted_sum(rows, self.fitted["left"]) @ self.fitted["right"]
        scores.div_(self._sums(scores))
        if not self.gamma:
            return scores
        full_rank = self._full_rank(rows)
        return scores.addcmul_(full_rank, self.gamma / self._sums(full_rank))

    def _full_rank(self, rows: SparseRows) -> Tensor:
        """:math:`y N^T N` for the rows."""
        if "matrix" in self.fitted:
            return weighted_sum(rows, self.fitted["matrix"])
        scaled_rows = rows._replace(values=rows.values * self.fitted["items"][rows.columns])
        return filter_in_blocks(scaled_rows, self.gram)

    def _sums(self, scores: Tensor) -> Tensor:
        """Sum of each row, (B, 1), of the magnitudes or of the values; 1 in place of 0."""
        if self.is_absolute:
            total: Tensor = torch.linalg.vector_norm(scores, 1, dim=1, keepdim=True)
        else:
            total = scores.sum(dim=1, keepdim=True)
        return total.where(total != 0, total.new_ones(()))
