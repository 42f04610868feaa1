r"""The spaces that embeddings live in: flat, scored by inner products, or hyperbolic, scored by distances.

A table of embeddings holds tangent vectors at the origin; in the flat space they are the points themselves. Curvature
:math:`-c` with c > 0 is the Lorentz model of radius :math:`\sqrt K`, :math:`K = 1/c`: the points of
:math:`\mathbb R^d` with :math:`\langle x, x\rangle_L = -x_0^2 + x_1^2 + \dots = -K`, :math:`x_0 > 0`. Sources: Nickel
and Kiela 2018; Sun et al., HGCF, WWW 2021. geoopt's ``Lorentz(k=K)`` is the same manifold; tests compare with it.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

#: sinh and cosh beyond this radius (over sqrt K) are cut off, as in the official code: float32 ends at 88.
MAX_RADIUS = 15.0


class Space(Protocol):
    """What a recommender needs of it. Vectors are (..., d), tangent at the origin."""

    @property
    def curvature(self) -> float: ...

    def user_factor(self, x: Tensor) -> Tensor:
        """The left factor of the scores: ``user_factor(x) @ item_factor(y).t()`` ranks each row by similarity."""
        ...

    def item_factor(self, y: Tensor) -> Tensor:
        """The right factor."""
        ...

    def to_points(self, x: Tensor) -> Tensor:
        """What :meth:`similarity` takes."""
        ...

    def similarity(self, x: Tensor, y: Tensor) -> Tensor:
        """Of pairs of points, for losses: the inner product, or minus the squared distance; (...)."""
        ...


class Flat:
    """Inner products."""

    curvature = 0.0

    def user_factor(self, x: Tensor) -> Tensor:
        return x

    def item_factor(self, y: Tensor) -> Tensor:
        return y

    def to_points(self, x: Tensor) -> Tensor:
        return x

    def similarity(self, x: Tensor, y: Tensor) -> Tensor:
        return (x * y).sum(-1)


class Lorentz:
    """The hyperboloid of curvature -``curvature`` in d coordinates, of which the first is the time.

    A tangent vector at the origin has the time 0; whatever stands there is ignored, so that d coordinates mean d - 1
    dimensions, as in the official code of HDRM.
    """

    def __init__(self, curvature: float = 1.0) -> None:
        if not curvature > 0:
            raise ValueError(f"curvature={curvature} is not allowed; allowed: above 0")
        self.curvature = curvature
        self.k = 1 / curvature
        self.scale = self.k**0.5

    def exp0(self, u: Tensor) -> Tensor:
        r""":math:`(\sqrt K \cosh r,\ u \sinh(r) / r)` with :math:`r = |u| / \sqrt K`; a point, (..., d)."""
        radius, space = self._polar(u)
        return torch.cat([self.scale * radius.cosh(), space], dim=-1)

    def log0(self, x: Tensor) -> Tensor:
        r"""The inverse of :meth:`exp0`. :math:`r` comes from the space coordinates: asinh keeps small ones exact."""
        space = x[..., 1:]
        length = space.norm(dim=-1, keepdim=True).clamp_min(_tiny(x))
        u = self.scale * torch.asinh(length / self.scale) / length * space
        return torch.cat([torch.zeros_like(length), u], dim=-1)

    def inner(self, x: Tensor, y: Tensor) -> Tensor:
        r""":math:`\langle x, y\rangle_L`, (..., 1)."""
        product = x * y
        return product[..., 1:].sum(-1, keepdim=True) - product[..., :1]

    def sqdist(self, x: Tensor, y: Tensor) -> Tensor:
        r""":math:`d^2 = K\,\mathrm{arcosh}^2(-\langle x,y\rangle_L / K)` of points, (...).

        With :math:`-\langle x,y\rangle_L/K = 1 + \delta`, :math:`\delta = \langle x-y, x-y\rangle_L / 2K`, small
        distances keep their digits. The official code also cuts :math:`d^2` off at 50; that is not done here.
        """
        gap = x - y
        delta = (self.inner(gap, gap) / (2 * self.k)).squeeze(-1).clamp_min(_tiny(x))
        return self.k * torch.log1p(delta + (delta * (delta + 2)).sqrt()).square()

    def project(self, x: Tensor) -> Tensor:
        """The point with the same space coordinates."""
        space = x[..., 1:]
        return torch.cat([(self.k + space.square().sum(-1, keepdim=True)).sqrt(), space], dim=-1)

    def gradient(self, x: Tensor, g: Tensor) -> Tensor:
        r"""The Riemannian gradient of a Euclidean one at the points x: :math:`Jg + \langle x, Jg\rangle_L\, x / K`."""
        g = _mirrored(g)
        return torch.addcmul(g, x, self.inner(x, g) / self.k)

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        """From x along the tangent vector v there."""
        length = (self.inner(v, v) / self.k).clamp_min(0).sqrt().clamp(_tiny(x), MAX_RADIUS)
        return self.project(length.cosh() * x + length.sinh() / length * v)

    def transport(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        r"""The tangent vector v at x, parallel along the geodesic to y: :math:`v + \beta (x + y)`.

        :math:`\beta = (\langle y,v\rangle + \langle x,v\rangle \langle x,y\rangle / K) / (K - \langle x,y\rangle)`,
        where the second term is for a v that is not tangent, the first buffer of :class:`RiemannianSGD`; what comes out
        is made tangent.
        """
        product = self.inner(x, y)
        along = (self.inner(y, v) + self.inner(x, v) * product / self.k) / (self.k - product)
        space = torch.addcmul(v, along, x + y)[..., 1:]
        return torch.cat([(y[..., 1:] * space).sum(-1, keepdim=True) / y[..., :1], space], dim=-1)

    def user_factor(self, x: Tensor) -> Tensor:
        r""":math:`(-x_0, x_1, \dots)` of the points. The scores are :math:`\langle x,y\rangle_L + \sqrt K x_0`."""
        return _mirrored(self.exp0(x))

    def item_factor(self, y: Tensor) -> Tensor:
        r""":math:`(y_0 - \sqrt K, y_1, \dots)`: what is left out is the same for all items of a user.

        Distances of one point order as Minkowski products do. Near the origin those are all close to -K, and float32
        would round the differences away; :math:`\cosh r - 1 = 2 \sinh^2(r/2)` keeps them.
        """
        radius, space = self._polar(y)
        return torch.cat([2 * self.scale * (radius / 2).sinh().square(), space], dim=-1)

    def to_points(self, x: Tensor) -> Tensor:
        return self.exp0(x)

    def similarity(self, x: Tensor, y: Tensor) -> Tensor:
        return -self.sqdist(x, y)

    def _polar(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Radius over sqrt K and the point's space coordinates, of tangent vectors at the origin."""
        space = u[..., 1:]
        length = space.norm(dim=-1, keepdim=True)
        radius = (length / self.scale).clamp(_tiny(u), MAX_RADIUS)
        return radius, radius.sinh() / length.clamp_min(_tiny(u) * self.scale) * self.scale * space


FLAT = Flat()


def space_of(curvature: float) -> Space:
    """The flat space for 0, otherwise the Lorentz model of curvature -``curvature``."""
    return Lorentz(curvature) if curvature else FLAT


def _mirrored(x: Tensor) -> Tensor:
    """The metric's matrix times x: the sign of the time coordinate turned."""
    return torch.cat([-x[..., :1], x[..., 1:]], dim=-1)


def _tiny(x: Tensor) -> float:
    """Below it a length counts as none: its square is still a number, and gradients stay finite."""
    return 1e-7 if x.dtype == torch.float32 else 1e-14
