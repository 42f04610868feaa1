"""Temporary replacement of methods of RecBole's data sets, while one data set is loaded or split.

RecBole's Dataset has no extension points for a reader or a split. Subclasses are no alternative, since data sets are
pickled with their class. :func:`hooked` therefore replaces single methods of ``Dataset`` and restores them afterwards,
so that ``enable()`` and other users of RecBole are not affected.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from recbole.data.dataset import Dataset, SequentialDataset

from recbole_diffusion.data import (
    column_keys,
    filtering,
    presplit,
    removed_rows,
    sequence_noise,
    sequence_rows,
    time_order,
)
from recbole_diffusion.data.account import account_of, warnings_noted
from recbole_diffusion.data.columns import interaction_files
from recbole_diffusion.data.reading import atomic_files
from recbole_diffusion.support.patch import replace

#: (owner, attribute, replacement)
Hook = tuple[Any, str, Any]


def hooks(config: Any) -> list[Hook]:
    """The methods to replace, from all modules of this folder that replace some."""
    replaced = [*_loading_hooks(), *atomic_files.hooks(), *column_keys.hooks(), *filtering.hooks()]
    replaced += removed_rows.hooks()
    replaced += [*presplit.hooks(config), *sequence_rows.hooks(), *sequence_noise.hooks(config)]  # noise wraps the rows
    return [*replaced, *time_order.hooks(config)]


def _loading_hooks() -> list[Hook]:
    """Wrappers of the steps from the files to the frame of ids: they note warnings, count rows and check times."""
    from_scratch, process = vars(Dataset)["_from_scratch"], vars(Dataset)["_data_processing"]

    def _from_scratch(dataset: Any) -> None:
        with warnings_noted(account_of(dataset).note):
            from_scratch(dataset)

    def _data_processing(dataset: Any) -> None:
        _record_files(dataset)
        time_order.check_times(dataset)
        if dataset.benchmark_filename_list is not None:
            presplit.filter_rows(dataset)
        process(dataset)
        if dataset.benchmark_filename_list is None:
            filtering.note_items_without_rows(dataset)
            if isinstance(dataset, SequentialDataset):
                filtering.count_single_rows(dataset)

    return [(Dataset, "_from_scratch", _from_scratch), (Dataset, "_data_processing", _data_processing)]


def _record_files(dataset: Any) -> None:
    """Enter the rows of the interaction files into the account, unless the reader has done so."""
    sizes = getattr(dataset, "file_size_list", None) or [len(dataset.inter_feat)]
    for file, rows in zip(interaction_files(dataset.config), sizes):
        if file.name not in account_of(dataset).files:
            account_of(dataset).record_file(file.name, rows)


@contextlib.contextmanager
def hooked(config: Any) -> Iterator[None]:
    """Replace the methods of :func:`hooks` inside the block."""
    revert = replace(*hooks(config))
    try:
        yield
    finally:
        revert()
