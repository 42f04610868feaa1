"""Extraction of the user and item embeddings of any recommender that scores by their product."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, Callable, NamedTuple

import numpy as np
import torch
from recbole.utils import ModelType
from torch import Tensor

from recbole_diffusion.model import hooks


class Embeddings(NamedTuple):
    """Embeddings of users and items.

    ``user``: float32 (n_users, d). ``item``: float32 (n_items, d). Row 0 of each is RecBole's padding id.
    ``curvature``: c of the space of curvature -c in which they are scored, 0 for inner products; see
    :mod:`recbole_diffusion.model.geometry.space`.
    """

    user: np.ndarray
    item: np.ndarray
    curvature: float = 0.0


#: Returns a model's embeddings of all users and items, (n_users, d) and (n_items, d), with gradients to its parameters.
TableGetter = Callable[[Any], tuple[Tensor, Tensor]]


@torch.no_grad()
def tables_of(model: Any, dataset: Any, rows: int = 32) -> TableGetter:
    """Find the embeddings by which a model scores, e.g. LightGCN's after its last layer.

    RecBole has no common accessor for them. This function tries the known ones and keeps the one whose products
    reproduce the model's scores.

    Args:
        model: a general recommender; it is put into evaluation mode. A model that scores in a hyperbolic space has
            the attribute ``space`` (see :class:`~recbole_diffusion.model.hooks.Hooks`).
        dataset: the data set that it was built with.
        rows: the number of users for whom products and scores are compared.

    Returns:
        A function from the model to its embeddings.

    Raises:
        ValueError: the model does not score by a product of embeddings.
    """
    model.eval()
    users = torch.arange(1, min(dataset.user_num, rows + 1), device=model.device)
    sizes = (dataset.user_num, dataset.item_num)
    scores, space = None, hooks.of(model).space
    for get_tables in _candidates(model):
        user, item = get_tables(model)
        if (len(user), len(item)) != sizes or user.shape[1:] != item.shape[1:]:
            continue
        scores = _scores(model, users, dataset.item_num) if scores is None else scores
        products = space.user_factor(user[users]) @ space.item_factor(item).t()
        if scores is None:
            continue
        if torch.allclose(products[:, 1:].to(scores), scores[:, 1:], rtol=1e-4, atol=1e-4 * _scale(scores)):
            return get_tables
    raise ValueError(
        f"model {type(model).__name__} does not score by the inner product of user and item embeddings; models that "
        "do: BPR, LightGCN, NGCF, DGCF, SGL, NCL, SpectralCF, and HGCF with its own product"
    )


@torch.no_grad()
def embeddings_of(model: Any, dataset: Any, rows: int = 32) -> Embeddings:
    """Extract the embeddings by which a model scores, as arrays. Arguments: see :func:`tables_of`.

    Raises:
        ValueError: the model does not score by a product of embeddings.
    """
    if getattr(model, "type", None) is ModelType.SEQUENTIAL:
        return _of_sequential(model, dataset)
    user, item = (table.detach().cpu().float().numpy() for table in tables_of(model, dataset, rows)(model))
    return Embeddings(user, item, hooks.of(model).space.curvature)


def _of_sequential(model: Any, dataset: Any) -> Embeddings:
    """The item table of a sequential model, by whose rows it scores; it has no users' table.

    Raises:
        ValueError: the model has no ``item_embedding``.
    """
    layer = getattr(model, "item_embedding", None)
    if not isinstance(layer, torch.nn.Embedding) or len(layer.weight) < dataset.item_num:
        raise ValueError(f"model {type(model).__name__} has no table item_embedding with a row for each item")
    item = layer.weight[: dataset.item_num].detach().cpu().float().numpy()  # BERT4Rec has a row more, of its mask
    return Embeddings(np.zeros((dataset.user_num, 0), np.float32), item)


def _scale(scores: Tensor) -> float:
    return float(scores[:, 1:].abs().max())


def _candidates(model: Any) -> Iterator[TableGetter]:
    """Functions that may return the embeddings: ``forward`` for all users and items, and the layer-0 tables."""
    if _required_parameters(model) in ([], ["graph"]):
        output = _forward(model)
        if isinstance(output, (tuple, list)) and len(output) >= 2 and all(isinstance(x, Tensor) for x in output[:2]):
            yield _tables_by_forward
    if all(isinstance(getattr(model, f"{kind}_embedding", None), torch.nn.Embedding) for kind in ("user", "item")):
        yield _layer_0_tables


def _required_parameters(model: Any) -> list[str]:
    """Names of the parameters of ``forward`` without a default."""
    parameters = inspect.signature(model.forward).parameters
    return [name for name, parameter in parameters.items() if parameter.default is inspect.Parameter.empty]


def _forward(model: Any) -> Any:
    # RecBole's SGL takes its graph as an argument.
    return model.forward(model.train_graph) if _required_parameters(model) else model.forward()


def _tables_by_forward(model: Any) -> tuple[Tensor, Tensor]:
    output = _forward(model)  # NCL returns its layers too
    return output[0], output[1]


def _layer_0_tables(model: Any) -> tuple[Tensor, Tensor]:
    return model.user_embedding.weight, model.item_embedding.weight


def _scores(model: Any, users: Tensor, n_items: int) -> Any:
    """The model's scores of all items, (B, n_items); None if it has neither way to compute them."""
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
