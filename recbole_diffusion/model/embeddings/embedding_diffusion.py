"""DDRM's diffusion on pairs of embeddings: the user's conditioned on the item's, and the item's on the user's."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor, nn

from recbole_diffusion.diffusion import Generators, StepCallback, full_time, randn, row_mse
from recbole_diffusion.model.networks.conditional_mlp import ConditionalMLP, Conditioned
from recbole_diffusion.model.process import process_of
from recbole_diffusion.model.reverse import ReverseProcess


class DenoisedPairs(NamedTuple):
    """Denoised embeddings of (user, item) pairs, with their error.

    ``user``, ``item``: (B, d). ``error``: half the sum of their mean squared errors, (B,).
    """

    user: Tensor
    item: Tensor
    error: Tensor


class EmbeddingNoise(nn.Module):
    """Forward process on embeddings with isotropic noise. A subclass may restrict the direction of the noise (HDRM)."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.process = process_of(config, "embeddings").process

    def prepare(self, user: Tensor, item: Tensor) -> None:
        """Compute statistics of the embeddings, (n_users, d) and (n_items, d), before they are noised."""

    def forward(self, x0: Tensor, t: Tensor, noise: Tensor, is_user: bool) -> Tensor:
        """Noise embeddings to x_t. x0, noise: (B, d); t: (B,); ``is_user``: of users, otherwise of items."""
        return self.process.sample(x0, t, noise).x_t


class EmbeddingDiffusion(ReverseProcess, nn.Module):
    """Process, solver and the two denoising networks of DDRM, made from its keys.

    Args:
        config: the settings; keys of the process, the network and the inference.
        width: width d of the embeddings.
        noise: the forward process.

    Raises:
        ValueError: ``sampling_steps`` is more than ``steps``.
    """

    def __init__(self, config: Any, width: int, noise: EmbeddingNoise) -> None:
        super().__init__()
        self.steps, self.noise, self.guidance = config["steps"], noise, config["guidance"]
        self.user_denoiser, self.item_denoiser = (self._denoiser(config, width) for _ in range(2))
        self.eval_seed = config["eval_seed"]
        _, self.solver, self.timesteps, self.sampling_steps = process_of(config, "embeddings")

    def _denoiser(self, config: Any, width: int) -> ConditionalMLP:
        return ConditionalMLP(
            width,
            width if self.guidance else 0,
            [*reversed(config["dims"]), *config["dims"][1:]],
            time_size=config["time_emb_size"],
            dropout=config["dropout_prob"],
            normalize=config["norm"],
            activation=config["mlp_act_func"],
            time_scale=self.noise.process.time_scale,
        )

    @property
    def process(self) -> Any:
        """The forward process."""
        return self.noise.process

    def sample_times(self, size: int, device: torch.device) -> Tensor:
        """Draw a time per pair, (size,)."""
        return self.timesteps.sample(size).t.to(device)

    def source(self, like: Tensor) -> Tensor:
        """Draw noise for the users or the items of the pairs, with the shape and device of ``like`` (B, d)."""
        return self.noise.process.source(like, lambda like: torch.randn(*like.shape, device=like.device))

    def denoise_pairs(
        self, user: Tensor, item: Tensor, t: Tensor, user_noise: Tensor, item_noise: Tensor, mix: float = 1.0
    ) -> DenoisedPairs:
        """Noise both embeddings of each pair to the same step and denoise them with one call of each network.

        DDRM, section 3.1, with HDRM's interpolation.

        Args:
            user, item, user_noise, item_noise: (B, d).
            t: (B,).
            mix: weight of the networks' estimates; the embeddings themselves have weight 1 - mix.
        """
        noisy_user = self.noise(user, t, user_noise, is_user=True)
        noisy_item = self.noise(item, t, item_noise, is_user=False)
        denoised_user = interpolate(user, self.predict(self.user_denoiser, noisy_user, t, item), mix)
        denoised_item = interpolate(item, self.predict(self.item_denoiser, noisy_item, t, user), mix)
        error = (row_mse(denoised_user, user) + row_mse(denoised_item, item)) / 2
        return DenoisedPairs(denoised_user, denoised_item, error)

    def predict(self, network: ConditionalMLP, x: Tensor, t: Tensor, condition: Optional[Tensor]) -> Tensor:
        """Estimate x_0 in the dtype of ``x``: under autocast only the network runs in half precision."""
        out = network(x, t, condition if self.guidance else None).to(x.dtype)
        return self.noise.process.x0_from_output(out, x, t)

    def generate(
        self,
        start: Tensor,
        condition: Tensor,
        generator: Generators = None,
        is_user: bool = False,
        callback: Optional[StepCallback] = None,
    ) -> Tensor:
        """Noise the start and run the reverse process of one network (DDRM, section 3.2).

        Args:
            start: (B, d).
            condition: (B, d), embeddings of the counterparts, without noise.
            generator: source of the noise.
            is_user: use the network of the users; otherwise that of the items.
            callback: called after each step.

        Returns:
            The generated embeddings, (B, d).
        """
        network = self.user_denoiser if is_user else self.item_denoiser
        x, process = start, self.noise.process
        if self.sampling_steps:
            t = full_time(process.time_after(self.sampling_steps), x)
            x = self.noise(x, t, process.source(x, lambda like: randn(like, generator)), is_user)
        return self.solver.solve(Conditioned(network, condition if self.guidance else None), x, generator, callback)


def interpolate(embedding: Tensor, generated: Tensor, weight: float) -> Tensor:
    """Interpolate linearly: ``weight * generated + (1 - weight) * embedding``; exactly ``generated`` for weight 1."""
    return generated if weight == 1 else torch.lerp(embedding, generated, weight)
