"""HGCF: graph convolution in hyperbolic space, scored by distance, trained with a margin loss. Base model of HDRM.

Reference:
    Jianing Sun et al. "HGCF: Hyperbolic Graph Convolution Networks for Collaborative Filtering." WWW 2021.
    https://doi.org/10.1145/3442381.3450101

Reference code:
    the first stage of https://github.com/yuanmeng-cpu/HDRM (commit 782a194), compared by numbers in
    tests/model/test_parity_hdrm.py
"""

from __future__ import annotations

from typing import Any, Optional

import torch
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_diffusion.model.geometry.riemannian_sgd import RiemannianSGD
from recbole_diffusion.model.geometry.space import Lorentz
from recbole_diffusion.model.hooks import Hooks
from recbole_diffusion.model.interactions.propagation import SparseProduct, row_normalised
from recbole_diffusion.model.interactions.triples import Triples, check_negatives
from recbole_diffusion.model.networks.weights import weights_fingerprint
from recbole_diffusion.model.rows.history import binary_history


def margin_loss(positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    r"""Margin loss :math:`[d^2(u, i) - d^2(u, j) + m]_+` of each triple (HGCF, eq. 9); (B,).

    Args:
        positive, negative: similarities :math:`-d^2`, (B,).
        margin: m.
    """
    return (negative - positive + margin).clamp_min(0)


class HGCF(Hooks, GeneralRecommender):
    """Points on the hyperboloid, trained by Riemannian SGD; the graph convolution works in the tangent space.

    Keys: properties/model/HGCF.yaml.

    Attributes:
        points: points of the users, then of the items, (n_users + n_items, d); the first coordinate is the time.
    """

    input_type = InputType.PAIRWISE
    loss_reduction = "sum"
    space: Lorentz

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        dtype = getattr(torch, config["precision"])
        self.space = Lorentz(config["curvature"])
        self.n_layers, self.margin, self.momentum = config["n_layers"], config["margin"], config["momentum"]
        size = (self.n_users + self.n_items, config["embedding_size"])
        # Drawn in float64, so that both precisions start from the same points.
        start = torch.empty(size, dtype=torch.float64).uniform_(-config["init_range"], config["init_range"])
        self.points = nn.Parameter(self.space.exp0(start).to(dtype))
        self.history = binary_history(dataset)
        self.triples = Triples(self.history) if config["triple_sampling"] == "user" else None
        if self.triples is None:
            check_negatives(config, "triple_sampling='interaction'")
        users, items = (dataset.inter_feat[field].numpy() for field in (dataset.uid_field, dataset.iid_field))
        self.graph = SparseProduct(row_normalised(users, items, (self.n_users, self.n_items)), dtype)
        self._cached_factors: Optional[tuple[object, tuple[Tensor, Tensor]]] = None

    def make_optimizer(self, learning_rate: float, weight_decay: float) -> RiemannianSGD:
        """Make the Riemannian SGD that keeps the points on the hyperboloid."""
        return RiemannianSGD([self.points], self.space, learning_rate, self.momentum, weight_decay)

    def forward(self) -> tuple[Tensor, Tensor]:
        r"""Propagate the points over the graph: :math:`\sum_{l=1}^L \bar A^l \log_0(E)` (HGCF, eq. 7).

        With ``n_layers: 0`` the result is :math:`\log_0(E)`.

        Returns:
            Tangent vectors at the origin of users and items, (n_users, d), (n_items, d).
        """
        layer = total = self.space.log0(self.points)
        for layer_number in range(self.n_layers):
            layer = self.graph(layer)
            total = total + layer if layer_number else layer
        return total[: self.n_users], total[self.n_users :]

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Sum the margin losses of the batch's triples; scalar."""
        if self.triples is not None:
            users, positives, negatives = self.triples.draw(self.history, len(interaction))
        else:
            fields = (self.USER_ID, self.ITEM_ID, self.NEG_ITEM_ID)
            users, positives, negatives = (interaction[field] for field in fields)
        user, item = (self.space.to_points(tangent) for tangent in self())
        positive, negative = (self.space.similarity(user[users], item[items]) for items in (positives, negatives))
        return margin_loss(positive, negative, self.margin).sum()

    @torch.no_grad()
    def project(self) -> None:
        """Project the points onto the hyperboloid, for optimisers that leave it."""
        self.points.copy_(self.space.project(self.points))

    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Score all items, (B, n_items); column 0, the padding item, is -inf.

        The scores of a user order the items as the distances do; see :meth:`Lorentz.item_factor`.
        """
        users, items = self._score_factors()
        scores = users[interaction[self.USER_ID]] @ items.t()
        scores[:, 0] = -torch.inf
        return scores

    def predict(self, interaction: Any) -> Tensor:
        """Score (user, item) pairs, (B,)."""
        users, items = self._score_factors()
        return (users[interaction[self.USER_ID]] * items[interaction[self.ITEM_ID]]).sum(1)

    @torch.no_grad()
    def _score_factors(self) -> tuple[Tensor, Tensor]:
        """User and item factors of the scores, float32; cached until the mode or the weights change."""
        fingerprint = weights_fingerprint([self.points])
        if self._cached_factors is None or self._cached_factors[0] != fingerprint:
            user, item = self()
            factors = (self.space.user_factor(user).float(), self.space.item_factor(item).float())
            self._cached_factors = (fingerprint, factors)
        return self._cached_factors[1]

    def train(self, mode: bool = True) -> HGCF:
        """Set the mode as torch does, and drop the cached factors."""
        self._cached_factors = None
        super().train(mode)
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cached_factors": None}
