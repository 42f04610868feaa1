"""Checks of the item lists in pre-split files of sequential models."""

from __future__ import annotations

from typing import Any

import numpy as np

from recbole_diffusion.data.columns import list_field
from recbole_diffusion.data.reading.text import AtomicText


def check_lists(config: Any, text: AtomicText, frame: Any, types: dict[str, str], used: np.ndarray) -> None:
    """Check that each row has earlier items, and that its other lists have one value for each of them.

    Args:
        config: the settings of a sequential model.
        text: the file.
        frame: its rows.
        types: the type of each column.
        used: which rows are not dropped, bool, (rows,).

    Raises:
        ValueError: a list is empty or of another length; the message names the first such row.
    """
    items, suffix = list_field(config), config["LIST_SUFFIX"]
    paired = [name + suffix for name in types if types.get(name + suffix, "").endswith("seq")]
    lengths = {name: np.fromiter(map(len, frame[name]), dtype=np.int64) for name in paired}
    if items not in lengths:
        return
    empty = np.flatnonzero(used & (lengths[items] == 0))
    if len(empty):
        raise text.fault(f"no earlier items, which no model can read{_total(empty)}; leave it out", empty[0], items)
    for name, counts in lengths.items():
        wrong = np.flatnonzero(used & (counts != lengths[items]))
        if len(wrong):
            row = int(wrong[0])
            what = f"holds {counts[row]} values and {items} {lengths[items][row]} items; give each item one value"
            raise text.fault(f"{what}{_total(wrong)}", row, name)


def _total(rows: np.ndarray) -> str:
    return f" ({len(rows)} such rows in all)" if len(rows) > 1 else ""
