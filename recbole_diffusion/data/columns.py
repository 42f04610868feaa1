"""The columns of a data set's interaction files, and additions to ``load_col``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional


def interaction_files(config: Any) -> list[Path]:
    """The paths of the ``.inter`` files: one file, or with ``benchmark_filename`` one for each split."""
    parts = config["benchmark_filename"]
    names = [f".{part}" for part in parts] if parts else [""]
    return [Path(config["data_path"]) / f"{config['dataset']}{name}.inter" for name in names]


def header(config: Any, file: Path) -> Optional[dict[str, str]]:
    """Read the columns of an atomic file.

    Returns:
        The types by column name, in the file's order. None if the file is missing or its first line cannot be read;
        the reader reports these faults later.
    """
    if not file.is_file():
        return None
    try:
        with open(file, encoding=config["encoding"] or "utf-8") as stream:
            first_line = stream.readline().rstrip("\r\n").lstrip("\ufeff")
    except (UnicodeError, LookupError, OSError):
        return None
    entries = [entry.partition(":") for entry in first_line.split(config["field_separator"])]
    return {name: kind for name, _, kind in entries}


def is_left_out(config: Any, column: str) -> bool:
    """Whether ``unload_col`` excludes a column of the interactions."""
    left_out = config["unload_col"] if isinstance(config["unload_col"], dict) else {}
    return column in (left_out.get("inter") or [])


def add_to_load_col(config: Any, column: str) -> None:
    """Add a column to ``load_col.inter``, unless all columns are loaded."""
    load = config["load_col"]
    names = load.get("inter") if isinstance(load, dict) else None
    if not isinstance(names, (list, tuple, set)) or column in names:
        return
    config["load_col"] = {**load, "inter": [*names, column]}


def list_field(config: Any) -> str:
    """The name of the column with the item sequence of a row, ``item_id_list`` by default."""
    return f"{config['ITEM_ID_FIELD']}{config['LIST_SUFFIX']}"
