"""Which columns a data set's files have, and which are loaded beside those that ``load_col`` names."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional


def interaction_files(config: Any) -> list[Path]:
    """The ``.inter`` files: one, or one for each part with ``benchmark_filename``."""
    parts = config["benchmark_filename"]
    names = [f".{part}" for part in parts] if parts else [""]
    return [Path(config["data_path"]) / f"{config['dataset']}{name}.inter" for name in names]


def header(config: Any, file: Path) -> Optional[dict[str, str]]:
    """The columns of an atomic file with their types, in their order.

    None where the file is missing or its first line cannot be read: the reader names these faults.
    """
    if not file.is_file():
        return None
    try:
        with open(file, encoding=config["encoding"] or "utf-8") as lines:
            first = lines.readline().rstrip("\r\n").lstrip("\ufeff")
    except (UnicodeError, LookupError, OSError):
        return None
    pairs = [field.partition(":") for field in first.split(config["field_separator"])]
    return {name: kind for name, _, kind in pairs}


def is_left_out(config: Any, column: str) -> bool:
    """Whether ``unload_col`` leaves out a column of the interactions."""
    left_out = config["unload_col"] if isinstance(config["unload_col"], dict) else {}
    return column in (left_out.get("inter") or [])


def add_to_load_col(config: Any, column: str) -> None:
    """Add a column to ``load_col.inter``, unless all are loaded anyway."""
    load = config["load_col"]
    names = load.get("inter") if isinstance(load, dict) else None
    if not isinstance(names, (list, tuple, set)) or column in names:
        return
    config["load_col"] = {**load, "inter": [*names, column]}


def list_field(config: Any) -> str:
    """The column with the earlier items of a row, ``item_id_list`` by default."""
    return f"{config['ITEM_ID_FIELD']}{config['LIST_SUFFIX']}"
