"""Pre-split files (``benchmark_filename``): filters within each file, and item sequences that the files contain.

RecBole skips all its filters for such files. The filters that are well defined within one file are applied here:
missing ids, ``rm_dup_inter``, ``val_interval``. A note lists the others, which have no effect.
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
    """Check the settings of pre-split files, and load the item lists of sequential models with the ids of the items.

    Raises:
        ValueError: not three files; for a sequential model, a file without lists, or a setting that cuts off their
            last items.
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
    if len(known) < len(headers):  # the reader reports the fault of the others
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
    if column not in alias:  # without the alias RecBole numbers the items in lists separately
        config["alias_of_item_id"] = [*alias, column]


def _check_list_column(config: Any, headers: dict[Path, dict[str, str]]) -> None:
    """Check that each file has the column of item lists."""
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
    """Reject ``seq_len`` for lists: it keeps the first items, and the models need the last ones."""
    suffix = config["LIST_SUFFIX"]
    for name, length in (config["seq_len"] or {}).items():
        if name.endswith(suffix) and name[: -len(suffix)] in fields:
            raise ValueError(
                f"seq_len={{{name!r}: {length!r}}} keeps the oldest items of a sequence; "
                f"MAX_ITEM_LIST_LENGTH: {length} keeps the last ones"
            )


def _note_split(config: Any) -> None:
    """Note settings of the split, which have no effect on pre-split files."""
    default = config.internal_config_dict.get("eval_args") or {}
    requested = config.external_config_dict.get("eval_args") or {}
    for key in ("split", "order", "group_by"):
        if key in requested and requested[key] != default.get(key):
            note = f"eval_args.{key}={requested[key]!r} has no effect: the files of benchmark_filename are the split"
            if note not in config.notes:
                config.notes.append(note)


def _note_same_file(config: Any) -> None:
    """Note a file that is used for two splits, whose rows are then not unseen."""
    parts = config["benchmark_filename"]
    for first, second, consequence in (
        ("train", "valid", "the epoch is chosen by rows that were trained on"),
        ("train", "test", "the rows that are tested were trained on"),
        ("valid", "test", "the rows that are tested choose the epoch"),
    ):
        names = dict(zip(("train", "valid", "test"), parts))
        note = f"benchmark_filename={parts!r} names one file for {first} and {second}: {consequence}"
        if names[first] == names[second] and note not in config.notes:
            config.notes.append(note)


def filter_rows(dataset: Any) -> None:
    """Apply the filters that are well defined within a file; called before names are converted to ids."""
    config, account, files = dataset.config, account_of(dataset), len(dataset.file_size_list)
    file_of_row = np.repeat(np.arange(files), dataset.file_size_list)
    known = filtering.ids_with_line(dataset)
    has_lists = list_field(config) in dataset.inter_feat
    dataset._filter_nan_user_or_item()
    if config["rm_dup_inter"] is not None and has_lists:
        account.note(_no_effect(config, "rm_dup_inter", "files of sequences"))
    elif config["rm_dup_inter"] is not None:
        filtering.with_account(_drop_repeats(file_of_row), _repeats_reason, True)(dataset)
    dataset._filter_by_field_value()
    if has_lists and config["val_interval"]:
        account.note(
            f"{filtering.val_interval_text(dataset)} drops rows of sequences by their own values; the earlier items in "
            f"{list_field(config)} stay"
        )
    filtering.with_account(_drop_rows_of_dropped_lines(known), filtering.val_interval_text, True)(dataset)
    if isinstance(dataset, KnowledgeBasedDataset):
        dataset._filter_kg_by_triple_num()
        dataset._filter_link()
    dataset.file_size_list = np.bincount(file_of_row[dataset.inter_feat.index], minlength=files).tolist()
    dataset.feat_name_list = dataset._build_feat_name_list()
    dataset._reset_index()
    _note_unused_filters(dataset)


def _no_effect(config: Any, key: str, where: str) -> str:
    return f"{key}={config[key]!r} has no effect on {where}: filter the rows before they are written"


def _repeats_reason(dataset: Any) -> str:
    return f"{filtering.setting_text(dataset, 'rm_dup_inter')} within each file"


def _drop_repeats(file_of_row: np.ndarray) -> Callable[[Any], None]:
    """The filter of repeated (user, item) pairs within a file, in chronological order if times are loaded."""

    def drop(dataset: Any) -> None:
        frame, keep = dataset.inter_feat, dataset.config["rm_dup_inter"]
        pairs = frame[[dataset.uid_field, dataset.iid_field]].assign(**{"": file_of_row[frame.index]})
        if dataset.time_field in frame:
            pairs = pairs.loc[frame[dataset.time_field].sort_values(kind="stable").index]
        dataset.inter_feat = frame.drop(pairs.index[pairs.duplicated(keep=keep)])

    return drop


def _drop_rows_of_dropped_lines(known: dict[str, set[Any]]) -> Callable[[Any], None]:
    """The filter of rows whose user or item has lost its line to ``val_interval``.

    Args:
        known: the ids with a line before ``val_interval``, by field. Rows of other ids stay.
    """

    def drop(dataset: Any) -> None:
        for field, ids in filtering.ids_with_line(dataset).items():
            frame = dataset.inter_feat
            dataset.inter_feat = frame.drop(frame.index[frame[field].isin(known[field] - ids)])

    return drop


