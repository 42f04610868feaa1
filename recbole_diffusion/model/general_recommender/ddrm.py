"""DDRM: diffusion on the embeddings of any recommender; the reverse process starts from the mean of the user's items.

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

from recbole_diffusion.model.embeddings.base_model import BaseModel
from recbole_diffusion.model.embeddings.embedding_diffusion import DenoisedPairs
from recbole_diffusion.model.embeddings.embedding_recommender import EmbeddingRecommender


class DDRM(EmbeddingRecommender):
    r"""Two conditional denoising networks on the embeddings of a base model.

    Training denoises the user's and the item's embedding of each triple, each conditioned on the other (paper, section
    3.1). At inference the network of the items turns a start vector per user, by default the mean of their items, into
    the vector that scores all items (section 3.2).

    Keys: properties/model/DDRM.yaml. Deviations of the official code: docs/models/ddrm.md.
    """

    def __init__(self, config: Any, dataset: Any, base: Optional[BaseModel] = None) -> None:
        super().__init__(config, dataset, base)
        self.reweight_gamma = config["reweight_gamma"]

    def triple_losses(self, pairs: DenoisedPairs, negatives: Tensor) -> tuple[Tensor, Tensor]:
        r"""BPR loss and reconstruction error, (B,), weighted by :math:`\sigma(\hat u^\top \hat\imath)^\gamma`.

        Paper, section 3.1.3. No gradient flows through the weight. negatives: (B, d).
        """
        user, item, negative = (self.space.to_points(x) for x in (pairs.user, pairs.item, negatives))
        positive = self.space.similarity(user, item)
        bpr = F.softplus(self.space.similarity(user, negative) - positive)
        if not self.reweight_gamma:
            return bpr, pairs.error
        weight = torch.sigmoid(positive.detach()) ** self.reweight_gamma
        return weight * bpr, weight * pairs.error
