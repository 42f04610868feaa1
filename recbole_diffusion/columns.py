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


def load_too(config: Any, column: str, why: str) -> None:
    """Add a column to ``load_col.inter``, unless all are loaded anyway.

    Raises:
        ValueError: ``unload_col`` leaves it out.
    """
    left_out = (config["unload_col"] or {}).get("inter") or []
    if column in left_out:
        raise ValueError(f"unload_col leaves out the column {column!r}, but {why}; take it out of unload_col")
    load = config["load_col"]
    names = load.get("inter") if isinstance(load, dict) else None
    if names is None or names == "*" or column in names:
        return
    config["load_col"] = {**load, "inter": [*names, column]}
