"""ADRec: a diffusion of the next item's embedding at every place of a sequence, with a step of its own at each.

Reference:
    Jialei Chen, Yuanbo Xu, Yiheng Jiang. "Unlocking the Power of Diffusion Models in Sequential Recommendation: A
    Simple and Effective Approach." KDD 2025. https://arxiv.org/abs/2505.19544

Reference code:
    https://github.com/Nemo-1024/ADRec (commit 0a30ef7), compared by numbers in tests/model/test_parity_adrec.py
"""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_diffusion.diffusion import SharedGenerator, StepCallback, draw, sample
from recbole_diffusion.model.embeddings.pretrained import pretrained
from recbole_diffusion.model.networks.denoiser import timestep_embedding
from recbole_diffusion.model.networks.dropout import dropout
from recbole_diffusion.model.networks.item_cross_entropy import item_cross_entropy
from recbole_diffusion.model.process import process_of
from recbole_diffusion.model.sequences.causal_transformer import CausalTransformer
from recbole_diffusion.model.sequences.generative_recommender import GenerativeSequenceRecommender
from recbole_diffusion.model.sequences.packing import Packed, layout, pack
from recbole_diffusion.model.sequences.transformer import EPS


class Rows(NamedTuple):
    """Sequences and their next items, packed.

    ``packed``: the sequences; with ``mask_mode: official``, each with a ghost for its padding in front (item 0).
    ``next_items``: (N,) int64, the item after each token; 0 where the token is no item or has none. ``places``: (N,)
    int64, number of items in the token's row. ``ghosts``: (B,), the number of padded positions of each packed row; None
    without ghosts.
    """

    packed: Packed
    next_items: Tensor
    places: Tensor
    ghosts: Optional[Tensor]


class ADRecNoise(NamedTuple):
    """Draws of a training batch: steps ``t`` (N,), or (B,) in packed order if not independent; ``noise`` (N, d)."""

    t: Tensor
    noise: Tensor


