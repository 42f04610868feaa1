"""BSPM: blurring and sharpening of users' rows, a training-free process of two differential equations.

Reference:
    Jeongwhan Choi et al. "Blurring-Sharpening Process Models for Collaborative Filtering." SIGIR 2023.
    https://arxiv.org/abs/2211.09324

Reference code:
    https://github.com/jeongwhanchoi/BSPM (commit c5cdcfa), compared by numbers in
    tests/model/test_parity_graph_filters.py
"""

from __future__ import annotations

from typing import Any

from numpy.polynomial import Polynomial

from recbole_diffusion.model.interactions.polynomial_filter import PolynomialFilterRecommender, Response

#: Stability polynomials: a step of size h of :math:`r' = -A r` multiplies r by :math:`q(hA)`. All Runge-Kutta methods
#: with four stages and order four have the same one.
SOLVERS = {"euler": Polynomial([1, -1]), "rk4": Polynomial([1, -1, 1 / 2, -1 / 6, 1 / 24])}
#: P itself.
IDENTITY = Polynomial([0, 1])


def states(solver: str, operator: Polynomial, duration: float, steps: int) -> list[Polynomial]:
    r"""Solve :math:`r' = -A r`, :math:`r(0) = 1`, where A is a polynomial of P.

    Args:
        solver: ``euler`` or ``rk4``.
        operator: A.
        duration, steps: the end of the interval, and the number of equal steps.

    Returns:
        The states after each step, as polynomials of P.
    """
    step = SOLVERS[solver](operator * (duration / steps))
    return [step**count for count in range(1, steps + 1)]


class BSPM(PolynomialFilterRecommender):
    r"""Blur a user's row x over the graph of items, then sharpen it; both are polynomials of P.

    - Blurring integrates :math:`r' = rP - r` from x; one Euler step over [0, 1] is :math:`xP`.
    - The ideal low-pass filter integrates :math:`l' = lJ - l` from x, likewise.
    - Sharpening integrates :math:`r' = -rP` from the blurred row, to which the low-pass row is added first with
      ``merge: early`` and in the end with ``merge: late``, with weight ``ideal_weight``.

    Keys: properties/model/BSPM.yaml. The official names: docs/models/graph_filters.md.
    """

    def response(self, config: Any) -> Response:
        """Return the polynomials of the whole process."""
        blurred = states("euler", 1 - IDENTITY, config["blurring_time"], config["blurring_steps"])
        sharpening = []
        if config["sharpening_time"]:
            sharpening = states(config["solver"], IDENTITY, config["sharpening_time"], config["sharpening_steps"])
        all_states = [*blurred, *(blurred[-1] * state for state in sharpening)]
        is_averaged = config["average_states"]
        rows = sum(all_states, Polynomial([0])) / len(all_states) if is_averaged else all_states[-1]
        weight = config["ideal_weight"]
        if not weight:
            return Response(rows)
        ideal = Polynomial([1])
        if config["merge"] == "early" and sharpening:
            ideal = sum(sharpening, Polynomial([0])) / len(all_states) if is_averaged else sharpening[-1]
        # J is a projection, so that the Euler steps of the low-pass filter give x (kept + (1 - kept) J).
        kept = (1 - config["ideal_time"] / config["ideal_steps"]) ** config["ideal_steps"]
        return Response(rows + weight * kept * ideal, weight * (1 - kept) * ideal, config["ideal_cutoff"])
