"""The recommender under a diffusion on embeddings: fixed tables, or a net that goes on learning."""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor, nn

from recbole_diffusion.model import hooks
from recbole_diffusion.model.embeddings.pretrained import pretrained
from recbole_diffusion.model.embeddings.tables import Tables, tables_of
from recbole_diffusion.model.geometry.space import Lorentz, Space, space_of
from recbole_diffusion.model.networks.weights import weights_fingerprint

NEED = "base_model needs another recommender"


class Base(nn.Module):
    """The user and item embeddings that a recommender ranks with: :class:`FixedBase` or :class:`LearningBase`.

    Args:
        width: d, of the embeddings.
        curvature: of their space; 0 for inner products.
    """

    curvature: Tensor

    def __init__(self, width: int, curvature: float) -> None:
        super().__init__()
        self.width = width
        self.register_buffer("curvature", torch.tensor(curvature, dtype=torch.float64))

    @classmethod
    def of(cls, config: Any, dataset: Any) -> Base:
        """What the keys ``base_model``, ``base_config``, ``base_checkpoint``, ``freeze_base`` say.

        Raises:
            ValueError: no such recommender, or one without embeddings; a data set that was not prepared by us.
        """
        found = pretrained(dataset, NEED).base()
        if not config["freeze_base"]:
            return LearningBase(found.rebuild(), dataset)
        user, item, curvature = found.embeddings
        return FixedBase(torch.from_numpy(user), torch.from_numpy(item), curvature)

    @classmethod
    def from_state(cls, config: Any, dataset: Any, state: dict[str, Tensor]) -> Base:
        """For a checkpoint's weights: of their shapes, and nothing is trained.

        Raises:
            ValueError: the weights hold no base, or one of other users or items.
        """
        if not config["freeze_base"]:
            return LearningBase(pretrained(dataset, NEED).untrained_base(), dataset)
        if not {"base.user", "base.item", "base.curvature"} <= {*state}:
            raise ValueError("the checkpoint's weights are of another model: they hold no embeddings of a base")
        user, item = state["base.user"], state["base.item"]
        if (len(user), len(item)) != (dataset.user_num, dataset.item_num):
            source = getattr(getattr(config, "vocabulary", None), "source", "the checkpoint")
            raise ValueError(
                f"{source} does not fit the data: it is of {len(user) - 1} users and {len(item) - 1} items, the data "
                f"set has {dataset.user_num - 1} and {dataset.item_num - 1}; leave out the rows of the others, or "
                "train anew"
            )
        return FixedBase(torch.empty_like(user), torch.empty_like(item), float(state["base.curvature"]))

    def space(self) -> Space:
        """The space in which the base scores."""
        return space_of(float(self.curvature))

    def tangent_space(self) -> tuple[Lorentz, bool]:
        """The hyperbolic space for HDRM, of curvature -1 over a flat base; whether its vectors lack the time."""
        curvature = float(self.curvature)
        return Lorentz(curvature or 1.0), curvature == 0

    def forward(self) -> tuple[Tensor, Tensor]:
        """The tables of users and items, (n_users, d), (n_items, d)."""
        raise NotImplementedError


class FixedBase(Base):
    """Tables that stay as they are. They are buffers, so that a checkpoint is complete without the recommender.

    Args:
        user, item: (n_users, d), (n_items, d).
        curvature: see :class:`Base`.
    """

    user: Tensor
    item: Tensor

    def __init__(self, user: Tensor, item: Tensor, curvature: float = 0.0) -> None:
        super().__init__(user.shape[1], curvature)
        self.register_buffer("user", user)
        self.register_buffer("item", item)

    def forward(self) -> tuple[Tensor, Tensor]:
        return self.user, self.item


class LearningBase(Base):
    """A recommender that is trained on: its tables follow its weights.

    Raises:
        ValueError: it does not score by a product of embeddings.
    """

    def __init__(self, net: Any, dataset: Any) -> None:
        tables = tables_of(net, dataset)
        with torch.no_grad():
            width = tables(net)[0].shape[1]
        super().__init__(width, hooks.of(net).space.curvature)
        self.net = net
        self._tables: Tables = tables
        self._kept: Optional[tuple[object, tuple[Tensor, Tensor]]] = None

    def forward(self) -> tuple[Tensor, Tensor]:
        """With gradients in the net's weights; without gradients kept until the weights change."""
        if torch.is_grad_enabled():
            return self._of_the_net()
        mark = (self.training, weights_fingerprint(self.net.parameters()))
        if self._kept is None or self._kept[0] != mark:
            self._kept = (mark, self._of_the_net())
        return self._kept[1]

    def _of_the_net(self) -> tuple[Tensor, Tensor]:
        user, item = self._tables(self.net)
        return user.float(), item.float()  # HGCF may be in float64

    def loss(self, interaction: Any) -> Tensor:
        """The net's own loss on RecBole's batch, a scalar."""
        losses = self.net.calculate_loss(interaction)
        return sum(losses) if isinstance(losses, tuple) else losses  # type: ignore[return-value]

    def end_epoch(self) -> None:
        """Points of HGCF go back to the manifold: Adam moves their space coordinates alone."""
        hooks.of(self.net).project()

    def train(self, mode: bool = True) -> LearningBase:
        self._kept = None
        super().train(mode)
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None}
