"""DiffuRec: a diffusion on the embedding of the next item, conditioned on the sequence by a Transformer.

Reference:
    Zihao Li, Aixin Sun, Chenliang Li. "DiffuRec: A Diffusion Model for Sequential Recommendation." ACM TOIS 42(3),
    2023. https://doi.org/10.1145/3631116

Reference code:
    https://github.com/WHUIR/DiffuRec (commit f6f70c9), compared by numbers in tests/model/test_parity_diffurec.py
"""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_diffusion.diffusion import SharedGenerator, StepCallback, make_betas, sample
from recbole_diffusion.model.networks.denoiser import timestep_embedding
from recbole_diffusion.model.networks.dropout import dropout
from recbole_diffusion.model.process import process_of
from recbole_diffusion.model.reverse import ReportsNfe, ReverseProcess
from recbole_diffusion.model.sequences.packing import Packed, pack
from recbole_diffusion.model.sequences.sequence_recommender import SequenceRecommender
from recbole_diffusion.model.sequences.transformer import EPS, LastItemTransformer


class DiffuRecNoise(NamedTuple):
    """What training draws: ``t`` (B,) steps; ``noise`` (B, d) of :math:`x_t`; ``lambda_noise`` (N, d) of lambda."""

    t: Tensor
    noise: Tensor
    lambda_noise: Tensor


class DiffuRec(ReverseProcess, ReportsNfe, SequenceRecommender):
    r"""Noise the next item's embedding, recover it from the noisy one and the sequence, rank by nearness to it.

    The sequence's tokens are :math:`z_i = \mathrm{LN}(e_i) + \lambda_i (x_t + \mathrm{MLP}(t))` with
    :math:`\lambda_i \sim \mathcal N(m, s^2)`, drawn for each coordinate; the estimate :math:`\hat x_0` is what a
    Transformer makes of them at the last item (paper, eq. 10 to 14). Rows of the batch are packed; see
    :mod:`recbole_diffusion.model.sequences.packing`.

    Keys and what they mean: properties/model/DiffuRec.yaml. Quirks of the official code and which key governs each:
    docs/models/diffurec.md.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        size, heads = config["hidden_size"], config["n_heads"]
        self.emb_dropout, self.rounding = config["emb_dropout_prob"], config["rounding"]
        self.whole = config["mask_mode"] == "official"
        self.lambda_mean, self.lambda_std = config["lambda_uncertainty"], config["lambda_std"]
        if self.lambda_std is None:
            self.lambda_std = self.lambda_mean
        # Drawn from N(0, 1) and kept near it. Row 0 is trained too: as a class, and as padding where that is seen.
        self.item_embedding = nn.Embedding(self.n_items, size)
        self.input_norm = nn.LayerNorm(size, eps=EPS)
        self.step_mlp = nn.Sequential(nn.Linear(size, 4 * size), nn.SiLU(), nn.Linear(4 * size, size))
        self.approximator = LastItemTransformer(
            size, config["n_layers"], heads, config["hidden_dropout_prob"], see_padding=self.whole
        )
        self.process, self.solver, self.timesteps, self.sampling_steps = process_of(config, "DiffuRec")

    @property
    def _conditioned(self) -> bool:
        return self.lambda_mean != 0 or self.lambda_std != 0

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Cross-entropy of the inner products with every item against the next one (paper, eq. 18); scalar."""
        packed = self._pack(*self.sequences(interaction))
        return self.loss(packed, interaction[self.POS_ITEM_ID][packed.order], self.draw(packed))

    def draw(self, packed: Packed) -> Optional[DiffuRecNoise]:
        """Steps and noise for a batch; None where nothing of them reaches the network."""
        if not self._conditioned:
            return None
        table = self.item_embedding.weight
        rows, tokens = (table.new_empty(n, table.shape[1]) for n in (len(packed.order), len(packed.items)))
        return DiffuRecNoise(self.timesteps.sample(len(rows)).t, rows.normal_(), tokens.normal_())

    def loss(self, packed: Packed, target: Tensor, draws: Optional[DiffuRecNoise]) -> Tensor:
        """The loss of what was drawn. ``target`` (B,) and the draws are in packed order."""
        if draws is None:
            x0 = self.approximator(self.tokens(packed), packed)
        else:
            x_t = self.process.sample(self.item_embedding(target), draws.t, draws.noise).x_t
            x0 = self.approximate(packed, self.tokens(packed), x_t, draws.t, draws.lambda_noise)
        return F.cross_entropy(x0 @ self.item_embedding.weight.T, target)

    def _pack(self, sequences: Tensor, lengths: Tensor) -> Packed:
        return pack(sequences, lengths, whole=self.whole)

    def tokens(self, packed: Packed) -> Tensor:
        """The sequences' embedded items, (N, d)."""
        return self.input_norm(dropout(self.item_embedding(packed.items), self.emb_dropout, self.training))

    def approximate(self, packed: Packed, tokens: Tensor, x_t: Tensor, t: Tensor, lambda_noise: Tensor) -> Tensor:
        r"""Predict :math:`\hat x_0`, (B, d), with the Transformer.

        Args:
            packed: the sequences.
            tokens: (N, d).
            x_t: (B, d).
            t: (B,) steps.
            lambda_noise: (N, d), standard normal; the deviation of lambda from its mean.
        """
        if self._conditioned:
            state = packed.repeat_rows(x_t + self.embed_step(t))
            tokens = torch.addcmul(tokens, self.lambda_mean + self.lambda_std * lambda_noise, state)
        return self.approximator(tokens, packed)

    def embed_step(self, t: Tensor) -> Tensor:
        """(B, d) from steps (B,)."""
        return self.step_mlp(timestep_embedding(t * self.process.time_scale, self.item_embedding.embedding_dim))

    def states(self, sequences: Tensor, lengths: Tensor) -> Tensor:
        r"""The chain's :math:`\hat x_0`, (B, d). All rows share its noise, place by place counted from the last."""
        return self.denoise(sequences, lengths)

    def denoise(
        self,
        sequences: Tensor,
        lengths: Tensor,
        generator: Optional[torch.Generator] = None,
        callback: Optional[StepCallback] = None,
    ) -> Tensor:
        """:meth:`states` with another generator; a callback watches the steps, whose rows are in packed order."""
        generator = generator or self.generator()
        packed = self._pack(sequences, lengths)
        tokens = self.tokens(packed)
        place = packed.age % self.max_seq_length  # padded places count on from the first item, as on the left

        def denoiser(x: Tensor, t: Tensor) -> Tensor:
            lambda_noise = torch.randn(
                (self.max_seq_length, x.shape[1]), dtype=x.dtype, device=x.device, generator=generator
            )
            return self.approximate(packed, tokens, x, t, lambda_noise[place])

        start = torch.randn((1, tokens.shape[1]), dtype=tokens.dtype, device=tokens.device, generator=generator)
        x0 = sample(denoiser, start.expand(len(packed.order), -1), self.solver, SharedGenerator(generator), callback)
        return x0[packed.inverse]

    def score(self, states: Tensor) -> Tensor:
        """Inner products with the items' embeddings, or minus the squared distances (paper, eq. 22): (B, n_items)."""
        items = self.item_embedding.weight
        scores = states @ items.T
        if self.rounding == "l2":
            scores = 2 * scores - items.square().sum(dim=1) - states.square().sum(dim=1, keepdim=True)
        return scores


def _betas(name: str, steps: int) -> Tensor:
    """The schedule; the bounds of ``linear`` are those of 1000 steps, scaled. What the parity test compares."""
    return make_betas(name, steps, noise_scale=1000 / steps)
