"""GiffCF: users' rows as signals on the graph of items, smoothed forward and sharpened by a network.

Reference:
    Yunqin Zhu et al. "Graph Signal Diffusion Model for Collaborative Filtering." SIGIR 2024.
    https://doi.org/10.1145/3626772.3657759

Reference code:
    https://github.com/VinciZhu/GiffCF (commit 3f67e02), compared by numbers in tests/model/test_parity_giffcf.py
"""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor

from recbole_diffusion.diffusion import Generators, StepCallback
from recbole_diffusion.model.interactions.item_filter import is_dense
from recbole_diffusion.model.interactions.item_graph import ItemGraph
from recbole_diffusion.model.rows.graph_diffusion import GraphDiffusion
from recbole_diffusion.model.rows.history import SparseRows, fitted_matrix, row_history
from recbole_diffusion.model.rows.row_recommender import RowRecommender

#: Most memory, in bytes, for the smoothed rows of all users, which training then computes once. ml-1m needs 67 MB.
MAX_SMOOTHED_BYTES = 2**28
#: Users whose rows are smoothed at once.
SMOOTHED_BLOCK = 1024


class GiffCF(RowRecommender):
    """Graph-signal diffusion on the user's row.

    The forward process smooths the row over the graph of items. A network predicts the row from the smoothed row, from
    the row under dropout, and from that row smoothed.

    Keys: properties/model/GiffCF.yaml. Deviations of the official code: docs/models/giffcf.md.

    Args:
        start: whether to compute the start that ``item_init`` names; False for weights that are loaded afterwards.
    """

    diffusion: GraphDiffusion

    def __init__(self, config: Any, dataset: Any, start: bool = True) -> None:
        super().__init__(config, dataset, row_history(config, dataset))
        graph = ItemGraph(
            fitted_matrix(config, self.history),
            config["user_power"],
            config["ideal_weight"],
            config["ideal_cutoff"],
            is_dense(config["item_graph"], self.history.n_columns),
        )
        self.diffusion = GraphDiffusion(config, graph)
        self._smoothed: Optional[Tensor] = None
        self.item_options = {} if config["item_learning_rate"] is None else {"lr": config["item_learning_rate"]}
        self.adam_eps = config["adam_eps"]
        if start and config["item_init"] == "spectral":
            eigenvectors = graph.eigenvectors(config["embedding_size"])
            self.diffusion.denoiser.start_spectral(eigenvectors, config["mixer_noise"])

    @classmethod
    def from_state(cls, config: Any, dataset: Any, state: dict[str, Tensor]) -> GiffCF:
        """Build the model for the weights of a checkpoint, without the eigenvectors of its start."""
        return cls(config, dataset, start=False)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the item matrix with ``item_learning_rate``, and the other parameters."""
        items = self.diffusion.denoiser.items
        others = [parameter for parameter in self.parameters() if parameter is not items]
        return [
            {"params": [items], "eps": self.adam_eps, **self.item_options},
            {"params": others, "eps": self.adam_eps},
        ]

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Compute the mean over the batch's users of the squared error of their rows; scalar."""
        users = interaction[self.USER_ID]
        return self.diffusion.loss(self.history.sparse(users), self._smoothed_rows(users))

    def _smoothed_rows(self, users: Tensor) -> Optional[Tensor]:
        """Smoothed rows of ``users``, (B, n_items - 1), computed for all users once; None if they need much memory."""
        n_users = len(self.history.indptr) - 1
        if 4 * n_users * self.history.n_columns > MAX_SMOOTHED_BYTES:
            return None
        if self._smoothed is None or self._smoothed.device != users.device:
            blocks = torch.arange(n_users, device=users.device).split(SMOOTHED_BLOCK)
            with torch.no_grad(), torch.autocast(users.device.type, enabled=False):
                rows = [self.diffusion.graph.sparse_forward(self.history.sparse(block)) for block in blocks]
            self._smoothed = torch.cat(rows)
        return self._smoothed[users]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_smoothed": None}  # computed where it is needed

    def denoise(
        self, rows: SparseRows, generator: Generators = None, callback: Optional[StepCallback] = None
    ) -> Tensor:
        """Run the reverse process from the smoothed rows; its result holds the scores, (B, n_items - 1)."""
        return self.diffusion.denoise(rows, callback)

    def networks(self) -> list[Any]:
        """Return the network, for ``compile``."""
        return [self.diffusion.denoiser]
