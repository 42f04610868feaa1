"""The settings that concern atomic files: the files that must exist, the columns to load, the separators."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from recbole.data.dataset import KnowledgeBasedDataset

from recbole_diffusion.data.reading.text import fault

#: The settings that name the id columns of each kind of file. These columns are loaded whatever ``load_col`` says.
ID_KEYS: Mapping[str, tuple[str, ...]] = {
    "inter": ("USER_ID_FIELD", "ITEM_ID_FIELD"),
    "user": ("USER_ID_FIELD",),
    "item": ("ITEM_ID_FIELD",),
    "kg": ("HEAD_ENTITY_ID_FIELD", "RELATION_ID_FIELD", "TAIL_ENTITY_ID_FIELD"),
    "link": ("ITEM_ID_FIELD", "ENTITY_ID_FIELD"),
}
#: Files that are read whether or not ``load_col`` names their kind.
_ALWAYS_READ = frozenset({"inter", "kg", "link"})
_PARTS = ("train", "valid", "validation", "dev", "test")


def id_columns(config: Any, kind: str) -> dict[str, str]:
    """The id columns that a file of this kind must have, each with the setting that names it."""
    return {config[key]: key for key in ID_KEYS.get(kind, ()) if config[key] is not None}


def separator_of(config: Any, key: str) -> str:
    """The value of ``field_separator`` or ``seq_separator``.

    Raises:
        ValueError: it is not a string, or empty.
    """
    separator = config[key]
    if not isinstance(separator, str) or not separator:
        raise ValueError(f"{key}={separator!r} is not allowed; allowed: a text of one character or more")
    return separator


def requested_columns(config: Any, kind: str) -> tuple[Optional[set[str]], Optional[set[str]]]:
    """The columns of ``load_col`` and of ``unload_col`` for a kind of file.

    Returns:
        The names to load, None for all; the names to leave out, None for none.

    Raises:
        ValueError: one is not a list of columns, or both are set.
    """
    load_col, unload_col = config["load_col"], config["unload_col"] or {}
    load = None if load_col is None else _column_names("load_col", kind, load_col.get(kind, []))
    unload = _column_names("unload_col", kind, unload_col[kind]) if kind in unload_col else None
    if load and unload:
        raise ValueError(
            f"load_col.{kind} and unload_col.{kind} are both set; set load_col: null to load all but these"
        )
    return load, unload


def _column_names(key: str, kind: str, value: Any) -> Optional[set[str]]:
    if isinstance(value, str) and value == "*" and key == "load_col":
        return None
    if not isinstance(value, (list, tuple, set)) or not all(isinstance(name, str) for name in value):
        allowed = "a list of columns" + (" or '*'" if key == "load_col" else "")
        raise ValueError(f"{key}.{kind}={value!r} is not allowed; allowed: {allowed}")
    return set(value)


def is_read(config: Any, kind: str) -> bool:
    """Whether files of this kind are read."""
    load = requested_columns(config, kind)[0]
    return kind in _ALWAYS_READ or load is None or len(load) > 0


def default_columns(config: Any, kind: str) -> set[str]:
    """The columns in RecBole's default ``load_col``, which a file may lack."""
    defaults = getattr(config, "internal_config_dict", {}).get("load_col") or {}
    columns = defaults.get(kind) or ()
    return set() if isinstance(columns, str) else set(columns)


def check_files(config: Any, dataset: Any, folder: str) -> None:
    """Check that the files that the settings need exist.

    Raises:
        ValueError: one does not; the message names it, the files that exist, and the way out.
    """
    user, item = config["USER_ID_FIELD"], config["ITEM_ID_FIELD"]
    if user is not None and user == item:
        raise ValueError(f"USER_ID_FIELD and ITEM_ID_FIELD are both {user!r}; set each to its own column")
    name, parts = config["dataset"], config["benchmark_filename"]
    for part in parts or [None]:
        file = f"{name}.inter" if part is None else f"{name}.{part}.inter"
        _check_file(Path(folder) / file, _way_to_inter(Path(folder), name, part))
    for kind in _requested_kinds(config, dataset):
        alternative = _ALTERNATIVES.get(kind, f"take {kind} out of additional_feat_suffix")
        _check_file(Path(folder) / f"{name}.{kind}", f"put it there, or {alternative}")


#: How to do without a file, by its kind.
_ALTERNATIVES = {
    "user": "take user out of load_col",
    "item": "take item out of load_col",
    "kg": "take a model that reads no knowledge graph",
    "link": "take a model that reads no knowledge graph",
}


def _requested_kinds(config: Any, dataset: Any) -> list[str]:
    """The kinds of files other than ``.inter`` that the user's settings or the model need."""
    load = config["load_col"] or {}
    defaults = getattr(config, "internal_config_dict", {}).get("load_col") or {}
    kinds = [kind for kind in ("user", "item") if load.get(kind) and load[kind] != defaults.get(kind)]
    kinds += list(config["additional_feat_suffix"] or ())
    return kinds + (["kg", "link"] if isinstance(dataset, KnowledgeBasedDataset) else [])


def _check_file(file: Path, way_out: str) -> None:
    if file.is_dir():
        raise fault(str(file), "is a folder; put the file itself there")
    if not file.is_file():
        names = sorted(path.name for path in file.parent.iterdir())
        listed = f" (there: {', '.join(names[:12])}{', …' if len(names) > 12 else ''})" if names else ""
        raise fault(str(file), f"is not there{listed}; {way_out}")


def _way_to_inter(folder: Path, name: str, part: Optional[str]) -> str:
    """The way out if ``<name>.inter`` or the pre-split file ``<name>.<part>.inter`` does not exist."""
    if part is not None:
        return "set benchmark_filename to the parts that are there"
    middles = [file.name[len(name) + 1 : -len(".inter")] for file in sorted(folder.glob(f"{name}.*.inter"))]
    if middles:
        ordered = sorted(middles, key=lambda part: _PARTS.index(part) if part in _PARTS else len(_PARTS))
        return f"set benchmark_filename: [{', '.join(ordered)}] to read files that are split"
    if any(folder.glob(f"{name}.inter.*")):
        return f"unpack it to {name}.inter"
    stems = sorted(file.stem for file in folder.glob("*.inter"))
    return f"rename {stems[0]}.inter to {name}.inter" if stems else f"put {name}.inter there"
