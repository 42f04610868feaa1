"""Scores of users who are given by their items instead of an id of the training."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from recbole_diffusion.data import names
from recbole_diffusion.data.importing import frames
from recbole_diffusion.model import hooks
from recbole_diffusion.model.histories import Histories
from recbole_diffusion.serving import recbole_histories, tables, users
from recbole_diffusion.serving.trained import Trained, is_sequential

#: A table of users, items and optionally times, its file, or the items of each user in order of time.
HistoriesInput = Union[str, Path, pd.DataFrame, Mapping[Any, Any]]


class NewUsers:
    """Users who are given by their items.

    The items of a user are ordered by time, if the input has times, else as they are given. Unknown items are left out.

    Args:
        trained: the model with its data.
        given: the histories.
        wanted: names of the users to score; None for all.
        leave_out: whether the lists leave the items of the history out.

    Attributes:
        names: of the users, (n_users,).
        pairwise: False.
        notes: sentences about unknown items and empty histories.

    Raises:
        ValueError: the model can score only users of its training, or the input is not right.
    """

    pairwise = False

    def __init__(self, trained: Trained, given: HistoriesInput, wanted: Optional[list[str]], leave_out: bool) -> None:
        self.trained, self.leave_out = trained, leave_out
        self.notes: list[str] = []
        dataset = trained.dataset
        listed, table = _select(*_table(given, dataset), wanted)
        ids = users.ids_of(table["item"].tolist(), names.names_of(dataset, dataset.iid_field))
        self._note_unknown(table, ids)
        places = pd.Index(listed, dtype=object).get_indexer(table["user"])[ids > 0]
        counts = np.bincount(places, minlength=len(listed))
        self._note_empty([name for name, count in zip(listed, counts) if not count])
        scored = counts > 0 if is_sequential(trained) else np.ones(len(listed), dtype=bool)
        self.names = np.array(listed, dtype=str)[scored]
        items = ids[ids > 0][np.argsort(places, kind="stable")]
        offsets = np.append(0, np.cumsum(counts[scored]))
        self.histories = Histories(torch.from_numpy(items), torch.from_numpy(offsets), self._seeds())
        if len(self.names):
            self.scores(0, 1)  # raises for a model that cannot score them

    def scores(self, start: int, end: int) -> Tensor:
        """Scores of all items for the users from ``start`` to ``end - 1``, (B, n_items), on the model's device.

        Raises:
            ValueError: the model can score only users of its training.
        """
        model, histories = self.trained.model, self.histories.select(start, end)
        scores = hooks.of(model).score_histories(histories)
        if scores is None:
            scores = recbole_histories.score_histories(model, self.trained.dataset, histories)
        if scores is None:
            raise ValueError(
                f"{self.trained.config['model']} scores by an embedding of each user of its training, not histories; "
                "take a model that scores from a user's items (DiffRec, EASE, ItemKNN, MultiVAE, sequential "
                "models), or train again with their rows"
            )
        return scores

    def seen(self, start: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        """The row in the batch and the item of each item to leave out, (n,) each."""
        if not self.leave_out:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        histories = self.histories.select(start, end)
        return histories.row_index().numpy(), histories.items.numpy()

    def _seeds(self) -> Tensor:
        """The number by which each user's noise is drawn: the id of a user of the data, else a hash of the name."""
        dataset = self.trained.dataset
        ids = users.ids_of(self.names.tolist(), names.names_of(dataset, dataset.uid_field))
        hashes = [dataset.user_num + zlib.crc32(name.encode()) for name in self.names.tolist()]
        return torch.from_numpy(np.where(ids > 0, ids, np.array(hashes, dtype=np.int64)))

    def _note_unknown(self, table: pd.DataFrame, ids: np.ndarray) -> None:
        unknown = tables.distinct(table["item"][ids == 0].tolist())
        if unknown:
            rows = int((ids == 0).sum())
            self.notes.append(
                f"{len(unknown)} items of the histories ({rows} of {len(ids)} rows) are unknown to the model and left "
                f"out, e.g. {names.examples(unknown)}"
            )

    def _note_empty(self, empty: list[str]) -> None:
        if empty:
            end = "are left out" if is_sequential(self.trained) else "are scored from an empty row"
            self.notes.append(f"{len(empty)} users have no known item, and {end}, e.g. {names.examples(empty)}")


