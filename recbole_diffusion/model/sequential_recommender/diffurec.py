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

from recbole_diffusion.diffusion import SharedGenerator, StepCallback, draw, make_betas, sample
from recbole_diffusion.model.networks.denoiser import timestep_embedding
from recbole_diffusion.model.networks.dropout import dropout
from recbole_diffusion.model.process import process_of
from recbole_diffusion.model.reverse import ReportsNfe, ReverseProcess
from recbole_diffusion.model.sequences.packing import Packed, pack
from recbole_diffusion.model.sequences.sequence_recommender import SequenceRecommender
from recbole_diffusion.model.sequences.transformer import EPS, LastItemTransformer


class DiffuRecNoise(NamedTuple):
    """Draws of a training batch: steps ``t`` (B,), ``noise`` (B, d) of :math:`x_t`, ``lambda_noise`` (N, d).

    ``noise`` and ``lambda_noise`` are standard normal; the latter is scaled to the deviation of lambda from its mean.
    """

    t: Tensor
    noise: Tensor
    lambda_noise: Tensor


class DiffuRec(ReverseProcess, ReportsNfe, SequenceRecommender):
    r"""Noise the embedding of the next item and predict the clean one from it and the sequence.

    The tokens are :math:`z_i = \mathrm{LN}(e_i) + \lambda_i (x_t + \mathrm{MLP}(t))` with
    :math:`\lambda_i \sim \mathcal N(m, s^2)`, drawn for each coordinate. The estimate :math:`\hat x_0` is the output of
    a Transformer at the last item (paper, eq. 10 to 14). At inference the reverse process starts from noise. Items are
    ranked by inner product with, or distance to, its result.

    The sequences of a batch are packed; see :mod:`recbole_diffusion.model.sequences.packing`.

    Keys: properties/model/DiffuRec.yaml. Deviations of the official code and their keys: docs/models/diffurec.md.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        size, heads = config["hidden_size"], config["n_heads"]
        self.emb_dropout, self.rounding = config["emb_dropout_prob"], config["rounding"]
        self.see_padding, self.sequence_layout = config["mask_mode"] == "official", config["sequence_layout"]
        self.compiled = bool(config["compile"])
        self.lambda_mean, self.lambda_std = config["lambda_uncertainty"], config["lambda_std"]
        if self.lambda_std is None:
            self.lambda_std = self.lambda_mean
        # Initialised from N(0, 1). Row 0 is trained too: as a class of the loss, and as padding if it is visible.
        self.item_embedding = nn.Embedding(self.n_items, size)
        self.input_norm = nn.LayerNorm(size, eps=EPS)
        self.step_mlp = nn.Sequential(nn.Linear(size, 4 * size), nn.SiLU(), nn.Linear(4 * size, size))
        self.approximator = LastItemTransformer(
            size, config["n_layers"], heads, config["hidden_dropout_prob"], see_padding=self.see_padding
        )
        self.process, self.solver, self.timesteps, self.sampling_steps = process_of(config, "DiffuRec")

    @property
    def _conditioned(self) -> bool:
        """Whether x_t reaches the network."""
        return self.lambda_mean != 0 or self.lambda_std != 0

    @property
    def draws_noise(self) -> bool:
        """Whether the scores depend on noise that is drawn at inference: the start, and lambda in each step."""
        return self._conditioned

    def networks(self) -> list[nn.Module]:
        """Return the Transformer, for ``compile``."""
        return [self.approximator]

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Compute the cross-entropy over the inner products with all items (paper, eq. 18); scalar."""
        packed = self._pack(*self.sequences(interaction))
        return self.loss(packed, interaction[self.POS_ITEM_ID][packed.order], self.draw(packed))

    def step_is_capturable(self, batch_size: int) -> Optional[bool]:
        """Return whether the batches are padded: packed ones differ in shape; see :class:`Hooks`."""
        return True if self.layout(self.item_embedding.weight.device) == "padded" else None

    def draw(self, packed: Packed) -> Optional[DiffuRecNoise]:
        """Draw steps and noise for a batch; None if x_t does not reach the network."""
        if not self._conditioned:
            return None
        table = self.item_embedding.weight
        rows, tokens = (table.new_empty(n, table.shape[1]) for n in (len(packed.order), len(packed.items)))
        return DiffuRecNoise(self.timesteps.sample(len(rows)).t, rows.normal_(), tokens.normal_())

    def loss(self, packed: Packed, target: Tensor, draws: Optional[DiffuRecNoise]) -> Tensor:
        """Compute the loss for given draws; scalar. ``target`` (B,) and the draws are in packed order."""
        if draws is None:
            x0 = self.approximator(self.tokens(packed), packed)
        else:
            x_t = self.process.sample(self.item_embedding(target), draws.t, draws.noise).x_t
            x0 = self.approximate(packed, self.tokens(packed), x_t, draws.t, draws.lambda_noise)
        return F.cross_entropy(x0 @ self.item_embedding.weight.T, target)

    def _pack(self, sequences: Tensor, lengths: Tensor) -> Packed:
        return pack(sequences, lengths, keep_padding=self.layout(sequences.device) == "padded")

    def layout(self, device: torch.device) -> str:
        """Layout of the batches on a device, ``packed`` or ``padded``: the key ``sequence_layout``.

        ``auto`` packs on the CPU, where padding costs time, and at ranking. In training on a GPU, padding costs less
        than the groups' many small kernels and the wait for their lengths (docs/results/gpu.md); compiled networks need
        batches of one shape. Visible padding (``mask_mode: official``) cannot be packed.
        """
        if self.see_padding:
            return "padded"
        if self.sequence_layout == "auto":
            packs = device.type == "cpu" or not self.training
            return "packed" if packs and not self.compiled else "padded"
        return str(self.sequence_layout)

    def tokens(self, packed: Packed) -> Tensor:
        """Embed the items of the sequences, (N, d)."""
        return self.input_norm(dropout(self.item_embedding(packed.items), self.emb_dropout, self.training))

    def approximate(self, packed: Packed, tokens: Tensor, x_t: Tensor, t: Tensor, lambda_noise: Tensor) -> Tensor:
        r"""Predict :math:`\hat x_0`, (B, d), with the Transformer.

        Args:
            packed: the sequences.
            tokens: (N, d).
            x_t: (B, d).
            t: (B,) steps.
            lambda_noise: (N, d), standard normal; lambda is its mean plus ``lambda_std`` times this.
        """
        if self._conditioned:
            state = packed.repeat_rows(x_t + self.embed_step(t))
            tokens = torch.addcmul(tokens, self.lambda_mean + self.lambda_std * lambda_noise, state)
        return self.approximator(tokens, packed)

    def embed_step(self, t: Tensor) -> Tensor:
        """Embed steps (B,) to (B, d)."""
        return self.step_mlp(timestep_embedding(t * self.process.time_scale, self.item_embedding.embedding_dim))

    def states(self, sequences: Tensor, lengths: Tensor) -> Tensor:
        r"""Generate :math:`\hat x_0` by the reverse process, (B, d).

        All sequences share the noise: lambda's noise of a token depends on its distance from the last item only.
        """
        return self.denoise(sequences, lengths)

    def denoise(
        self,
        sequences: Tensor,
        lengths: Tensor,
        generator: Optional[torch.Generator] = None,
        callback: Optional[StepCallback] = None,
    ) -> Tensor:
        """Compute :meth:`states` with a given generator and callback.

        Args:
            sequences: (B, L), right-padded.
            lengths: (B,).
            generator: source of the noise; None: seeded by ``eval_seed``.
            callback: called after each step, with rows in packed order.
        """
        generator = generator or self.generator()
        packed = self._pack(sequences, lengths)
        tokens = self.tokens(packed)
        # Padded positions, where items_after is negative, get the noise of the oldest positions, as with left padding.
        age = packed.items_after % self.max_seq_length

        def denoiser(x: Tensor, t: Tensor) -> Tensor:
            lambda_noise = draw((self.max_seq_length, x.shape[1]), x, generator)
            return self.approximate(packed, tokens, x, t, lambda_noise[age])

        start = draw((1, tokens.shape[1]), tokens, generator)
        x0 = sample(denoiser, start.expand(len(packed.order), -1), self.solver, SharedGenerator(generator), callback)
        return x0[packed.inverse]

    def target_state(self, interaction: Any, items: Tensor) -> Optional[Tensor]:
        """Return the embeddings of the first of the given items, (B, d), in packed order; see :class:`Hooks`."""
        return self.item_embedding(items[:, 0])[self._pack(*self.sequences(interaction)).order]

    def score(self, states: Tensor) -> Tensor:
        """Score all items by inner products, or with ``rounding: l2`` by minus the squared distances; (B, n_items).

        Paper, eq. 22.
        """
        items = self.item_embedding.weight
        scores = states @ items.T
        if self.rounding == "l2":
            scores = 2 * scores - items.square().sum(dim=1) - states.square().sum(dim=1, keepdim=True)
        return scores


def _betas(name: str, steps: int) -> Tensor:
    """Noise schedule with DiffuRec's scaled bounds, for the parity test."""
    return make_betas(name, steps, noise_scale=1000 / steps)
