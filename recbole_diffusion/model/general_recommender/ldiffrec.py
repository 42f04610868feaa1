"""L-DiffRec: cluster the items, encode each cluster's part of a row, diffuse in the latent space.

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
from recbole_diffusion.model.rows.history import SparseRows, binary_history, time_history
from recbole_diffusion.model.rows.latent_diffusion import LatentDiffusion, LatentLosses
from recbole_diffusion.model.rows.row_recommender import RowRecommender


class LDiffRec(RowRecommender):
    """Diffusion over the latents of a clustered variational auto-encoder: fewer parameters, less memory.

    Keys and what they mean: properties/model/LDiffRec.yaml.

    Args:
        labels: the cluster of each item, (n_items - 1,); None: by k-means on pretrained embeddings.
    """

    diffusion: LatentDiffusion
    bias_std = 0.0

    def __init__(self, config: Any, dataset: Any, labels: Optional[Tensor] = None) -> None:
        if config["time-aware"]:  # RecBole's way to LT-DiffRec
            history = time_history(dataset, config["w_min"], config["w_max"])
        else:
            history = binary_history(dataset)
        super().__init__(config, dataset, history)
        if config["time-aware"]:
            self.logger.warning("time-aware: True makes LDiffRec the model LTDiffRec; use --model=LTDiffRec")
        labels = item_clusters(config, dataset) if labels is None else labels
        self.diffusion = LatentDiffusion(config, labels, self.make_denoiser)

    @classmethod
    def from_state(cls, config: Any, dataset: Any, state: dict[str, Tensor]) -> LDiffRec:
        """For a checkpoint's weights: its clustering, and no pretraining."""
        return cls(config, dataset, clusters_of_state(state, "diffusion.autoencoder.labels", dataset))

    def calculate_loss(self, interaction: Any) -> LatentLosses:
        """The three weighted parts of the batch's loss, scalars."""
        return self.diffusion.loss(self.history.sparse(interaction[self.USER_ID]))

    def denoise(
        self, rows: SparseRows, generator: Generators = None, callback: Optional[StepCallback] = None
    ) -> Tensor:
        """Encode, walk the reverse chain among the latents, decode."""
        return self.diffusion.denoise(rows, generator, callback)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """For the trainer's optimiser: the auto-encoder, and the diffusion's network at its own learning rate."""
        return self.diffusion.parameter_groups()

    def end_epoch(self) -> None:
        """Told by the trainer after each epoch of training."""
        self.diffusion.annealing.epochs += 1
