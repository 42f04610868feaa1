"""Noise in the training split, for studies of robustness: interactions that are added to train only.

- ``random``: pairs of a user and an item that occur in no part of the split.
- ``natural``: interactions that ``val_interval`` has filtered out, e.g. ratings below 4.

Validation and test stay clean: no added pair is one of theirs, so that the same items are ranked at every ratio. The
draws do not depend on the numbering of users and items, and a larger ratio has the pairs of a smaller one. Where the
noise lies in a sequence: :mod:`recbole_diffusion.data.sequence_noise`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable, NamedTuple, Optional

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.utils import ModelType
from torch import Tensor

from recbole_diffusion.data.account import account_of

KINDS = ("random", "natural")
_BLOCK = 4096
#: Blocks of draws without a new pair after which the data count as full.
_PATIENCE = 200


def keep_removed_rows(original: Callable[[Any], None]) -> Callable[[Any], None]:
    """Wrap ``_filter_by_field_value``: keep the rows that it removes, for natural noise."""

    def _filter_by_field_value(dataset: Any) -> None:
        before = dataset.inter_feat.copy(deep=False)  # RecBole drops rows in place
        original(dataset)
        if dataset.config["train_noise"] == "natural":
            dataset.removed_rows = before.loc[before.index.difference(dataset.inter_feat.index)]

    return _filter_by_field_value


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


def take_removed_rows(dataset: Any, parts: Sequence[Any]) -> Optional[Any]:
    """Take the rows that :func:`keep_removed_rows` has kept from a data set and its parts; None without any."""
    for part in parts:
        part.__dict__.pop("removed_rows", None)
    return dataset.__dict__.pop("removed_rows", None)


def add(config: Any, dataset: Any, parts: Sequence[Any]) -> None:
    """Add the noise that the settings ask for to the train split of a general model, and note its size.

    Args:
        config: the settings.
        dataset: the whole data set.
        parts: train, valid and test.
    """
    removed = take_removed_rows(dataset, parts)
    if config["MODEL_TYPE"] == ModelType.SEQUENTIAL or not is_wanted(config):
        return
    check(config)
    split = Split(dataset, parts[0].inter_feat, [part.inter_feat for part in parts])
    rows = draw(config, split, removed)
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
    if kind == "random":
        rows = _random_rows(split, wanted, rng)
    else:
        normalised = bool(config["normalize_all"] or config["normalize_field"])
        rows = _natural_rows(split, removed, wanted, rng, normalised)
    count, before = len(rows.donors), len(split.users)
    note = f"train noise: {count} {kind} interactions are added to {before} of train (ratio {ratio:g})"
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

    Attributes:
        train: columns of the train split, by field.
        users, items: of the train rows, (n,).
        known: codes of all pairs of the split.
        user_order, item_order: the ids in the order of their names.
    """

    def __init__(self, dataset: Any, train: Any, all_rows: Sequence[Any]) -> None:
        self.dataset, self.n_items = dataset, dataset.item_num
        self.fields = (dataset.uid_field, dataset.iid_field)
        self.train = train
        self.users, self.items = (self.train[field].numpy() for field in self.fields)
        self.known = {code for rows in all_rows for code in self._codes(rows).tolist()}
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
            added[field] = torch.from_numpy(values).to(self.train[field])
        return added


class Rows(NamedTuple):
    """Rows to add: copies of train rows with another item, (n,).

    Attributes:
        donors: the train row that is copied.
        items: the item.
        numbers: values of columns that replace the donor's, by field.
    """

    donors: np.ndarray
    items: np.ndarray
    numbers: dict[str, np.ndarray]


def _random_rows(split: Split, wanted: int, rng: np.random.Generator) -> Rows:
    """Draw pairs without interaction: the user of a random train row, and a uniform item.

    The other columns are those of that row.

    Raises:
        ValueError: there are not so many pairs.
    """
    by_name, known = split.rows_by_name(), set(split.known)
    donors: list[int] = []
    items: list[int] = []
    idle_blocks = 0
    while len(donors) < wanted:
        before = len(donors)
        drawn_rows = by_name[rng.integers(0, len(by_name), _BLOCK)]
        drawn_items = split.item_order[rng.integers(0, len(split.item_order), _BLOCK)]
        codes = split.code(split.users[drawn_rows].astype(np.int64), drawn_items)
        for row, item, code in zip(drawn_rows.tolist(), drawn_items.tolist(), codes.tolist()):
            if code not in known:
                known.add(code)
                donors.append(row)
                items.append(item)
        idle_blocks = idle_blocks + 1 if len(donors) == before else 0
        if idle_blocks == _PATIENCE:
            raise ValueError(f"train_noise_ratio is too large: only {before} pairs without interaction were drawn")
    return Rows(np.array(donors[:wanted], dtype=np.int64), np.array(items[:wanted], dtype=np.int64), {})


def _natural_rows(
    split: Split, removed: Optional[Any], wanted: int, rng: np.random.Generator, normalised: bool
) -> Rows:
    """Draw rows that ``val_interval`` has removed, of users with train rows and of items that the data set has.

    A pair of the split is not added again. Columns beside user, item and the numbers of the file are those of the
    user's train row that is nearest in time; normalised numbers are too.
    """
    if removed is None:
        raise ValueError("train_noise='natural' needs the rows that val_interval filters out, but the data were saved")
    ids = [split.dataset.field2token_id[field] for field in split.fields]
    frame = removed.drop_duplicates(list(split.fields), keep="last")
    users, items = (frame[field].map(names).to_numpy() for field, names in zip(split.fields, ids))
    usable = ~(np.isnan(users.astype(float)) | np.isnan(items.astype(float)))
    frame, users, items = frame[usable], users[usable].astype(np.int64), items[usable].astype(np.int64)
    fresh = ~np.isin(split.code(users, items), np.fromiter(split.known, dtype=np.int64, count=len(split.known)))
    fresh &= np.isin(users, split.users)
    frame, users, items = frame[fresh], users[fresh], items[fresh]
    by_name = frame[list(split.fields)].astype(str).reset_index(drop=True)
    order = by_name.sort_values(list(split.fields), kind="stable").index.to_numpy()
    chosen = rng.permutation(order)[:wanted]
    frame, users, items = frame.iloc[chosen], users[chosen], items[chosen]
    numbers = {
        field: frame[field].to_numpy(dtype=np.float64)
        for field in split.train.columns
        if field in frame and field not in split.fields and split.train[field].is_floating_point()
    }
    donors = _donors(split, users, numbers.get(split.dataset.time_field))
    return Rows(donors, items, {} if normalised else numbers)


def _donors(split: Split, users: np.ndarray, times: Optional[np.ndarray]) -> np.ndarray:
    """A train row of each user: the nearest in time, or the first, (n,)."""
    time_field = split.dataset.time_field
    has_times = times is not None and time_field in split.train.columns
    train_times = split.train[time_field].numpy().astype(np.float64) if has_times else np.zeros(len(split.users))
    order = np.lexsort((train_times, split.users))
    starts = np.searchsorted(split.users[order], np.arange(split.dataset.user_num + 1))
    donors = np.empty(len(users), dtype=np.int64)
    for place, user in enumerate(users):
        rows = order[starts[user] : starts[user + 1]]
        nearest = 0 if not has_times or times is None else int(np.abs(train_times[rows] - times[place]).argmin())
        donors[place] = rows[nearest]
    return donors
