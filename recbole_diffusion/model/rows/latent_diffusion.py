"""Latent diffusion of L-DiffRec: auto-encoder, diffusion on its latents, and the annealed weights of the losses."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor, nn

from recbole_diffusion.diffusion import Generators, StepCallback
from recbole_diffusion.model.loss_parts import left_out
from recbole_diffusion.model.rows.autoencoder import ClusterAutoencoder, multinomial_loss
from recbole_diffusion.model.rows.history import SparseRows
from recbole_diffusion.model.rows.vector_diffusion import MakeDenoiser, VectorDiffusion, row_mlp


class LatentLosses(NamedTuple):
    """Weighted terms of the loss, scalars; training minimises their sum."""

    diffusion: Tensor
    reconstruction: Tensor
    kl: Tensor

    def without(self, parts: Collection[str]) -> LatentLosses:
        """Return the losses with zeros for the given parts, which then train nothing."""
        return self._replace(**{part: torch.zeros_like(getattr(self, part)) for part in parts})


class Annealing(nn.Module):
    r"""Annealed weights :math:`\lambda` of the diffusion loss and :math:`\gamma` of the KL term.

    :math:`\lambda = \max(\mathrm{lamda}\,(1 - \mathrm{epochs} / \mathrm{steps}),\ \mathrm{cap})` falls by *epochs*;
    :math:`\gamma = \min(\mathrm{batches} / \mathrm{vae\_steps},\ \mathrm{vae\_cap})` rises by *batches*, as in the
    official code. RecBole counts both by batches. With 0 steps a weight is constant.

    Args:
        lamda, steps, cap: start, number of epochs and lower bound of :math:`\lambda`.
        vae_steps, vae_cap: number of batches and upper bound of :math:`\gamma`.

    Buffers:
        batches, epochs: int64, numbers of finished batches and epochs; in the checkpoint.
    """

    batches: Tensor
    epochs: Tensor

    def __init__(self, lamda: float, steps: int, cap: float, vae_steps: int, vae_cap: float) -> None:
        super().__init__()
        self.start, self.steps, self.cap, self.vae_steps, self.vae_cap = lamda, steps, cap, vae_steps, vae_cap
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        self.register_buffer("epochs", torch.zeros((), dtype=torch.int64))

    def weights(self) -> tuple[Tensor, Tensor]:
        r"""Return :math:`(\lambda, \gamma)` of the next batch, float64 scalars."""
        decay = 1 - self.epochs.double() / self.steps if self.steps > 0 else torch.ones_like(self.epochs).double()
        gamma = self.batches.double() / self.vae_steps if self.vae_steps > 0 else torch.full_like(decay, torch.inf)
        return (decay * self.start).clamp(min=self.cap), gamma.clamp(max=self.vae_cap)


class LatentDiffusion(nn.Module):
    """Auto-encoder, diffusion on its latents, and annealing of the loss weights.

    Args:
        config: the settings; keys of properties/model/LDiffRec.yaml.
        labels: (n_items,), the cluster of each item.
        make_denoiser: makes the network on the latents; see :meth:`RowRecommender.make_denoiser`.
    """

    def __init__(self, config: Any, labels: Tensor, make_denoiser: MakeDenoiser = row_mlp) -> None:
        super().__init__()
        self.reparam, self.reweight = config["reparam"], config["reweight"]
        self.left_out = left_out(config, LatentLosses._fields)
        self.autoencoder = ClusterAutoencoder(
            labels, config["in_dims"], config["out_dims"], config["ae_act_func"], config["ae_dropout_prob"]
        )
        self.latent = VectorDiffusion(config, self.autoencoder.latent_size, make_denoiser)
        self.annealing = Annealing(
            config["lamda"],
            config["anneal_steps"],
            config["anneal_cap"],
            config["vae_anneal_steps"],
            config["vae_anneal_cap"],
        )
        options = {"lr": config["mlp_learning_rate"], "weight_decay": config["mlp_weight_decay"]}
        self.network_options = {key: value for key, value in options.items() if value is not None}

    @property
    def nfe(self) -> Optional[int]:
        """Number of function evaluations: network calls per row."""
        return self.latent.nfe

    @property
    def draws_noise(self) -> bool:
        """Whether inference draws noise."""
        return self.latent.draws_noise

    def seed_inference(self, seed: int) -> None:
        """Set the seed of the noise at inference."""
        self.latent.seed_inference(seed)

    def generators(self, users: Tensor) -> Generators:
        """Make one noise generator per user, (B,); None if inference draws no noise."""
        return self.latent.generators(users)

    def loss(self, rows: SparseRows) -> LatentLosses:
        """Compute the three weighted losses of a training batch (B, n_items), and count the batch.

        The latents are not detached: all three losses train the encoder.
        """
        encoded = self.autoencoder.encode(rows)
        z = encoded.mu
        if self.reparam and self.training:
            z = torch.addcmul(z, (0.5 * encoded.logvar).exp(), torch.randn_like(z))
        diffused = self.latent.loss(z)
        reconstruction = multinomial_loss(self.autoencoder.decode(diffused.x0), encoded.target)
        lamda, gamma = self.annealing.weights()
        self.annealing.batches += 1
        if self.reweight:
            losses = LatentLosses(lamda * diffused.loss, reconstruction, gamma * encoded.kl())
        else:
            losses = LatentLosses(diffused.loss, lamda * reconstruction, lamda * gamma * encoded.kl())
        return losses.without(self.left_out)

    def denoise(
        self, rows: SparseRows, generator: Generators = None, callback: Optional[StepCallback] = None
    ) -> Tensor:
        """Encode rows to the mean latents, run the reverse process and decode; scores by item, (B, n_items)."""
        z = self.latent.denoise(self.autoencoder.encode(rows).mu, generator, callback)
        return self.autoencoder.by_item(self.autoencoder.decode(z))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return a group for the auto-encoder, and one for the network with its own learning rate and weight decay.

        Adam updates each parameter independently, so one optimiser with two groups equals two optimisers.
        """
        autoencoder, network = list(self.autoencoder.parameters()), list(self.latent.parameters())
        return [{"params": autoencoder}, {"params": network, **self.network_options}]
