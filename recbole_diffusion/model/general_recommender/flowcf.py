"""FlowCF: discrete flow matching from the items' popularity to users' rows.

Reference:
    Chengkai Liu et al. "Flow Matching for Collaborative Filtering." KDD 2025. https://doi.org/10.1145/3711896.3736967

Reference code:
    https://github.com/chengkai-liu/FlowCF (commit c7db8f3), compared by numbers in tests/model/test_parity_flowcf.py
"""

from __future__ import annotations

import math
from typing import Any, Optional

import torch
from torch import Tensor

from recbole_diffusion.diffusion import DiscreteFlow, Generators, StepCallback
from recbole_diffusion.diffusion.timestep import is_settled
from recbole_diffusion.model.networks.flow_mlp import FlowMLP
from recbole_diffusion.model.process import discrete_parts
from recbole_diffusion.model.rows.history import InteractionMatrix, SparseRows, row_history
from recbole_diffusion.model.rows.row_recommender import RowRecommender
from recbole_diffusion.model.rows.vector_diffusion import VectorDiffusion


def popularity(history: InteractionMatrix) -> Tensor:
    """Share of the users who have each item, float64, (n_items - 1,). The padding user is not counted."""
    n_users = len(history.indptr) - 2
    return torch.bincount(history.items, minlength=history.n_columns).double() / n_users


class FlowCF(RowRecommender):
    r"""Discrete flow matching on the user's row.

    Training replaces a random share of the row by draws from the prior, by default independent draws with the items'
    popularity, and predicts the row. Inference starts from the row itself. The last prediction holds the scores.

    Keys: properties/model/FlowCF.yaml. Deviations of the official code: docs/models/flowcf.md.
    """

    diffusion: VectorDiffusion
    bias_std = 0.0

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset, row_history(config, dataset))
        parts = discrete_parts(config, self._prior(config["prior"]))
        self.diffusion = VectorDiffusion(config, self.history.n_columns, self.make_denoiser, parts)

    def _prior(self, name: str) -> Tensor:
        """Probability of each item in the prior, float64, (n_items - 1,)."""
        frequencies = popularity(self.history)
        return (
            frequencies if name == "popularity" else torch.full_like(frequencies, {"zero": 0.0, "uniform": 0.5}[name])
        )

    def make_denoiser(self, config: Any, width: int, time_scale: float) -> FlowMLP:
        """Make the network. The embedded time runs from 0, at the prior, to 2 pi, at the data."""
        steps = config["steps"]
        return FlowMLP(
            [width, *config["dims_dnn"], width],
            times=DiscreteFlow(steps, torch.zeros(width)).shares * (2 * math.pi * time_scale),
            time_size=config["embedding_size"],
            dropout=config["dropout_prob"],
            activation=config["mlp_act_func"],
            bias_std=self.bias_std,
        )

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Compute the mean over the batch's users and the items of the squared error; scalar."""
        return self.diffusion.loss(self.history.rows(interaction[self.USER_ID])).loss

    def step_is_capturable(self, batch_size: int) -> Optional[bool]:
        """Return whether rows are filled without a wait and the times are drawn without one; see :class:`Hooks`."""
        return is_settled(self.diffusion.timesteps) if self.history.fills_without_wait(batch_size) else None

    def denoise(
        self, rows: SparseRows, generator: Generators = None, callback: Optional[StepCallback] = None
    ) -> Tensor:
        """Run the reverse process from the rows themselves; its result holds the scores, (B, n_items - 1)."""
        return self.diffusion.denoise(rows.dense(), generator, callback)
