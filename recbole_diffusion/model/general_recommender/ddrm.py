"""DDRM: denoise the embeddings of any recommender, starting from the mean of the user's items.

Reference:
    Jujia Zhao et al. "Denoising Diffusion Recommender Model." SIGIR 2024. https://doi.org/10.1145/3626772.3657825

Reference code:
    https://github.com/Polaris-JZ/DDRM (commit ad4034c), compared by numbers in tests/model/test_parity_ddrm.py
"""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor
from torch.nn import functional as F

from recbole_diffusion.model.embeddings.base import Base
from recbole_diffusion.model.embeddings.embedding_diffusion import Pairs
from recbole_diffusion.model.embeddings.embedding_recommender import EmbeddingRecommender


class DDRM(EmbeddingRecommender):
    """Two conditional networks on a base's embeddings; the items' one turns a user's start into their vector.

    Keys and what they mean: properties/model/DDRM.yaml.
    """

    def __init__(self, config: Any, dataset: Any, base: Optional[Base] = None) -> None:
        super().__init__(config, dataset, base)
        self.reweight_gamma = config["reweight_gamma"]

    def triple_losses(self, pairs: Pairs, negatives: Tensor) -> tuple[Tensor, Tensor]:
        r"""BPR and reconstruction, each weighted by :math:`\sigma(\hat u^\top \hat\imath)^\gamma` (section 3.1.3)."""
        user, item, negative = (self.space.to_points(each) for each in (pairs.user, pairs.item, negatives))
        positive = self.space.similarity(user, item)
        bpr = F.softplus(self.space.similarity(user, negative) - positive)
        if not self.reweight_gamma:
            return bpr, pairs.error
        weight = torch.sigmoid(positive.detach()) ** self.reweight_gamma
        return weight * bpr, weight * pairs.error
