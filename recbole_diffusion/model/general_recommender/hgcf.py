"""HGCF: graph convolution in the hyperbolic space, scored by distance, trained with a margin. The base of HDRM.

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
    r""":math:`[d^2(u, i) - d^2(u, j) + m]_+` from closeness, minus the squared distances (HGCF, eq. 9); (B,)."""
    return (negative - positive + margin).clamp_min(0)


class HGCF(Hooks, GeneralRecommender):
    """Points on the hyperboloid, moved by Riemannian SGD; their neighbourhood is summed in the tangent space.

    Keys and what they mean: properties/model/HGCF.yaml.

    Attributes:
        points: users, then items, (n_users + n_items, d), of which the first coordinate is the time.
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
        # drawn in float64, so that both precisions start from the same points
        start = torch.empty(size, dtype=torch.float64).uniform_(-config["init_range"], config["init_range"])
        self.points = nn.Parameter(self.space.exp0(start).to(dtype))
        self.history = binary_history(dataset)
        self.triples = Triples(self.history) if config["triple_sampling"] == "user" else None
        if self.triples is None:
            check_negatives(config, "triple_sampling='interaction'")
        users, items = (dataset.inter_feat[field].numpy() for field in (dataset.uid_field, dataset.iid_field))
        self.graph = SparseProduct(row_normalised(users, items, (self.n_users, self.n_items)), dtype)
        self._ranking: Optional[tuple[object, tuple[Tensor, Tensor]]] = None

    def make_optimizer(self, learning_rate: float, weight_decay: float) -> RiemannianSGD:
        """For the trainer."""
        return RiemannianSGD([self.points], self.space, learning_rate, self.momentum, weight_decay)

    def forward(self) -> tuple[Tensor, Tensor]:
        r"""Tangent vectors of users and items: :math:`\sum_{l=1}^L \bar A^l \log_0(E)`, (n_users, d), (n_items, d).

        HGCF, eq. 7; ``n_layers`` 0: :math:`\log_0(E)`.
        """
        layer = total = self.space.log0(self.points)
        for number in range(self.n_layers):
            layer = self.graph(layer)
            total = total + layer if number else layer
        return total[: self.n_users], total[self.n_users :]

    def calculate_loss(self, interaction: Any) -> Tensor:
        """The sum of the margin losses of the batch's triples."""
        if self.triples is not None:
            users, positives, negatives = self.triples.draw(self.history, len(interaction))
        else:
            users, positives, negatives = (interaction[f] for f in (self.USER_ID, self.ITEM_ID, self.NEG_ITEM_ID))
        user, item = (self.space.to_points(each) for each in self())
        near, far = (self.space.similarity(user[users], item[items]) for items in (positives, negatives))
        return margin_loss(near, far, self.margin).sum()

    @torch.no_grad()
    def project(self) -> None:
        """Put the points back on the manifold, after an optimiser that knows nothing of it."""
        self.points.copy_(self.space.project(self.points))

    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Scores of every item, (B, n_items), each row ordered as the distances are; column 0, the padding, is -inf."""
        users, items = self._sides()
        scores = users[interaction[self.USER_ID]] @ items.t()
        scores[:, 0] = -torch.inf
        return scores

    def predict(self, interaction: Any) -> Tensor:
        """Scores of (user, item) pairs, (B,)."""
        users, items = self._sides()
        return (users[interaction[self.USER_ID]] * items[interaction[self.ITEM_ID]]).sum(1)

    @torch.no_grad()
    def _sides(self) -> tuple[Tensor, Tensor]:
        """Both factors of the scores; kept until training or other weights."""
        mark = weights_fingerprint([self.points])
        if self._ranking is None or self._ranking[0] != mark:
            user, item = self()
            self._ranking = (mark, (self.space.user_factor(user).float(), self.space.item_factor(item).float()))
        return self._ranking[1]

    def train(self, mode: bool = True) -> HGCF:
        self._ranking = None
        super().train(mode)
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_ranking": None}
