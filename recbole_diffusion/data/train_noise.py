"""Noise in the training split, for studies of robustness: interactions that are added to train only.

- ``random``: pairs of a user and an item that occur in no part of the split.
- ``natural``: interactions that ``val_interval`` has filtered out, e.g. ratings below 4.

Validation and test stay clean: no added pair is one of theirs, so that the targets are the same at every ratio. The
draws do not depend on the numbering of users and items, and a larger ratio has the pairs of a smaller one.

Natural noise has its own numbers, on the scales of the columns (:mod:`recbole_diffusion.data.removed_rows`), and its
own place in time, by the exact times of all rows. Where the noise lies in a sequence:
:mod:`recbole_diffusion.data.sequence_noise`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.utils import FeatureSource, FeatureType, ModelType
from torch import Tensor

from recbole_diffusion.data import removed_rows, time_order
from recbole_diffusion.data.account import account_of
from recbole_diffusion.support.number_text import exact

KINDS = ("random", "natural")
#: A column of row numbers, by which the exact times of the rows are known after the split. It is removed again.
_ROW_FIELD = "(row)"
_BLOCK = 4096
#: Blocks of draws without a new pair after which the data count as full.
_PATIENCE = 200


def check(config: Any) -> None:
    """Check the settings.

    Raises:
        ValueError: noise in pre-split or joined sequences, or natural noise without ``val_interval`` or with pre-split
            files.
    """
    kind = config["train_noise"]
    if kind is None:
        return
    if config["MODEL_TYPE"] == ModelType.SEQUENTIAL:
        for key, wanted in (("benchmark_filename", None), ("fit_on", "train")):
            if (config[key] or wanted) != wanted:
                allowed = "null" if wanted is None else wanted
                raise ValueError(f"train_noise={kind!r} needs {key}: {allowed} for sequential models")
    if kind == "natural" and not config["val_interval"]:
        raise ValueError(
            "train_noise='natural' adds what val_interval filters out, and val_interval is not set; set e.g. "
            'val_interval: {rating: "[4,inf)"}'
        )
    if kind == "natural" and config["benchmark_filename"]:
        raise ValueError("train_noise='natural' is not allowed with benchmark_filename; allowed: random")


def is_wanted(config: Any) -> bool:
    """Whether the settings ask for noise: ``train_noise`` with a ``train_noise_ratio`` above 0.

    The ratio is the number of added interactions, as a share of the train split's.
    """
    return config["train_noise"] is not None and bool(config["train_noise_ratio"])


def number_rows(config: Any, dataset: Any) -> None:
    """Add a column of row numbers before the split, for natural noise in general models."""
    is_general = config["MODEL_TYPE"] != ModelType.SEQUENTIAL
    if is_general and is_wanted(config) and config["train_noise"] == "natural" and hasattr(dataset, "exact_times"):
        dataset.inter_feat[_ROW_FIELD] = np.arange(len(dataset.inter_feat))
        dataset.set_field_property(_ROW_FIELD, FeatureType.TOKEN, FeatureSource.INTERACTION, 1)


def _times_of_train(dataset: Any, parts: Sequence[Any]) -> Optional[np.ndarray]:
    """The exact times of the train rows, (n,), or None; removes the column of :func:`number_rows`."""
    if _ROW_FIELD not in parts[0].inter_feat:
        return None
    rows = parts[0].inter_feat[_ROW_FIELD].numpy()
    for part in (dataset, *parts):
        part.inter_feat.drop(_ROW_FIELD)
    for properties in (dataset.field2type, dataset.field2source, dataset.field2seqlen):
        del properties[_ROW_FIELD]
    return time_order.exact_times(dataset)[rows]


def add(config: Any, dataset: Any, parts: Sequence[Any]) -> None:
    """Add the noise that the settings ask for to the train split of a general model, and note its size.

    Args:
        config: the settings.
        dataset: the whole data set.
        parts: train, valid and test.
    """
    removed = removed_rows.take(dataset, parts)
    if config["MODEL_TYPE"] == ModelType.SEQUENTIAL or not is_wanted(config):
        return
    check(config)
    times = _times_of_train(dataset, parts)
    split = Split(dataset, parts[0].inter_feat, [part.inter_feat for part in parts], times)
    rows = draw(config, split, removed)
    rows.insert_ranks(dataset, [dataset.inter_feat, *(part.inter_feat for part in parts)])
    if len(rows.donors):
        train, added = split.train, split.copies(rows)
        parts[0].inter_feat = Interaction({name: torch.cat([train[name], added[name]]) for name in train.columns})


def draw(config: Any, split: Split, removed: Optional[Any]) -> Rows:
    """Draw the rows to add, and note their number.

    Args:
        config: the settings.
        split: the pairs of the data.
        removed: the rows that natural noise is drawn from.
    """
    kind, ratio = config["train_noise"], config["train_noise_ratio"]
    seeds = (config["train_noise_seed"], config["split_seed"], config["seed"])
    rng = np.random.default_rng(next(seed for seed in seeds if seed is not None))
    wanted = round(ratio * len(split.users))
    rows = _random_rows(split, wanted, rng) if kind == "random" else _natural_rows(split, removed, wanted, rng)
    count, before = len(rows.donors), len(split.users)
    note = f"train noise: {count} {kind} interactions are added to {before} of train (ratio {exact(ratio)})"
    if count < wanted:
        note += f"; {wanted} were asked for, but no more are left"
    account_of(split.dataset).note(note)
    return rows


class Split:
    """The pairs of a split in ids, and the order of ids by name.

    Args:
        dataset: the whole data set.
        train: the interactions of the train split.
        all_rows: interactions, in one or several parts, whose pairs are no noise.
        times: the exact times of the train rows, float64, (n,); None if they are not known.

    Attributes:
        train: columns of the train split, by field.
        users, items: of the train rows, (n,).
        known: codes of all pairs of the split, sorted, int64.
        user_order, item_order: the ids in the order of their names.
    """

    def __init__(self, dataset: Any, train: Any, all_rows: Sequence[Any], times: Optional[np.ndarray]) -> None:
        self.dataset, self.n_items = dataset, dataset.item_num
        self.fields = (dataset.uid_field, dataset.iid_field)
        self.train, self.times = train, times
        self.users, self.items = (self.train[field].numpy() for field in self.fields)
        self.known = np.unique(np.concatenate([self._codes(rows) for rows in all_rows]))
        self.user_order, self.item_order = (
            np.argsort(np.asarray(dataset.field2id_token[field][1:], dtype=str), kind="stable") + 1
            for field in self.fields
        )

    def _codes(self, rows: Any) -> np.ndarray:
        users, items = (rows[field].numpy().astype(np.int64) for field in self.fields)
        return self.code(users, items)

    def code(self, users: Any, items: Any) -> Any:
        """One number for each pair."""
        return users * self.n_items + items

    def rows_by_name(self) -> np.ndarray:
        """The train rows in the order of the names of users and items, (n,)."""
        ranks = [np.argsort(np.append(0, order)) for order in (self.user_order, self.item_order)]
        return np.lexsort((ranks[1][self.items], ranks[0][self.users]))

    def copies(self, rows: Rows) -> dict[str, Tensor]:
        """The columns of the rows to add, by field."""
        donors = torch.from_numpy(rows.donors)
        added = {field: self.train[field][donors].clone() for field in self.train.columns}
        for field, values in {self.fields[1]: rows.items, **rows.numbers}.items():
            column = torch.from_numpy(values).to(self.train[field])
            is_pair = self.train[field].ndim > 1  # a number and 1: RecBole's form of numerical_features
            added[field] = torch.stack([column, torch.ones_like(column)], dim=1) if is_pair else column
        return added


class Rows(NamedTuple):
    """Rows to add: copies of train rows with another item, (n,).

    Attributes:
        donors: the train row that is copied.
        items: the item.
        numbers: values of columns that replace the donor's, by field.
        times: the exact times of natural noise; None if the data have no times.
    """

    donors: np.ndarray
    items: np.ndarray
    numbers: dict[str, np.ndarray]
    times: Optional[np.ndarray] = None

    def insert_ranks(self, dataset: Any, tables: Sequence[Any]) -> None:
        """Give the rows their ranks in time, if the tables have columns of ranks; see :mod:`.time_order`."""
        if self.times is not None:
            self.numbers.update(time_order.insert_ranks(dataset, tables, self.times))


def _random_rows(split: Split, wanted: int, rng: np.random.Generator) -> Rows:
    """Draw pairs without interaction: the user of a random train row, and a uniform item.

    The other columns are those of that row.

    Raises:
        ValueError: there are not so many pairs.
    """
    by_name, drawn = split.rows_by_name(), np.empty(0, dtype=np.int64)  # drawn: codes, sorted
    donors: list[np.ndarray] = []
    items: list[np.ndarray] = []
    idle_blocks = 0
    while len(drawn) < wanted:
        block_rows = by_name[rng.integers(0, len(by_name), _BLOCK)]
        block_items = split.item_order[rng.integers(0, len(split.item_order), _BLOCK)]
        codes, first = np.unique(split.code(split.users[block_rows].astype(np.int64), block_items), return_index=True)
        is_new = ~(_contains(split.known, codes) | _contains(drawn, codes))
        places = np.sort(first[is_new])
        donors.append(block_rows[places])
        items.append(block_items[places])
        drawn = np.insert(drawn, np.searchsorted(drawn, codes[is_new]), codes[is_new])
        idle_blocks = 0 if is_new.any() else idle_blocks + 1
        if idle_blocks == _PATIENCE:
            raise ValueError(f"train_noise_ratio is too large: only {len(drawn)} pairs without interaction were drawn")
    none = np.empty(0, dtype=np.int64)
    return Rows(np.concatenate([none, *donors])[:wanted], np.concatenate([none, *items])[:wanted], {})


def _contains(ordered: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Whether each value is in a sorted array, bool."""
    if not len(ordered):
        return np.zeros(len(values), dtype=bool)
    is_in: np.ndarray = ordered[np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)] == values
    return is_in


