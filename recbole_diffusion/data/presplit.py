"""Pre-split files (``benchmark_filename``): filters within each file, and sequences as they were written.

RecBole skips all its filters for such files. What has one meaning for the rows of a file is applied here: missing ids,
``rm_dup_inter``, ``val_interval``. Of the others a note says that they have no effect.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, NamedTuple

import numpy as np
from recbole.data.dataset import Dataset, KnowledgeBasedDataset, SequentialDataset
from recbole.utils import FeatureSource, FeatureType, ModelType

from recbole_diffusion.data import columns, filtering
from recbole_diffusion.data.account import account_of
from recbole_diffusion.data.columns import list_field


def resolve_columns(config: Any) -> None:
    """Check the settings of pre-split files; load the lists of items, in the ids of the items.

    Raises:
        ValueError: not three files; of a sequential model: no lists, or a setting that cuts off their last items.
    """
    parts = config["benchmark_filename"]
    if parts is None:
        return
    if len(parts) != 3:
        raise ValueError(
            f"benchmark_filename={parts!r} is not allowed; allowed: three names, of the files for train, valid and "
            "test, e.g. [train, valid, test]"
        )
    _note_split(config)
    _note_same_file(config)
    if config["MODEL_TYPE"] != ModelType.SEQUENTIAL:
        return
    headers = {file: columns.header(config, file) for file in columns.interaction_files(config)}
    known = {file: fields for file, fields in headers.items() if fields is not None}
    if len(known) < len(headers):  # the reader says what is wrong with the others
        return
    _check_list_column(config, known)
    _check_seq_len(config, next(iter(known.values())))
    column = list_field(config)
    if columns.is_left_out(config, column):
        raise ValueError(
            f"unload_col.inter leaves out {column!r}, which model={config['model']!r} needs; take it out of unload_col"
        )
    columns.add_to_load_col(config, column)
    alias = list(config["alias_of_item_id"] or [])
    if column not in alias:  # otherwise the items in lists have ids of their own
        config["alias_of_item_id"] = [*alias, column]


def _check_list_column(config: Any, headers: dict[Path, dict[str, str]]) -> None:
    column = list_field(config)
    for file, fields in headers.items():
        if fields.get(column) != "token_seq":
            raise ValueError(
                f"{file} needs the column {column}:token_seq: in pre-split files of a sequential model "
                f"({config['model']}) each row holds its earlier items there, loaded by load_col; it has "
                f"{', '.join(f'{name}:{kind}' for name, kind in fields.items())}. Plain rows go into one file, "
                f"{config['dataset']}.inter, without benchmark_filename"
            )


def _check_seq_len(config: Any, fields: dict[str, str]) -> None:
    suffix = config["LIST_SUFFIX"]
    for name, length in (config["seq_len"] or {}).items():
        if name.endswith(suffix) and name[: -len(suffix)] in fields:
            raise ValueError(
                f"seq_len={{{name!r}: {length!r}}} keeps the oldest items of a sequence; "
                f"MAX_ITEM_LIST_LENGTH: {length} keeps the last ones"
            )


def _note_split(config: Any) -> None:
    default = config.internal_config_dict.get("eval_args") or {}
    asked = config.external_config_dict.get("eval_args") or {}
    for key in ("split", "order", "group_by"):
        if key in asked and asked[key] != default.get(key):
            note = f"eval_args.{key}={asked[key]!r} has no effect: the files of benchmark_filename are the split"
            if note not in config.notes:
                config.notes.append(note)


def _note_same_file(config: Any) -> None:
    """Rows that were trained on, or that chose the epoch, are no unseen rows."""
    parts = config["benchmark_filename"]
    for first, second, why in (
        ("train", "valid", "the epoch is chosen by rows that were trained on"),
        ("train", "test", "the rows that are tested were trained on"),
        ("valid", "test", "the rows that are tested choose the epoch"),
    ):
        names = dict(zip(("train", "valid", "test"), parts))
        note = f"benchmark_filename={parts!r} names one file for {first} and {second}: {why}"
        if names[first] == names[second] and note not in config.notes:
            config.notes.append(note)


def filter_rows(dataset: Any) -> None:
    """Apply the filters that have one meaning within a file; called before ids are made of the names."""
    config, account, files = dataset.config, account_of(dataset), len(dataset.file_size_list)
    part = np.repeat(np.arange(files), dataset.file_size_list)
    known = filtering.ids_with_line(dataset)
    of_sequences = list_field(config) in dataset.inter_feat
    dataset._filter_nan_user_or_item()
    if config["rm_dup_inter"] is not None and of_sequences:
        account.note(_no_effect(config, "rm_dup_inter", "files of sequences"))
    elif config["rm_dup_inter"] is not None:
        filtering.with_account(lambda each: _drop_repeats(each, part), _repeats, True)(dataset)
    dataset._filter_by_field_value()
    if of_sequences and config["val_interval"]:
        account.note(
            f"{filtering.val_interval_text(dataset)} drops rows of sequences by their own values; the earlier items in "
            f"{list_field(config)} stay"
        )
    filtering.with_account(_drop_without_line(known), filtering.val_interval_text, True)(dataset)
    if isinstance(dataset, KnowledgeBasedDataset):
        dataset._filter_kg_by_triple_num()
        dataset._filter_link()
    dataset.file_size_list = np.bincount(part[dataset.inter_feat.index], minlength=files).tolist()
    dataset.feat_name_list = dataset._build_feat_name_list()
    dataset._reset_index()
    _note_others(dataset)


def _no_effect(config: Any, key: str, where: str) -> str:
    return f"{key}={config[key]!r} has no effect on {where}: filter the rows before they are written"


def _repeats(dataset: Any) -> str:
    return f"{filtering.setting_text(dataset, 'rm_dup_inter')} within each file"


def _drop_repeats(dataset: Any, part: np.ndarray) -> None:
    """Drop repeated pairs of user and item within a file, in order of time where there are times."""
    frame, keep = dataset.inter_feat, dataset.config["rm_dup_inter"]
    pairs = frame[[dataset.uid_field, dataset.iid_field]].assign(**{"": part[frame.index]})
    if dataset.time_field in frame:
        pairs = pairs.loc[frame[dataset.time_field].sort_values(kind="stable").index]
    dataset.inter_feat = frame.drop(pairs.index[pairs.duplicated(keep=keep)])


def _drop_without_line(known: dict[str, set[Any]]) -> Callable[[Any], None]:
    """Drop rows of users and items whose line ``val_interval`` has dropped; those that never had one stay."""

    def drop(dataset: Any) -> None:
        for field, ids in filtering.ids_with_line(dataset).items():
            frame = dataset.inter_feat
            dataset.inter_feat = frame.drop(frame.index[frame[field].isin(known[field] - ids)])

    return drop


def _note_others(dataset: Any) -> None:
    config, account = dataset.config, account_of(dataset)
    for key in ("user_inter_num_interval", "item_inter_num_interval"):
        intervals = dataset._parse_intervals_str(config[key])
        if intervals and not all(dataset._within_intervals(rows, intervals) for rows in (0, 1, 10**9)):
            account.note(_no_effect(config, key, "pre-split files"))
    unknown = filtering.rows_without_line(dataset, filtering.ids_with_line(dataset))
    more = "; filter_inter_by_user_or_item has no effect on pre-split files"
    filtering.note_empty_features(dataset, {field: int(rows.sum()) for field, rows in unknown.items()}, more)


class WholeLists(NamedTuple):
    """The lists of items of some rows before they were cut.

    Attributes:
        items: the lists one after the other, int64.
        counts: how many items each row has, int64, (rows,).
    """

    items: np.ndarray
    counts: np.ndarray

    def part(self, start: int, end: int) -> WholeLists:
        """Those of the rows from ``start`` to ``end``."""
        ends = np.append(0, np.cumsum(self.counts))
        return WholeLists(self.items[ends[start] : ends[end]], self.counts[start:end])


def hooks(config: Any) -> list[tuple[Any, str, Any]]:
    """What is replaced in RecBole's data sets; see :mod:`recbole_diffusion.data.hooks`."""
    if config["benchmark_filename"] is None or config["MODEL_TYPE"] != ModelType.SEQUENTIAL:
        return []
    tensors, build = vars(SequentialDataset)["_change_feat_format"], vars(Dataset)["build"]

    def _change_feat_format(dataset: Any) -> None:
        tensors(dataset)
        _pad(dataset)

    def _build(dataset: Any) -> Any:
        parts = build(dataset)
        whole, ends = getattr(dataset, "whole_lists", None), np.append(0, np.cumsum(dataset.file_size_list))
        for part, start, end in zip(parts, ends[:-1], ends[1:]):
            if whole is not None:
                part.whole_lists = whole.part(start, end)
        return parts

    return [
        (SequentialDataset, "_benchmark_presets", _benchmark_presets),
        (SequentialDataset, "_change_feat_format", _change_feat_format),
        (Dataset, "build", _build),
    ]


