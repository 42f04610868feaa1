"""CDDRec: noised embeddings of the next items, met at every diffusion step by what the sequence and the step predict.

Reference:
    Yu Wang, Zhiwei Liu, Liangwei Yang, Philip S. Yu. "Conditional Denoising Diffusion for Sequential Recommendation."
    PAKDD 2024. https://arxiv.org/abs/2304.11433

Reference code:
    https://github.com/YuWang-1024/CDDRec (commit edfe0ff), compared by numbers in tests/model/test_parity_cddrec.py
"""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

import torch
from recbole.model.layers import TransformerEncoder
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_diffusion.data.pairs import sequence_pairs
from recbole_diffusion.diffusion import GaussianDiffusion
from recbole_diffusion.model.networks.checkpointed_sum import checkpointed_sum
from recbole_diffusion.model.networks.dropout import dropout
from recbole_diffusion.model.process import process_of
from recbole_diffusion.model.reverse import ReportsNfe
from recbole_diffusion.model.sequences.augment import Negatives, view
from recbole_diffusion.model.sequences.infonce import exact_infonce, rff_infonce
from recbole_diffusion.model.sequences.sequence_recommender import SequenceRecommender
from recbole_diffusion.model.sequences.step_decoder import StepDecoder

RFF_FACTOR = 8  # random frequencies per dimension


class Batch(NamedTuple):
    """One row per sequence, left-padded, (B, L) int64: ``items``, ``second`` view, ``target``, ``negative``."""

    items: Tensor
    second: Tensor
    target: Tensor
    negative: Tensor


class CDDRecNoise(NamedTuple):
    """What a step draws, standard normal: noise of both predictions (n, d) and targets (m, d), frequencies (d, 8 d)."""

    first: Tensor
    second: Tensor
    target: Tensor
    in_view: Optional[Tensor] = None
    cross_view: Optional[Tensor] = None


class Parts(NamedTuple):
    """What one step's loss is made of: logistic losses of both views, InfoNCE with the target and between the views."""

    logistic: Tensor
    logistic_second: Tensor
    in_view: Tensor
    cross_view: Tensor

    def weighted(self, second: float, contrast: float) -> Tensor:
        return self.logistic + second * self.logistic_second + contrast * (self.in_view + self.cross_view)


class RowMasks(NamedTuple):
    """Which places of a batch count where.

    ``kept``: (n,), of the B * L places those that are predicted; ``real``: (m,), of these n those with an item, which
    have a target; ``second_weight``: (m,), theirs in the second view's logistic loss; ``cross_view``: of the n those in
    the InfoNCE between the views.
    """

    kept: Tensor
    real: Tensor
    second_weight: Tensor
    cross_view: Tensor


