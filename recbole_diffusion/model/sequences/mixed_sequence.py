r"""Base class of models that mix the noised embedding of the next item into every token of a sequence.

DiffuRec and FMRec share this network. They differ in the path from the next item's embedding to the noise, in the loss
and in the solver of the reverse process.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor, nn

from recbole_diffusion.diffusion import Denoiser, StepCallback, draw
from recbole_diffusion.model.networks.denoiser import timestep_embedding
from recbole_diffusion.model.networks.dropout import dropout
from recbole_diffusion.model.process import process_of
from recbole_diffusion.model.sequences.generative_recommender import GenerativeSequenceRecommender
from recbole_diffusion.model.sequences.packing import Packed, layout, pack
from recbole_diffusion.model.sequences.transformer import EPS, LastItemTransformer


class MixingNoise(NamedTuple):
    """Draws of a training batch: times ``t`` (B,), ``noise`` (B, d) of :math:`x_t`, ``lambda_noise`` (N, d).

    ``noise`` and ``lambda_noise`` are standard normal; the latter is scaled to the deviation of lambda from its mean.
    """

    t: Tensor
    noise: Tensor
    lambda_noise: Tensor


class MixedSequenceRecommender(GenerativeSequenceRecommender):
    r"""Predict the embedding of the next item from its noised version :math:`x_t` and the sequence.

    The tokens are :math:`z_i = \mathrm{LN}(e_i) + \lambda_i (x_t + \mathrm{MLP}(t))` with
    :math:`\lambda_i \sim \mathcal N(m, s^2)`, drawn for each coordinate. The estimate :math:`\hat x_0` is the output of
    a Transformer at the last item (DiffuRec, eq. 10 to 14). Items are ranked by inner product with, or distance to, the
    result of the reverse process.

    The sequences of a batch are packed; see :mod:`recbole_diffusion.model.sequences.packing`.

    A subclass implements :meth:`loss` and :meth:`solve`, and names its :attr:`family` of processes.

    Attributes:
        family: the family of :func:`process_of` that knows the keys of the process.
    """

    family: str

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
        self.process, self.solver, self.timesteps, self.sampling_steps = process_of(config, self.family)

    def loss(self, packed: Packed, target: Tensor, draws: Optional[MixingNoise]) -> Tensor:
        """Compute the loss for given draws; scalar. ``target`` (B,) and the draws are in packed order.

        ``draws`` is None if x_t does not reach the network.
        """
        raise NotImplementedError

    def solve(
        self, denoiser: Denoiser, start: Tensor, generator: torch.Generator, callback: Optional[StepCallback]
    ) -> Tensor:
        """Run the reverse process from ``start`` (B, d), whose rows are equal; noise comes from ``generator``."""
        raise NotImplementedError

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

    def step_is_capturable(self, batch_size: int) -> Optional[bool]:
        """Return whether the batches are padded: packed ones differ in shape; see :class:`Hooks`."""
        return True if self.layout(self.item_embedding.weight.device) == "padded" else None

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Compute :meth:`loss` with new draws; scalar."""
        packed = self._pack(*self.sequences(interaction))
        return self.loss(packed, interaction[self.POS_ITEM_ID][packed.order], self.draw(packed))

    def draw(self, packed: Packed) -> Optional[MixingNoise]:
        """Draw times and noise for a batch; None if x_t does not reach the network."""
        if not self._conditioned:
            return None
        table = self.item_embedding.weight
        rows, tokens = (table.new_empty(n, table.shape[1]) for n in (len(packed.order), len(packed.items)))
        return MixingNoise(self.timesteps.sample(len(rows)).t, rows.normal_(), tokens.normal_())

    def _pack(self, sequences: Tensor, lengths: Tensor) -> Packed:
        return pack(sequences, lengths, keep_padding=self.layout(sequences.device) == "padded")

    def layout(self, device: torch.device) -> str:
        """Layout of the batches on a device; visible padding (``mask_mode: official``) cannot be packed."""
        return "padded" if self.see_padding else layout(self.sequence_layout, device, self.training, self.compiled)

    def tokens(self, packed: Packed) -> Tensor:
        """Embed the items of the sequences, (N, d)."""
        return self.input_norm(dropout(self.item_embedding(packed.items), self.emb_dropout, self.training))

    def mixed(self, packed: Packed, tokens: Tensor, x_t: Tensor, t: Tensor, lambda_noise: Tensor) -> Tensor:
        r"""Mix :math:`x_t` and the time into the tokens, :math:`z_i` of each token, (N, d).

        Args:
            packed: the sequences.
            tokens: (N, d).
            x_t: (B, d).
            t: (B,) times.
            lambda_noise: (N, d), standard normal; lambda is its mean plus ``lambda_std`` times this.
        """
        if not self._conditioned:
            return tokens
        state = packed.repeat_rows(x_t + self.embed_step(t))
        return torch.addcmul(tokens, self.lambda_mean + self.lambda_std * lambda_noise, state)

    def approximate(self, packed: Packed, tokens: Tensor, x_t: Tensor, t: Tensor, lambda_noise: Tensor) -> Tensor:
        r"""Predict :math:`\hat x_0`, (B, d), with the Transformer. Arguments: see :meth:`mixed`."""
        return self.approximator(self.mixed(packed, tokens, x_t, t, lambda_noise), packed)

    def noised(self, target: Tensor, draws: MixingNoise) -> Tensor:
        """Noise the embeddings of the target items (B,) to :math:`x_t`, (B, d)."""
        return self.process.sample(self.item_embedding(target), draws.t, draws.noise).x_t

    def embed_step(self, t: Tensor) -> Tensor:
        """Embed times (B,) to (B, d)."""
        return self.step_mlp(timestep_embedding(t * self.process.time_scale, self.item_embedding.embedding_dim))

    def denoise(
        self,
        sequences: Tensor,
        lengths: Tensor,
        generator: Optional[torch.Generator] = None,
        callback: Optional[StepCallback] = None,
    ) -> Tensor:
        """Run the reverse process. Lambda's noise of a token depends on its distance from the last item only."""
        generator = generator or self.generator()
        packed = self._pack(sequences, lengths)
        tokens = self.tokens(packed)
        # Padded positions, where items_after is negative, get the noise of the oldest positions, as with left padding.
        age = packed.items_after % self.max_seq_length

        def denoiser(x: Tensor, t: Tensor) -> Tensor:
            lambda_noise = draw((self.max_seq_length, x.shape[1]), x, generator)
            return self.approximate(packed, tokens, x, t, lambda_noise[age])

        start = draw((1, tokens.shape[1]), tokens, generator)
        return self.solve(denoiser, start.expand(len(packed.order), -1), generator, callback)[packed.inverse]

    def target_state(self, interaction: Any, items: Tensor) -> Optional[Tensor]:
        """Return the embeddings of the first of the given items, (B, d), in packed order; see :class:`Hooks`."""
        return self.item_embedding(items[:, 0])[self._pack(*self.sequences(interaction)).order]

    def score(self, states: Tensor) -> Tensor:
        """Score all items by inner products, or with ``rounding: l2`` by minus the squared distances; (B, n_items).

        DiffuRec, eq. 22.
        """
        items = self.item_embedding.weight
        scores = states @ items.T
        if self.rounding == "l2":
            scores = 2 * scores - items.square().sum(dim=1) - states.square().sum(dim=1, keepdim=True)
        return scores