def _natural_rows(split: Split, removed: Optional[Any], wanted: int, rng: np.random.Generator) -> Rows:
    """Draw rows that ``val_interval`` has removed, of users with train rows and of items that the data set has.

    A pair of the split is not added again. Columns beside user, item and the numbers of the file are those of the
    user's train row that is nearest in time.
    """
    if removed is None:
        raise ValueError("train_noise='natural' needs the rows that val_interval filters out, but the data were saved")
    _check_numbers(split, removed)
    ids = [split.dataset.field2token_id[field] for field in split.fields]
    if removed_rows.EXACT_TIME in removed:  # of a pair's rows the latest one, whatever their order in the file
        removed = removed.sort_values(removed_rows.EXACT_TIME, kind="stable")
    frame = removed.drop_duplicates(list(split.fields), keep="last")
    users, items = (frame[field].map(names).to_numpy() for field, names in zip(split.fields, ids))
    usable = ~(np.isnan(users.astype(float)) | np.isnan(items.astype(float)))
    frame, users, items = frame[usable], users[usable].astype(np.int64), items[usable].astype(np.int64)
    fresh = ~_contains(split.known, split.code(users, items)) & np.isin(users, split.users)
    frame, users, items = frame[fresh], users[fresh], items[fresh]
    by_name = frame[list(split.fields)].astype(str).reset_index(drop=True)
    order = by_name.sort_values(list(split.fields), kind="stable").index.to_numpy()
    chosen = rng.permutation(order)[:wanted]
    frame, users, items = frame.iloc[chosen], users[chosen], items[chosen]
    numbers = {field: frame[field].to_numpy(np.float64) for field in _number_fields(split) if field in frame}
    times = None if split.times is None else frame[removed_rows.EXACT_TIME].to_numpy(np.float64)
    return Rows(_donors(split, users, times), items, numbers, times)


