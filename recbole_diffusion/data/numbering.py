"""Data sets in the id order of a checkpoint, so that each row of its tables meets the name that it was trained for.

RecBole numbers tokens in order of appearance. Where the run's Config has a ``vocabulary``, the data set's ids are
changed to those of the vocabulary right after RecBole has made its own, before anything is derived from them. Weights
are never permuted, so that this holds for every model, whatever its tables are.
"""

from __future__ import annotations

from typing import Any, Callable

import numpy as np
import pandas as pd
from recbole.utils import FeatureType, ModelType

from recbole_diffusion.data import names
from recbole_diffusion.data.account import account_of
from recbole_diffusion.data.names import Vocabulary

_COLUMN_MODELS = (ModelType.CONTEXT, ModelType.DECISIONTREE)  # have a table for each column


def use_vocabulary(config: Any, state: Any, source: str) -> None:
    """Let the run's data set take the id order of a checkpoint; a checkpoint without names is noted."""
    config.vocabulary = names.unpack(state, source)
    if config.vocabulary is None:
        config.notes.append(no_names_warning(source))


def no_names_warning(source: str) -> str:
    """The warning about a checkpoint without names."""
    return f"{source} holds no names: its rows are taken in id order, which cannot be checked"


def renumbering(prepare_features: Callable[[Any], None]) -> Callable[[Any], None]:
    """Wrap ``Dataset._user_item_feat_preparation``, the first step that reads the ids that RecBole has made."""

    def _user_item_feat_preparation(self: Any) -> None:
        vocabulary = getattr(self.config, "vocabulary", None)
        if vocabulary is not None:
            renumber(self, vocabulary)
        prepare_features(self)

    return _user_item_feat_preparation


def renumber(dataset: Any, vocabulary: Vocabulary) -> None:
    """Change the ids of a data set that is being made to those of the vocabulary.

    Raises:
        ValueError: the data have items, or values of other columns, that the vocabulary lacks; one line with the way
            out. Users that it lacks come behind its own.
    """
    _order_columns(dataset, vocabulary)
    known = vocabulary.names_by_field(dataset)
    entities = [*dataset.alias["entity_id"], dataset.entity_field] if hasattr(dataset, "entity_field") else []
    items_before = np.asarray(dataset.field2id_token[dataset.iid_field], dtype=str)
    ids_of_items = np.zeros(0, np.int64)
    for field in list(dataset.field2id_token):
        if field in known and field not in entities:
            ids = _places(dataset, field, known[field], vocabulary)
            _apply(dataset, field, ids, known[field])
            ids_of_items = ids if field == dataset.iid_field else ids_of_items
    for field in entities:
        if field in known:
            ids = _places_of_entities(dataset, field, known, items_before, ids_of_items, vocabulary)
            _apply(dataset, field, ids, known[field])


def check_ids(config: Any, dataset: Any) -> None:
    """Compare a split with the vocabulary that it was to take, wherever it was read from.

    Raises:
        ValueError: ids differ, or columns where the model has a table for each.
    """
    vocabulary = getattr(config, "vocabulary", None)
    if vocabulary is None:
        return
    new = [column for column in dataset.field2type if column not in vocabulary.columns]
    if new and config["MODEL_TYPE"] in _COLUMN_MODELS:
        raise ValueError(
            f"the data set has the column {new[0]!r}, which {vocabulary.source} was trained without; leave it out "
            "by load_col, or train anew"
        )
    field = names.first_difference(vocabulary, dataset)
    if field is not None:
        raise ValueError(
            f"{vocabulary.source} numbers the names of {str(field)!r} otherwise than the data set does; its rows would "
            "be those of other names; leave out dataset_save_path and dataloaders_save_path, or train anew"
        )


