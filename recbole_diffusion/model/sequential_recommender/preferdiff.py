"""PreferDiff: a guided diffusion on the embedding of the next item, trained against the other items of the batch.

Reference:
    Shuo Liu, An Zhang, Guoqing Hu, Hong Qian, Tat-Seng Chua. "Preference Diffusion for Recommendation." ICLR 2025.
    https://arxiv.org/abs/2410.13117

Reference code:
    https://github.com/lswhim/PreferDiff (commit fdf45b0, mode ``iids``), compared by numbers in
    tests/model/test_parity_preferdiff.py
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from recbole_diffusion.diffusion import row_mse
from recbole_diffusion.model.sequences.guided_recommender import GuidedNoise, GuidedRecommender


class PreferDiffNoise(NamedTuple):
    """Draws of a training batch: those of the next items, and the ``negative_noise`` (B, d) of the negatives."""

    positive: GuidedNoise
    negative_noise: Tensor


class PreferDiff(GuidedRecommender):
    r"""Estimate the next item's embedding, and prefer its estimate to that of a negative.

    The negative of a row is the mean of the other targets' embeddings in the batch. Both are noised to the same step
    and estimated with the same condition. The loss is
    :math:`\lambda D^+ - (1 - \lambda) \log \sigma(-\gamma (D^+ - D^-))` of their distances D (paper, eq. 8 to 11).

    Keys: properties/model/PreferDiff.yaml. Deviations of the official code and their keys: docs/models/preferdiff.md.
    """

    residual = True

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.distance, self.pair_loss = config["distance"], config["pair_loss"]
        self.negatives = config["negatives"]
        self.weight, self.gamma = config["lamda"], config["gamma"]
        self.encoder.reset_attention()

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Compute the loss of a batch; scalar."""
        sequences, lengths = self.sequences(interaction)
        draws = self.draw(len(sequences))
        draws_of_pair = PreferDiffNoise(draws, torch.empty_like(draws.noise).normal_())
        return self.loss(sequences, lengths, interaction[self.POS_ITEM_ID], draws_of_pair)

    def loss(self, sequences: Tensor, lengths: Tensor, target: Tensor, draws: PreferDiffNoise) -> Tensor:
        """Compute the loss for given draws; scalar. sequences: (B, L); lengths, target: (B,).

        A batch of one row has no negative: only the positive's term remains.
        """
        x0, t = self.target_embedding(target), draws.positive.t
        context = self.context(sequences, lengths, draws.positive)
        estimate = self.estimate(x0, context, t, draws.positive.noise)
        distance = self._distances(estimate, x0)
        loss = self.weight * distance.mean()
        if len(x0) > 1:
            negative = (x0.sum(dim=0) - x0) / (len(x0) - 1)
            of_negative = self._distances(self.estimate(negative, context, t, draws.negative_noise), negative)
            difference = distance - of_negative
            if self.pair_loss == "batch":
                difference = difference.mean()
            # 1e-8 as in the official code, where it guards nothing
            loss = loss - (1 - self.weight) * F.logsigmoid(1e-8 - self.gamma * difference).mean()
        return self.add_cross_entropy(loss, estimate, target)

    def _distances(self, estimate: Tensor, x0: Tensor) -> Tensor:
        """Distance of each row's estimate from its embedding, (B,): squared error, or (cosine - 1) squared."""
        if self.distance == "l2":
            return row_mse(estimate, x0)
        return (F.normalize(estimate, dim=1) * F.normalize(x0, dim=1)).sum(dim=1).sub(1).square()