def _number_fields(split: Split) -> list[str]:
    """The train columns that hold one number a row, in the order of the columns."""
    kinds = split.dataset.field2type
    return [field for field in split.train.columns if kinds.get(field) is FeatureType.FLOAT]


def _check_numbers(split: Split, removed: Any) -> None:
    """Check that the exact times are known, and that numbers can be brought to the scales of the columns.

    Raises:
        ValueError: the data were saved without exact times, or a column is discretised.
    """
    has_times = split.times is not None and removed_rows.EXACT_TIME in removed
    fields = _number_fields(split)
    if not has_times and (split.times is not None or split.dataset.time_field in fields):
        raise ValueError(
            "train_noise='natural' needs the exact times of all rows, but the data were saved without them; "
            "make them anew"
        )
    discretised = [field for field in fields if field in (split.dataset.config["discretization"] or {})]
    if discretised:
        raise ValueError(
            f"train_noise='natural' is not allowed with discretization of {discretised[0]!r}: the added rows have no "
            "bucket; allowed: random"
        )


def _donors(split: Split, users: np.ndarray, times: Optional[np.ndarray]) -> np.ndarray:
    """A train row of each user: the nearest in time, or the first without times, (n,)."""
    known = split.times is not None and times is not None
    train_times = _filled(split.times) if known else np.zeros(len(split.users))
    order = np.lexsort((train_times, split.users))
    starts = np.searchsorted(split.users[order], np.arange(split.dataset.user_num + 1))
    donors = np.empty(len(users), dtype=np.int64)
    for place, user in enumerate(users):
        rows = order[starts[user] : starts[user + 1]]
        nearest = 0 if times is None else int(np.abs(train_times[rows] - times[place]).argmin())
        donors[place] = rows[nearest]
    return donors


def _filled(times: Any) -> np.ndarray:
    """Times with the mean in place of missing ones, as RecBole fills them."""
    missing = np.isnan(times)
    return np.where(missing, np.mean(times[~missing]) if not missing.all() else 0.0, times)
