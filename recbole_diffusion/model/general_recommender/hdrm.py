"""HDRM: DDRM's diffusion in the tangent space of the hyperboloid, on HGCF's embeddings.

Reference:
    Meng Yuan et al. "Hyperbolic Diffusion Recommender Model." WWW 2025. https://arxiv.org/abs/2504.01541

Reference code:
    https://github.com/yuanmeng-cpu/HDRM (commit 9f90145), compared by numbers in tests/model/test_parity_hdrm.py
"""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor

from recbole_diffusion.model.embeddings.base_model import BaseModel
from recbole_diffusion.model.embeddings.embedding_diffusion import DenoisedPairs, EmbeddingNoise
from recbole_diffusion.model.embeddings.embedding_recommender import EmbeddingRecommender
from recbole_diffusion.model.general_recommender.hgcf import margin_loss
from recbole_diffusion.model.geometry.space import Space


class HyperbolicNoise(EmbeddingNoise):
    r"""Forward process with restricted noise on tangent vectors of the hyperboloid (key ``restrict``).

    ``directional``: the noise gets the signs of the embedding, and per coordinate the mean :math:`\mu` and the standard
    deviation :math:`\sigma` of the table. Key ``noise_order``: ``official`` is
    :math:`\mu + \sigma\,\mathrm{sgn}(x_0)|\epsilon|`, ``signed`` is :math:`\mathrm{sgn}(x_0)|\mu + \sigma\epsilon|`
    (Yang et al., Directional Diffusion Models, NeurIPS 2023).

    ``radial``: x_t is moved outwards, :math:`x_t \mathrel{+}= \delta\tanh(\sqrt c\, t / T_0)\, x_0` (HypDiff, Fu et
    al., ICML 2024).

    Args:
        config: the settings; keys of the process and of the restriction.
        curvature: c of the space of curvature -c.
    """

    def __init__(self, config: Any, curvature: float) -> None:
        super().__init__(config)
        restrict = config["restrict"]
        self.directional, self.radial = restrict in {"directional", "both"}, restrict in {"radial", "both"}
        self.signed_last = config["noise_order"] == "signed"
        self.push, self.rate = config["radial_push"], curvature**0.5 / config["radial_steps"]
        self.statistics: dict[bool, tuple[Tensor, Tensor]] = {}

    def prepare(self, user: Tensor, item: Tensor) -> None:
        """Compute mean and standard deviation of the tables (n_users, d), (n_items, d), without the padding row.

        Statistics of a batch would make a user's scores depend on the other users in it.
        """
        if self.directional:
            tables = ((True, user.detach()), (False, item.detach()))
            self.statistics = {is_user: (table[1:].mean(0), table[1:].std(0)) for is_user, table in tables}

    def forward(self, x0: Tensor, t: Tensor, noise: Tensor, is_user: bool) -> Tensor:
        """Noise embeddings to x_t. x0, noise: (B, d); t: (B,); ``is_user``: of users, otherwise of items."""
        if self.directional:
            mean, deviation = self.statistics[is_user]
            if self.signed_last:
                noise = torch.sign(x0) * (mean + deviation * noise).abs()
            else:
                noise = mean + deviation * torch.sign(x0) * noise.abs()
        x = super().forward(x0, t, noise, is_user)
        if self.radial:
            x = torch.addcmul(x, self.push * torch.tanh(self.rate * t[:, None].to(x.dtype)), x0)
        return x


class HDRM(EmbeddingRecommender):
    """DDRM with hyperbolic distances, a margin loss, and interpolation with the base model's embeddings.

    Keys: properties/model/HDRM.yaml. Deviations of the official code: docs/models/hdrm.md.
    """

    def __init__(self, config: Any, dataset: Any, base: Optional[BaseModel] = None) -> None:
        super().__init__(config, dataset, base)
        self.margin, self.averaged = config["margin"], config["reduction"] == "mean"

    def _space(self) -> tuple[Space, bool]:
        return self.base.tangent_space()

    def _noise(self, config: Any) -> HyperbolicNoise:
        return HyperbolicNoise(config, self.space.curvature)

    def triple_losses(self, pairs: DenoisedPairs, negatives: Tensor) -> tuple[Tensor, Tensor]:
        """HGCF's margin loss on the denoised pairs, and the reconstruction error, (B,). negatives: (B, d)."""
        user = self.space.to_points(pairs.user)
        positive, negative = (self.space.similarity(user, self.space.to_points(x)) for x in (pairs.item, negatives))
        return margin_loss(positive, negative, self.margin), pairs.error
