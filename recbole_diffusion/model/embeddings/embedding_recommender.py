"""What DDRM and HDRM share: a base recommender, triples, a start per user, scores by one matrix product."""

from __future__ import annotations

from typing import Any, Callable, Optional

import torch
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType
from torch import Tensor
from torch.nn import functional as F

from recbole_diffusion.model.embeddings.base import Base, LearningBase
from recbole_diffusion.model.embeddings.embedding_diffusion import EmbeddingDiffusion, Noise, Pairs, mixed
from recbole_diffusion.model.geometry.space import Space
from recbole_diffusion.model.hooks import Hooks
from recbole_diffusion.model.interactions.propagation import row_means
from recbole_diffusion.model.interactions.triples import Triples, check_negatives
from recbole_diffusion.model.networks.checkpointed_sum import checkpointed_sum
from recbole_diffusion.model.networks.weights import weights_fingerprint
from recbole_diffusion.model.reverse import CountsCalls
from recbole_diffusion.model.rows.history import binary_history

Losses = tuple[Tensor, ...]
#: Triples whose graphs are alive at once on a CPU.
BLOCK = 512


class EmbeddingRecommender(CountsCalls, Hooks, GeneralRecommender):
    """Base class; a subclass writes :meth:`triple_losses` and may restrict the noise or mix what is generated.

    Args:
        base: the recommender underneath; None: as the keys ``base_*`` say.

    Attributes:
        history: the users' rows of the train split.
        space: in which the embeddings are scored.
        mix: share of what is generated; the rest is the embedding itself.
        averaged: whether the losses of a batch are averaged or summed.
    """

    input_type = InputType.PAIRWISE

    def __init__(self, config: Any, dataset: Any, base: Optional[Base] = None) -> None:
        super().__init__(config, dataset)
        self.base = Base.of(config, dataset) if base is None else base
        self.space, self.add_time_coordinate = self._space()
        self.mix, self.averaged = config["mix"], True
        self.recon_weight, self.base_loss_weight = config["recon_weight"], config["base_loss_weight"]
        self.base_learning_rate = config["base_learning_rate"]
        self.start, self.denoise_users = config["start"], config["denoise_users"]
        self.history = binary_history(dataset)
        self.triples = Triples(self.history) if config["triple_sampling"] == "user" else None
        if self.triples is None:
            check_negatives(config, "triple_sampling='interaction'")
        if isinstance(self.base, LearningBase) and self.base_loss_weight:
            check_negatives(config, "base_loss_weight with freeze_base: False")
        self.means = row_means(self.history.indptr, self.history.items, self.history.n_columns)
        self.diffusion = EmbeddingDiffusion(config, self.base.width + self.add_time_coordinate, self._noise(config))
        self._ranking: Optional[tuple[Any, ...]] = None

    @classmethod
    def from_state(cls, config: Any, dataset: Any, state: dict[str, Tensor]) -> EmbeddingRecommender:
        """For a checkpoint's weights: its base, and no pretraining."""
        return cls(config, dataset, Base.from_state(config, dataset, state))

    def _space(self) -> tuple[Space, bool]:
        """The space, and whether the base's vectors lack its time coordinate."""
        return self.base.space(), False

    def _noise(self, config: Any) -> Noise:
        return Noise(config)

    def triple_losses(self, pairs: Pairs, negatives: Tensor) -> tuple[Tensor, Tensor]:
        """Ranking loss and reconstruction error of each triple, (B,), before their weights. negatives: (B, d)."""
        raise NotImplementedError

    def tables(self) -> tuple[Tensor, Tensor]:
        """Users' and items' embeddings as they are diffused, (n_users, d), (n_items, d)."""
        user, item = self.base()
        return (F.pad(user, (1, 0)), F.pad(item, (1, 0))) if self.add_time_coordinate else (user, item)

    def calculate_loss(self, interaction: Any) -> Losses:
        """Weighted ranking loss, reconstruction error, and with a base that learns its own loss; scalars."""
        triples = self._triples(interaction)
        user, item = self.tables()
        self.diffusion.noise.prepare(user, item)
        size, width = len(triples[0]), user.shape[1]
        t = self.diffusion.draw(size, user.device)
        noises = [self.diffusion.source(user.new_empty(size, width)) for _ in range(2)]
        scale, error = 1 / size if self.averaged else 1.0, torch.zeros((), device=user.device)

        def weighted(rows: slice, user: Tensor, item: Tensor) -> Tensor:
            users, positives, negatives = (each[rows] for each in triples)
            pairs = self.diffusion.denoise_pairs(
                user[users], item[positives], t[rows], noises[0][rows], noises[1][rows], self.mix
            )
            ranking, reconstruction = (each.sum() * scale for each in self.triple_losses(pairs, item[negatives]))
            error.add_(self.recon_weight * reconstruction.detach())
            return (1 - self.recon_weight) * ranking + self.recon_weight * reconstruction

        total = self._sum(weighted, size, user, item)
        losses: Losses = (total - error, error)  # two numbers to look at; all gradients are in the first
        if isinstance(self.base, LearningBase) and self.base_loss_weight:
            losses += (self.base_loss_weight * self.base.loss(interaction),)
        return losses

    def _sum(self, loss: Callable[..., Tensor], size: int, user: Tensor, item: Tensor) -> Tensor:
        """Over blocks of rows, whose hidden states a CPU's cache holds: a third less time at d = 512."""
        if user.device.type != "cpu" or user.requires_grad:
            return loss(slice(None), user, item)
        blocks = (slice(start, start + BLOCK) for start in range(0, size, BLOCK))
        return checkpointed_sum(loss, blocks, (user, item), list(self.diffusion.parameters()))

    def _triples(self, interaction: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Our own, as many as RecBole's batch holds, or RecBole's."""
        if self.triples is not None:
            return self.triples.draw(self.history, len(interaction))
        return interaction[self.USER_ID], interaction[self.ITEM_ID], interaction[self.NEG_ITEM_ID]

    def parameter_groups(self) -> list[dict[str, Any]]:
        """For the trainer's optimiser: the networks, and the base at its own learning rate if it learns."""
        groups: list[dict[str, Any]] = [{"params": list(self.diffusion.parameters())}]
        if isinstance(self.base, LearningBase):
            groups.append({"params": list(self.base.net.parameters()), "lr": self.base_learning_rate})
        return groups

    def end_epoch(self) -> None:
        """Told by the trainer after each epoch of training."""
        if isinstance(self.base, LearningBase):
            self.base.end_epoch()

    @property
    def nfe(self) -> Optional[int]:
        """Number of function evaluations: calls of a network per user and ranking."""
        calls = self.diffusion.nfe
        return None if calls is None else calls * (2 if self.denoise_users else 1)

    @torch.no_grad()
    def represent(self, users: Tensor) -> Tensor:
        """The vectors that rank the items for ``users`` (B,), (B, d), tangent at the origin."""
        user_table, starts, _ = self._prepared()
        user = user_table[users]
        generator = self.diffusion.generators(users)
        condition = self.diffusion.generate(user, starts[users], generator, users=True) if self.denoise_users else user
        return mixed(user, self.diffusion.generate(starts[users], condition, generator), self.mix)

    def _prepared(self) -> tuple[Tensor, Tensor, Tensor]:
        """The users' table and start, and the items' side of the scores; kept until training or other weights."""
        of_base = self.base()
        mark = weights_fingerprint(of_base)
        if self._ranking is None or self._ranking[0] != mark:
            user, item = self.tables()
            self.diffusion.noise.prepare(user, item)
            # the base's tables are kept along, so that their ids stay theirs
            self._ranking = (mark, of_base, (user, self._starts(user, item), self.space.item_factor(item)))
        found: tuple[Tensor, Tensor, Tensor] = self._ranking[2]
        return found

    def _starts(self, user: Tensor, item: Tensor) -> Tensor:
        if self.start == "user":
            return user
        if self.start == "item_mean":
            return item[1:].mean(dim=0).expand(len(user), -1)
        return self.means(item[1:].contiguous())

    @torch.no_grad()
    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Scores of every item, shape (B, n_items); column 0, the padding item, is -inf."""
        vectors = self.represent(interaction[self.USER_ID])
        scores = self.space.user_factor(vectors) @ self._prepared()[2].t()
        scores[:, 0] = -torch.inf
        return scores

    def predict(self, interaction: Any) -> Tensor:
        """Scores of (user, item) pairs, shape (B,): each user's chain runs once."""
        users, row = torch.unique(interaction[self.USER_ID], return_inverse=True)
        return self.full_sort_predict({self.USER_ID: users})[row, interaction[self.ITEM_ID]]

    def train(self, mode: bool = True) -> EmbeddingRecommender:
        self._ranking = None
        super().train(mode)
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_ranking": None}
