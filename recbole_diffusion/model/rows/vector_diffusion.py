"""DiffRec's diffusion on vectors: users' rows (DiffRec, T-DiffRec) or their latents (L-DiffRec, LT-DiffRec)."""

from __future__ import annotations

from typing import Any, Callable, NamedTuple, Optional

import torch
from torch import Tensor, nn

from recbole_diffusion.diffusion import Generators, StepCallback, full_time, randn
from recbole_diffusion.model.networks.denoiser import RowMLP
from recbole_diffusion.model.process import DiffusionParts, process_of
from recbole_diffusion.model.reverse import ReverseProcess

#: ``make_denoiser(config, width, time_scale)``: see :meth:`RowRecommender.make_denoiser`.
MakeDenoiser = Callable[[Any, int, float], nn.Module]


def row_mlp(config: Any, width: int, time_scale: float = 1.0, bias_std: float = 0.0) -> RowMLP:
    """Make DiffRec's network from its keys.

    Args:
        config: the settings; keys of the network.
        width: width d of the vectors.
        time_scale: the time embedding is computed from ``t * time_scale``.
        bias_std: standard deviation of the initial biases.
    """
    hidden = config["dims_dnn"] or [*reversed(config["dims"]), *config["dims"][1:]]
    return RowMLP(
        [width, *hidden, width],
        time_size=config["embedding_size"],
        dropout=config["dropout_prob"],
        normalize=config["norm"],
        activation=config["mlp_act_func"],
        bias_std=bias_std,
        time_scale=time_scale,
    )


class DenoisingLoss(NamedTuple):
    """``loss``: one value per row (B,), or their mean; float64. ``x0``: the estimate of the clean vectors, (B, d)."""

    loss: Tensor
    x0: Tensor


class VectorDiffusion(ReverseProcess, nn.Module):
    """Process, solver, timestep sampler and network.

    Args:
        config: the settings; keys of the process, the loss, the inference and the network.
        width: width d of the vectors.
        make_denoiser: makes the network; see :meth:`RowRecommender.make_denoiser`.
        parts: process, solver and timestep sampler; None: made from the keys of DiffRec.

    Raises:
        ValueError: ``inference_steps`` or ``sampling_steps`` is more than ``steps``.
    """

    def __init__(
        self,
        config: Any,
        width: int,
        make_denoiser: MakeDenoiser = row_mlp,
        parts: Optional[DiffusionParts] = None,
    ) -> None:
        super().__init__()
        parts = process_of(config, "rows") if parts is None else parts
        self.process, self.solver, self.timesteps, self.sampling_steps = parts
        self.eval_seed = config["eval_seed"]
        self.denoiser = make_denoiser(config, width, self.process.time_scale)

    def loss(self, x0: Tensor) -> DenoisingLoss:
        """Compute the mean over the rows of their loss at random times, and update the timestep sampler. x0: (B, d)."""
        t, ratio = self.timesteps.sample(len(x0))
        rows = self.row_loss(x0, t, self.process.source(x0, torch.randn_like))
        self.timesteps.update(t, rows.loss)
        return DenoisingLoss((rows.loss / ratio).mean(), rows.x0)

    def row_loss(self, x0: Tensor, t: Tensor, source: Tensor) -> DenoisingLoss:
        """Compute the loss of each row at given times. x0, source: (B, d); t: (B,)."""
        point = self.process.sample(x0, t, source)
        out = self.denoiser(point.x_t, t)
        x0_hat = self.process.x0_from_output(out, point.x_t, t)
        return DenoisingLoss(self.process.loss(out, x0_hat, point, t), x0_hat)

    def denoise(self, x: Tensor, generator: Generators = None, callback: Optional[StepCallback] = None) -> Tensor:
        """Run the reverse process from x (B, d), after ``sampling_steps`` forward steps.

        Without callback, noise and gradients, affine steps are folded (see :meth:`RowMLP.chain`). The result is the
        same up to rounding.
        """
        if self.sampling_steps:
            t = full_time(self.process.time_after(self.sampling_steps), x)
            x = self.process.sample(x, t, self.process.source(x, lambda like: randn(like, generator))).x_t
        return self.solver.solve(self.denoiser, x, generator, callback)
