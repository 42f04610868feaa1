"""Order in time by the exact times of the files.

RecBole turns times into float32 before it sorts by them and before it draws the boundary of a split by time. Unix times
in seconds then tie within 64 to 128 s, those in milliseconds within 131 s. Here the times are kept in float64 beside
the data set. Rows that are in exact order keep it through RecBole's stable sorts of float32; where the order across
users decides (split TS, split RS without groups), sort and split are ours. ``keep_time_order: False`` gives RecBole's.
"""

from __future__ import annotations

from typing import Any, Callable, NamedTuple, Optional

import numpy as np
from recbole.data.dataset import Dataset, SequentialDataset
from recbole.utils import FeatureSource, FeatureType, ModelType

from recbole_diffusion.data import columns

#: The exact ranks in time, which our data preparation puts beside RecBole's float32 timestamps.
RANK_FIELD = "time_rank"


class Need(NamedTuple):
    """Why a run needs the times.

    Attributes:
        who: the setting or the model that needs them.
        instead: how to do without.
    """

    who: str
    instead: str


def need(config: Any) -> Optional[Need]:
    """What needs the times of the interactions, or None."""
    model = f"model={config['model']!r}"
    if config["time-aware"]:
        return Need("time-aware=True", "set time-aware: False")
    if model_needs_time(config):
        return Need(model, "take a model that does without")
    if config["benchmark_filename"] is not None:
        return None
    if config["MODEL_TYPE"] == ModelType.SEQUENTIAL:
        return Need(f"{model} (sequential)", "take a general model with eval_args: {order: RO}")
    if config["eval_args"]["order"] != "TO":
        return None
    by_time = "TS" in (config["eval_args"]["split"] or {})  # which refuses order RO
    args = "{split: {RS: [0.8, 0.1, 0.1]}, order: RO}" if by_time else "{order: RO}"
    return Need("eval_args.order='TO'", f"set eval_args: {args}")


def model_needs_time(config: Any) -> bool:
    """Whether the model itself reads the times."""
    spec = getattr(config, "spec", None)
    return bool(config["time-aware"] or (spec is not None and "time" in spec.needs))


def check_type(dataset: Any) -> None:
    """Check that rows can be ordered by the time column, before the first filter and for a data set that was saved.

    Raises:
        ValueError: the column is needed and missing, is not of type float, or holds values that are no times.
    """
    config, time = dataset.config, dataset.time_field
    why = need(config)
    if time not in dataset.inter_feat:
        if why is not None:
            file = columns.interaction_files(config)[0]
            fields = columns.header(config, file) or dict.fromkeys(dataset.inter_feat)
            if columns.is_left_out(config, time):
                raise ValueError(
                    f"unload_col.inter leaves out {time!r}, which {why.who} needs; take it out of unload_col"
                )
            raise ValueError(missing(config, why, fields, str(file)))
        return
    if why is None and config["rm_dup_inter"] is None:
        return
    kind = dataset.field2type[time]
    if kind is not FeatureType.FLOAT:
        raise ValueError(
            f"the column {time!r} must be of type float to order by, got {time}:{kind.value} in {config['dataset']!r}; "
            f"write {time}:float in the first line, and numbers (seconds, for instance) or ISO dates below it"
        )
    times = getattr(dataset, "exact_times", None)
    wrong = ~np.isfinite(_column(dataset) if times is None else times)
    if wrong.any():
        raise ValueError(
            f"{int(wrong.sum())} of {len(wrong)} rows of {config['dataset']!r} have no time in the column {time!r} "
            f"(the first is row {int(wrong.argmax()) + 1}); give them a time, or leave them out"
        )


def missing(config: Any, why: Need, fields: Any, where: str) -> str:
    """The line that says that the time column is not there."""
    return (
        f"{why.who} needs the column {config['TIME_FIELD']!r}, but {where} has {', '.join(fields)}; "
        f"set TIME_FIELD to the right name, or {why.instead}"
    )


def exact_times(dataset: Any) -> np.ndarray:
    """The times of the rows of ``dataset.inter_feat``, float64, as they were before RecBole normalised them.

    Raises:
        ValueError: a data set that RecBole saved holds them no more.
    """
    times = getattr(dataset, "exact_times", None)
    if times is None:
        times = dataset.exact_times = _column(dataset)
    return times