def _note_unused_filters(dataset: Any) -> None:
    """Note the filters that have no effect on pre-split files."""
    config, account = dataset.config, account_of(dataset)
    for key in ("user_inter_num_interval", "item_inter_num_interval"):
        intervals = dataset._parse_intervals_str(config[key])
        if intervals and not all(dataset._within_intervals(rows, intervals) for rows in (0, 1, 10**9)):
            account.note(_no_effect(config, key, "pre-split files"))
    unknown = filtering.rows_without_line(dataset, filtering.ids_with_line(dataset))
    addition = "; filter_inter_by_user_or_item has no effect on pre-split files"
    filtering.note_empty_features(dataset, {field: int(rows.sum()) for field, rows in unknown.items()}, addition)


class WholeLists(NamedTuple):
    """The item lists of rows before they were cut to ``MAX_ITEM_LIST_LENGTH``.

    Attributes:
        items: the concatenated lists, int64, (n,).
        counts: the number of items of each row, int64, (rows,).
    """

    items: np.ndarray
    counts: np.ndarray

    def part(self, start: int, end: int) -> WholeLists:
        """The lists of the rows from ``start`` to ``end``."""
        ends = np.append(0, np.cumsum(self.counts))
        return WholeLists(self.items[ends[start] : ends[end]], self.counts[start:end])


def hooks(config: Any) -> list[tuple[Any, str, Any]]:
    """The methods of RecBole that are replaced; see :mod:`recbole_diffusion.data.hooks`."""
    if config["benchmark_filename"] is None or config["MODEL_TYPE"] != ModelType.SEQUENTIAL:
        return []
    to_tensors, build = vars(SequentialDataset)["_change_feat_format"], vars(Dataset)["build"]

    def _change_feat_format(dataset: Any) -> None:
        to_tensors(dataset)
        _pad_lists(dataset)

    def _build(dataset: Any) -> Any:
        parts = build(dataset)
        whole, ends = getattr(dataset, "whole_lists", None), np.append(0, np.cumsum(dataset.file_size_list))
        for part, start, end in zip(parts, ends[:-1], ends[1:]):  # each split needs its own lists for masking
            if whole is not None:
                part.whole_lists = whole.part(start, end)
        return parts

    return [
        (SequentialDataset, "_benchmark_presets", _benchmark_presets),
        (SequentialDataset, "_change_feat_format", _change_feat_format),
        (Dataset, "build", _build),
    ]


def _benchmark_presets(dataset: Any) -> None:
    """Cut the lists, and register their fields. RecBole's method only works if the list is named ``item_id_list``."""
    _cut_lists(dataset)
    frame, suffix = dataset.inter_feat, dataset.config["LIST_SUFFIX"]
    for field in [name for name in frame if name + suffix in frame]:
        setattr(dataset, f"{field}_list_field", field + suffix)
    length = dataset.item_list_length_field
    dataset.set_field_property(length, FeatureType.TOKEN, FeatureSource.INTERACTION, 1)
    frame[length] = np.fromiter(map(len, frame[list_field(dataset.config)]), dtype=np.int64)


def _pad_lists(dataset: Any) -> None:
    """Pad the lists to ``MAX_ITEM_LIST_LENGTH``, the width of RecBole's own sequences, on which several models rely."""
    for field in _list_fields(dataset):
        values = dataset.inter_feat[field]
        padded = values.new_zeros((values.shape[0], dataset.max_item_list_len, *values.shape[2:]))
        padded[:, : values.shape[1]] = values
        dataset.inter_feat[field] = padded
        dataset.field2seqlen[field] = dataset.max_item_list_len


def _list_fields(dataset: Any) -> list[str]:
    """The columns that hold one value for each earlier item of a row."""
    suffix, frame = dataset.config["LIST_SUFFIX"], dataset.inter_feat
    kinds = (FeatureType.TOKEN_SEQ, FeatureType.FLOAT_SEQ)
    paired = [field + suffix for field in frame if field + suffix in frame]
    return [field for field in paired if dataset.field2type[field] in kinds]


def _cut_lists(dataset: Any) -> None:
    """Cut each list to its last ``MAX_ITEM_LIST_LENGTH`` entries; keep the whole item lists in ``whole_lists``."""
    max_length, frame, items = dataset.max_item_list_len, dataset.inter_feat, list_field(dataset.config)
    counts = np.fromiter(map(len, frame[items]), dtype=np.int64)
    too_long = int((counts > max_length).sum())
    if not too_long:
        return
    dataset.whole_lists = WholeLists(np.concatenate(frame[items].tolist()).astype(np.int64), counts)
    for field in _list_fields(dataset):
        frame[field] = [values[-max_length:] for values in frame[field]]
        dataset.field2seqlen[field] = max_length
    account_of(dataset).note(
        f"{too_long} of {len(counts)} sequences of the pre-split files are longer than "
        f"MAX_ITEM_LIST_LENGTH={max_length}: the last {max_length} items of each are used"
    )
