"""Renumbering of data sets to the ids of a checkpoint, so that each row of its tables belongs to the same name.

RecBole numbers tokens in order of appearance. If the run's Config has a ``vocabulary``, the data set's ids are changed
to those of the vocabulary right after RecBole has assigned its own, before anything is derived from them. Weights are
never permuted. It therefore works for every model, whatever its tables are.
"""

from __future__ import annotations

from typing import Any, Callable

import numpy as np
import pandas as pd
from recbole.utils import FeatureType, ModelType

from recbole_diffusion.data import names
from recbole_diffusion.data.account import account_of
from recbole_diffusion.data.names import Vocabulary

_COLUMN_MODELS = (ModelType.CONTEXT, ModelType.DECISIONTREE)  # have one table per column


def use_vocabulary(config: Any, state: Any, source: str) -> None:
    """Set ``config.vocabulary`` to the names in a checkpoint; note a checkpoint that holds none.

    Args:
        config: the settings of the run.
        state: the content of the checkpoint.
        source: its name for messages.
    """
    config.vocabulary = names.unpack(state, source)
    if config.vocabulary is None:
        config.notes.append(no_names_warning(source))


def no_names_warning(source: str) -> str:
    """The warning about a checkpoint without names."""
    return f"{source} holds no names: its rows are taken in id order, which cannot be checked"


def renumbering(prepare_features: Callable[[Any], None]) -> Callable[[Any], None]:
    """Wrap ``Dataset._user_item_feat_preparation``, the first step that reads RecBole's ids: renumber before it."""

    def _user_item_feat_preparation(self: Any) -> None:
        vocabulary = getattr(self.config, "vocabulary", None)
        if vocabulary is not None:
            renumber(self, vocabulary)
        prepare_features(self)

    return _user_item_feat_preparation


def renumber(dataset: Any, vocabulary: Vocabulary) -> None:
    """Change the ids of a data set to those of the vocabulary, in place, while it is being made.

    Users that the vocabulary lacks get ids beyond its own.

    Raises:
        ValueError: the data have items, or values of other columns, that the vocabulary lacks; one line with the way
            out.
    """
    _order_columns(dataset, vocabulary)
    known = vocabulary.names_by_field(dataset)
    entity_fields = [*dataset.alias["entity_id"], dataset.entity_field] if hasattr(dataset, "entity_field") else []
    old_items = np.asarray(dataset.field2id_token[dataset.iid_field], dtype=str)
    item_ids = np.zeros(0, np.int64)
    for field in list(dataset.field2id_token):
        if field in known and field not in entity_fields:
            new_ids = _new_ids(dataset, field, known[field], vocabulary)
            _apply(dataset, field, new_ids, known[field])
            item_ids = new_ids if field == dataset.iid_field else item_ids
    for field in entity_fields:
        if field in known:
            new_ids = _new_entity_ids(dataset, field, known, len(old_items), item_ids, vocabulary)
            _apply(dataset, field, new_ids, known[field])


def check_ids(config: Any, dataset: Any) -> None:
    """Check that a split has the ids of ``config.vocabulary``, also if it was read from a saved file.

    Raises:
        ValueError: ids differ, or the split has a new column and the model one table per column.
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


def _new_ids(dataset: Any, field: str, known: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """The new id of each id of a field, int64, (n,).

    Raises:
        ValueError: a name is unknown, and the field is not that of users.
    """
    old_names = np.asarray(dataset.field2id_token[field], dtype=str)[1:]
    new_ids = pd.Index(known.astype(object)).get_indexer(old_names.astype(object)) + 1
    unknown = new_ids == 0
    is_users, is_items = field in dataset.alias["user_id"], field in dataset.alias["item_id"]
    if unknown.any() and not is_users:
        raise _unknown_names("items" if is_items else f"values of {str(field)!r}", old_names[unknown], vocabulary)
    new_ids[unknown] = len(known) + 1 + np.arange(unknown.sum())
    if field in (dataset.uid_field, dataset.iid_field):
        missing = len(known) - int((~unknown).sum())
        _note_differences(dataset, "users" if is_users else "items", old_names[unknown], missing, vocabulary)
    return np.concatenate([[0], new_ids]).astype(np.int64)


def _new_entity_ids(
    dataset: Any,
    field: str,
    known: dict[str, np.ndarray],
    item_count: int,
    item_ids: np.ndarray,
    vocabulary: Vocabulary,
) -> np.ndarray:
    """The new id of each id of an entity field.

    RecBole gives the first ids to the items. Such an id has the name of the entity that the item is linked to, or the
    item's own name if it has no link. The ids of all other entities follow. An entity whose item is gone keeps its id.

    Args:
        dataset: the data set that is renumbered.
        field: the entity field.
        known: the names of the vocabulary by field.
        item_count: number of items in the data set, with the padding.
        item_ids: the new id of each item id.
        vocabulary: the source of ``known``, for messages.
    """
    old_names, stored = np.asarray(dataset.field2id_token[field], dtype=str), known[field]
    stored_items = known[dataset.iid_field]
    if not np.array_equal(old_names[1:item_count], stored[item_ids[1:] - 1]):
        raise ValueError(
            f"{vocabulary.source} was trained with other links of items to entities than those of the data set's "
            ".link file; put the file back, or train anew"
        )
    new_id = {name: id for id, name in enumerate(stored[: len(stored_items)], 1) if name != stored_items[id - 1]}
    new_id.update({name: id for id, name in enumerate(stored, 1) if id > len(stored_items)})
    unknown = [name for name in old_names[item_count:] if name not in new_id]
    if unknown:
        raise _unknown_names("entities", unknown, vocabulary)
    return np.concatenate([item_ids, [new_id[name] for name in old_names[item_count:]]]).astype(np.int64)


def _unknown_names(what: str, unknown: Any, vocabulary: Vocabulary) -> ValueError:
    """The error about names that the vocabulary lacks."""
    column = "" if what in ("items", "entities") else ", leave that column out by load_col"
    return ValueError(
        f"the data set has {len(unknown)} {what} that {vocabulary.source} does not know, e.g. "
        f"{names.examples(unknown)}; take the files and filters that it was trained with, leave their rows "
        f"out{column}, or train anew"
    )


def _note_differences(dataset: Any, what: str, unknown: Any, missing: int, vocabulary: Vocabulary) -> None:
    """Note users or items that are only in the data set (``unknown``), or only in the vocabulary (``missing``)."""
    if len(unknown):
        account_of(dataset).note(
            f"{len(unknown)} {what} of the data set are unknown to {vocabulary.source}, e.g. "
            f"{names.examples(unknown)}; they are scored by a model that knows nothing of them but their rows"
        )
    if missing:
        account_of(dataset).note(
            f"{missing} {what} of {vocabulary.source} are not in the data set; they keep their ids"
            + (", and can be recommended" if what == "items" else "")
        )


def _apply(dataset: Any, field: str, ids: np.ndarray, known: np.ndarray) -> None:
    """Replace the ids in a field's columns, and reorder its names.

    Args:
        dataset: modified in place.
        field: a token field.
        ids: the new id of each old id, int64, (n,).
        known: the names of the vocabulary, without the padding.
    """
    old_names = np.asarray(dataset.field2id_token[field], dtype=str)
    tokens = np.concatenate([old_names[:1], known, old_names[ids > len(known)]])
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
    """Reorder the columns as in the vocabulary; models with one table per column number the tables in that order."""
    types = dataset.field2type
    known_types = {column: types[column] for column in vocabulary.columns if column in types}
    dataset.field2type = {**known_types, **types}