def _benchmark_presets(dataset: Any) -> None:
    """Cut the lists, and give them RecBole's names; RecBole takes ``item_id_list`` for the only name."""
    _cut(dataset)
    frame, suffix = dataset.inter_feat, dataset.config["LIST_SUFFIX"]
    for field in [name for name in frame if name + suffix in frame]:
        setattr(dataset, f"{field}_list_field", field + suffix)
    length = dataset.item_list_length_field
    dataset.set_field_property(length, FeatureType.TOKEN, FeatureSource.INTERACTION, 1)
    frame[length] = np.fromiter(map(len, frame[list_field(dataset.config)]), dtype=np.int64)


def _pad(dataset: Any) -> None:
    """Make the lists ``MAX_ITEM_LIST_LENGTH`` wide, as RecBole's own sequences are; several models rely on it."""
    for field in _lists(dataset):
        values = dataset.inter_feat[field]
        wide = values.new_zeros((values.shape[0], dataset.max_item_list_len, *values.shape[2:]))
        wide[:, : values.shape[1]] = values
        dataset.inter_feat[field] = wide
        dataset.field2seqlen[field] = dataset.max_item_list_len


def _lists(dataset: Any) -> list[str]:
    """The columns that hold a value for each earlier item."""
    suffix, frame = dataset.config["LIST_SUFFIX"], dataset.inter_feat
    kinds = (FeatureType.TOKEN_SEQ, FeatureType.FLOAT_SEQ)
    paired = [field + suffix for field in frame if field + suffix in frame]
    return [field for field in paired if dataset.field2type[field] in kinds]


def _cut(dataset: Any) -> None:
    """Leave the last ``MAX_ITEM_LIST_LENGTH`` entries of each list; the whole lists of items stay beside the rows."""
    longest, frame, items = dataset.max_item_list_len, dataset.inter_feat, list_field(dataset.config)
    counts = np.fromiter(map(len, frame[items]), dtype=np.int64)
    long = int((counts > longest).sum())
    if not long:
        return
    dataset.whole_lists = WholeLists(np.concatenate(frame[items].tolist()).astype(np.int64), counts)
    for field in _lists(dataset):
        frame[field] = [values[-longest:] for values in frame[field]]
        dataset.field2seqlen[field] = longest
    account_of(dataset).note(
        f"{long} of {len(counts)} sequences of the pre-split files are longer than MAX_ITEM_LIST_LENGTH={longest}: "
        f"the last {longest} items of each are used"
    )
