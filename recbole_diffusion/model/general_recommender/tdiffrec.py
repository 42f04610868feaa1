"""T-DiffRec: DiffRec on rows that weight a user's items by their rank in time.

Reference:
    Wenjie Wang et al. "Diffusion Recommender Model." SIGIR 2023, section 3.5. https://doi.org/10.1145/3539618.3591663

Reference code:
    https://github.com/YiyanXu/DiffRec (commit d35a6c6), compared by numbers in tests/model/test_parity_ldiffrec.py
"""

from __future__ import annotations

from typing import Any, Optional

from torch import Tensor

from recbole_diffusion.diffusion import Generators, StepCallback
from recbole_diffusion.model.rows.history import SparseRows, time_history
from recbole_diffusion.model.rows.row_recommender import RowRecommender
from recbole_diffusion.model.rows.vector_diffusion import VectorDiffusion


class TDiffRec(RowRecommender):
    """DiffRec on rows in which later items have larger weights, in the network's input and in its target.

    The weights of a user's M items in time order are ``linspace(w_min, w_max, M)``.

    Keys: properties/model/TDiffRec.yaml.
    """

    diffusion: VectorDiffusion

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset, time_history(dataset, config["w_min"], config["w_max"]))
        self.diffusion = VectorDiffusion(config, self.history.n_columns, self.make_denoiser)

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Compute the mean over the batch's users of the weighted squared error of the weighted row; scalar."""
        return self.diffusion.loss(self.history.rows(interaction[self.USER_ID])).loss

    def denoise(
        self, rows: SparseRows, generator: Generators = None, callback: Optional[StepCallback] = None
    ) -> Tensor:
        """Run the reverse process from the weighted rows; its result holds the scores, (B, n_items - 1)."""
        return self.diffusion.denoise(rows.dense(), generator, callback)