def _column(dataset: Any) -> np.ndarray:
    column = dataset.inter_feat[dataset.time_field]
    if column.dtype == object:  # numerical_features makes pairs of it
        raise ValueError(f"the saved data of {dataset.dataset_name!r} hold no plain times; make them anew")
    return column.to_numpy(np.float64).copy()


def forget(dataset: Any) -> None:
    """Take the exact times off a data set or a split whose rows will be moved."""
    vars(dataset).pop("exact_times", None)


def sort_rows(dataset: Any) -> None:
    """Put the rows in order of time; equal times keep their order."""
    times = exact_times(dataset)
    order = np.argsort(times, kind="stable")
    dataset.inter_feat = dataset.inter_feat.iloc[order].reset_index(drop=True)
    dataset.exact_times = times[order]


def add_ranks(dataset: Any) -> None:
    """Add the ranks in time as a column: exact in float32 too, whatever the order of the rows will be.

    RecBole's own models sort by the time column with ``time-aware`` and read nothing else of it: there it holds the
    ranks too.
    """
    times, config = exact_times(dataset), dataset.config
    ranks = np.empty(len(times))
    ranks[np.argsort(times, kind="stable")] = np.arange(len(times))
    dataset.inter_feat[RANK_FIELD] = ranks
    if config["time-aware"] and config["keep_time_order"]:
        dataset.inter_feat[dataset.time_field] = ranks
    dataset.set_field_property(RANK_FIELD, FeatureType.FLOAT, FeatureSource.INTERACTION, 1)


def hooks(config: Any) -> list[tuple[Any, str, Any]]:
    """What is replaced in RecBole's data sets; see :mod:`recbole_diffusion.data.hooks`."""
    fill = vars(Dataset)["_fill_nan"]  # also puts the mean where a time is missing, and comes before normalising

    def _fill_nan(dataset: Any) -> None:
        time = dataset.time_field
        if time in dataset.inter_feat and dataset.field2type[time] is FeatureType.FLOAT:
            dataset.exact_times = _column(dataset)
        fill(dataset)

    changes = [(Dataset, "_fill_nan", _fill_nan)]
    return changes + (_AcrossUsers().hooks() if _order_across_users_decides(config) else [])


def _order_across_users_decides(config: Any) -> bool:
    args = config["eval_args"]
    if config["benchmark_filename"] is not None or args["order"] != "TO" or not config["keep_time_order"]:
        return False
    split = args["split"] or {}
    return "TS" in split or ("RS" in split and str(args.get("group_by")).lower() == "none")


class _AcrossUsers:
    """Sort and split of one data set by ``times``, which are beside its rows, float64, (rows,)."""

    times: np.ndarray

    def hooks(self) -> list[tuple[Any, str, Any]]:
        return [
            (Dataset, "_change_feat_format", self._tensors(vars(Dataset)["_change_feat_format"])),
            (SequentialDataset, "_change_feat_format", self._tensors(vars(SequentialDataset)["_change_feat_format"])),
            (Dataset, "sort", self._sort(vars(Dataset)["sort"])),
            (Dataset, "time_based_split", lambda dataset, ratios, group_by: self._split(dataset, ratios, group_by)),
        ]

    def _tensors(self, original: Callable[[Any], None]) -> Callable[[Any], None]:
        def _change_feat_format(dataset: Any) -> None:
            users, times = dataset.inter_feat[dataset.uid_field].to_numpy(), exact_times(dataset)
            original(dataset)
            if isinstance(dataset, SequentialDataset):  # one row for each but the first of a user
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
        """RecBole's split TS: test is what comes after the boundary, each user's other rows are cut in two."""
        shares = [share / sum(ratios) for share in ratios]
        boundary = np.percentile(self.times, 100 * (1 - shares[-1]))
        rows: tuple[list[int], list[int], list[int]] = ([], [], [])
        for group in dataset._grouped_index(dataset.inter_feat[group_by].numpy()):
            of_user = np.array(group)
            late = self.times[of_user] > boundary
            early = of_user[~late]
            cut = int(len(early) * (shares[0] / (1 - shares[2])))
            for part, more in zip(rows, (early[:cut], early[cut:], of_user[late])):
                part.extend(more.tolist())
        dataset._drop_unused_col()
        return [dataset.copy(dataset.inter_feat[part]) for part in rows]
