"""Riemannian stochastic gradient descent on the Lorentz model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Callable, Optional

import torch
from torch import Tensor

from recbole_diffusion.model.geometry.space import Lorentz


class RiemannianSGD(torch.optim.Optimizer):
    r"""SGD along geodesics (Bonnabel 2013) with parallel transport of the momentum (Bécigneul and Ganea 2019).

    .. math:: b \leftarrow m\,b + \mathrm{grad}(E),\qquad E' = \exp_E(-\eta\, b),\qquad b \leftarrow P_{E \to E'}(b)

    ``grad(E)`` is the Riemannian gradient of the loss, to whose Euclidean gradient ``weight_decay`` times the point is
    added. The buffer b starts as the first Euclidean gradient of the loss, as in the code that HDRM's authors took from
    HGCF (geoopt also starts so, and then projects b). That code is correct for curvature -1 only, this class for any
    curvature.

    Args:
        params: points, (n, d) each, all on the same manifold.
        space: the manifold.
        lr, momentum, weight_decay: as in torch's SGD.

    Raises:
        ValueError: ``lr``, ``momentum`` or ``weight_decay`` is negative.
    """

    def __init__(
        self, params: Iterable[Any], space: Lorentz, lr: float, momentum: float = 0.0, weight_decay: float = 0.0
    ) -> None:
        for name, value in (("learning_rate", lr), ("momentum", momentum), ("weight_decay", weight_decay)):
            if value < 0:
                raise ValueError(f"{name}={value} is not allowed; allowed: at least 0")
        self.space = space
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Optional[Callable[[], Any]] = None) -> Any:
        """Perform one step. A closure is evaluated first, as in torch's optimisers; returns its loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for points in group["params"]:
                if points.grad is not None:
                    self._step(points, group["lr"], group["momentum"], group["weight_decay"])
        return loss

    def _step(self, points: Tensor, lr: float, momentum: float, weight_decay: float) -> None:
        gradient = points.grad.add(points, alpha=weight_decay)  # type: ignore[union-attr]
        if not momentum:
            points.copy_(self.space.exp(points, -lr * self.space.gradient(points, gradient)))
            return
        state = self.state[points]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = points.grad.clone()  # type: ignore[union-attr]
        direction = self.space.gradient(points, gradient).add_(state["momentum_buffer"], alpha=momentum)
        moved = self.space.exp(points, -lr * direction)
        state["momentum_buffer"] = self.space.transport(points, moved, direction)
        points.copy_(moved)
