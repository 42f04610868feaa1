"""DiffRec: diffusion on users' rows of the interaction matrix.

Reference:
    Wenjie Wang et al. "Diffusion Recommender Model." SIGIR 2023. https://doi.org/10.1145/3539618.3591663

Reference code:
    https://github.com/YiyanXu/DiffRec (commit d35a6c6), compared by numbers in tests/model/test_parity_diffrec.py
"""

from __future__ import annotations

from typing import Any, Optional

from torch import Tensor

from recbole_diffusion.diffusion import Generators, StepCallback
from recbole_diffusion.diffusion.timestep import is_settled
from recbole_diffusion.model.rows.history import InteractionMatrix, SparseRows, row_history
from recbole_diffusion.model.rows.row_recommender import RowRecommender
from recbole_diffusion.model.rows.vector_diffusion import VectorDiffusion


class DiffRec(RowRecommender):
    r"""Diffusion on the user's row :math:`x_0 \in \{0, 1\}^{|I|}` of interactions.

    Training predicts the clean row from a noised one. At inference the reverse process starts from the row itself; the
    generated row holds the scores of all items.

    Keys: properties/model/DiffRec.yaml. Deviations of the official code, and the key for each: docs/models/diffrec.md.

    Args:
        history: the users' rows; None: made by the key ``row_weights``.
    """

    diffusion: VectorDiffusion

    def __init__(self, config: Any, dataset: Any, history: Optional[InteractionMatrix] = None) -> None:
        super().__init__(config, dataset, row_history(config, dataset) if history is None else history)
        if config["time-aware"]:  # RecBole's key for T-DiffRec
            self.logger.warning("time-aware: True makes DiffRec the model TDiffRec; use --model=TDiffRec")
        self.diffusion = VectorDiffusion(config, self.history.n_columns, self.make_denoiser)

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Compute the mean over the batch's users of the weighted squared error (paper, eq. 9 to 12); scalar."""
        return self.diffusion.loss(self.history.rows(interaction[self.USER_ID])).loss

    def step_is_capturable(self, batch_size: int) -> Optional[bool]:
        """Return whether rows are filled without a wait and the times are drawn without one; see :class:`Hooks`."""
        return is_settled(self.diffusion.timesteps) if self.history.fills_without_wait(batch_size) else None

    def denoise(
        self, rows: SparseRows, generator: Generators = None, callback: Optional[StepCallback] = None
    ) -> Tensor:
        """Run the reverse process from the rows themselves; its result holds the scores, (B, n_items - 1)."""
        return self.diffusion.denoise(rows.dense(), generator, callback)
