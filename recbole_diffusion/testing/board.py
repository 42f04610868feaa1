"""The checkerboard: a small data set with a known answer, in which users like the items of their own parity."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

HEADER = "user_id:token item_id:token rating:float timestamp:float"
USERS, ITEMS = 64, 40
#: Settings for quick runs on the checkerboard. ``data_path`` must be set to the folder that holds ``board``.
SETTINGS: dict[str, Any] = {
    "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
    "show_progress": False,
    "state": "WARNING",
    "topk": [5, 10],
    "valid_metric": "NDCG@10",
    "metric_decimal_place": 6,
    "train_batch_size": 16,
}


def write_inter(folder: Path, name: str, rows: Iterable[tuple[Any, ...]], header: str) -> None:
    """Write RecBole's atomic file ``folder/name/name.inter``.

    Args:
        folder: RecBole's ``data_path``; created if needed.
        name: name of the data set.
        rows: values of the columns, one tuple per interaction.
        header: columns with their types, separated by blanks, e.g. :data:`HEADER`.
    """
    (folder / name).mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(header.split()), *("\t".join(map(str, row)) for row in rows)]
    (folder / name / f"{name}.inter").write_text("\n".join(lines) + "\n")


def write_board(folder: Path) -> Path:
    """Write the data set ``board``: each user has 14 to 17 of the 20 items of their parity.

    Returns:
        ``folder``.
    """
    write_inter(folder, "board", _board_rows(), HEADER)
    return folder


@functools.cache
def _board_rows() -> tuple[tuple[Any, ...], ...]:
    """Rows of ``board``, drawn once for all tests of a process."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(USERS):
        liked = [item for item in range(ITEMS) if item % 2 == user % 2]
        for position, item in enumerate(rng.permutation(liked)[: rng.integers(14, 18)]):
            rows.append((f"u{user}", f"i{item}", 5.0, 1_000_000_000 + 1000 * position + user))
    return tuple(rows)
