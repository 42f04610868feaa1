"""LT-DiffRec: L-DiffRec on rows that weight a user's items by their rank in time.

Reference:
    Wenjie Wang et al. "Diffusion Recommender Model." SIGIR 2023, sections 3.4 and 3.5. https://doi.org/10.1145/3539618.3591663

Reference code:
    https://github.com/YiyanXu/DiffRec (commit d35a6c6), compared by numbers in tests/model/test_parity_ldiffrec.py
"""

from __future__ import annotations

from typing import Any, Optional

from torch import Tensor

from recbole_diffusion.diffusion import Generators, StepCallback
from recbole_diffusion.model.embeddings.clusters import clusters_of_state, item_clusters
from recbole_diffusion.model.rows.history import SparseRows, time_history
from recbole_diffusion.model.rows.latent_diffusion import LatentDiffusion, LatentLosses
from recbole_diffusion.model.rows.row_recommender import RowRecommender


class LTDiffRec(RowRecommender):
    """L-DiffRec on rows in which later items have larger weights, in the encoder's input and the decoder's target.

    The weights of a user's M items in time order are ``linspace(w_min, w_max, M)``.

    Keys: properties/model/LTDiffRec.yaml.

    Args:
        labels: the cluster of each item, (n_items - 1,); None: computed by k-means on pretrained embeddings.
    """

    diffusion: LatentDiffusion
    bias_std = 0.0

    def __init__(self, config: Any, dataset: Any, labels: Optional[Tensor] = None) -> None:
        super().__init__(config, dataset, time_history(dataset, config["w_min"], config["w_max"]))
        labels = item_clusters(config, dataset) if labels is None else labels
        self.diffusion = LatentDiffusion(config, labels, self.make_denoiser)

    @classmethod
    def from_state(cls, config: Any, dataset: Any, state: dict[str, Tensor]) -> LTDiffRec:
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
