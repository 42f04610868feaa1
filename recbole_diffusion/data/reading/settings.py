"""What the settings say about atomic files: which must be there, which columns are loaded, what needs the times."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from recbole.data.dataset import KnowledgeBasedDataset

from recbole_diffusion.data.reading.text import fault

#: The keys that name columns of each kind of file: these columns are loaded whatever ``load_col`` says.
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


def ids_of(config: Any, kind: str) -> dict[str, str]:
    """The columns of names that a file of a kind must have, each with the key that names it."""
    return {config[key]: key for key in ID_KEYS.get(kind, ()) if config[key] is not None}


def separator_of(config: Any, key: str) -> str:
    """``field_separator`` or ``seq_separator``.

    Raises:
        ValueError: it is no text, or empty.
    """
    separator = config[key]
    if not isinstance(separator, str) or not separator:
        raise ValueError(f"{key}={separator!r} is not allowed; allowed: a text of one character or more")
    return separator


def columns_asked(config: Any, kind: str) -> tuple[Optional[set[str]], Optional[set[str]]]:
    """``load_col`` and ``unload_col`` for a kind of file: None for all columns and for none.

    Raises:
        ValueError: one is no list of columns, or both are set.
    """
    to_load, to_leave = config["load_col"], config["unload_col"] or {}
    load = None if to_load is None else _names("load_col", kind, to_load.get(kind, []))
    unload = _names("unload_col", kind, to_leave[kind]) if kind in to_leave else None
    if load and unload:
        raise ValueError(
            f"load_col.{kind} and unload_col.{kind} are both set; set load_col: null to load all but these"
        )
    return load, unload


def _names(key: str, kind: str, value: Any) -> Optional[set[str]]:
    if isinstance(value, str) and value == "*" and key == "load_col":
        return None
    if not isinstance(value, (list, tuple, set)) or not all(isinstance(name, str) for name in value):
        allowed = "a list of columns" + (" or '*'" if key == "load_col" else "")
        raise ValueError(f"{key}.{kind}={value!r} is not allowed; allowed: {allowed}")
    return set(value)


def is_read(config: Any, kind: str) -> bool:
    """Whether a file of this kind is read at all."""
    load = columns_asked(config, kind)[0]
    return kind in _ALWAYS_READ or load is None or len(load) > 0


def of_defaults(config: Any, kind: str) -> set[str]:
    """The columns that RecBole's defaults load: nobody asked for them, and a file may lack them."""
    defaults = getattr(config, "internal_config_dict", {}).get("load_col") or {}
    columns = defaults.get(kind) or ()
    return set() if isinstance(columns, str) else set(columns)


def check_files(config: Any, dataset: Any, folder: str) -> None:
    """Whether the files that the settings name are there.

    Raises:
        ValueError: names the one that is not, what is there, and the way out.
    """
    user, item = config["USER_ID_FIELD"], config["ITEM_ID_FIELD"]
    if user is not None and user == item:
        raise ValueError(f"USER_ID_FIELD and ITEM_ID_FIELD are both {user!r}; set each to its own column")
    name, parts = config["dataset"], config["benchmark_filename"]
    for part in parts or [None]:
        file = f"{name}.inter" if part is None else f"{name}.{part}.inter"
        _check_file(Path(folder) / file, _way_to_inter(Path(folder), name, part))
    for kind in _kinds_asked(config, dataset):
        instead = _KIND_WAYS.get(kind, f"take {kind} out of additional_feat_suffix")
        _check_file(Path(folder) / f"{name}.{kind}", f"put it there, or {instead}")


_KIND_WAYS = {
    "user": "take user out of load_col",
    "item": "take item out of load_col",
    "kg": "take a model that reads no knowledge graph",
    "link": "take a model that reads no knowledge graph",
}


def _kinds_asked(config: Any, dataset: Any) -> list[str]:
    """The kinds of files other than .inter that somebody asked for."""
    load = config["load_col"] or {}
    defaults = getattr(config, "internal_config_dict", {}).get("load_col") or {}
    kinds = [kind for kind in ("user", "item") if load.get(kind) and load[kind] != defaults.get(kind)]
    kinds += list(config["additional_feat_suffix"] or ())
    return kinds + (["kg", "link"] if isinstance(dataset, KnowledgeBasedDataset) else [])


def _check_file(file: Path, way_out: str) -> None:
    if file.is_dir():
        raise fault(str(file), "is a folder; put the file itself there")
    if not file.is_file():
        names = sorted(other.name for other in file.parent.iterdir())
        listed = f" (there: {', '.join(names[:12])}{', …' if len(names) > 12 else ''})" if names else ""
        raise fault(str(file), f"is not there{listed}; {way_out}")


def _way_to_inter(folder: Path, name: str, part: Optional[str]) -> str:
    if part is not None:
        return "set benchmark_filename to the parts that are there"
    middles = [file.name[len(name) + 1 : -len(".inter")] for file in sorted(folder.glob(f"{name}.*.inter"))]
    if middles:
        ordered = sorted(middles, key=lambda part: _PARTS.index(part) if part in _PARTS else len(_PARTS))
        return f"set benchmark_filename: [{', '.join(ordered)}] to read files that are split"
    if any(folder.glob(f"{name}.inter.*")):
        return f"unpack it to {name}.inter"
    others = sorted(file.stem for file in folder.glob("*.inter"))
    return f"rename {others[0]}.inter to {name}.inter" if others else f"put {name}.inter there"
