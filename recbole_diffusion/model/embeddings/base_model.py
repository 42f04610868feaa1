"""The base model under a diffusion on embeddings: fixed tables, or a recommender that is trained on."""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor, nn

from recbole_diffusion.model import hooks
from recbole_diffusion.model.embeddings.pretrained import pretrained
from recbole_diffusion.model.embeddings.tables import TableGetter, tables_of
from recbole_diffusion.model.geometry.space import Lorentz, Space, space_of
from recbole_diffusion.model.networks.weights import weights_fingerprint

NEED = "base_model needs another recommender"


class BaseModel(nn.Module):
    """The user and item embeddings by which another recommender scores.

    Subclasses: :class:`FixedBaseModel` and :class:`TrainableBaseModel`.

    Args:
        width: width d of the embeddings.
        curvature: c of the space of curvature -c in which they are scored; 0 for inner products.
    """

    curvature: Tensor

    def __init__(self, width: int, curvature: float) -> None:
        super().__init__()
        self.width = width
        self.register_buffer("curvature", torch.tensor(curvature, dtype=torch.float64))

    @classmethod
    def from_config(cls, config: Any, dataset: Any) -> BaseModel:
        """Train or load the model of ``base_model``, ``base_config``, ``base_checkpoint``; ``freeze_base`` fixes it.

        Raises:
            ValueError: an unknown recommender, one without embeddings, or a data set that this package did not
                prepare.
        """
        trained = pretrained(dataset, NEED).base()
        if not config["freeze_base"]:
            return TrainableBaseModel(trained.rebuild(), dataset)
        user, item, curvature = trained.embeddings
        return FixedBaseModel(torch.from_numpy(user), torch.from_numpy(item), curvature)

    @classmethod
    def from_state(cls, config: Any, dataset: Any, state: dict[str, Tensor]) -> BaseModel:
        """Build a base model with the shapes of a checkpoint's weights, without training.

        Raises:
            ValueError: ``state`` holds no base model, or one with another number of users or items.
        """
        if not config["freeze_base"]:
            return TrainableBaseModel(pretrained(dataset, NEED).untrained_base(), dataset)
        if not {"base.user", "base.item", "base.curvature"} <= {*state}:
            raise ValueError("the checkpoint's weights are of another model: they hold no embeddings of a base model")
        user, item = state["base.user"], state["base.item"]
        if (len(user), len(item)) != (dataset.user_num, dataset.item_num):
            source = getattr(getattr(config, "vocabulary", None), "source", "the checkpoint")
            raise ValueError(
                f"{source} does not fit the data: it is of {len(user) - 1} users and {len(item) - 1} items, the data "
                f"set has {dataset.user_num - 1} and {dataset.item_num - 1}; leave out the rows of the others, or "
                "train anew"
            )
        return FixedBaseModel(torch.empty_like(user), torch.empty_like(item), float(state["base.curvature"]))

    def space(self) -> Space:
        """Return the space in which the base model scores."""
        return space_of(float(self.curvature))

    def tangent_space(self) -> tuple[Lorentz, bool]:
        """Return the hyperbolic space for HDRM, and whether the embeddings lack its time coordinate.

        The curvature is that of the base model, or -1 if the base model is flat. The embeddings of a flat base model
        have no time coordinate.
        """
        curvature = float(self.curvature)
        return Lorentz(curvature or 1.0), curvature == 0

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return the embeddings of users and items, (n_users, d), (n_items, d)."""
        raise NotImplementedError


class FixedBaseModel(BaseModel):
    """Fixed embeddings. They are buffers, so that a checkpoint is complete without the base model's own file.

    Args:
        user: (n_users, d).
        item: (n_items, d).
        curvature: see :class:`BaseModel`.
    """

    user: Tensor
    item: Tensor

    def __init__(self, user: Tensor, item: Tensor, curvature: float) -> None:
        super().__init__(user.shape[1], curvature)
        self.register_buffer("user", user)
        self.register_buffer("item", item)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return the embeddings of users and items, (n_users, d), (n_items, d)."""
        return self.user, self.item


class TrainableBaseModel(BaseModel):
    """A recommender whose training continues together with the diffusion.

    Args:
        net: a general recommender that scores by a product of embeddings.
        dataset: the data set that it was built with.

    Raises:
        ValueError: ``net`` does not score by a product of embeddings.
    """

    def __init__(self, net: Any, dataset: Any) -> None:
        get_tables = tables_of(net, dataset)
        with torch.no_grad():
            width = get_tables(net)[0].shape[1]
        super().__init__(width, hooks.of(net).space.curvature)
        self.net = net
        self._get_tables: TableGetter = get_tables
        self._cached_tables: Optional[tuple[object, tuple[Tensor, Tensor]]] = None

    def forward(self) -> tuple[Tensor, Tensor]:
        """Compute the embeddings of users and items, (n_users, d), (n_items, d).

        With gradients enabled, they carry gradients to the weights of ``net``. Otherwise they are cached until the
        weights change.
        """
        if torch.is_grad_enabled():
            return self._compute_tables()
        fingerprint = (self.training, weights_fingerprint(self.net.parameters()))
        if self._cached_tables is None or self._cached_tables[0] != fingerprint:
            self._cached_tables = (fingerprint, self._compute_tables())
        return self._cached_tables[1]

    def _compute_tables(self) -> tuple[Tensor, Tensor]:
        user, item = self._get_tables(self.net)
        return user.float(), item.float()  # HGCF may be in float64

    def loss(self, interaction: Any) -> Tensor:
        """Compute the loss of ``net`` on RecBole's batch; scalar."""
        losses = self.net.calculate_loss(interaction)
        return sum(losses) if isinstance(losses, tuple) else losses  # type: ignore[return-value]

    def end_epoch(self) -> None:
        """Project HGCF's points onto the manifold: Adam moves only the space coordinates, not the time coordinate."""
        hooks.of(self.net).project()

    def train(self, mode: bool = True) -> TrainableBaseModel:
        """Set the mode as torch does, and drop the cached embeddings."""
        self._cached_tables = None
        super().train(mode)
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cached_tables": None}
