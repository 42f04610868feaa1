"""TEASE: EASE on rows that weight a user's items by their rank in time.

References:
    Harald Steck. "Embarrassingly Shallow Autoencoders for Sparse Data." WWW 2019.
    https://doi.org/10.1145/3308558.3313710

    The weights: Wenjie Wang et al. "Diffusion Recommender Model." SIGIR 2023, section 3.5.
    https://doi.org/10.1145/3539618.3591663
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

import numpy as np
from scipy.sparse import csr_matrix
from torch import Tensor

from recbole_diffusion.model.rows.closed_form import ClosedFormRecommender, weighted_sum
from recbole_diffusion.model.rows.history import SparseRows, time_history


class TEASE(ClosedFormRecommender):
    r"""Scores :math:`x B` of a user's row x, whose weights are ``linspace(w_min, w_max, M)`` over M items in time.

    B has a diagonal of zeros and minimises :math:`|X - X B|^2 + \lambda |B|^2` (EASE, eq. 1):
    :math:`B_{ij} = -P_{ij} / P_{jj}` with :math:`P = (X^\top X + \lambda I)^{-1}`. X is binary, or weighted with
    ``gram: weighted``.

    Keys: properties/model/TEASE.yaml.
    """

    def __init__(self, config: Any, dataset: Any, state: Optional[Mapping[str, Tensor]] = None) -> None:
        super().__init__(config, dataset, state, time_history(dataset, config["w_min"], config["w_max"]))

    def fit(self, config: Any, matrix: csr_matrix) -> dict[str, np.ndarray]:
        """Compute B (``matrix``)."""
        gram = (matrix.T @ matrix).toarray()
        gram[np.diag_indices(len(gram))] += config["reg_weight"]
        inverse = np.linalg.inv(gram)
        weights = inverse / -np.diag(inverse)
        np.fill_diagonal(weights, 0)
        return {"matrix": weights}

    def score(self, rows: SparseRows) -> Tensor:
        """Multiply the rows (B, n_items - 1) and B."""
        return weighted_sum(rows, self.fitted["matrix"])
