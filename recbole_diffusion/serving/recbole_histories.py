"""Scores of RecBole's models for users who are given by their items.

RecBole's models that score from a user's row read it from an attribute, by the user's id. Here the attribute holds the
rows of the given users while ``full_sort_predict`` runs, so that the scores are the model's own. Sequential models
score from the sequence alone, except those with an embedding per user.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Optional

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import AutoEncoderMixin, SequentialRecommender
from scipy.sparse import csr_matrix
from torch import Tensor

from recbole_diffusion.model import hooks
from recbole_diffusion.model.histories import Histories
from recbole_diffusion.model.sequences.sequence_recommender import SequenceRecommender

#: Models of RecBole that multiply the user's row, ``interaction_matrix[user]``, by weights of the items.
LINEAR_MODELS = ("EASE", "SLIMElastic", "ADMMSLIM")
#: Models with rows that also have a parameter per user.
WITH_USER_PARAMETERS = ("CDAE",)


def score_histories(model: Any, dataset: Any, histories: Histories) -> Optional[Tensor]:
    """Score all items for users who are given by their items, (B, n_items).

    Args:
        model: of RecBole, or any sequential one.
        dataset: RecBole's data set.
        histories: the users.

    Returns:
        The scores; None: the model can score only users of its training.

    Raises:
        ValueError: a sequential model reads more than the sequence; the message names it.
    """
    device = next(model.parameters()).device
    if isinstance(model, SequentialRecommender):
        return _score_sequences(model, dataset, histories, device)
    rows = rows_of(histories, dataset.item_num)
    attributes = _attributes_with(model, rows, device)
    if attributes is None:
        return None
    with _replaced(model, attributes):
        scores: Tensor = model.full_sort_predict({model.USER_ID: torch.arange(histories.n_users, device=device)})
    return scores.view(-1, dataset.item_num)


def scores_new_users(model_class: type) -> Optional[bool]:
    """Whether models of a class can score users who are given by their items.

    Returns:
        None for sequential models that do not say: it depends on what they read beside the sequence.
    """
    if issubclass(model_class, hooks.Hooks) and model_class.score_histories is not hooks.Hooks.score_histories:
        return True
    if issubclass(model_class, SequentialRecommender):
        return True if issubclass(model_class, SequenceRecommender) else None
    is_recboles = model_class.__module__.startswith("recbole.")
    autoencoder = issubclass(model_class, AutoEncoderMixin) and model_class.__name__ not in WITH_USER_PARAMETERS
    return is_recboles and (model_class.__name__ in (*LINEAR_MODELS, "ItemKNN", "Pop") or autoencoder)


def rows_of(histories: Histories, n_items: int) -> csr_matrix:
    """The users' rows of zeros and ones, float32, (B, n_items)."""
    users, items = histories.row_index().numpy(), histories.items.numpy()
    matrix = csr_matrix((np.ones(len(items), np.float32), (users, items)), shape=(histories.n_users, n_items))
    matrix.data[:] = 1  # of a repeated item the values are added up
    return matrix


def _attributes_with(model: Any, rows: csr_matrix, device: torch.device) -> Optional[dict[str, Any]]:
    """The attributes that hold the users' rows; None if the model has none that it scores from."""
    name = type(model).__name__
    if not type(model).__module__.startswith("recbole."):
        return None
    if name in LINEAR_MODELS:
        return {"interaction_matrix": rows}
    if name == "ItemKNN" and model.method != "user":
        return {"pred_mat": rows.dot(model.w).tolil()}
    if name == "Pop":
        return {}
    if isinstance(model, AutoEncoderMixin) and name not in WITH_USER_PARAMETERS and _is_binary(model):
        ids, values = _padded(rows)
        return {"history_item_id": ids.to(device), "history_item_value": values.to(device)}
    return None


def _is_binary(model: Any) -> bool:
    """Whether the rows of the training users hold zeros and ones only; weights by time are not rebuilt here."""
    values = model.history_item_value
    return bool(((values == 0) | (values == 1)).all())


def _padded(rows: csr_matrix) -> tuple[Tensor, Tensor]:
    """The items of each row and their values, padded with 0, (B, longest row)."""
    counts = np.diff(rows.indptr)
    ids = np.zeros((rows.shape[0], max(int(counts.max(initial=0)), 1)), dtype=np.int64)
    places = np.arange(ids.shape[1]) < counts[:, None]
    ids[places] = rows.indices
    return torch.from_numpy(ids), torch.from_numpy(places.astype(np.float32))


@contextlib.contextmanager
def _replaced(model: Any, attributes: dict[str, Any]) -> Iterator[None]:
    """Replace attributes of the model while the context is open."""
    before = {name: getattr(model, name) for name in attributes}
    for name, value in attributes.items():
        setattr(model, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(model, name, value)


def _score_sequences(model: Any, dataset: Any, histories: Histories, device: torch.device) -> Tensor:
    items, lengths = histories.sequences(model.max_seq_length)
    columns = {model.ITEM_SEQ: items.to(device), model.ITEM_SEQ_LEN: lengths.to(device)}
    try:
        scores: Tensor = model.full_sort_predict(Interaction(columns))
    except KeyError as error:
        field = error.args[0] if error.args else None
        if field not in dataset.field2type:
            raise
        what = "an embedding of each user" if field == dataset.uid_field else f"the column {str(field)!r}"
        raise ValueError(
            f"{type(model).__name__} scores by {what}, so it can score users of its data only, not histories"
        ) from error
    return scores.view(-1, dataset.item_num)
