"""RecBole's filters of interactions, with an account of the rows that each filter drops."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np
from recbole.data.dataset import Dataset, KnowledgeBasedDataset
from recbole.utils import FeatureType

from recbole_diffusion.data import removed_rows
from recbole_diffusion.data.account import account_of

Method = Callable[[Any], None]


def hooks() -> list[tuple[Any, str, Any]]:
    """The methods of RecBole that are replaced; see :mod:`recbole_diffusion.data.hooks`."""
    filters: list[tuple[Any, str, Callable[[Any], str], bool]] = [
        (Dataset, "_filter_nan_user_or_item", _missing_ids, False),
        (Dataset, "_remove_duplication", lambda dataset: setting_text(dataset, "rm_dup_inter"), True),
        (Dataset, "_filter_by_field_value", val_interval_text, True),
        (Dataset, "_filter_by_inter_num", _interval_settings, True),
        (KnowledgeBasedDataset, "_filter_link", _no_link, False),
    ]
    originals = {name: vars(owner)[name] for owner, name, *_ in filters}
    originals["_remove_duplication"] = _with_stable_sort(originals["_remove_duplication"])
    by_value = _noting_unknown_names(originals["_filter_by_field_value"])
    originals["_filter_by_field_value"] = removed_rows.kept(by_value)
    changes = [
        (owner, name, with_account(originals[name], reason, requested)) for owner, name, reason, requested in filters
    ]
    by_user_or_item = vars(Dataset)["_filter_inter_by_user_or_item"]
    return [
        *changes,
        (Dataset, "_data_filtering", _remembering_ids(vars(Dataset)["_data_filtering"])),
        (Dataset, "_filter_inter_by_user_or_item", _with_account_by_field(by_user_or_item)),
        (Dataset, "_get_illegal_ids_by_inter_num", illegal_ids),
        (Dataset, "_reset_index", _refusing_empty(vars(Dataset)["_reset_index"])),
    ]


def with_account(original: Method, reason: Callable[[Any], str], requested: bool) -> Method:
    """Wrap a filter: enter the rows that it drops into the account.

    Args:
        original: a method of RecBole's data set that filters ``inter_feat``.
        reason: returns the reason for the account.
        requested: whether a setting requests the filter.
    """

    def method(dataset: Any) -> None:
        before = len(dataset.inter_feat)
        original(dataset)
        account_of(dataset).record_dropped(reason(dataset), before - len(dataset.inter_feat), requested)

    return method


def setting_text(dataset: Any, key: str) -> str:
    """A setting with its value, for messages."""
    return f"{key}={dataset.config[key]!r}"


def val_interval_text(dataset: Any) -> str:
    """``val_interval`` with its value, for messages."""
    return setting_text(dataset, "val_interval")


def _interval_settings(dataset: Any) -> str:
    keys = ("user_inter_num_interval", "item_inter_num_interval")
    return ", ".join(setting_text(dataset, key) for key in keys if dataset.config[key] is not None)


def _missing_ids(dataset: Any) -> str:
    return f"{dataset.uid_field} or {dataset.iid_field} is empty"


def _no_link(dataset: Any) -> str:
    return f"{dataset.dataset_name}.link has no entity of the knowledge graph for their {dataset.iid_field}"


def _with_stable_sort(original: Method) -> Method:
    """Wrap ``_remove_duplication``: rows with equal times keep their order. RecBole's quicksort is not stable."""

    def _remove_duplication(dataset: Any) -> None:
        keep, time, frame = dataset.config["rm_dup_inter"], dataset.time_field, dataset.inter_feat
        if keep is None or time not in frame or dataset.config["keep_time_order"] is False:
            original(dataset)
            return
        pair = [dataset.uid_field, dataset.iid_field]
        dataset.inter_feat = frame.sort_values(time, kind="stable").drop_duplicates(pair, keep=keep)

    return _remove_duplication


def _noting_unknown_names(original: Method) -> Method:
    """Wrap ``_filter_by_field_value``: note names of ``val_interval`` that occur in no row."""

    def _filter_by_field_value(dataset: Any) -> None:
        for field, allowed in (dataset.config["val_interval"] or {}).items():
            if dataset.field2type.get(field) is not FeatureType.TOKEN:
                continue
            present = {name for feat in dataset.field2feats(field) for name in feat[field].unique()}
            unknown = [name for name in allowed if name not in present]
            if unknown:
                account_of(dataset).note(
                    f"{len(unknown)} of {len(allowed)} names of val_interval.{field} are in no row, e.g. {unknown[0]!r}"
                )
        original(dataset)

    return _filter_by_field_value


def _remembering_ids(original: Method) -> Method:
    """Wrap ``_data_filtering``: remember which users and items have a line, since filters drop lines too."""

    def _data_filtering(dataset: Any) -> None:
        dataset.known_ids = ids_with_line(dataset)
        original(dataset)
        del dataset.known_ids

    return _data_filtering


def ids_with_line(dataset: Any) -> dict[str, set[Any]]:
    """The users and items that have a line in ``.user`` and ``.item``, by field; only for loaded files."""
    files = {dataset.uid_field: dataset.user_feat, dataset.iid_field: dataset.item_feat}
    return {field: set(feat[field]) for field, feat in files.items() if feat is not None}


