"""DDRM's diffusion on pairs of embeddings: a user's, conditioned on the item's, and an item's, on the user's."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_diffusion.diffusion import Step, randn, row_generators, sample
from recbole_diffusion.diffusion.sampler import Generators, StepCallback
from recbole_diffusion.model.networks.denoiser import ConditionalMLP
from recbole_diffusion.model.process import process_of


class Pairs(NamedTuple):
    """``user``, ``item``: the denoised embeddings, (B, d). ``error``: half the sum of their squared errors, (B,)."""

    user: Tensor
    item: Tensor
    error: Tensor


class Noise(nn.Module):
    """The forward process on embeddings: isotropic. A subclass may restrict its direction (HDRM)."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.process = process_of(config)

    def prepare(self, user: Tensor, item: Tensor) -> None:
        """Told the tables before they are noised; (n_users, d), (n_items, d)."""

    def forward(self, x0: Tensor, t: Tensor, noise: Tensor, users: bool) -> Tensor:
        """x_t. x0, noise: (B, d); t: (B,); ``users``: whether they are embeddings of users or of items."""
        return x0 if self.process is None else self.process.q_sample(x0, t, noise)


class EmbeddingDiffusion(nn.Module):
    """The process, the two networks and the reverse chain, as the keys of DDRM's yaml say.

    Args:
        config: the settings; keys of the process, the network and the inference.
        width: d, of the embeddings.
        noise: the forward process.

    Raises:
        ValueError: noise at inference at a step that there is not.
    """

    reverse: list[Step]

    def __init__(self, config: Any, width: int, noise: Noise) -> None:
        super().__init__()
        self.steps, self.noise, self.guidance = config["steps"], noise, config["guidance"]
        self.user_denoiser, self.item_denoiser = (self._denoiser(config, width) for _ in range(2))
        self.eval_seed = config["eval_seed"]
        last, factor = config["infer_steps"], config["infer_factor"]
        last = max(int(factor * self.steps), 1) if last is None else last
        self.sampling_steps = self.steps if config["sampling_steps"] is None else config["sampling_steps"]
        if self.sampling_steps > self.steps:
            raise ValueError(
                f"sampling_steps={self.sampling_steps} is more than steps={self.steps}; allowed: at most steps"
            )
        if noise.process is None or not last:
            self.reverse = [Step(t, 0.0, 1.0, 0.0) for t in reversed(range(last))]
        else:
            self.reverse = noise.process.ancestral_steps(last, config["sampling_noise"], beyond=True)

    def _denoiser(self, config: Any, width: int) -> ConditionalMLP:
        return ConditionalMLP(
            width,
            width if self.guidance else 0,
            [*reversed(config["dims"]), *config["dims"][1:]],
            time_size=config["time_emb_size"],
            dropout=config["dropout_prob"],
            normalize=config["norm"],
            activation=config["mlp_act_func"],
        )

    def draw(self, size: int, device: torch.device) -> Tensor:
        """A step per pair, uniformly, int64 (size,)."""
        return torch.randint(self.steps, (size,), device=device)

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
        return Pairs(new_user, new_item, (_row_mse(new_user, user) + _row_mse(new_item, item)) / 2)

    def predict(self, network: ConditionalMLP, x: Tensor, t: Tensor, condition: Optional[Tensor]) -> Tensor:
        """The network's estimate of x_0, in x's dtype: under autocast the network alone is in half precision."""
        out = network(x, t, condition if self.guidance else None).to(x.dtype)
        return out if self.noise.process is None else self.noise.process.predict_x0(x, t, out)

    def generators(self, users: Tensor) -> Generators:
        """Each user's own noise at inference; None where there is none."""
        noisy = self.sampling_steps > 0 or any(step.r for step in self.reverse)
        return row_generators(users.tolist(), self.eval_seed, users.device) if noisy else None

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
        x = start
        if self.sampling_steps and self.noise.process is not None:
            t = torch.full((len(x),), self.sampling_steps - 1, device=x.device)
            x = self.noise(x, t, randn(x, generator), users)
        if callback is not None or torch.is_grad_enabled() or network.training or any(s.r for s in self.reverse):
            return sample(lambda state, t: network(state, t, guide), x, self.reverse, generator, callback)
        return network.chain(x, self.reverse, guide)


def mixed(embedding: Tensor, generated: Tensor, share: float) -> Tensor:
    """``share`` of what is generated, the rest of the embedding itself; the generated one as it is for 1."""
    return generated if share == 1 else torch.lerp(embedding, generated, share)


def _row_mse(out: Tensor, target: Tensor) -> Tensor:
    return F.mse_loss(out, target, reduction="none").mean(dim=1)
