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

from recbole_diffusion.model.embeddings.base import Base
from recbole_diffusion.model.embeddings.embedding_diffusion import Noise, Pairs
from recbole_diffusion.model.embeddings.embedding_recommender import EmbeddingRecommender
from recbole_diffusion.model.general_recommender.hgcf import margin_loss
from recbole_diffusion.model.geometry.space import Space


class HyperbolicNoise(Noise):
    r"""Restrictions of the forward process at the tangent vectors of the hyperboloid.

    ``directional`` replaces the noise by one of the embedding's own signs and scale, with mean :math:`\mu` and standard
    deviation :math:`\sigma` of each coordinate over the table: :math:`\mu + \sigma\,\mathrm{sgn}(x_0)|\epsilon|` (order
    ``official``), or :math:`\mathrm{sgn}(x_0)|\mu + \sigma\epsilon|` (``signed``; Yang et al., Directional Diffusion
    Models, NeurIPS 2023). ``radial`` pushes outwards:
    :math:`x_t \mathrel{+}= \delta\tanh(\sqrt c\, t / T_0)\, x_0` (HypDiff, Fu et al., ICML 2024).
    """

    def __init__(self, config: Any, curvature: float) -> None:
        super().__init__(config)
        restrict = config["restrict"]
        self.directional, self.radial = restrict in {"directional", "both"}, restrict in {"radial", "both"}
        self.signed_last = config["noise_order"] == "signed"
        self.push, self.rate = config["radial_push"], curvature**0.5 / config["radial_steps"]
        self.statistics: dict[bool, tuple[Tensor, Tensor]] = {}

    def prepare(self, user: Tensor, item: Tensor) -> None:
        """Take the statistics from the tables, not from a batch: scores must not depend on who else is in it."""
        if self.directional:
            tables = ((True, user.detach()), (False, item.detach()))
            self.statistics = {users: (table[1:].mean(0), table[1:].std(0)) for users, table in tables}

    def forward(self, x0: Tensor, t: Tensor, noise: Tensor, users: bool) -> Tensor:
        if self.directional:
            mean, deviation = self.statistics[users]
            if self.signed_last:
                noise = torch.sign(x0) * (mean + deviation * noise).abs()
            else:
                noise = mean + deviation * torch.sign(x0) * noise.abs()
        x = super().forward(x0, t, noise, users)
        if self.radial:
            x = torch.addcmul(x, self.push * torch.tanh(self.rate * t[:, None].to(x.dtype)), x0)
        return x


class HDRM(EmbeddingRecommender):
    """DDRM with distances in place of inner products, a margin loss, and what is generated mixed into the base.

    Keys and what they mean: properties/model/HDRM.yaml.
    """

    def __init__(self, config: Any, dataset: Any, base: Optional[Base] = None) -> None:
        super().__init__(config, dataset, base)
        self.margin, self.averaged = config["margin"], config["reduction"] == "mean"

    def _space(self) -> tuple[Space, bool]:
        return self.base.tangent_space()

    def _noise(self, config: Any) -> HyperbolicNoise:
        return HyperbolicNoise(config, self.space.curvature)

    def triple_losses(self, pairs: Pairs, negatives: Tensor) -> tuple[Tensor, Tensor]:
        """The margin loss of HGCF on the denoised pair, and the reconstruction error."""
        user = self.space.to_points(pairs.user)
        near, far = (self.space.similarity(user, self.space.to_points(each)) for each in (pairs.item, negatives))
        return margin_loss(near, far, self.margin), pairs.error
