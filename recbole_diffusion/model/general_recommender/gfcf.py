"""GF-CF: a linear graph filter and an ideal low-pass filter.

Reference:
    Yifei Shen et al. "How Powerful is Graph Convolution for Recommendation?" CIKM 2021.
    https://doi.org/10.1145/3459637.3482264

Reference code:
    https://github.com/yshenaw/GF_CF (commit 0f56771), compared by numbers in tests/model/test_parity_graph_filters.py
"""

from __future__ import annotations

from typing import Any

from numpy.polynomial import Polynomial

from recbole_diffusion.model.interactions.polynomial_filter import PolynomialFilterRecommender, Response


class GFCF(PolynomialFilterRecommender):
    r"""Scores :math:`x P + w\,x J` of a user's row x, with :math:`P = N^\top N`.

    Keys: properties/model/GFCF.yaml.
    """

    def response(self, config: Any) -> Response:
        """Return :math:`p(z) = z` and :math:`q(z) = w`."""
        weight = config["ideal_weight"]
        return Response(Polynomial([0, 1]), Polynomial([weight]) if weight else None, config["ideal_cutoff"])