def _table(given: HistoriesInput, dataset: Any) -> tuple[list[str], pd.DataFrame]:
    """The names of the users, and the histories as texts ``user`` and ``item``, each user's in order of time.

    Raises:
        ValueError: no such columns, no users, or a time that is none.
    """
    if isinstance(given, Mapping):
        items = {name: frames.texts(values) for name, values in zip(frames.texts(list(given)), given.values())}
        repeated = np.repeat(np.array(list(items), dtype=object), [len(values) for values in items.values()])
        all_items = [item for values in items.values() for item in values]
        frame = pd.DataFrame({"user": repeated, "item": np.array(all_items, dtype=object)}, dtype=object)
        return _checked(list(items), "histories"), frame
    is_frame = isinstance(given, pd.DataFrame)
    source = "histories" if is_frame else f"file {str(given)!r}"
    raw: pd.DataFrame = given if is_frame else frames.read(Path(given), _names_of_columns(dataset))
    user = tables.needed_column(raw, "user", dataset.uid_field, source)
    item = tables.needed_column(raw, "item", dataset.iid_field, source)
    frame = pd.DataFrame({"user": frames.texts(raw[user]), "item": frames.texts(raw[item])}, dtype=object)
    if (frame["user"] == "").any():
        raise ValueError(f"{source}, row {int((frame['user'] == '').to_numpy().argmax()) + 1}: no user; name one")
    listed = _checked(tables.distinct(frame["user"].tolist()), source)
    time = tables.find_column(raw, "time", dataset.time_field or "time")
    if time is not None:
        frame = frame.iloc[np.argsort(_times(raw[time], source, str(time)), kind="stable")].reset_index(drop=True)
    return listed, frame


def _names_of_columns(dataset: Any) -> list[str]:
    """Names by which a first line is recognised as that of the columns."""
    fields = [field for field in (dataset.uid_field, dataset.iid_field, dataset.time_field) if field]
    return [*fields, *(name for names_of in tables.ALIASES.values() for name in names_of)]


def _checked(listed: list[str], source: str) -> list[str]:
    if not listed:
        raise ValueError(f"{source} has no rows; give at least one user with one item")
    return listed


def _times(column: pd.Series, source: str, name: str) -> np.ndarray:
    """Times as numbers: plain numbers, or dates in nanoseconds; (n,).

    Raises:
        ValueError: a value that is neither.
    """
    numbers = pd.to_numeric(column, errors="coerce")
    if numbers.notna().all():
        return numbers.to_numpy()
    options: dict[str, Any] = {"format": "ISO8601"} if int(pd.__version__.split(".")[0]) >= 2 else {}
    dates = pd.to_datetime(column, errors="coerce", utc=True, **options)
    wrong = np.flatnonzero(dates.isna().to_numpy() | numbers.notna().to_numpy())
    if len(wrong):
        raise ValueError(
            f"{source}, row {int(wrong[0]) + 1}, column {name!r}: {column.iloc[int(wrong[0])]!r} is no time like the "
            "others; allowed: numbers, or ISO 8601 dates such as 2024-01-31 12:00:00"
        )
    return dates.dt.tz_localize(None).to_numpy().astype("datetime64[ns]").astype(np.int64)


def _select(listed: list[str], table: pd.DataFrame, wanted: Optional[list[str]]) -> tuple[list[str], pd.DataFrame]:
    """The wanted users and their rows; all of them for None.

    Raises:
        ValueError: a wanted user has no history.
    """
    if wanted is None:
        return listed, table
    known = {*listed}
    missing = [name for name in wanted if name not in known]
    if missing:
        raise ValueError(f"{len(missing)} of {len(wanted)} users have no history, e.g. {names.examples(missing)}")
    return wanted, table[table["user"].isin({*wanted})].reset_index(drop=True)
