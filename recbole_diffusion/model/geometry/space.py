r"""Spaces of embeddings: flat, scored by inner products, or hyperbolic, scored by distances.

A table of embeddings holds tangent vectors at the origin; in the flat space they equal the points. Curvature :math:`-c`
with c > 0 is the Lorentz model of radius :math:`\sqrt K`, :math:`K = 1/c`: the points of :math:`\mathbb R^d` with
:math:`\langle x, x\rangle_L = -x_0^2 + x_1^2 + \dots = -K`, :math:`x_0 > 0`. Sources: Nickel and Kiela 2018; Sun et
al., HGCF, WWW 2021. geoopt's ``Lorentz(k=K)`` is the same manifold; the tests compare with it.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

#: Upper bound of the arguments of sinh and cosh (radius over sqrt K), as in the official code. float32 overflows at 88.
MAX_RADIUS = 15.0


class Space(Protocol):
    """Operations by which recommenders score. Vectors are tangent at the origin, (..., d)."""

    @property
    def curvature(self) -> float:
        """c of the space of curvature -c; 0 for the flat space."""
        ...

    def user_factor(self, x: Tensor) -> Tensor:
        """Left factor of the scores: ``user_factor(x) @ item_factor(y).t()`` orders each row by similarity."""
        ...

    def item_factor(self, y: Tensor) -> Tensor:
        """Right factor of the scores."""
        ...

    def to_points(self, x: Tensor) -> Tensor:
        """Map tangent vectors to points, the arguments of :meth:`similarity`."""
        ...

    def similarity(self, x: Tensor, y: Tensor) -> Tensor:
        """Similarity of pairs of points, for losses: the inner product, or minus the squared distance; (...)."""
        ...


class Flat:
    """The flat space, scored by inner products."""

    curvature = 0.0

    def user_factor(self, x: Tensor) -> Tensor:
        """Return ``x``."""
        return x

    def item_factor(self, y: Tensor) -> Tensor:
        """Return ``y``."""
        return y

    def to_points(self, x: Tensor) -> Tensor:
        """Return ``x``."""
        return x

    def similarity(self, x: Tensor, y: Tensor) -> Tensor:
        """Inner product of pairs, (...)."""
        return (x * y).sum(-1)


class Lorentz:
    """The hyperboloid of curvature -``curvature`` in d coordinates, of which the first is the time.

    The time coordinate of a tangent vector at the origin is 0. Its value is ignored, so that d coordinates mean d - 1
    dimensions, as in the official code of HDRM.

    Args:
        curvature: c > 0.

    Raises:
        ValueError: ``curvature`` is not positive.
    """

    def __init__(self, curvature: float = 1.0) -> None:
        if not curvature > 0:
            raise ValueError(f"curvature={curvature} is not allowed; allowed: above 0")
        self.curvature = curvature
        self.k = 1 / curvature
        self.scale = self.k**0.5

    def exp0(self, u: Tensor) -> Tensor:
        r"""Exponential map at the origin: :math:`(\sqrt K \cosh r,\ u \sinh(r) / r)`, :math:`r = |u| / \sqrt K`."""
        radius, space = self._polar(u)
        return torch.cat([self.scale * radius.cosh(), space], dim=-1)

    def log0(self, x: Tensor) -> Tensor:
        r"""Logarithmic map at the origin, the inverse of :meth:`exp0`.

        :math:`r` is computed from the space coordinates, because asinh is exact for small arguments.
        """
        space = x[..., 1:]
        length = space.norm(dim=-1, keepdim=True).clamp_min(_tiny(x))
        u = self.scale * torch.asinh(length / self.scale) / length * space
        return torch.cat([torch.zeros_like(length), u], dim=-1)

    def inner(self, x: Tensor, y: Tensor) -> Tensor:
        r"""Minkowski product :math:`\langle x, y\rangle_L`, (..., 1)."""
        product = x * y
        return product[..., 1:].sum(-1, keepdim=True) - product[..., :1]

    def sqdist(self, x: Tensor, y: Tensor) -> Tensor:
        r"""Squared distance of points: :math:`d^2 = K\,\mathrm{arcosh}^2(-\langle x,y\rangle_L / K)`, (...).

        Computed from :math:`-\langle x,y\rangle_L/K = 1 + \delta`, :math:`\delta = \langle x-y, x-y\rangle_L / 2K`,
        which avoids cancellation for small distances. The official code also clamps :math:`d^2` to 50, this one does
        not.
        """
        difference = x - y
        delta = (self.inner(difference, difference) / (2 * self.k)).squeeze(-1).clamp_min(_tiny(x))
        return self.k * torch.log1p(delta + (delta * (delta + 2)).sqrt()).square()

    def project(self, x: Tensor) -> Tensor:
        """Project to the hyperboloid: keep the space coordinates and recompute the time coordinate."""
        space = x[..., 1:]
        return torch.cat([(self.k + space.square().sum(-1, keepdim=True)).sqrt(), space], dim=-1)

    def gradient(self, x: Tensor, g: Tensor) -> Tensor:
        r"""Riemannian gradient from the Euclidean gradient g at points x: :math:`Jg + \langle x, Jg\rangle_L\, x / K`.

        J is the matrix of the Minkowski metric.
        """
        g = _flip_time(g)
        return torch.addcmul(g, x, self.inner(x, g) / self.k)

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        """Exponential map at points x of tangent vectors v at x."""
        length = (self.inner(v, v) / self.k).clamp_min(0).sqrt().clamp(_tiny(x), MAX_RADIUS)
        return self.project(length.cosh() * x + length.sinh() / length * v)

    def transport(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        r"""Parallel transport of tangent vectors v from x to y along the geodesic: :math:`v + \beta (x + y)`.

        :math:`\beta = (\langle y,v\rangle + \langle x,v\rangle \langle x,y\rangle / K) / (K - \langle x,y\rangle)`.
        The second term is nonzero only for a v that is not tangent, like the first buffer of :class:`RiemannianSGD`.
        The result is projected to the tangent space at y.
        """
        product = self.inner(x, y)
        beta = (self.inner(y, v) + self.inner(x, v) * product / self.k) / (self.k - product)
        space = torch.addcmul(v, beta, x + y)[..., 1:]
        return torch.cat([(y[..., 1:] * space).sum(-1, keepdim=True) / y[..., :1], space], dim=-1)

    def user_factor(self, x: Tensor) -> Tensor:
        r"""Left factor :math:`(-x_0, x_1, \dots)` of the points; scores are :math:`\langle x,y\rangle_L + \sqrt K x_0`.

        The second term is the same for all items of a user, and distances from a point order as Minkowski products do.
        """
        return _flip_time(self.exp0(x))

    def item_factor(self, y: Tensor) -> Tensor:
        r"""Right factor :math:`(y_0 - \sqrt K, y_1, \dots)` of the points.

        Near the origin all Minkowski products are close to -K, and float32 would lose their differences. Subtracting
        :math:`\sqrt K` by :math:`\cosh r - 1 = 2 \sinh^2(r/2)` keeps them.
        """
        radius, space = self._polar(y)
        return torch.cat([2 * self.scale * (radius / 2).sinh().square(), space], dim=-1)

    def to_points(self, x: Tensor) -> Tensor:
        """Map tangent vectors at the origin to points by :meth:`exp0`."""
        return self.exp0(x)

    def similarity(self, x: Tensor, y: Tensor) -> Tensor:
        """Minus the squared distance of pairs of points, (...)."""
        return -self.sqdist(x, y)

    def _polar(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Radius over sqrt K, and space coordinates of the point, for tangent vectors u at the origin."""
        space = u[..., 1:]
        length = space.norm(dim=-1, keepdim=True)
        radius = (length / self.scale).clamp(_tiny(u), MAX_RADIUS)
        return radius, radius.sinh() / length.clamp_min(_tiny(u) * self.scale) * self.scale * space


FLAT = Flat()


def space_of(curvature: float) -> Space:
    """Return the flat space for 0, otherwise the Lorentz model of curvature -``curvature``."""
    return Lorentz(curvature) if curvature else FLAT


def _flip_time(x: Tensor) -> Tensor:
    """Flip the sign of the time coordinate: the matrix of the Minkowski metric times x."""
    return torch.cat([-x[..., :1], x[..., 1:]], dim=-1)


def _tiny(x: Tensor) -> float:
    """Lower bound of lengths that keeps their squares and the gradients finite."""
    return 1e-7 if x.dtype == torch.float32 else 1e-14
