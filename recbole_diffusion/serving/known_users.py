"""Scores of users of the model's data, from the input that the test evaluation gives the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction, cat_interactions
from recbole.model.abstract_recommender import AbstractRecommender
from torch import Tensor

from recbole_diffusion.data import names
from recbole_diffusion.serving.seen import SeenItems
from recbole_diffusion.serving.trained import Trained, is_sequential, loaders_of


class KnownUsers:
    """Users of the data: general models score by the id, sequential ones by the items of train and validation.

    Args:
        trained: the model with its data.
        ids: of the users, int64, (n_users,).
        seen: items to leave out.
        with_sequence: also leave out the items of the sequences that the model is given.

    Attributes:
        names: of the users, (n_users,).
        pairwise: whether the model scores one (user, item) pair after the other.
        notes: a sentence about users who have no sequence and are left out.
    """

    def __init__(self, trained: Trained, ids: np.ndarray, seen: SeenItems, with_sequence: bool) -> None:
        self.trained, self.seen_items, self.with_sequence = trained, seen, with_sequence
        own_method = getattr(type(trained.model), "full_sort_predict", AbstractRecommender.full_sort_predict)
        self.pairwise = own_method is AbstractRecommender.full_sort_predict
        dataset = trained.dataset
        all_names = np.append("", names.names_of(dataset, dataset.uid_field))
        self.rows = _LastRows(trained) if is_sequential(trained) else None
        has_input = np.ones(len(ids), dtype=bool) if self.rows is None else self.rows.exist(ids)
        self.notes: list[str] = []
        if not has_input.all():
            empty = all_names[ids[~has_input]]
            self.notes.append(f"{len(empty)} users have no items, and are left out, e.g. {names.examples(empty)}")
        self.ids = ids[has_input]
        self.names = all_names[self.ids]

    def scores(self, start: int, end: int) -> Tensor:
        """Scores of all items for the users from ``start`` to ``end - 1``, (B, n_items), on the model's device."""
        dataset, device = self.trained.dataset, self.trained.config["device"]
        batch = self._inputs(start, end).to(device)
        if self.pairwise:
            scores = _scores_by_pairs(self.trained, batch)
        else:
            scores = self.trained.model.full_sort_predict(batch)
        return scores.view(-1, dataset.item_num)

    def seen(self, start: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        """The row in the batch and the item of each item to leave out, (n,) each."""
        rows, items = self.seen_items.of_users(self.ids[start:end])
        if not self.with_sequence or self.rows is None:
            return rows, items
        sequences = self.rows.interactions(self.ids[start:end])[self.rows.item_lists].numpy()
        sequence_rows, places = sequences.nonzero()
        return np.append(rows, sequence_rows), np.append(items, sequences[sequence_rows, places])

    def _inputs(self, start: int, end: int) -> Interaction:
        ids = self.ids[start:end]
        if self.rows is not None:
            transform = getattr(self.trained.test_data, "transform", None)
            batch = self.rows.interactions(ids)
            return batch if transform is None else transform(self.trained.dataset, batch)
        dataset = self.trained.dataset
        return dataset.join(Interaction({dataset.uid_field: torch.from_numpy(ids)}))


def _scores_by_pairs(trained: Trained, batch: Interaction) -> Tensor:
    """Scores of models that score one (user, item) pair after the other, as RecBole's trainer computes them."""
    dataset, size = trained.dataset, trained.config["eval_batch_size"]
    items = dataset.get_item_feature().to(trained.config["device"])
    pairs = batch.repeat_interleave(dataset.item_num)
    pairs.update(items.repeat(len(batch)))
    parts = [trained.model.predict(pairs[start : start + size]) for start in range(0, len(pairs), size)]
    return torch.cat([part.view(-1) for part in parts])


class _LastRows:
    """The sequence of each user before the test split: all items of train and validation, cut to the model's length.

    A user of the test split has it in the first test row. For others it is the last row of validation or train with its
    target at the end.
    """

    def __init__(self, trained: Trained) -> None:
        self.parts = [loader._dataset for loader in loaders_of(trained)]
        self.dataset = self.parts[0]
        self.item_lists: str = getattr(self.dataset, f"{self.dataset.iid_field}_list_field")
        self.part_of = np.full(trained.dataset.user_num, -1)
        self.row_of = np.zeros(trained.dataset.user_num, dtype=np.int64)
        for number, part in enumerate(self.parts):
            users = part.inter_feat[part.uid_field].numpy()
            rows = np.arange(len(users))
            if number == len(self.parts) - 1:  # the first row of a user, else the last one
                users, rows = users[::-1], rows[::-1]
            self.part_of[users], self.row_of[users] = number, rows

    def exist(self, users: np.ndarray) -> np.ndarray:
        """Whether each user has a sequence, bool, (B,)."""
        exists: np.ndarray = self.part_of[users] >= 0
        return exists

    def interactions(self, users: np.ndarray) -> Interaction:
        """The rows of users (B,), with RecBole's columns."""
        numbers, rows, order, parts = self.part_of[users], self.row_of[users], [], []
        for number, part in enumerate(self.parts):
            places = np.flatnonzero(numbers == number)
            if len(places):
                batch = part.inter_feat[torch.from_numpy(rows[places])]
                parts.append(batch if number == len(self.parts) - 1 else self._with_target(part, batch))
                order.append(places)
        joined = cat_interactions(parts)
        return joined[torch.from_numpy(np.argsort(np.concatenate(order)))]

    def _with_target(self, part: Any, batch: Interaction) -> Interaction:
        """Append each row's target to its lists; a full list loses its first entry."""
        length_field, columns = part.item_list_length_field, dict(batch.interaction)
        lengths = batch[length_field]
        for field in list(columns):
            list_field = getattr(part, f"{field}_list_field", None)
            if list_field in columns:
                columns[list_field] = _appended(columns[list_field], columns[field], lengths)
        columns[length_field] = (lengths + 1).clamp(max=columns[self.item_lists].shape[1])
        return Interaction(columns)


def _appended(lists: Tensor, values: Tensor, lengths: Tensor) -> Tensor:
    """Append a value (B, ...) to each list (B, L, ...) of ``lengths`` (B,) entries."""
    width, rows = lists.shape[1], torch.arange(len(lists))
    full = lengths >= width
    result = lists.clone()
    result[full] = lists[full].roll(-1, 1)
    result[rows, lengths.clamp(max=width - 1)] = values.to(lists.dtype)
    return result
