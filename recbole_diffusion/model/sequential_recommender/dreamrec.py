"""DreamRec: generate the embedding of the next item by a diffusion guided by the sequence.

Reference:
    Zhengyi Yang, Jiancan Wu, Zhicai Wang, Xiang Wang, Yancheng Yuan, Xiangnan He. "Generate What You Prefer: Reshaping
    Sequential Recommendation via Guided Diffusion." NeurIPS 2023. https://arxiv.org/abs/2310.20453

Reference code:
    https://github.com/YangZhengyi98/DreamRec (commit 454133c), compared by numbers in
    tests/model/test_parity_dreamrec.py
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from recbole_diffusion.model.sequences.guided_recommender import GuidedNoise, GuidedRecommender


class DreamRec(GuidedRecommender):
    """Estimate the next item's embedding with the mean squared error as the only loss (paper, eq. 8 and 9).

    Keys: properties/model/DreamRec.yaml. Deviations of the official code and their keys: docs/models/dreamrec.md.
    """

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Compute the mean squared error over rows and coordinates; scalar."""
        sequences, lengths = self.sequences(interaction)
        return self.loss(sequences, lengths, interaction[self.POS_ITEM_ID], self.draw(len(sequences)))

    def loss(self, sequences: Tensor, lengths: Tensor, target: Tensor, draws: GuidedNoise) -> Tensor:
        """Compute the loss for given draws; scalar. sequences: (B, L); lengths, target: (B,)."""
        x0 = self.target_embedding(target)
        estimate = self.estimate(x0, self.context(sequences, lengths, draws), draws.t, draws.noise)
        return self.add_cross_entropy(F.mse_loss(estimate, x0), estimate, target)