class CDDRec(ReportsNfe, SequenceRecommender):
    r"""At each of T steps, predict the next items' noised embeddings from the sequence and the step alone.

    The loss of step t, divided by t + 1 (paper, eq. 16): logistic losses of the prediction and of a second view's
    against the noised target and an unnoised negative, InfoNCE with the target (eq. 14) and between the views (eq.
    15). One row per user, every place supervised. Ranking: the prediction at t = 0 and the last place, by cosine.
    Nothing is fed from one step to the next, in the official code neither: there is no chain.

    Keys and what they mean: properties/model/CDDRec.yaml. Quirks of the official code and which key governs each:
    docs/models/cddrec.md.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        size, heads = config["hidden_size"], config["n_heads"]
        self.hidden_dropout, self.temperature = config["hidden_dropout_prob"], config["temperature"]
        self.cl_weight, self.infonce = config["cl_weight"], config["infonce"]
        self.aug_ops, self.aug_weight, self.cd_aug_weight = (
            config["aug_ops"],
            config["aug_weight"],
            config["cd_aug_weight"],
        )
        self.all_cross_view, self.eval_noise = config["cross_view"] == "all", config["eval_noise"]
        if not self.aug_ops or not all(each in ("reorder", "mask", "crop") for each in self.aug_ops):
            raise ValueError(f"aug_ops={self.aug_ops!r} is not allowed; allowed: a list of some of reorder, mask, crop")
        std = config["initializer_range"]
        self.mask_token = self.n_items
        self.item_embedding = nn.Embedding(self.n_items + 1, size, padding_idx=0)
        self.place_embedding = nn.Embedding(self.max_seq_length, size)
        self.input_norm = nn.LayerNorm(size, eps=config["layer_norm_eps"])
        self.encoder = TransformerEncoder(
            config["n_layers"],
            heads,
            size,
            config["inner_size"],
            self.hidden_dropout,
            config["attn_dropout_prob"],
            config["hidden_act"],
            config["layer_norm_eps"],
        )
        for module in (self.item_embedding, self.place_embedding, *self.encoder.modules()):
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=std)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        steps = config["steps"]
        self.decoder = StepDecoder(size, heads, steps, config["attn_dropout_prob"], config["decoder_attention"], std)
        process, self.solver, *_ = process_of(config, "CDDRec")
        assert isinstance(process, GaussianDiffusion)  # its settings describe no other
        self.process = process
        variance = self.process.posterior_variance
        self.noise_std = torch.cat([variance[1:2] if steps > 1 else variance, variance[1:]]).sqrt().tolist()
        self.sqrt_alpha_bar = self.process.sqrt_alpha_bar.tolist()
        self.sqrt_one_minus_alpha_bar = self.process.sqrt_one_minus_alpha_bar.tolist()
        self.negatives = Negatives(sequence_pairs(dataset), self.n_items)

    @property
    def nfe(self) -> Optional[int]:
        """Number of function evaluations: calls of the decoder per user and ranking."""
        return self.solver.nfe

    def calculate_loss(self, interaction: Any) -> Tensor:
        """The sum over all steps, with the memory of one; scalar."""
        return self.loss(self.batch(interaction))

    def batch(self, interaction: Any) -> Batch:
        """A second view and negatives for the sequences, all left-padded."""
        items, lengths = self.sequences(interaction)
        following = F.pad(items[:, 1:], (0, 1)).scatter(1, lengths[:, None] - 1, interaction[self.POS_ITEM_ID][:, None])
        second = view(items, lengths, self.aug_ops, self.mask_token)
        negative = self.negatives.sample(interaction[self.USER_ID], items.shape[1])
        return Batch(*(left_padded(each, lengths) for each in (items, second, following, negative)))

    def loss(self, batch: Batch, draws: Optional[list[CDDRecNoise]] = None) -> Tensor:
        """The loss of a batch; ``draws``: of each step, else drawn here."""
        rows = self.rows(batch)
        states = [self.encode(each).flatten(0, 1)[rows.kept] for each in (batch.items, batch.second)]
        items = [self.item_embedding(each.flatten()[rows.kept[rows.real]]) for each in (batch.target, batch.negative)]

        def of_step(
            t: int, first: Tensor, second: Tensor, target: Tensor, negative: Tensor, step_bias: Tensor
        ) -> Tensor:
            drawn = draws[t] if draws is not None else self.draw(first, target)
            parts = self.parts(t, rows, first, second, target, negative, step_bias[t], drawn)
            return parts.weighted(self.cd_aug_weight, self.cl_weight) / (t + 1)

        shared = [*states, *items, self.decoder.step_bias()]
        with torch.autocast(shared[0].device.type, enabled=False):  # sums over all rows leave half precision's range
            full = [each.float() for each in shared]
            return checkpointed_sum(of_step, range(self.process.steps), full, self.decoder.per_step_parameters())

    def rows(self, batch: Batch) -> RowMasks:
        """Which places count: those with an item, or all of them with ``cross_view: all``."""
        real, seen = batch.items.flatten() > 0, batch.second.flatten()
        kept = torch.arange(len(real), device=real.device) if self.all_cross_view else real.nonzero().squeeze(1)
        chosen, seen = real[kept].nonzero().squeeze(1), seen[kept]
        both = torch.arange(len(kept), device=kept.device) if self.all_cross_view else seen.nonzero().squeeze(1)
        weight = seen[chosen] if self.aug_weight == "item_id" else seen[chosen] > 0
        return RowMasks(kept, chosen, weight.float(), both)

    def encode(self, items: Tensor) -> Tensor:
        """Left-padded items (B, L) to the states after the encoder and the decoder's self-attention, (B, L, d)."""
        x = self.input_norm(self.item_embedding(items) + self.place_embedding.weight)
        x = dropout(x, self.hidden_dropout, self.training)
        # RecBole's mask adds -10000: a padded place sees every place, which the official losses over all places count.
        x = self.encoder(x, self.get_attention_mask(items), output_all_encoded_layers=False)[-1]
        return self.decoder.self_attention(x, items > 0)

    def draw(self, states: Tensor, target: Tensor) -> CDDRecNoise:
        """Noise, and with ``infonce: rff`` frequencies, for one step. states: (n, d); target: (m, d)."""
        noise = [torch.randn_like(each) for each in (states, states, target)]
        if self.infonce == "exact":
            return CDDRecNoise(*noise)
        size = states.shape[1]
        return CDDRecNoise(*noise, *(states.new_empty(size, RFF_FACTOR * size).normal_() for _ in range(2)))

    def parts(
        self,
        t: int,
        rows: RowMasks,
        first: Tensor,
        second: Tensor,
        target: Tensor,
        negative: Tensor,
        step_bias: Tensor,
        draws: CDDRecNoise,
    ) -> Parts:
        """The losses of step t. States of both views: (n, d); target, negative: (m, d); told: (d,)."""
        std = self.noise_std[t]
        x = self.decoder(first, step_bias) + std * draws.first
        y = self.decoder(second, step_bias) + std * draws.second
        noised = self.sqrt_alpha_bar[t] * target + self.sqrt_one_minus_alpha_bar[t] * draws.target
        x_real, y_real = _chosen(x, rows.real), _chosen(y, rows.real)
        return Parts(
            _logistic(x_real, noised, negative, torch.ones_like(rows.second_weight)),
            _logistic(y_real, noised, negative, rows.second_weight),
            self._contrast(x_real, noised, draws.in_view),
            self._contrast(_chosen(x, rows.cross_view), _chosen(y, rows.cross_view), draws.cross_view),
        )

    def _contrast(self, one: Tensor, two: Tensor, frequencies: Optional[Tensor]) -> Tensor:
        if frequencies is None:
            return exact_infonce(one, two, self.temperature)
        return rff_infonce(one, two, self.temperature, frequencies)

    def states(self, sequences: Tensor, lengths: Tensor) -> Tensor:
        """The prediction at t = 0 and the last place, (B, d); with ``eval_noise``, one draw for all rows is added.

        With ``decoder_attention: batch`` a row's prediction depends on the others, as in the official code.
        """
        last = self.encode(left_padded(sequences, lengths))[:, -1]
        x = self.decoder(last, self.decoder.step_bias()[0])
        if self.eval_noise:
            noise = torch.randn(x.shape[1], dtype=x.dtype, device=x.device, generator=self.generator())
            x = x + self.noise_std[0] * noise
        return x

    def score(self, states: Tensor) -> Tensor:
        """Cosines with the items' embeddings, (B, n_items)."""
        items = self.item_embedding.weight[: self.n_items]
        return F.normalize(states, dim=1) @ F.normalize(items, dim=1).T


def _chosen(rows: Tensor, which: Tensor) -> Tensor:
    """Rows (n, d) at rising distinct numbers (m,)."""
    return rows if len(which) == len(rows) else rows.index_select(0, which)


def _logistic(x: Tensor, positive: Tensor, negative: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean of the logistic loss of dot products, (n, d), up for the positive and down for the negative."""
    losses = F.softplus(-(x * positive).sum(dim=1)) + F.softplus((x * negative).sum(dim=1))
    return losses @ weight / weight.sum()


def left_padded(sequences: Tensor, lengths: Tensor) -> Tensor:
    """Right-padded rows (B, L), moved to the right end; zeros before them."""
    places = sequences.shape[1]
    place = torch.arange(places, device=sequences.device) - (places - lengths[:, None])
    return sequences.gather(1, place.clamp(min=0)).masked_fill(place < 0, 0)
