"""DiffRec's diffusion on vectors: users' rows over the items (DiffRec, T-DiffRec) or their latents (L-, LT-DiffRec)."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_diffusion.diffusion import (
    Step,
    make_sampler,
    randn,
    row_generators,
    sample,
)
from recbole_diffusion.diffusion.sampler import Generators, StepCallback
from recbole_diffusion.model.networks.denoiser import RowMLP
from recbole_diffusion.model.process import process_of


class Denoised(NamedTuple):
    """``loss``: one value per row (B,), or their mean; float64. ``x0``: the estimate of the clean vectors, (B, d)."""

    loss: Tensor
    x0: Tensor


class VectorDiffusion(nn.Module):
    """The process, the law of the steps, the network and the reverse chain, as the keys of DiffRec's yaml say.

    Args:
        config: the settings; keys of the process, the loss, the inference and the network.
        width: d, of the vectors.
        bias_std: how the network's biases start; see :class:`RowMLP`.

    Raises:
        ValueError: more steps at inference than there are.
    """

    reverse: list[Step]

    def __init__(self, config: Any, width: int, bias_std: float) -> None:
        super().__init__()
        self.steps = config["steps"]
        self.process = process_of(config)
        self.reweight, self.first_step_weight = config["reweight"], config["first_step_weight"]
        self.timesteps = make_sampler(
            config["timestep_sampling"], self.steps, config["history_num_per_term"], config["uniform_prob"]
        )
        hidden = config["dims_dnn"] or [*reversed(config["dims"]), *config["dims"][1:]]
        self.denoiser = RowMLP(
            [width, *hidden, width],
            time_size=config["embedding_size"],
            dropout=config["dropout_prob"],
            normalize=config["norm"],
            activation=config["mlp_act_func"],
            bias_std=bias_std,
        )
        self.sampling_steps, self.eval_seed = config["sampling_steps"], config["eval_seed"]
        self.reverse = self._reverse_steps(config["infer_steps"] or self.steps, config["sampling_noise"])

    def _reverse_steps(self, last: int, noise: bool) -> list[Step]:
        if last > self.steps or self.sampling_steps > self.steps:
            name, value = ("infer_steps", last) if last > self.steps else ("sampling_steps", self.sampling_steps)
            raise ValueError(f"{name}={value} is more than steps={self.steps}; allowed: at most steps")
        if self.process is None:
            return [Step(t, 0.0, 1.0, 0.0) for t in reversed(range(last))]
        return self.process.ancestral_steps(last, noise)

    def loss(self, x0: Tensor) -> Denoised:
        """Mean over the rows of the weighted squared error at a random step (DiffRec, eq. 9 to 12). x0: (B, d)."""
        t, ratio = self.timesteps.sample(len(x0))
        found = self.row_loss(x0, t, torch.randn_like(x0))
        self.timesteps.update(t, found.loss)
        return Denoised((found.loss / ratio).mean(), found.x0)

    def row_loss(self, x0: Tensor, t: Tensor, noise: Tensor) -> Denoised:
        """The weighted error of each row. x0, noise: (B, d); t: (B,)."""
        if self.process is None:
            out = self.denoiser(x0, t)
            return Denoised(_row_mse(out, x0).double(), out)
        x_t = self.process.q_sample(x0, t, noise)
        out = self.denoiser(x_t, t)
        found = self.process.predict_x0(x_t, t, out)
        error = _row_mse(out, self.process.target(x0, t, noise))
        if self.process.prediction == "eps" and self.reweight:
            # The bound's first term is the likelihood of x0, not an error of eps.
            error = torch.where(t == 0, _row_mse(found, x0) / 2, error)
        weights = self.process.loss_weights(self.first_step_weight)[t] if self.reweight else 1.0
        return Denoised(weights * error.double(), found)

    def generators(self, users: Tensor) -> Generators:
        """Each user's own noise at inference; None where there is none."""
        noisy = self.sampling_steps > 0 or any(step.r for step in self.reverse)
        return row_generators(users.tolist(), self.eval_seed, users.device) if noisy else None

    def denoise(self, x: Tensor, generator: Generators = None, callback: Optional[StepCallback] = None) -> Tensor:
        """The reverse chain from x (B, d).

        A callback, noise or gradients make the chain visit all d places at every step; otherwise it is folded (see
        :meth:`RowMLP.chain`), the same up to rounding.
        """
        if self.sampling_steps and self.process is not None:
            t = torch.full((len(x),), self.sampling_steps - 1, device=x.device)
            x = self.process.q_sample(x, t, randn(x, generator))
        plain = callback is not None or self.denoiser.normalize or any(step.r for step in self.reverse)
        if plain or self.denoiser.training or torch.is_grad_enabled():
            return sample(self.denoiser, x, self.reverse, generator, callback)
        return self.denoiser.chain(x, self.reverse)


def _row_mse(out: Tensor, target: Tensor) -> Tensor:
    return F.mse_loss(out, target, reduction="none").mean(dim=1)
