"""The user and item embeddings of any recommender that scores by a product of them, checked against its scores."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, Callable, NamedTuple

import numpy as np
import torch
from torch import Tensor

from recbole_diffusion.model import hooks


class Embeddings(NamedTuple):
    """``user``: float32 (n_users, d). ``item``: float32 (n_items, d). Row 0 of each is RecBole's padding id.

    ``curvature``: of the space that they are scored in, 0 for inner products; see
    :mod:`recbole_diffusion.model.geometry.space`.
    """

    user: np.ndarray
    item: np.ndarray
    curvature: float = 0.0


#: Gives a model's tables of all users and items, (n_users, d) and (n_items, d), with gradients in its parameters.
Tables = Callable[[Any], tuple[Tensor, Tensor]]


@torch.no_grad()
def tables_of(model: Any, dataset: Any, rows: int = 32) -> Tables:
    """How to get at the embeddings that a model ranks with, e.g. LightGCN's after its last layer.

    Args:
        model: a general recommender; it is put into evaluation mode. One that scores in a hyperbolic space says in
            which by its ``space``.
        dataset: the data set that it was built with.
        rows: on how many users the products are compared with the model's own scores.

    Raises:
        ValueError: the model does not score by a product of embeddings.
    """
    model.eval()
    users = torch.arange(1, min(dataset.user_num, rows + 1), device=model.device)
    sizes = (dataset.user_num, dataset.item_num)
    scores, space = None, hooks.of(model).space
    for tables in _candidates(model):
        user, item = tables(model)
        if (len(user), len(item)) != sizes or user.shape[1:] != item.shape[1:]:
            continue
        scores = _scores(model, users, dataset.item_num) if scores is None else scores
        found = space.user_factor(user[users]) @ space.item_factor(item).t()
        if scores is None:
            continue
        if torch.allclose(found[:, 1:].to(scores), scores[:, 1:], rtol=1e-4, atol=1e-4 * _scale(scores)):
            return tables
    raise ValueError(
        f"model {type(model).__name__} does not score by the inner product of user and item embeddings; models that "
        "do: BPR, LightGCN, NGCF, DGCF, SGL, NCL, SpectralCF, and HGCF with its own product"
    )


@torch.no_grad()
def embeddings_of(model: Any, dataset: Any, rows: int = 32) -> Embeddings:
    """The tables of :func:`tables_of`, as arrays.

    Raises:
        ValueError: the model does not score by a product of embeddings.
    """
    user, item = (each.detach().cpu().float().numpy() for each in tables_of(model, dataset, rows)(model))
    return Embeddings(user, item, hooks.of(model).space.curvature)


def _scale(scores: Tensor) -> float:
    return float(scores[:, 1:].abs().max())


def _candidates(model: Any) -> Iterator[Tables]:
    """What might give the tables: ``forward`` for all users and items; the layer-0 tables."""
    if _required(model) in ([], ["graph"]):
        found = _forward(model)
        if isinstance(found, (tuple, list)) and len(found) >= 2 and all(isinstance(each, Tensor) for each in found[:2]):
            yield _propagated
    if all(isinstance(getattr(model, f"{kind}_embedding", None), torch.nn.Embedding) for kind in ("user", "item")):
        yield _layer_0


def _required(model: Any) -> list[str]:
    parameters = inspect.signature(model.forward).parameters
    return [name for name, each in parameters.items() if each.default is inspect.Parameter.empty]


def _forward(model: Any) -> Any:
    return model.forward(model.train_graph) if _required(model) else model.forward()  # RecBole's SGL wants its graph


def _propagated(model: Any) -> tuple[Tensor, Tensor]:
    found = _forward(model)  # NCL's has a third part, its layers
    return found[0], found[1]


def _layer_0(model: Any) -> tuple[Tensor, Tensor]:
    return model.user_embedding.weight, model.item_embedding.weight


def _scores(model: Any, users: Tensor, n_items: int) -> Any:
    """The model's own scores of all items, (B, n_items); None where it cannot give them."""
    try:
        return model.full_sort_predict({model.USER_ID: users}).view(len(users), n_items)
    except NotImplementedError:
        pass
    pairs = {
        model.USER_ID: users.repeat_interleave(n_items),
        model.ITEM_ID: torch.arange(n_items, device=users.device).repeat(len(users)),
    }
    try:
        return model.predict(pairs).view(len(users), n_items)
    except NotImplementedError:
        return None
