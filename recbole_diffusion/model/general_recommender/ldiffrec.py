"""L-DiffRec: diffusion on the latents of a variational auto-encoder with one encoder per cluster of items.

Reference:
    Wenjie Wang et al. "Diffusion Recommender Model." SIGIR 2023, section 3.4. https://doi.org/10.1145/3539618.3591663

Reference code:
    https://github.com/YiyanXu/DiffRec (commit d35a6c6), compared by numbers in tests/model/test_parity_ldiffrec.py
"""

from __future__ import annotations

from typing import Any, Optional

from torch import Tensor

from recbole_diffusion.diffusion import Generators, StepCallback
from recbole_diffusion.model.embeddings.clusters import clusters_of_state, item_clusters
from recbole_diffusion.model.rows.history import InteractionMatrix, SparseRows, row_history
from recbole_diffusion.model.rows.latent_diffusion import LatentDiffusion, LatentLosses
from recbole_diffusion.model.rows.row_recommender import RowRecommender


class LDiffRec(RowRecommender):
    """DiffRec on latents: fewer parameters and less memory than on rows (paper, section 3.4).

    Each cluster of items has an encoder; the concatenated latents are noised and denoised. A decoder maps them back to
    the scores of all items.

    Keys: properties/model/LDiffRec.yaml.

    Args:
        labels: the cluster of each item, (n_items - 1,); None: computed by k-means on pretrained embeddings.
        history: the users' rows; None: made by the key ``row_weights``.
    """

    diffusion: LatentDiffusion
    bias_std = 0.0

    def __init__(
        self,
        config: Any,
        dataset: Any,
        labels: Optional[Tensor] = None,
        history: Optional[InteractionMatrix] = None,
    ) -> None:
        super().__init__(config, dataset, row_history(config, dataset) if history is None else history)
        if config["time-aware"]:  # RecBole's key for LT-DiffRec
            self.logger.warning("time-aware: True makes LDiffRec the model LTDiffRec; use --model=LTDiffRec")
        labels = item_clusters(config, dataset) if labels is None else labels
        self.diffusion = LatentDiffusion(config, labels, self.make_denoiser)

    @classmethod
    def from_state(cls, config: Any, dataset: Any, state: dict[str, Tensor]) -> LDiffRec:
        """Build the model with the clusters of a checkpoint, without pretraining."""
        return cls(config, dataset, clusters_of_state(state, "diffusion.autoencoder.labels", dataset))

    def calculate_loss(self, interaction: Any) -> LatentLosses:
        """Compute the three weighted terms of the loss: diffusion, reconstruction and KL divergence; scalars."""
        return self.diffusion.loss(self.history.sparse(interaction[self.USER_ID]))

    def denoise(
        self, rows: SparseRows, generator: Generators = None, callback: Optional[StepCallback] = None
    ) -> Tensor:
        """Encode the rows, run the reverse process on the latents and decode; the scores, (B, n_items - 1)."""
        return self.diffusion.denoise(rows, generator, callback)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the parameters of the auto-encoder, and those of the denoiser with ``mlp_learning_rate``."""
        return self.diffusion.parameter_groups()

    def end_epoch(self) -> None:
        """Advance the annealing of the loss weights; called after each epoch of training."""
        self.diffusion.annealing.epochs += 1
