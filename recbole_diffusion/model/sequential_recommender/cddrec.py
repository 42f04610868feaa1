"""CDDRec: at every diffusion step, predict the noised embeddings of the next items from the sequence and the step.

Reference:
    Yu Wang, Zhiwei Liu, Liangwei Yang, Philip S. Yu. "Conditional Denoising Diffusion for Sequential Recommendation."
    PAKDD 2024. https://arxiv.org/abs/2304.11433

Reference code:
    https://github.com/YuWang-1024/CDDRec (commit edfe0ff), compared by numbers in tests/model/test_parity_cddrec.py
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple, Optional

import torch
from recbole.model.layers import TransformerEncoder
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_diffusion.data.pairs import sequence_pairs
from recbole_diffusion.diffusion import GaussianDiffusion, draw
from recbole_diffusion.model.interactions.negatives import Negatives
from recbole_diffusion.model.loss_parts import left_out
from recbole_diffusion.model.networks.checkpointed_sum import checkpointed_sum
from recbole_diffusion.model.networks.dropout import dropout
from recbole_diffusion.model.process import process_of
from recbole_diffusion.model.reverse import ReportsNfe
from recbole_diffusion.model.sequences.augment import augment
from recbole_diffusion.model.sequences.infonce import exact_infonce, rff_infonce
from recbole_diffusion.model.sequences.sequence_recommender import SequenceRecommender
from recbole_diffusion.model.sequences.step_decoder import StepDecoder

RFF_FACTOR = 8  # random frequencies per dimension of the states


class Batch(NamedTuple):
    """Left-padded rows, (B, L) int64: ``items``, their augmented ``second_view``, ``target`` and ``negative`` items."""

    items: Tensor
    second_view: Tensor
    target: Tensor
    negative: Tensor


class CDDRecNoise(NamedTuple):
    """Standard normal draws of one step.

    ``first``, ``second``: noise of the predictions of both views, (n, d). ``target``: noise of the targets, (m, d).
    ``in_view_frequencies``, ``cross_view_frequencies``: for ``infonce: rff``, (d, 8 d).
    """

    first: Tensor
    second: Tensor
    target: Tensor
    in_view_frequencies: Optional[Tensor] = None
    cross_view_frequencies: Optional[Tensor] = None


class StepLosses(NamedTuple):
    """Losses of one step, scalars.

    ``logistic``, ``logistic_second``: logistic losses of both views. ``in_view``: InfoNCE of predictions and targets.
    ``cross_view``: InfoNCE between the views.
    """

    logistic: Tensor
    logistic_second: Tensor
    in_view: Tensor
    cross_view: Tensor

    def weighted(self, second_weight: float, infonce_weight: float, without: Collection[str] = ()) -> Tensor:
        """Weighted sum of the losses but for the parts in ``without``; scalar."""
        if without:
            zeros = {part: torch.zeros_like(getattr(self, part)) for part in without}
            return self._replace(**zeros).weighted(second_weight, infonce_weight)
        infonce = self.in_view + self.cross_view
        return self.logistic + second_weight * self.logistic_second + infonce_weight * infonce


class LossPositions(NamedTuple):
    """Indices of the positions that the losses of a batch use.

    ``predicted``: (n,), predicted positions among the B * L of the batch. ``with_target``: (m,), those of the n that
    hold an item and so have a target. ``second_weight``: (m,), their weights in the second view's logistic loss.
    ``cross_view``: those of the n in the InfoNCE between the views.

    With masks, all B * L positions are in each of them, and ``has_target`` and ``in_cross_view``, (B * L,) bool, say
    which of them count.
    """

    predicted: Tensor
    with_target: Tensor
    second_weight: Tensor
    cross_view: Tensor
    has_target: Optional[Tensor] = None
    in_cross_view: Optional[Tensor] = None


class CDDRec(ReportsNfe, SequenceRecommender):
    r"""At each of T steps, predict the next items' noised embeddings from the sequence and the step alone.

    The loss of step t is divided by t + 1 (paper, eq. 16). It consists of the logistic losses of the predictions of two
    views against the noised target and a negative without noise, InfoNCE with the target (eq. 14) and InfoNCE between
    the views (eq. 15). Every position of a user's sequence has a loss. Items are ranked by the cosine with the
    prediction at t = 0 and the last position. As in the official code, no step uses the output of another one, so there
    is no reverse chain.

    Keys: properties/model/CDDRec.yaml. Deviations of the official code, and the key for each: docs/models/cddrec.md.
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
        self.left_out = left_out(config, StepLosses._fields)
        self.all_cross_view, self.eval_noise = config["cross_view"] == "all", config["eval_noise"]
        if not self.aug_ops or not all(operation in ("reorder", "mask", "crop") for operation in self.aug_ops):
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
        assert isinstance(process, GaussianDiffusion)  # the translation of CDDRec's keys makes no other process
        self.process = process
        variance = self.process.posterior_variance
        self.noise_std = torch.cat([variance[1:2] if steps > 1 else variance, variance[1:]]).sqrt().tolist()
        self.sqrt_alpha_bar = self.process.sqrt_alpha_bar.tolist()
        self.sqrt_one_minus_alpha_bar = self.process.sqrt_one_minus_alpha_bar.tolist()
        users, positives = sequence_pairs(dataset).T
        self.negatives = Negatives(users, positives - 1, dataset.num(self.USER_ID), self.n_items - 1)

    def networks(self) -> list[nn.Module]:
        """Return the encoder, for ``compile``."""
        return [self.encoder]

    @property
    def nfe(self) -> Optional[int]:
        """Number of function evaluations: calls of the decoder per user and ranking."""
        return self.solver.nfe

    @property
    def draws_noise(self) -> bool:
        """Whether the scores depend on noise that is drawn at inference: ``eval_noise``."""
        return self.eval_noise and self.noise_std[0] > 0

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Compute the sum of the losses of all steps, with the memory of one step; scalar."""
        return self.loss(self.batch(interaction))

    def batch(self, interaction: Any) -> Batch:
        """Left-pad the sequences and make their second view, targets and negatives."""
        items, lengths = self.sequences(interaction)
        target = F.pad(items[:, 1:], (0, 1)).scatter(1, lengths[:, None] - 1, interaction[self.POS_ITEM_ID][:, None])
        second_view = augment(items, lengths, self.aug_ops, self.mask_token)
        negative = self.negatives.sample(interaction[self.USER_ID][:, None].expand_as(items)) + 1
        return Batch(*(left_padded(rows, lengths) for rows in (items, second_view, target, negative)))

    def loss(self, batch: Batch, noise: Optional[list[CDDRecNoise]] = None) -> Tensor:
        """Compute the loss of a batch; scalar.

        Args:
            batch: the sequences.
            noise: the draws of each step; None: drawn here.
        """
        positions = self.loss_positions(batch)
        states = [self.encode(view).flatten(0, 1)[positions.predicted] for view in (batch.items, batch.second_view)]
        with_target = positions.predicted[positions.with_target]
        items = [self.item_embedding(ids.flatten()[with_target]) for ids in (batch.target, batch.negative)]

        def step_loss(
            t: int, first: Tensor, second: Tensor, target: Tensor, negative: Tensor, step_bias: Tensor
        ) -> Tensor:
            step_noise = noise[t] if noise is not None else self.draw(first, target)
            losses = self.step_losses(t, positions, first, second, target, negative, step_bias[t], step_noise)
            return losses.weighted(self.cd_aug_weight, self.cl_weight, self.left_out) / (t + 1)

        shared = [*states, *items, self.decoder.step_bias()]
        with torch.autocast(shared[0].device.type, enabled=False):  # sums over all rows exceed half precision's range
            in_full_precision = [tensor.float() for tensor in shared]
            parameters = self.decoder.per_step_parameters()
            return checkpointed_sum(step_loss, range(self.process.steps), in_full_precision, parameters)

    def loss_positions(self, batch: Batch) -> LossPositions:
        """Select the positions of the losses: those with an item, or with ``cross_view: all`` every position.

        On a GPU masks select them: the host would wait for the number of positions, and a step could not be captured.
        """
        is_item, second_items = batch.items.flatten() > 0, batch.second_view.flatten()
        every = torch.arange(len(is_item), device=is_item.device)
        if self.masks_positions(is_item.device):
            second_weight = second_items.float() if self.aug_weight == "item_id" else (second_items > 0).float()
            in_cross_view = None if self.all_cross_view else is_item & (second_items > 0)
            return LossPositions(every, every, second_weight * is_item, every, is_item, in_cross_view)
        predicted = every if self.all_cross_view else is_item.nonzero().squeeze(1)
        with_target, second_items = is_item[predicted].nonzero().squeeze(1), second_items[predicted]
        cross_view = every if self.all_cross_view else second_items.nonzero().squeeze(1)
        second_weight = second_items[with_target]
        if self.aug_weight != "item_id":
            second_weight = second_weight > 0
        return LossPositions(predicted, with_target, second_weight.float(), cross_view)

    def masks_positions(self, device: torch.device) -> bool:
        """Whether positions of the losses are selected by masks, which need no wait: elsewhere than on the CPU."""
        return device.type != "cpu"

    def step_is_capturable(self, batch_size: int) -> Optional[bool]:
        """Return whether positions are selected by masks; see :class:`Hooks`."""
        return True if self.masks_positions(self.item_embedding.weight.device) else None

    def encode(self, items: Tensor) -> Tensor:
        """Encode left-padded items (B, L) to the states after the decoder's self-attention, (B, L, d)."""
        x = self.input_norm(self.item_embedding(items) + self.place_embedding.weight)
        x = dropout(x, self.hidden_dropout, self.training)
        # RecBole's mask adds -10000, so that a padded position attends to all positions. The official losses over all
        # positions include it.
        x = self.encoder(x, self.get_attention_mask(items), output_all_encoded_layers=False)[-1]
        return self.decoder.self_attention(x, items > 0)

    def draw(self, states: Tensor, target: Tensor) -> CDDRecNoise:
        """Draw the noise of one step, with ``infonce: rff`` also frequencies. states: (n, d); target: (m, d)."""
        noise = [torch.randn_like(tensor) for tensor in (states, states, target)]
        if self.infonce == "exact":
            return CDDRecNoise(*noise)
        size = states.shape[1]
        return CDDRecNoise(*noise, *(states.new_empty(size, RFF_FACTOR * size).normal_() for _ in range(2)))

    def step_losses(
        self,
        t: int,
        positions: LossPositions,
        first: Tensor,
        second: Tensor,
        target: Tensor,
        negative: Tensor,
        step_bias: Tensor,
        noise: CDDRecNoise,
    ) -> StepLosses:
        """Compute the losses of step t.

        Args:
            t: the step.
            positions: the positions of the losses.
            first, second: encoded states of both views at the predicted positions, (n, d).
            target, negative: embeddings of the target and the negative items, (m, d).
            step_bias: the decoder's cross-attention output of the step, (d,).
            noise: the draws of the step.
        """
        std = self.noise_std[t]
        x = self.decoder(first, step_bias) + std * noise.first
        y = self.decoder(second, step_bias) + std * noise.second
        noised_target = self.sqrt_alpha_bar[t] * target + self.sqrt_one_minus_alpha_bar[t] * noise.target
        weight, counts = positions.second_weight, positions.has_target
        first_weight = torch.ones_like(weight) if counts is None else counts.to(weight.dtype)
        x_with_target, y_with_target = (_select_rows(rows, positions.with_target) for rows in (x, y))
        return StepLosses(
            _logistic_loss(x_with_target, noised_target, negative, first_weight),
            _logistic_loss(y_with_target, noised_target, negative, positions.second_weight),
            self._infonce(x_with_target, noised_target, noise.in_view_frequencies, positions.has_target),
            self._infonce(
                _select_rows(x, positions.cross_view),
                _select_rows(y, positions.cross_view),
                noise.cross_view_frequencies,
                positions.in_cross_view,
            ),
        )

    def _infonce(
        self, first: Tensor, second: Tensor, frequencies: Optional[Tensor], is_row: Optional[Tensor]
    ) -> Tensor:
        if frequencies is None:
            return exact_infonce(first, second, self.temperature, is_row)
        return rff_infonce(first, second, self.temperature, frequencies, is_row)

    def states(self, sequences: Tensor, lengths: Tensor) -> Tensor:
        """Predict at t = 0 and the last position, (B, d); with ``eval_noise``, add one draw that all rows share.

        With ``decoder_attention: batch`` a row's prediction depends on the other rows, as in the official code.
        """
        last = self.encode(left_padded(sequences, lengths))[:, -1]
        x = self.decoder(last, self.decoder.step_bias()[0])
        if self.eval_noise:
            noise = draw(x.shape[1:], x, self.generator())
            x = x + self.noise_std[0] * noise
        return x

    def score(self, states: Tensor) -> Tensor:
        """Score all items by the cosine with their embeddings, (B, n_items)."""
        items = self.item_embedding.weight[: self.n_items]
        return F.normalize(states, dim=1) @ F.normalize(items, dim=1).T


def _select_rows(rows: Tensor, index: Tensor) -> Tensor:
    """Select rows (n, d) by rising distinct indices (m,), without a copy if all are selected."""
    return rows if len(index) == len(rows) else rows.index_select(0, index)


def _logistic_loss(x: Tensor, positive: Tensor, negative: Tensor, weight: Tensor) -> Tensor:
    r"""Weighted mean of :math:`-\log\sigma(x \cdot p) - \log\sigma(-x \cdot n)`; scalar.

    Args:
        x, positive, negative: (m, d).
        weight: (m,).
    """
    losses = F.softplus(-(x * positive).sum(dim=1)) + F.softplus((x * negative).sum(dim=1))
    return losses @ weight / weight.sum()


def left_padded(sequences: Tensor, lengths: Tensor) -> Tensor:
    """Convert right-padded sequences (B, L) with lengths (B,) to left-padded ones."""
    width = sequences.shape[1]
    position = torch.arange(width, device=sequences.device) - (width - lengths[:, None])
    return sequences.gather(1, position.clamp(min=0)).masked_fill(position < 0, 0)
