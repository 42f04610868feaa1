"""Base class of DDRM and HDRM: diffusion on the embeddings of a base model, trained on triples."""

from __future__ import annotations

from typing import Any, Callable, Optional

import torch
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_diffusion.diffusion.timestep import is_settled
from recbole_diffusion.model.embeddings.base_model import BaseModel, TrainableBaseModel
from recbole_diffusion.model.embeddings.embedding_diffusion import (
    DenoisedPairs,
    EmbeddingDiffusion,
    EmbeddingNoise,
    interpolate,
)
from recbole_diffusion.model.geometry.space import Space
from recbole_diffusion.model.hooks import Hooks
from recbole_diffusion.model.interactions.propagation import row_means
from recbole_diffusion.model.interactions.triples import Triples, check_negatives
from recbole_diffusion.model.networks.checkpointed_sum import checkpointed_sum
from recbole_diffusion.model.networks.weights import weights_fingerprint
from recbole_diffusion.model.reverse import ReportsNfe
from recbole_diffusion.model.rows.history import binary_history

Losses = tuple[Tensor, ...]
#: Triples per block in training on a CPU; see :meth:`EmbeddingRecommender._sum_over_blocks`.
BLOCK = 512


class EmbeddingRecommender(ReportsNfe, Hooks, GeneralRecommender):
    """Base class. A subclass implements :meth:`triple_losses` and may restrict the noise.

    At inference a start vector per user is noised and denoised by the network of the items, conditioned on the user's
    embedding. The generated vector scores all items by one matrix product.

    Args:
        base: the base model; None: trained or loaded as configured by the keys ``base_*``.

    Attributes:
        history: interactions of the train split.
        space: geometry in which the embeddings are scored.
        add_time_coordinate: prepend a zero time coordinate to the embeddings (a flat base model in HDRM).
        mix: weight of the generated vector; the user's own embedding has weight 1 - mix.
        averaged: whether the losses of a batch are averaged or summed.
    """

    input_type = InputType.PAIRWISE

    def __init__(self, config: Any, dataset: Any, base: Optional[BaseModel] = None) -> None:
        super().__init__(config, dataset)
        self.base = BaseModel.from_config(config, dataset) if base is None else base
        self.space, self.add_time_coordinate = self._space()
        self.mix, self.averaged = config["mix"], True
        self.recon_weight, self.base_loss_weight = config["recon_weight"], config["base_loss_weight"]
        self.base_learning_rate = config["base_learning_rate"]
        self.start, self.denoise_users = config["start"], config["denoise_users"]
        self.history = binary_history(dataset)
        self.triples = Triples(self.history) if config["triple_sampling"] == "user" else None
        if self.triples is None:
            check_negatives(config, "triple_sampling='interaction'")
        if isinstance(self.base, TrainableBaseModel) and self.base_loss_weight:
            check_negatives(config, "base_loss_weight with freeze_base: False")
        self.means = row_means(self.history.indptr, self.history.items, self.history.n_columns)
        self.diffusion = EmbeddingDiffusion(config, self.base.width + self.add_time_coordinate, self._noise(config))
        self._cached_ranking: Optional[tuple[Any, ...]] = None

    @classmethod
    def from_state(cls, config: Any, dataset: Any, state: dict[str, Tensor]) -> EmbeddingRecommender:
        """Build the model with the base model of a checkpoint, without pretraining."""
        return cls(config, dataset, BaseModel.from_state(config, dataset, state))

    def _space(self) -> tuple[Space, bool]:
        """The space, and whether the embeddings of the base model lack its time coordinate."""
        return self.base.space(), False

    def _noise(self, config: Any) -> EmbeddingNoise:
        return EmbeddingNoise(config)

    def triple_losses(self, pairs: DenoisedPairs, negatives: Tensor) -> tuple[Tensor, Tensor]:
        """Compute ranking loss and reconstruction error of each triple, (B,), unweighted. negatives: (B, d)."""
        raise NotImplementedError

    def tables(self) -> tuple[Tensor, Tensor]:
        """Return the embeddings of users and items that the diffusion noises, (n_users, d), (n_items, d)."""
        user, item = self.base()
        return (F.pad(user, (1, 0)), F.pad(item, (1, 0))) if self.add_time_coordinate else (user, item)

    def calculate_loss(self, interaction: Any) -> Losses:
        """Compute the weighted ranking loss and reconstruction error; scalars.

        With ``freeze_base: False`` and a positive ``base_loss_weight`` the weighted loss of the base model is a third
        value.
        """
        triples = self._triples(interaction)
        user, item = self.tables()
        self.diffusion.noise.prepare(user, item)
        size, width = len(triples[0]), user.shape[1]
        t = self.diffusion.sample_times(size, user.device)
        user_noise, item_noise = (self.diffusion.source(user.new_empty(size, width)) for _ in range(2))
        scale, error = 1 / size if self.averaged else 1.0, torch.zeros((), device=user.device)

        def weighted_loss(rows: slice, user: Tensor, item: Tensor) -> Tensor:
            users, positives, negatives = (ids[rows] for ids in triples)
            pairs = self.diffusion.denoise_pairs(
                user[users], item[positives], t[rows], user_noise[rows], item_noise[rows], self.mix
            )
            ranking, reconstruction = (loss.sum() * scale for loss in self.triple_losses(pairs, item[negatives]))
            error.add_(self.recon_weight * reconstruction.detach())
            return (1 - self.recon_weight) * ranking + self.recon_weight * reconstruction

        total = self._sum_over_blocks(weighted_loss, size, user, item)
        losses: Losses = (total - error, error)  # logged as two numbers; ``error`` is detached
        if isinstance(self.base, TrainableBaseModel) and self.base_loss_weight:
            losses += (self.base_loss_weight * self.base.loss(interaction),)
        return losses

    def step_is_capturable(self, batch_size: int) -> Optional[bool]:
        """Return whether the base model is frozen: RecBole's models may need the host; see :class:`Hooks`."""
        return None if isinstance(self.base, TrainableBaseModel) else is_settled(self.diffusion.timesteps)

    def _sum_over_blocks(self, loss: Callable[..., Tensor], size: int, user: Tensor, item: Tensor) -> Tensor:
        """Sum the loss over the triples; on a CPU in blocks whose hidden states fit its cache.

        The blocks save a third of the time at d = 512.
        """
        if user.device.type != "cpu" or user.requires_grad:
            return loss(slice(None), user, item)
        blocks = (slice(start, start + BLOCK) for start in range(0, size, BLOCK))
        return checkpointed_sum(loss, blocks, (user, item), list(self.diffusion.parameters()))

    def _triples(self, interaction: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Draw as many triples as RecBole's batch holds, or return the triples of the batch (``triple_sampling``)."""
        if self.triples is not None:
            return self.triples.draw(self.history, len(interaction))
        return interaction[self.USER_ID], interaction[self.ITEM_ID], interaction[self.NEG_ITEM_ID]

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the networks' parameters, and those of a trainable base model with ``base_learning_rate``."""
        groups: list[dict[str, Any]] = [{"params": list(self.diffusion.parameters())}]
        if isinstance(self.base, TrainableBaseModel):
            groups.append({"params": list(self.base.net.parameters()), "lr": self.base_learning_rate})
        return groups

    def end_epoch(self) -> None:
        """Project the points of a trainable hyperbolic base model; called after each epoch of training."""
        if isinstance(self.base, TrainableBaseModel):
            self.base.end_epoch()

    def networks(self) -> list[nn.Module]:
        """Return the denoising networks of users and items, for ``compile``."""
        return [self.diffusion.user_denoiser, self.diffusion.item_denoiser]

    @property
    def nfe(self) -> Optional[int]:
        """Number of function evaluations: network calls per user and ranking."""
        calls = self.diffusion.nfe
        return None if calls is None else calls * (2 if self.denoise_users else 1)

    @property
    def draws_noise(self) -> bool:
        """Whether the scores depend on noise that is drawn at inference."""
        return self.diffusion.draws_noise

    def seed_inference(self, seed: int) -> None:
        """Set the seed of the noise at inference."""
        self.diffusion.seed_inference(seed)

    @torch.no_grad()
    def represent(self, users: Tensor) -> Tensor:
        """Generate the vectors that score the items for ``users`` (B,); (B, d), tangent at the origin."""
        user_table, starts, _ = self._ranking_tables()
        user = user_table[users]
        generator = self.diffusion.generators(users)
        condition = user
        if self.denoise_users:
            condition = self.diffusion.generate(user, starts[users], generator, is_user=True)
        return interpolate(user, self.diffusion.generate(starts[users], condition, generator), self.mix)

    def _ranking_tables(self) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings and start vectors of all users, and the item factor of the scores.

        They are cached until the mode or the weights change.
        """
        base_tables = self.base()
        fingerprint = weights_fingerprint(base_tables)
        if self._cached_ranking is None or self._cached_ranking[0] != fingerprint:
            user, item = self.tables()
            self.diffusion.noise.prepare(user, item)
            tables = (user, self._starts(user, item), self.space.item_factor(item))
            # Keep references to the base model's tables: the fingerprint compares id(), and Python may reuse the id of
            # a freed tensor.
            self._cached_ranking = (fingerprint, base_tables, tables)
        ranking_tables: tuple[Tensor, Tensor, Tensor] = self._cached_ranking[2]
        return ranking_tables

    def _starts(self, user: Tensor, item: Tensor) -> Tensor:
        """Start vector of the reverse process for every user, (n_users, d)."""
        if self.start == "user":
            return user
        if self.start == "item_mean":
            return item[1:].mean(dim=0).expand(len(user), -1)
        return self.means(item[1:].contiguous())

    def target_state(self, interaction: Any, items: Tensor) -> Optional[Tensor]:
        """Return the mean of the embeddings of the given items, (B, d); see :class:`Hooks`."""
        _, item = self.tables()
        is_item = (items > 0).to(item.dtype)[:, :, None]
        return (item[items] * is_item).sum(dim=1) / is_item.sum(dim=1).clamp(min=1)

    @torch.no_grad()
    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Score all items, (B, n_items); column 0, the padding item, is -inf."""
        vectors = self.represent(interaction[self.USER_ID])
        scores = self.space.user_factor(vectors) @ self._ranking_tables()[2].t()
        scores[:, 0] = -torch.inf
        return scores

    def predict(self, interaction: Any) -> Tensor:
        """Score (user, item) pairs, (B,). The reverse process runs once per user, not once per pair."""
        users, row = torch.unique(interaction[self.USER_ID], return_inverse=True)
        return self.full_sort_predict({self.USER_ID: users})[row, interaction[self.ITEM_ID]]

    def train(self, mode: bool = True) -> EmbeddingRecommender:
        """Set the mode as torch does, and drop the cached tables."""
        self._cached_ranking = None
        super().train(mode)
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cached_ranking": None}