def rows_without_line(dataset: Any, known: dict[str, set[Any]]) -> dict[str, np.ndarray]:
    """Select the interactions whose user or item has no line.

    Args:
        dataset: RecBole's data set.
        known: the ids with a line, by field.

    Returns:
        A mask by field, bool, (rows,). A row is selected for the first of these fields only.
    """
    masks: dict[str, np.ndarray] = {}
    selected = np.zeros(len(dataset.inter_feat), dtype=bool)
    for field, ids in known.items():
        masks[field] = ~dataset.inter_feat[field].isin(ids).to_numpy() & ~selected
        selected |= masks[field]
    return masks


def file_of(dataset: Any, field: str) -> str:
    """The name of the file with the lines of ``field``."""
    return f"{dataset.dataset_name}.{'user' if field == dataset.uid_field else 'item'}"


def _with_account_by_field(original: Method) -> Method:
    """Wrap ``_filter_inter_by_user_or_item``: account for users and items separately, and note rows that stay."""

    def _filter_inter_by_user_or_item(dataset: Any) -> None:
        before, account = len(dataset.inter_feat), account_of(dataset)
        unknown = {field: int(rows.sum()) for field, rows in rows_without_line(dataset, dataset.known_ids).items()}
        original(dataset)
        if dataset.config["filter_inter_by_user_or_item"] is not True:
            note_empty_features(dataset, unknown)
            _note_lines_dropped(dataset)
            return
        for field, rows in unknown.items():
            reason = f"their {field} has no line in {file_of(dataset, field)}"
            account.record_dropped(f"{reason} (filter_inter_by_user_or_item: False keeps them)", rows, False)
        further = before - len(dataset.inter_feat) - sum(unknown.values())
        account.record_dropped(f"{val_interval_text(dataset)}, of their user or item", further, True)

    return _filter_inter_by_user_or_item


def _note_lines_dropped(dataset: Any) -> None:
    """Note how many rows are kept although ``val_interval`` has dropped the line of their user or item."""
    dropped = {field: dataset.known_ids[field] - ids for field, ids in ids_with_line(dataset).items()}
    rows = np.zeros(len(dataset.inter_feat), dtype=bool)
    for field, ids in dropped.items():
        rows |= dataset.inter_feat[field].isin(ids).to_numpy()
    if rows.any():
        files = " and ".join(f"{len(ids)} of {file_of(dataset, field)}" for field, ids in dropped.items() if ids)
        account_of(dataset).note(
            f"{val_interval_text(dataset)} drops lines ({files}), and filter_inter_by_user_or_item: False keeps their "
            f"{counted_rows(int(rows.sum()))} of {dataset.dataset_name}.inter"
        )


def counted_rows(rows: int) -> str:
    """Format a number of rows: ``1 row`` or ``N rows``."""
    return f"{rows} {'row' if rows == 1 else 'rows'}"


def note_empty_features(dataset: Any, unknown: dict[str, int], addition: str = "") -> None:
    """Note how many rows are kept whose user or item has no features.

    Args:
        dataset: RecBole's data set.
        unknown: the number of such rows by field.
        addition: a text at the end of the note.
    """
    for field, rows in unknown.items():
        if rows:
            verb = "is" if rows == 1 else "are"
            account_of(dataset).note(
                f"{counted_rows(rows)} {verb} kept whose {field} has no line in {file_of(dataset, field)}: its "
                f"features are empty (numbers: the mean of the others){addition}"
            )


def count_single_rows(dataset: Any) -> None:
    """Enter the rows of users with a single interaction into the account; they make no sequence."""
    single = int((dataset.inter_feat[dataset.uid_field].value_counts() == 1).sum())
    account_of(dataset).record_dropped("a user's only interaction makes no sequence", single, False)


def note_items_without_rows(dataset: Any) -> None:
    """Note how many items without interactions are candidates because ``.item`` lists them."""
    if dataset.item_feat is None:
        return
    without = dataset.item_num - 1 - dataset.inter_feat[dataset.iid_field].nunique()
    if without:
        file = file_of(dataset, dataset.iid_field)
        account_of(dataset).note(
            f"{without} of {dataset.item_num - 1} items have no interaction, only a line in {file}, and are ranked; "
            "item_inter_num_interval: '[1,inf)' leaves them out"
        )


def illegal_ids(dataset: Any, field: str, feat: Any, inter_num: Any, inter_interval: Any = None) -> set[Any]:
    """The ids whose number of interactions is outside of the intervals; replaces RecBole's method.

    RecBole compares the lines of ``feat`` with the lower end of the first interval only. There the order of several
    intervals matters, and ``(0,inf)`` keeps ids without interactions.

    Args:
        dataset: RecBole's data set.
        field: that of users or items.
        feat: their lines in ``.user`` or ``.item``, or None.
        inter_num: a Counter of interactions by id.
        inter_interval: the parsed intervals, or None.
    """
    if inter_interval is None:
        return set()
    ids = {name for name, rows in inter_num.items() if not dataset._within_intervals(rows, inter_interval)}
    if feat is not None and not dataset._within_intervals(0, inter_interval):
        ids |= {name for name in feat[field].values if inter_num[name] == 0}
    return ids


def _refusing_empty(original: Method) -> Method:
    """Wrap ``_reset_index``: raise an error with the account if no row is left."""

    def _reset_index(dataset: Any) -> None:
        empty = [name for name in dataset.feat_name_list if getattr(dataset, name).empty]
        if empty:
            dropped = "; ".join(f"{entry.rows} by {entry.reason}" for entry in account_of(dataset).dropped)
            raise ValueError(
                f"no row of {dataset.dataset_name}.{empty[0][: -len('_feat')]} is left"
                + (f": {dropped}; widen these settings" if dropped else "")
            )
        original(dataset)

    return _reset_index
