"""DDRM's diffusion on pairs of embeddings: a user's, conditioned on the item's, and an item's, on the user's."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor, nn

from recbole_diffusion.diffusion import Generators, StepCallback, full_time, randn, row_mse
from recbole_diffusion.model.networks.denoiser import ConditionalMLP, Conditioned
from recbole_diffusion.model.process import process_of
from recbole_diffusion.model.reverse import Reverse


class Pairs(NamedTuple):
    """``user``, ``item``: the denoised embeddings, (B, d). ``error``: half the sum of their squared errors, (B,)."""

    user: Tensor
    item: Tensor
    error: Tensor


class Noise(nn.Module):
    """The forward process on embeddings: isotropic. A subclass may restrict its direction (HDRM)."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.process = process_of(config, "embeddings").process

    def prepare(self, user: Tensor, item: Tensor) -> None:
        """Told the tables before they are noised; (n_users, d), (n_items, d)."""

    def forward(self, x0: Tensor, t: Tensor, noise: Tensor, users: bool) -> Tensor:
        """x_t. x0, noise: (B, d); t: (B,); ``users``: whether they are embeddings of users or of items."""
        return self.process.sample(x0, t, noise).x_t


class EmbeddingDiffusion(Reverse, nn.Module):
    """The process, the two networks and the solver, as the keys of DDRM's yaml say.

    Args:
        config: the settings; keys of the process, the network and the inference.
        width: d, of the embeddings.
        noise: the forward process.

    Raises:
        ValueError: noise at inference at a step that there is not.
    """

    def __init__(self, config: Any, width: int, noise: Noise) -> None:
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

    def draw(self, size: int, device: torch.device) -> Tensor:
        """A time per pair, (size,)."""
        return self.timesteps.sample(size).t.to(device)

    def source(self, like: Tensor) -> Tensor:
        """The noise of the pairs' one side, shape and device of ``like`` (B, d)."""
        return self.noise.process.source(like, lambda like: torch.randn(*like.shape, device=like.device))

    def denoise_pairs(
        self, user: Tensor, item: Tensor, t: Tensor, user_noise: Tensor, item_noise: Tensor, mix: float = 1.0
    ) -> Pairs:
        """One call of each network on the noised pair at the same step (DDRM, section 3.1; HDRM's mixing).

        Args:
            user, item, user_noise, item_noise: (B, d).
            t: (B,).
            mix: share of the network's output; the rest is the embedding itself.
        """
        noisy_user = self.noise(user, t, user_noise, users=True)
        noisy_item = self.noise(item, t, item_noise, users=False)
        new_user = mixed(user, self.predict(self.user_denoiser, noisy_user, t, item), mix)
        new_item = mixed(item, self.predict(self.item_denoiser, noisy_item, t, user), mix)
        return Pairs(new_user, new_item, (row_mse(new_user, user) + row_mse(new_item, item)) / 2)

    def predict(self, network: ConditionalMLP, x: Tensor, t: Tensor, condition: Optional[Tensor]) -> Tensor:
        """The network's estimate of x_0, in x's dtype: under autocast the network alone is in half precision."""
        out = network(x, t, condition if self.guidance else None).to(x.dtype)
        return self.noise.process.x0_from_output(out, x, t)

    def generate(
        self,
        start: Tensor,
        condition: Tensor,
        generator: Generators = None,
        users: bool = False,
        callback: Optional[StepCallback] = None,
    ) -> Tensor:
        """Noise the start, then walk the reverse chain of one network (DDRM, section 3.2).

        Args:
            start: (B, d).
            condition: (B, d), of the counterpart, without noise.
            generator: where the noise comes from.
            users: with the users' network; otherwise with the items'.
            callback: sees each step.
        """
        network, guide = (self.user_denoiser if users else self.item_denoiser), condition if self.guidance else None
        x, process = start, self.noise.process
        if self.sampling_steps:
            t = full_time(process.time_after(self.sampling_steps), x)
            x = self.noise(x, t, process.source(x, lambda like: randn(like, generator)), users)
        return self.solver.solve(Conditioned(network, guide), x, generator, callback)


def mixed(embedding: Tensor, generated: Tensor, share: float) -> Tensor:
    """``share`` of what is generated, the rest of the embedding itself; the generated one as it is for 1."""
    return generated if share == 1 else torch.lerp(embedding, generated, share)