def _places(dataset: Any, field: str, known: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """The new id of each id of a field, int64; new names are refused, but for users."""
    own = np.asarray(dataset.field2id_token[field], dtype=str)
    places = pd.Index(known.astype(object)).get_indexer(own[1:].astype(object)) + 1
    new = places == 0
    users, items = field in dataset.alias["user_id"], field in dataset.alias["item_id"]
    if new.any() and not users:
        _refuse("items" if items else f"values of {str(field)!r}", own[1:][new], vocabulary)
    places[new] = len(known) + 1 + np.arange(new.sum())
    if field in (dataset.uid_field, dataset.iid_field):
        missing = len(known) - int((~new).sum())
        _note(dataset, "users" if users else "items", own[1:][new], missing, vocabulary)
    return np.concatenate([[0], places]).astype(np.int64)


def _places_of_entities(
    dataset: Any,
    field: str,
    known: dict[str, np.ndarray],
    items: np.ndarray,
    ids_of_items: np.ndarray,
    vocabulary: Vocabulary,
) -> np.ndarray:
    """The new id of each id of an entity field.

    RecBole gives the first ids to the items, each under the name of the entity that it is linked to, or under its own
    name where it has none. The ids of all other entities come behind. An entity whose item is gone keeps its id.
    """
    own, stored = np.asarray(dataset.field2id_token[field], dtype=str), known[field]
    stored_items, count = known[dataset.iid_field], len(items)
    if not np.array_equal(own[1:count], stored[ids_of_items[1:] - 1]):
        raise ValueError(
            f"{vocabulary.source} was trained with other links of items to entities than those of the data set's "
            ".link file; put the file back, or train anew"
        )
    place = {name: id for id, name in enumerate(stored[: len(stored_items)], 1) if name != stored_items[id - 1]}
    place.update({name: id for id, name in enumerate(stored, 1) if id > len(stored_items)})
    new = [name for name in own[count:] if name not in place]
    if new:
        _refuse("entities", new, vocabulary)
    return np.concatenate([ids_of_items, [place[name] for name in own[count:]]]).astype(np.int64)


def _refuse(what: str, new: Any, vocabulary: Vocabulary) -> None:
    column = "" if what in ("items", "entities") else ", leave that column out by load_col"
    raise ValueError(
        f"the data set has {len(new)} {what} that {vocabulary.source} does not know, e.g. {names.examples(new)}; take the "
        f"files and filters that it was trained with, leave their rows out{column}, or train anew"
    )


def _note(dataset: Any, what: str, new: Any, missing: int, vocabulary: Vocabulary) -> None:
    if len(new):
        account_of(dataset).note(
            f"{len(new)} {what} of the data set are unknown to {vocabulary.source}, e.g. {names.examples(new)}; they are "
            "scored by a model that knows nothing of them but their rows"
        )
    if missing:
        account_of(dataset).note(
            f"{missing} {what} of {vocabulary.source} are not in the data set; they keep their ids"
            + (", and can be recommended" if what == "items" else "")
        )


def _apply(dataset: Any, field: str, ids: np.ndarray, known: np.ndarray) -> None:
    """Put new ids into a field's columns, and its names into their order."""
    old = np.asarray(dataset.field2id_token[field], dtype=str)
    tokens = np.concatenate([old[:1], known, old[ids > len(known)]])
    dataset.field2id_token[field] = tokens
    dataset.field2token_id[field] = {token: id for id, token in enumerate(tokens)}
    for frame in dataset.field2feats(field):
        if frame is None or field not in frame:
            continue
        if dataset.field2type[field] == FeatureType.TOKEN:
            frame[field] = ids[frame[field].to_numpy(dtype=np.int64)]
        else:
            frame[field] = [ids[np.asarray(row, dtype=np.int64)] for row in frame[field]]


def _order_columns(dataset: Any, vocabulary: Vocabulary) -> None:
    """Put the columns into the order of the vocabulary, by which models with a table per column number these tables."""
    kinds = dataset.field2type
    first = {column: kinds[column] for column in vocabulary.columns if column in kinds}
    dataset.field2type = {**first, **kinds}
