"""Chronological order of interactions by exact float64 times.

RecBole casts times to float32 before it sorts by them and before it computes the boundary of a split by time. Unix
times in seconds then tie within 64 to 128 s, those in milliseconds within 131 s. Here the float64 times are kept beside
the data set. Rows that are sorted by them keep that order through RecBole's stable sorts of float32. Where the order
across users decides (split TS, split RS without groups), sort and split are replaced. ``keep_time_order: False``
restores RecBole's behaviour.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Callable, NamedTuple, Optional

import numpy as np
import torch
from recbole.data.dataset import Dataset, SequentialDataset
from recbole.utils import FeatureSource, FeatureType, ModelType
from torch import Tensor

from recbole_diffusion.data import columns

#: The column of exact chronological ranks, added beside RecBole's float32 timestamps.
RANK_FIELD = "time_rank"


class TimeRequirement(NamedTuple):
    """The reason why a run needs timestamps.

    Attributes:
        source: the setting or the model that needs them.
        alternative: how to do without them.
    """

    source: str
    alternative: str


def time_requirement(config: Any) -> Optional[TimeRequirement]:
    """The setting or model that needs the timestamps of the interactions; None if nothing does."""
    model = f"model={config['model']!r}"
    if config["time-aware"]:
        return TimeRequirement("time-aware=True", "set time-aware: False")
    if config["row_weights"] == "recency":
        return TimeRequirement("row_weights='recency'", "set row_weights: binary")
    if model_needs_time(config):
        return TimeRequirement(model, "take a model that does without")
    if config["benchmark_filename"] is not None:
        return None
    if config["MODEL_TYPE"] == ModelType.SEQUENTIAL:
        return TimeRequirement(f"{model} (sequential)", "take a general model with eval_args: {order: RO}")
    if config["eval_args"]["order"] != "TO":
        return None
    split_by_time = "TS" in (config["eval_args"]["split"] or {})  # does not allow order RO
    args = "{split: {RS: [0.8, 0.1, 0.1]}, order: RO}" if split_by_time else "{order: RO}"
    return TimeRequirement("eval_args.order='TO'", f"set eval_args: {args}")


def model_needs_time(config: Any) -> bool:
    """Whether the model itself reads timestamps."""
    spec = getattr(config, "spec", None)
    weighs_by_time = config["time-aware"] or config["row_weights"] == "recency"
    return bool(weighs_by_time or (spec is not None and "time" in spec.needs))


def check_times(dataset: Any) -> None:
    """Check that rows can be sorted by the time column.

    Called before the first filter, and for data sets that were saved by an earlier run.

    Raises:
        ValueError: the column is needed and missing, is not of type float, or holds values that are no times.
    """
    config, time = dataset.config, dataset.time_field
    requirement = time_requirement(config)
    if time not in dataset.inter_feat:
        if requirement is not None:
            raise ValueError(_no_time_column(dataset, requirement))
        return
    if requirement is None and config["rm_dup_inter"] is None:
        return
    kind = dataset.field2type[time]
    if kind is not FeatureType.FLOAT:
        raise ValueError(
            f"the column {time!r} must be of type float to order by, got {time}:{kind.value} in {config['dataset']!r}; "
            f"write {time}:float in the first line, and numbers (seconds, for instance) or ISO dates below it"
        )
    times = getattr(dataset, "exact_times", None)
    missing = ~np.isfinite(_time_values(dataset) if times is None else times)
    if missing.any():
        raise ValueError(
            f"{int(missing.sum())} of {len(missing)} rows of {config['dataset']!r} have no time in the column {time!r} "
            f"(the first is row {int(missing.argmax()) + 1}); give them a time, or leave them out"
        )


def _no_time_column(dataset: Any, requirement: TimeRequirement) -> str:
    """The message about a time column that is not loaded or not in the file."""
    config, time = dataset.config, dataset.time_field
    file = columns.interaction_files(config)[0]
    fields = columns.header(config, file) or dict.fromkeys(dataset.inter_feat)
    if columns.is_left_out(config, time):
        return f"unload_col.inter leaves out {time!r}, which {requirement.source} needs; take it out of unload_col"
    return missing_column(config, requirement, fields, str(file))


def missing_column(config: Any, requirement: TimeRequirement, fields: Iterable[str], file: str) -> str:
    """The message about a file without the time column; ``fields`` are the columns that it has."""
    return (
        f"{requirement.source} needs the column {config['TIME_FIELD']!r}, but {file} has {', '.join(fields)}; "
        f"set TIME_FIELD to the right name, or {requirement.alternative}"
    )


def exact_times(dataset: Any) -> np.ndarray:
    """The times of the rows of ``dataset.inter_feat`` before RecBole normalises them, float64, (rows,).

    Raises:
        ValueError: the data set was saved by RecBole, without plain times.
    """
    times = getattr(dataset, "exact_times", None)
    if times is None:
        times = dataset.exact_times = _time_values(dataset)
    return times


def _time_values(dataset: Any) -> np.ndarray:
    column = dataset.inter_feat[dataset.time_field]
    if column.dtype == object:  # numerical_features turns each value into a pair
        raise ValueError(f"the saved data of {dataset.dataset_name!r} hold no plain times; make them anew")
    return column.to_numpy(np.float64).copy()


def discard_exact_times(dataset: Any) -> None:
    """Remove the exact times from a data set or a split, before its rows are reordered."""
    vars(dataset).pop("exact_times", None)


def sort_rows(dataset: Any) -> None:
    """Sort the rows by time; the sort is stable."""
    times = exact_times(dataset)
    order = np.argsort(times, kind="stable")
    dataset.inter_feat = dataset.inter_feat.iloc[order].reset_index(drop=True)
    dataset.exact_times = times[order]


def add_ranks(dataset: Any) -> None:
    """Add the column :data:`RANK_FIELD` with chronological ranks, which are exact in float32 too.

    With ``time-aware`` RecBole's own models sort by the time column and read nothing else of it. There the ranks
    replace its values.
    """
    times, config = exact_times(dataset), dataset.config
    ranks = np.empty(len(times))
    ranks[np.argsort(times, kind="stable")] = np.arange(len(times))
    for field in rank_fields(config):
        dataset.inter_feat[field] = ranks
    dataset.set_field_property(RANK_FIELD, FeatureType.FLOAT, FeatureSource.INTERACTION, 1)


def rank_fields(config: Any) -> list[str]:
    """The columns that :func:`add_ranks` fills with ranks."""
    replaces_times = config["time-aware"] and config["keep_time_order"]
    return [RANK_FIELD, *([config["TIME_FIELD"]] if replaces_times else [])]


def insert_ranks(dataset: Any, tables: Iterable[Any], added: np.ndarray) -> dict[str, np.ndarray]:
    """Make room in the columns of ranks for rows that are added: each rank is again the place among all rows.

    An added row comes after the rows of its own time. Equal added times keep their order.

    Args:
        dataset: the whole data set, with exact times.
        tables: the interactions, or sequences of them, whose ranks are changed.
        added: exact times of the added rows, (n,).

    Returns:
        The added rows' values by column, (n,) each; empty without columns of ranks.
    """
    fields = [field for field in rank_fields(dataset.config) if RANK_FIELD in dataset.inter_feat]
    times, order = np.sort(exact_times(dataset)), np.argsort(added, kind="stable")
    places = np.empty(len(added))
    places[order] = np.arange(len(added))
    moved = np.arange(len(times)) + np.searchsorted(added[order], times, side="left")
    for table in tables:
        for field in fields:
            _move_ranks(dataset, table, field, torch.from_numpy(moved))
    return dict.fromkeys(fields, np.searchsorted(times, added, side="right") + places)


def _move_ranks(dataset: Any, table: Any, field: str, moved: Tensor) -> None:
    """Replace the ranks of a column, and of its column of lists, by ``moved[rank]``."""
    if field in table:
        table[field] = moved[table[field].long()].to(table[field])
    lists = field + dataset.config["LIST_SUFFIX"]
    if lists in table:
        padding = torch.arange(table[lists].shape[1]) >= table[dataset.item_list_length_field][:, None]
        table[lists] = moved[table[lists].long()].to(table[lists]).masked_fill(padding, 0)


def hooks(config: Any) -> list[tuple[Any, str, Any]]:
    """The methods of RecBole that are replaced; see :mod:`recbole_diffusion.data.hooks`."""
    # RecBole's method also fills missing times with the mean. It runs before the times are normalised.
    fill_nan = vars(Dataset)["_fill_nan"]

    def _fill_nan(dataset: Any) -> None:
        time = dataset.time_field
        if time in dataset.inter_feat and dataset.field2type[time] is FeatureType.FLOAT:
            dataset.exact_times = _time_values(dataset)
        fill_nan(dataset)

    changes = [(Dataset, "_fill_nan", _fill_nan)]
    return changes + (_GlobalTimeOrder().hooks() if _sorts_across_users(config) else [])


def _sorts_across_users(config: Any) -> bool:
    """Whether the split depends on the chronological order of rows of different users."""
    args = config["eval_args"]
    if config["benchmark_filename"] is not None or args["order"] != "TO" or not config["keep_time_order"]:
        return False
    split = args["split"] or {}
    return "TS" in split or ("RS" in split and str(args.get("group_by")).lower() == "none")


class _GlobalTimeOrder:
    """Sort and split of one data set by exact times.

    Attributes:
        times: of the rows of its interactions, float64, (rows,).
    """

    times: np.ndarray

    def hooks(self) -> list[tuple[Any, str, Any]]:
        return [
            (Dataset, "_change_feat_format", self._record_times(vars(Dataset)["_change_feat_format"])),
            (
                SequentialDataset,
                "_change_feat_format",
                self._record_times(vars(SequentialDataset)["_change_feat_format"]),
            ),
            (Dataset, "sort", self._sort(vars(Dataset)["sort"])),
            (Dataset, "time_based_split", lambda dataset, ratios, group_by: self._split(dataset, ratios, group_by)),
        ]

    def _record_times(self, original: Callable[[Any], None]) -> Callable[[Any], None]:
        def _change_feat_format(dataset: Any) -> None:
            users, times = dataset.inter_feat[dataset.uid_field].to_numpy(), exact_times(dataset)
            original(dataset)
            if isinstance(dataset, SequentialDataset):  # makes one row of each interaction but a user's first
                order = np.lexsort((times, users))
                times = times[order][1:][users[order][1:] == users[order][:-1]]
            self.times = times

        return _change_feat_format

    def _sort(self, original: Callable[..., None]) -> Callable[..., None]:
        def sort(dataset: Any, by: Any, ascending: Any = True) -> None:
            if by != dataset.time_field:
                original(dataset, by, ascending)
                return
            if len(self.times) != len(dataset.inter_feat):
                raise ValueError(
                    f"{type(dataset).__name__} makes rows of its own, whose exact times are not known; set "
                    "keep_time_order: False, or a split for each user"
                )
            order = np.argsort(self.times, kind="stable")
            dataset.inter_feat._reindex(order)
            self.times = self.times[order]

        return sort

    def _split(self, dataset: Any, ratios: list[float], group_by: str) -> list[Any]:
        """Split by time as RecBole's TS does, with exact times.

        Rows after the boundary are the test split. Each user's other rows are cut into train and valid.
        """
        shares = [ratio / sum(ratios) for ratio in ratios]
        boundary = np.percentile(self.times, 100 * (1 - shares[-1]))
        rows: tuple[list[int], list[int], list[int]] = ([], [], [])  # of train, valid and test
        for group in dataset._grouped_index(dataset.inter_feat[group_by].numpy()):
            user_rows = np.array(group)
            late = self.times[user_rows] > boundary
            early = user_rows[~late]
            cut = int(len(early) * (shares[0] / (1 - shares[2])))
            for part_rows, new_rows in zip(rows, (early[:cut], early[cut:], user_rows[late])):
                part_rows.extend(new_rows.tolist())
        dataset._drop_unused_col()
        return [dataset.copy(dataset.inter_feat[part_rows]) for part_rows in rows]
