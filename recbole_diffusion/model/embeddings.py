"""The user and item embeddings of any recommender that scores by their inner product, checked against its scores."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


class Embeddings(NamedTuple):
    """``user``: float32 (n_users, d). ``item``: float32 (n_items, d). Row 0 of each is RecBole's padding id."""

    user: np.ndarray
    item: np.ndarray


@torch.no_grad()
def embeddings_of(model: Any, dataset: Any, rows: int = 32) -> Embeddings:
    """The embeddings that a trained model ranks with, e.g. LightGCN's after its last layer.

    Args:
        model: a general recommender; it is put into evaluation mode.
        dataset: the data set that it was built with.
        rows: on how many users the inner products are compared with the model's own scores.

    Raises:
        ValueError: the model does not score by an inner product of embeddings.
    """
    model.eval()
    name = type(model).__name__
    users = torch.arange(1, min(dataset.user_num, rows + 1), device=model.device)
    sizes = (dataset.user_num, dataset.item_num)
    pairs = [(user, item) for user, item in _candidates(model) if (len(user), len(item)) == sizes]
    pairs = [(user, item) for user, item in pairs if user.shape[1:] == item.shape[1:]]
    scores = _scores(model, users, dataset.item_num) if pairs else None
    for user, item in pairs:
        found = user[users] @ item.t()
        if scores is not None and torch.allclose(found[:, 1:], scores[:, 1:], rtol=1e-4, atol=1e-4 * _scale(scores)):
            return Embeddings(*(each.detach().cpu().float().numpy() for each in (user, item)))
    raise ValueError(
        f"model {name} does not score by the inner product of user and item embeddings; models that do: BPR, "
        "LightGCN, NGCF, DGCF, SGL, NCL, SpectralCF"
    )


def _scale(scores: Tensor) -> float:
    return float(scores[:, 1:].abs().max())


def _candidates(model: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs of tables that might be the ones: what ``forward`` gives for all users and items; the layer-0 tables."""
    parameters = inspect.signature(model.forward).parameters
    required = [name for name, each in parameters.items() if each.default is inspect.Parameter.empty]
    if required == ["graph"]:  # RecBole's SGL
        found = model.forward(model.train_graph)
    elif not required:
        found = model.forward()  # NCL's has a third part, its layers
    else:
        found = ()
    if isinstance(found, (tuple, list)) and len(found) >= 2 and all(isinstance(each, Tensor) for each in found[:2]):
        yield found[0], found[1]
    tables = [getattr(model, f"{kind}_embedding", None) for kind in ("user", "item")]
    if all(isinstance(table, torch.nn.Embedding) for table in tables):
        yield tables[0].weight, tables[1].weight  # type: ignore[union-attr]


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
