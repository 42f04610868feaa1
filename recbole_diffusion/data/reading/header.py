"""The first line of an atomic file: ``name:type`` for each column, and which of them are loaded."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, Optional

from recbole_diffusion.data.reading.text import fault, shown
from recbole_diffusion.settings.schema import nearest

TYPES = ("token", "token_seq", "float", "float_seq")
#: What people write in their place.
_MEANT = {
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
        name: what RecBole calls the field.
        type: ``token``, ``token_seq``, ``float`` or ``float_seq``.
        place: its number in the line, from 0.
    """

    name: str
    type: str
    place: int


def parse(path: str, head: str, separator: str, numbers: Collection[str] = ()) -> list[Column]:
    """The columns that the first line names.

    Args:
        path: the file, for messages.
        head: its first line.
        separator: RecBole's ``field_separator``.
        numbers: fields that hold numbers, for the line that a message proposes.

    Raises:
        ValueError: what is wrong with the line, and how it should look.
    """
    if not head.strip():
        raise fault(
            path, f"blank; it must name the columns, as in {_example(['user_id', 'item_id'], separator, numbers)}", 1
        )
    parts = head.split(separator)
    if not all(_TYPED.fullmatch(part) for part in parts):
        _check_separator(path, head, separator, numbers)
    columns = [_column(path, part, place, separator, parts) for place, part in enumerate(parts)]
    names = [column.name for column in columns]
    for name in names:
        if names.count(name) > 1:
            raise fault(path, f"names the column {name!r} {names.count(name)} times; give each a name of its own", 1)
    return columns


def _check_separator(path: str, head: str, separator: str, numbers: Collection[str]) -> None:
    """Whether the line holds types at all, and is separated by something else."""
    if re.search(r"(^|[\s,;|])[\"']", head):
        raise fault(
            path, f"{shown(head, 120)} is in quotes; atomic files have none: write names, types and values without", 1
        )
    for other in (mark for mark in _SEPARATORS if mark != separator):
        parts = head.split(other)
        if len(parts) > 1 and all(_TYPED.fullmatch(part) for part in parts):
            raise fault(
                path,
                f"the columns of {shown(head, 120)} are separated by {other!r} and not by "
                f"field_separator={separator!r}; set field_separator: {_yaml(other)}",
                1,
            )
    if ":" in head:
        return
    most = max((separator, *_SEPARATORS), key=lambda mark: len(head.split(mark)))
    names = [name.strip() for name in head.split(most) if name.strip()]
    also = "" if most == separator else f" and set field_separator: {_yaml(most)}"
    hint = " (is the line of names missing?)" if any(re.fullmatch(r"[\d.]+", name) for name in names) else ""
    named = [name if re.fullmatch(r"[^\W\d]\w*", name) else f"column_{place}" for place, name in enumerate(names)]
    named = ["user_id", "item_id"] if hint else named
    raise fault(
        path,
        f"{shown(head, 120)} holds no types{hint}; write name:type for each column, as in "
        f"{_example(named, most, numbers)}{also}; types: {' | '.join(TYPES)}",
        1,
    )


def _column(path: str, part: str, place: int, separator: str, parts: Sequence[str]) -> Column:
    where = f"column {place + 1} of {len(parts)}"
    if not part.strip():
        raise fault(path, f"{where} has no name; name it, or take out the separator {separator!r} too many", 1)
    if part != part.strip() or re.search(r"\s:|:\s", part):
        raise fault(path, f"{where} is {shown(part)}; take out the spaces around it", 1)
    name, colon, kind = part.partition(":")
    if not name or not colon or not kind or ":" in kind:
        raise fault(path, f"{where} is {shown(part)}; write name:type, types: {' | '.join(TYPES)}", 1)
    if kind not in TYPES:
        meant = kind.lower() if kind.lower() in TYPES else _MEANT.get(kind.lower()) or nearest(kind, TYPES)
        hint = f"; write {meant}" if meant else ""
        raise fault(path, f"the type {kind!r} is not known{hint}; allowed: {' | '.join(TYPES)}", 1, name)
    return Column(name, kind, place)


def _example(names: Iterable[str], separator: str, numbers: Collection[str]) -> str:
    return repr(separator.join(f"{name}:{'float' if name in numbers else 'token'}" for name in names))


def _yaml(separator: str) -> str:
    return '"\\t"' if separator == "\t" else f"{separator!r}"


def choose(
    path: str,
    columns: Sequence[Column],
    kind: str,
    load: Optional[Collection[str]],
    unload: Optional[Collection[str]],
    needed: Mapping[str, str],
    tolerated: Collection[str],
) -> list[Column]:
    """The columns to load, in the file's order.

    Args:
        path: the file, for messages.
        columns: what it has.
        kind: its suffix without the dot, the key in ``load_col``.
        load: the names to load; None for all.
        unload: the names to leave out; None for none.
        needed: the names that are loaded whatever ``load`` says, each with what needs it.
        tolerated: names in ``load`` that the file need not have: nobody asked for RecBole's defaults.

    Raises:
        ValueError: a name that the file does not have, or a needed column that ``unload_col`` leaves out.
    """
    names = [column.name for column in columns]
    asked = {"load_col": {*(load or ())} - {*tolerated} - {*needed}, "unload_col": {*(unload or ())}}
    for key, wanted in asked.items():
        for name in sorted(wanted - {*names}):
            near = nearest(name, names)
            hint = f" (did you mean {near}?)" if near else ""
            raise fault(
                path, f"has no column {name!r}, which {key}.{kind} names{hint}; its columns: {', '.join(names)}"
            )
    for name in sorted(asked["unload_col"] & {*needed}):
        raise ValueError(
            f"unload_col.{kind} leaves out {name!r}, which {needed[name]} needs; take it out of unload_col"
        )
    return [
        column
        for column in columns
        if column.name in needed or ((load is None or column.name in load) and column.name not in asked["unload_col"])
    ]
