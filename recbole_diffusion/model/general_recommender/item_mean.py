"""ItemMean: the mean of the embeddings of a user's items, a yardstick for diffusion on embeddings.

Nothing is trained but the base model. DDRM and HDRM start their reverse process from this mean, so that it tells what
their networks and their noise add.
"""

from __future__ import annotations

from typing import Any, Optional

import torch
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType, ModelType
from torch import Tensor, nn

from recbole_diffusion.model.embeddings.base_model import BaseModel
from recbole_diffusion.model.embeddings.embedding_diffusion import interpolate
from recbole_diffusion.model.hooks import Hooks
from recbole_diffusion.model.interactions.propagation import row_means
from recbole_diffusion.model.rows.history import binary_history


class ItemMean(Hooks, GeneralRecommender):
    r"""Score items by the inner product with the mean of the user's items' embeddings of a base model.

    With the key ``mix`` :math:`w` the vector is :math:`w\,\bar e_{I_u} + (1 - w)\,e_u`; 1 is the mean alone, 0 the base
    model. In a hyperbolic base model the mean is taken in the tangent space at the origin.

    Args:
        base: the base model; None: trained or loaded as configured by the keys ``base_*``.
    """

    input_type = InputType.POINTWISE
    type = ModelType.TRADITIONAL

    def __init__(self, config: Any, dataset: Any, base: Optional[BaseModel] = None) -> None:
        super().__init__(config, dataset)
        self.base = BaseModel.from_config(config, dataset) if base is None else base
        self.space, self.mix = self.base.space(), config["mix"]
        history = binary_history(dataset)
        self.means = row_means(history.indptr, history.items, history.n_columns)
        self.unused = nn.Parameter(torch.zeros(1))  # RecBole's trainer wants a parameter to optimise

    @classmethod
    def from_state(cls, config: Any, dataset: Any, state: dict[str, Tensor]) -> ItemMean:
        """Build the model with the base model of a checkpoint, without pretraining."""
        return cls(config, dataset, BaseModel.from_state(config, dataset, state))

    @property
    def nfe(self) -> int:
        """Number of function evaluations: 0, since no network is called."""
        return 0

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Return a loss of 0: nothing is trained."""
        return self.unused.sum() * 0

    @torch.no_grad()
    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Score all items, (B, n_items); column 0, the padding item, is -inf."""
        user, item = self.base()
        users = interaction[self.USER_ID]
        means = self.means(item[1:].contiguous())[users]
        vectors = interpolate(user[users], means, self.mix)
        scores = self.space.user_factor(vectors) @ self.space.item_factor(item).t()
        scores[:, 0] = -torch.inf
        return scores

    def predict(self, interaction: Any) -> Tensor:
        """Score (user, item) pairs, (B,)."""
        return self.full_sort_predict(interaction).gather(1, interaction[self.ITEM_ID][:, None]).squeeze(1)
