"""Turbo-CF: a polynomial graph filter without singular vectors.

Reference:
    Jin-Duk Park et al. "Turbo-CF: Matrix Decomposition-Free Graph Filtering for Fast Recommendation." SIGIR 2024.
    https://arxiv.org/abs/2404.14243

Reference code:
    https://github.com/jindeok/Turbo-CF (commit 233f7f4), compared by numbers in
    tests/model/test_parity_graph_filters.py
"""

from __future__ import annotations

from typing import Any

from numpy.polynomial import Polynomial
from scipy.sparse import csr_matrix

from recbole_diffusion.model.interactions.item_filter import degrees, powers, scaled
from recbole_diffusion.model.interactions.polynomial_filter import PolynomialFilterRecommender, Response

#: The three filters of the paper; ``ideal`` approximates an ideal low-pass filter by a polynomial of degree 3.
FILTERS = {
    "linear": Polynomial([0, 1]),
    "second": Polynomial([0, 2, -1]),
    "ideal": Polynomial([0, 1 - 0.29, 0.1, -0.01]),
}


class TurboCF(PolynomialFilterRecommender):
    r"""Scores :math:`x\,p(P)` of a user's row x.

    :math:`P = (N^\top N)^{\circ s}` with :math:`N = D_U^{-a} X D_I^{a-1}`; the power s is taken of each entry.

    Keys: properties/model/TurboCF.yaml.
    """

    def response(self, config: Any) -> Response:
        """Return the polynomial of the key ``filter``."""
        return Response(FILTERS[config["filter"]])

    def normalised(self, config: Any, matrix: csr_matrix) -> csr_matrix:
        """Return :math:`D_U^{-a} X D_I^{a-1}`."""
        users, items = degrees(matrix)
        return scaled(matrix, powers(users, -config["alpha"]), powers(items, config["alpha"] - 1))

    def power(self, config: Any) -> float:
        """Return s."""
        return float(config["power"])
