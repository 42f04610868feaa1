"""L-DiffRec's parts together: encode the rows, diffuse their latents, decode; and the weights of its three losses."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor, nn

from recbole_diffusion.diffusion import Generators, StepCallback
from recbole_diffusion.model.rows.autoencoder import ClusterAutoencoder, multinomial_loss
from recbole_diffusion.model.rows.history import SparseRows
from recbole_diffusion.model.rows.vector_diffusion import MakeDenoiser, VectorDiffusion, row_mlp


class LatentLosses(NamedTuple):
    """The weighted parts, scalars; training minimises their sum."""

    diffusion: Tensor
    reconstruction: Tensor
    kl: Tensor


class Annealing(nn.Module):
    r"""Weights :math:`\lambda` of the diffusion's loss and :math:`\gamma` of the KL term as training goes on.

    :math:`\lambda` falls from ``lamda`` to ``cap`` over ``steps`` *epochs*; :math:`\gamma` rises to ``vae_cap`` at
    1 / ``vae_steps`` per *batch* (as the official code counts; RecBole counts both per batch). Steps of 0: constant.

    Buffers:
        batches, epochs: int64, done so far; in the checkpoint.
    """

    batches: Tensor
    epochs: Tensor

    def __init__(self, lamda: float, steps: int, cap: float, vae_steps: int, vae_cap: float) -> None:
        super().__init__()
        self.start, self.steps, self.cap, self.vae_steps, self.vae_cap = lamda, steps, cap, vae_steps, vae_cap
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        self.register_buffer("epochs", torch.zeros((), dtype=torch.int64))

    def weights(self) -> tuple[Tensor, Tensor]:
        r""":math:`(\lambda, \gamma)`, float64 scalars, for the next batch."""
        share = 1 - self.epochs.double() / self.steps if self.steps > 0 else torch.ones_like(self.epochs).double()
        gamma = self.batches.double() / self.vae_steps if self.vae_steps > 0 else torch.full_like(share, torch.inf)
        return (share * self.start).clamp(min=self.cap), gamma.clamp(max=self.vae_cap)


class LatentDiffusion(nn.Module):
    """Auto-encoder, diffusion over its latents, annealing.

    Args:
        config: the settings, keys of properties/model/LDiffRec.yaml.
        labels: (n_items,), the cluster of each item.
        make_denoiser: makes the network on the latents.
    """

    def __init__(self, config: Any, labels: Tensor, make_denoiser: MakeDenoiser = row_mlp) -> None:
        super().__init__()
        self.reparam, self.reweight = config["reparam"], config["reweight"]
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
        own = {"lr": config["mlp_learning_rate"], "weight_decay": config["mlp_weight_decay"]}
        self.network_options = {key: value for key, value in own.items() if value is not None}

    @property
    def nfe(self) -> Optional[int]:
        """Network calls per row."""
        return self.latent.nfe

    def generators(self, users: Tensor) -> Generators:
        return self.latent.generators(users)

    def loss(self, rows: SparseRows) -> LatentLosses:
        """Of one training batch, which is then counted. The latents are not detached: the encoder learns from all."""
        encoded = self.autoencoder.encode(rows)
        z = encoded.mu
        if self.reparam and self.training:
            z = torch.addcmul(z, (0.5 * encoded.logvar).exp(), torch.randn_like(z))
        diffused = self.latent.loss(z)
        reconstruction = multinomial_loss(self.autoencoder.decode(diffused.x0), encoded.target)
        lamda, gamma = self.annealing.weights()
        self.annealing.batches += 1
        if self.reweight:
            return LatentLosses(lamda * diffused.loss, reconstruction, gamma * encoded.kl())
        return LatentLosses(diffused.loss, lamda * reconstruction, lamda * gamma * encoded.kl())

    def denoise(
        self, rows: SparseRows, generator: Generators = None, callback: Optional[StepCallback] = None
    ) -> Tensor:
        """Scores by item (B, n_items): encode to the mean, walk the reverse chain there, decode."""
        z = self.latent.denoise(self.autoencoder.encode(rows).mu, generator, callback)
        return self.autoencoder.by_item(self.autoencoder.decode(z))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Two learning rates in one optimiser: Adam treats each number by itself, so this equals two optimisers."""
        autoencoder, network = list(self.autoencoder.parameters()), list(self.latent.parameters())
        return [{"params": autoencoder}, {"params": network, **self.network_options}]