class ADRec(GenerativeSequenceRecommender):
    r"""Noise the embedding of the next item at every place and predict the clean ones by two causal Transformers.

    The first one encodes the sequence to :math:`c_i`. The second one maps
    :math:`z_i = c_i + \lambda (x_{t_i} + \mathrm{MLP}(t_i))` to :math:`\hat x_{0,i}`. The loss is
    :math:`\tfrac 1 2 (\mathrm{CE} + s\,\mathrm{MSE})` over all places of a user's row. At inference the earlier places
    hold the known next items at t = 0, and the last one runs the reverse process from noise; the keys and values of the
    earlier ones are computed once. Items are ranked by the inner product with its result.

    The table of the items starts from another model's and is held for ``warmup_epochs``.

    Keys: properties/model/ADRec.yaml. Deviations of the official code and their keys: docs/models/adrec.md.

    Args:
        table: the first embeddings of the items, (n_items, d); None: those of the key ``pretrain``.

    Buffers:
        epochs_done: int64 scalar, number of epochs that the model has been trained.
    """

    epochs_done: Tensor

    def __init__(self, config: Any, dataset: Any, table: Optional[Tensor] = None) -> None:
        super().__init__(config, dataset)
        size, heads, p = config["hidden_size"], config["n_heads"], config["hidden_dropout_prob"]
        self.emb_dropout, self.lambda_mean = config["emb_dropout_prob"], config["lambda_uncertainty"]
        self.see_padding, self.sequence_layout = config["mask_mode"] == "official", config["sequence_layout"]
        self.compiled, self.independent = bool(config["compile"]), config["independent"]
        self.mse_weight, self.warmup_decay = config["mse_weight"], config["warmup_decay"]
        self.warmup_epochs = config["warmup_epochs"]
        self.item_embedding = nn.Embedding(self.n_items, size, padding_idx=0)
        if config["initializer_range"] is not None:
            nn.init.normal_(self.item_embedding.weight, std=config["initializer_range"])
        self.input_norm = nn.LayerNorm(size, eps=EPS)
        self.encoder = CausalTransformer(size, config["n_layers"], heads, p)
        self.denoiser = CausalTransformer(size, config["denoiser_layers"], heads, p)
        self.step_mlp = nn.Sequential(nn.Linear(size, 4 * size), nn.SiLU(), nn.Linear(4 * size, size))
        self.process, self.solver, self.timesteps, self.sampling_steps = process_of(config, "ADRec")
        self.register_buffer("epochs_done", torch.zeros((), dtype=torch.int64))
        self._epochs: Optional[int] = 0  # of the buffer, so that no step waits for the device
        self._set_table(_pretrained_table(config, dataset) if table is None else table)

    def _set_table(self, table: Optional[Tensor]) -> None:
        """Copy a table (n_items, d) into the embeddings. Row 0 is not visible with ``mask_mode: key``, and then 0."""
        if table is None:
            return
        if table.shape != self.item_embedding.weight.shape:
            width, size = table.shape[1], self.item_embedding.weight.shape[1]
            raise ValueError(f"hidden_size={size} is not the width of the pretrained item embeddings, {width}")
        with torch.no_grad():
            self.item_embedding.weight.copy_(table)
            if not self.see_padding:
                self.item_embedding.weight[0] = 0

    @classmethod
    def from_state(cls, config: Any, dataset: Any, state: dict[str, Tensor]) -> ADRec:
        """Build the model with the embeddings of a checkpoint, without pretraining."""
        return cls(config, dataset, state["item_embedding.weight"].cpu())

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._epochs = None

    @property
    def warming_up(self) -> bool:
        """Whether the table of the items is held."""
        if self._epochs is None:
            self._epochs = int(self.epochs_done)
        return self._epochs < self.warmup_epochs

    def end_epoch(self) -> None:
        """Count the epoch."""
        self.epochs_done += 1
        self._epochs = None if self._epochs is None else self._epochs + 1

    @property
    def _conditioned(self) -> bool:
        """Whether x_t reaches the network."""
        return bool(self.lambda_mean)

    @property
    def draws_noise(self) -> bool:
        """Whether the scores depend on noise that is drawn at inference."""
        return self._conditioned

    def networks(self) -> list[nn.Module]:
        """Return the Transformers, for ``compile``."""
        return [self.encoder, self.denoiser]

    def layout(self, device: torch.device) -> str:
        """Layout of the batches on a device, ``packed`` or ``padded``."""
        return layout(self.sequence_layout, device, self.training, self.compiled)

    def rows(self, sequences: Tensor, lengths: Tensor, last_target: Optional[Tensor] = None) -> Rows:
        """Pack sequences with their next items.

        Args:
            sequences: (B, L), right-padded.
            lengths: (B,).
            last_target: (B,), the items after the last ones; None: unknown.
        """
        next_items = F.pad(sequences[:, 1:], (0, 1))
        if last_target is not None:
            next_items = next_items.scatter(1, lengths[:, None] - 1, last_target[:, None])
        count, width = lengths, sequences.shape[1]
        if self.see_padding:
            sequences, next_items, lengths = F.pad(sequences, (1, 0)), F.pad(next_items, (1, 0)), lengths + 1
        packed = pack(sequences, lengths, keep_padding=self.layout(sequences.device) == "padded")
        count = count[packed.order]
        places = packed.repeat_rows(count[:, None]).squeeze(1)
        return Rows(packed, packed.pack_rows(next_items), places, width - count if self.see_padding else None)

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Compute the loss over all places with new draws; scalar."""
        rows = self.rows(*self.sequences(interaction), interaction[self.POS_ITEM_ID])
        return self.loss(rows, self.draw(rows))

    def draw(self, rows: Rows) -> Optional[ADRecNoise]:
        """Draw steps and noise; None if x_t does not reach the network."""
        if not self._conditioned:
            return None
        count = len(rows.packed.items if self.independent else rows.packed.order)
        noise = self.item_embedding.weight.new_empty(len(rows.packed.items), self.item_embedding.embedding_dim)
        return ADRecNoise(self.timesteps.sample(count).t, noise.normal_())

    def loss(self, rows: Rows, draws: Optional[ADRecNoise]) -> Tensor:
        """Compute the mean of the cross-entropy and the weighted squared error; scalar.

        The official code averages the gradients of the two, which is a factor of 1/2. Without ``mse_weight`` the loss
        is the cross-entropy alone.
        """
        cross_entropy, mse = self.losses(rows, draws)
        loss = (cross_entropy + self.mse_weight * mse) / 2 if self.mse_weight else cross_entropy
        if self.warming_up and self.warmup_decay:  # a gradient of zeros: the optimiser's decay goes on
            loss = loss + 0 * self.item_embedding.weight.sum()
        return loss

    def losses(self, rows: Rows, draws: Optional[ADRecNoise]) -> tuple[Tensor, Tensor]:
        """Compute the cross-entropy over all items, and the squared error; scalars.

        All places have equal weight in the first one, all users in the second one, as in the official code.
        """
        table = self.table()
        states = self.predict_clean(rows, draws, table)
        place = self.loss_positions(rows)
        target = rows.next_items[place]
        predicted = states[place]
        cross_entropy = item_cross_entropy(predicted, table, target)
        if not self.mse_weight:
            return cross_entropy, cross_entropy.new_zeros(())
        errors = F.mse_loss(predicted, F.embedding(target, table), reduction="none").mean(dim=1)
        return cross_entropy, errors @ (1 / rows.places[place].to(errors.dtype)) / len(rows.packed.order)

    def loss_positions(self, rows: Rows) -> Tensor:
        """Indices of the tokens that have a next item, (n,)."""
        return rows.next_items.nonzero().squeeze(1)

    def table(self) -> Tensor:
        """The embeddings of the items, (n_items, d); without gradients while the model warms up."""
        weight = self.item_embedding.weight
        return weight.detach() if self.warming_up else weight

    def tokens(self, rows: Rows, table: Tensor) -> Tensor:
        """Embed the items of the sequences, (N, d)."""
        embedded = F.embedding(rows.packed.items, table, padding_idx=0)
        return self.input_norm(dropout(embedded, self.emb_dropout, self.training))

    def predict_clean(self, rows: Rows, draws: Optional[ADRecNoise], table: Tensor) -> Tensor:
        r"""Predict :math:`\hat x_0` at all tokens, (N, d)."""
        states = self.encoder(self.tokens(rows, table), rows.packed, rows.ghosts)
        if draws is not None:
            x_t, t = self.noised(rows, draws, table)
            states = self.mixed(states, x_t, t)
        predicted: Tensor = self.denoiser(states, rows.packed, rows.ghosts)
        return predicted

    def noised(self, rows: Rows, draws: ADRecNoise, table: Tensor) -> tuple[Tensor, Tensor]:
        """Noise the next items' embeddings; x_t (N, d) and the steps (N,).

        Tokens without a next item hold the padding's clean embedding.
        """
        has_next = rows.next_items > 0
        t = draws.t * has_next if self.independent else rows.packed.repeat_rows(draws.t[:, None]).squeeze(1)
        clean = F.embedding(rows.next_items, table, padding_idx=0)
        x_t = self.process.sample(clean, t, draws.noise).x_t
        return torch.where(has_next[:, None], x_t, clean), t

    def mixed(self, states: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Add x_t (n, d) and the embedded steps (n,) to states (n, d)."""
        return states + self.lambda_mean * (x_t + self.embed_step(t))

    def embed_step(self, t: Tensor) -> Tensor:
        """Embed steps (n,) to (n, d)."""
        return self.step_mlp(timestep_embedding(t * self.process.time_scale, self.item_embedding.embedding_dim))

    def denoise(
        self,
        sequences: Tensor,
        lengths: Tensor,
        generator: Optional[torch.Generator] = None,
        callback: Optional[StepCallback] = None,
    ) -> Tensor:
        """Run the reverse process at the last place."""
        generator = generator or self.generator()
        rows, table = self.rows(sequences, lengths), self.item_embedding.weight
        packed = rows.packed
        states = self.encoder(self.tokens(rows, table), packed, rows.ghosts)
        last = states[packed.last]
        start = draw((1, states.shape[1]), states, generator).expand(len(packed.order), -1)
        if self._conditioned:  # the earlier places hold the known next items at t = 0
            clean = F.embedding(rows.next_items, table)
            states = self.mixed(states, clean, torch.zeros_like(rows.next_items[:1]))
        kept = self.denoiser.keep(states, packed, rows.ghosts)

        def denoiser(x: Tensor, t: Tensor) -> Tensor:
            z = self.mixed(last, x, t[:1]) if self._conditioned else last
            return self.denoiser.at_last(z, packed, kept)

        x0 = sample(denoiser, start, self.solver, SharedGenerator(generator), callback)
        return x0[packed.inverse]

    def target_state(self, interaction: Any, items: Tensor) -> Optional[Tensor]:
        """Return the embeddings of the first of the given items, (B, d), in packed order; see :class:`Hooks`."""
        return self.item_embedding(items[:, 0])[self.rows(*self.sequences(interaction)).packed.order]

    def score(self, states: Tensor) -> Tensor:
        """Score all items by inner products, (B, n_items)."""
        return states @ self.item_embedding.weight.T


def _pretrained_table(config: Any, dataset: Any) -> Optional[Tensor]:
    """Train or load the item embeddings of the key ``pretrain``, (n_items, d); None without it."""
    if config["pretrain"] is None:
        return None
    return torch.from_numpy(pretrained(dataset, "pretrain needs another model's item embeddings").embeddings().item)
