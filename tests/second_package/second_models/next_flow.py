"""A linear flow from noise to the next item's embedding, conditioned on the mean of the sequence's embeddings."""

from __future__ import annotations

from typing import Any

import torch
from recbole.model.abstract_recommender import SequentialRecommender
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_diffusion.model.hooks import Hooks


class NextFlow(Hooks, SequentialRecommender):
    r""":math:`x_t = (1 - t) x_0 + t \epsilon`; the network predicts :math:`x_0`, Euler steps walk t from 1 to 0."""

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        size = config["hidden_size"]
        self.steps, self.start_std, self.eval_seed = config["steps"], config["start_std"], config["eval_seed"]
        self.items = nn.Embedding(self.n_items, size, padding_idx=0)
        self.network = nn.Sequential(nn.Linear(2 * size + 1, 4 * size), nn.Tanh(), nn.Linear(4 * size, size))

    @property
    def nfe(self) -> int:
        return self.steps

    def context(self, interaction: Any) -> Tensor:
        """Mean of the sequence's embeddings, (B, d)."""
        total = self.items(interaction[self.ITEM_SEQ]).sum(1)
        return total / interaction[self.ITEM_SEQ_LEN][:, None]

    def denoise(self, x: Tensor, t: Tensor, context: Tensor) -> Tensor:
        """The estimate of x_0, (B, d), from x_t (B, d) at t (B, 1)."""
        return self.network(torch.cat([x, context, t], dim=1))

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Cross-entropy of the estimate's products with all items, at a random t; scalar."""
        target = interaction[self.POS_ITEM_ID]
        x0 = self.items(target)
        t = torch.rand(len(x0), 1, device=x0.device)
        x_t = (1 - t) * x0 + t * torch.randn_like(x0)
        estimate = self.denoise(x_t, t, self.context(interaction))
        return F.cross_entropy(estimate @ self.items.weight.T, target)

    @torch.no_grad()
    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Scores of every item, (B, n_items)."""
        context = self.context(interaction)
        generator = torch.Generator(context.device).manual_seed(self.eval_seed)
        start = torch.randn(context.shape[1], generator=generator, device=context.device)  # one for all rows
        x = (self.start_std * start).expand_as(context)
        for step in range(self.steps, 0, -1):
            t = torch.full((len(x), 1), step / self.steps, device=x.device)
            x = x + (self.denoise(x, t, context) - x) / step
        scores = x @ self.items.weight.T
        scores[:, 0] = -torch.inf
        return scores

    def predict(self, interaction: Any) -> Tensor:
        """Scores of (sequence, item) pairs, (B,)."""
        return self.full_sort_predict(interaction).gather(1, interaction[self.ITEM_ID][:, None]).squeeze(1)
