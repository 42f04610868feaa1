"""The header of an atomic file: ``name:type`` for each column, and the selection of the columns to load."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, Optional

from recbole_diffusion.data.reading.text import fault, shown
from recbole_diffusion.settings.schema import nearest

TYPES = ("token", "token_seq", "float", "float_seq")
#: The type to use for a name that is none of them.
_SUGGESTIONS = {
    **dict.fromkeys(("int", "int32", "int64", "integer", "long"), "token for ids, float for numbers"),
    **dict.fromkeys(("double", "float32", "float64", "number", "numeric", "real"), "float"),
    **dict.fromkeys(("str", "string", "object", "category", "id", "text", "bool", "boolean"), "token"),
    **dict.fromkeys(("date", "datetime", "time", "timestamp"), "float (or token) for times, ISO dates included"),
    **dict.fromkeys(("list", "seq", "array", "token_list", "tokens"), "token_seq"),
}
_SEPARATORS = ("\t", ",", ";", "|", "::", " ")
_TYPED = re.compile(r"[^:\s\"']+:[A-Za-z_0-9]+")


class Column(NamedTuple):
    """A column of an atomic file.

    Attributes:
        name: RecBole's name of the field.
        type: ``token``, ``token_seq``, ``float`` or ``float_seq``.
        place: its index in the line, from 0.
    """

    name: str
    type: str
    place: int


def parse(path: str, head: str, separator: str, number_fields: Collection[str] = ()) -> list[Column]:
    """Parse the header into columns.

    Args:
        path: the file, for messages.
        head: its first line.
        separator: RecBole's ``field_separator``.
        number_fields: fields of type ``float`` in the header that an error message proposes.

    Raises:
        ValueError: a fault of the line; the message shows how it should look.
    """
    if not head.strip():
        example = _example(["user_id", "item_id"], separator, number_fields)
        raise fault(path, f"blank; it must name the columns, as in {example}", 1)
    entries = head.split(separator)
    if not all(_TYPED.fullmatch(entry) for entry in entries):
        _check_separator(path, head, separator)
        if ":" not in head:
            raise _no_types(path, head, separator, number_fields)
    columns = [_parse_column(path, entry, place, separator, len(entries)) for place, entry in enumerate(entries)]
    names = [column.name for column in columns]
    for name in names:
        if names.count(name) > 1:
            raise fault(path, f"names the column {name!r} {names.count(name)} times; give each a name of its own", 1)
    return columns


def _check_separator(path: str, head: str, separator: str) -> None:
    """Check that the header is not quoted and does not use another separator.

    Raises:
        ValueError: it is, or does.
    """
    if re.search(r"(^|[\s,;|])[\"']", head):
        raise fault(
            path, f"{shown(head, 120)} is in quotes; atomic files have none: write names, types and values without", 1
        )
    for candidate in (mark for mark in _SEPARATORS if mark != separator):
        entries = head.split(candidate)
        if len(entries) > 1 and all(_TYPED.fullmatch(entry) for entry in entries):
            raise fault(
                path,
                f"the columns of {shown(head, 120)} are separated by {candidate!r} and not by "
                f"field_separator={separator!r}; set field_separator: {_yaml(candidate)}",
                1,
            )


def _no_types(path: str, head: str, separator: str, number_fields: Collection[str]) -> ValueError:
    """The error about a header without types; it proposes one with types."""
    likely = max((separator, *_SEPARATORS), key=lambda mark: len(head.split(mark)))
    entries = [entry.strip() for entry in head.split(likely) if entry.strip()]
    also = "" if likely == separator else f" and set field_separator: {_yaml(likely)}"
    hint = " (is the line of names missing?)" if any(re.fullmatch(r"[\d.]+", entry) for entry in entries) else ""
    names = [entry if re.fullmatch(r"[^\W\d]\w*", entry) else f"column_{place}" for place, entry in enumerate(entries)]
    names = ["user_id", "item_id"] if hint else names
    return fault(
        path,
        f"{shown(head, 120)} holds no types{hint}; write name:type for each column, as in "
        f"{_example(names, likely, number_fields)}{also}; types: {' | '.join(TYPES)}",
        1,
    )


def _parse_column(path: str, entry: str, place: int, separator: str, count: int) -> Column:
    """Parse one ``name:type``, the entry number ``place`` of ``count``."""
    where = f"column {place + 1} of {count}"
    if not entry.strip():
        raise fault(path, f"{where} has no name; name it, or take out the separator {separator!r} too many", 1)
    if entry != entry.strip() or re.search(r"\s:|:\s", entry):
        raise fault(path, f"{where} is {shown(entry)}; take out the spaces around it", 1)
    name, colon, kind = entry.partition(":")
    if not name or not colon or not kind or ":" in kind:
        raise fault(path, f"{where} is {shown(entry)}; write name:type, types: {' | '.join(TYPES)}", 1)
    if kind not in TYPES:
        lower = kind.lower()
        suggestion = lower if lower in TYPES else _SUGGESTIONS.get(lower) or nearest(kind, TYPES)
        hint = f"; write {suggestion}" if suggestion else ""
        raise fault(path, f"the type {kind!r} is not known{hint}; allowed: {' | '.join(TYPES)}", 1, name)
    return Column(name, kind, place)


def _example(names: Iterable[str], separator: str, number_fields: Collection[str]) -> str:
    return repr(separator.join(f"{name}:{'float' if name in number_fields else 'token'}" for name in names))


def _yaml(separator: str) -> str:
    """The separator as a value in yaml."""
    return '"\\t"' if separator == "\t" else f"{separator!r}"


def choose(
    path: str,
    columns: Sequence[Column],
    kind: str,
    load: Optional[Collection[str]],
    unload: Optional[Collection[str]],
    needed_by: Mapping[str, str],
    optional: Collection[str],
) -> list[Column]:
    """Select the columns to load, in the file's order.

    Args:
        path: the file, for messages.
        columns: all its columns.
        kind: its suffix without the dot, the key in ``load_col``.
        load: the names to load; None for all.
        unload: the names to leave out; None for none.
        needed_by: columns that are loaded whatever ``load`` says, each with the setting or model that needs it.
        optional: names in ``load`` that the file may lack: RecBole's defaults, which the user did not request.

    Raises:
        ValueError: the file lacks a requested column, or ``unload_col`` leaves out a needed one.
    """
    names = [column.name for column in columns]
    requested = {"load_col": {*(load or ())} - {*optional} - {*needed_by}, "unload_col": {*(unload or ())}}
    for key, requested_names in requested.items():
        for name in sorted(requested_names - {*names}):
            near = nearest(name, names)
            hint = f" (did you mean {near}?)" if near else ""
            raise fault(
                path, f"has no column {name!r}, which {key}.{kind} names{hint}; its columns: {', '.join(names)}"
            )
    for name in sorted(requested["unload_col"] & {*needed_by}):
        raise ValueError(
            f"unload_col.{kind} leaves out {name!r}, which {needed_by[name]} needs; take it out of unload_col"
        )
    selected = [name for name in names if (load is None or name in load) and name not in requested["unload_col"]]
    return [column for column in columns if column.name in needed_by or column.name in selected]
