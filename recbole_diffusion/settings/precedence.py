"""Where a setting comes from, where several sources have it. One rule for ``run``, ``compare`` and ``tune``.

defaults < ``preset`` < config files, the later ones win < the file of one model, ``NAME@FILE.yaml`` < ``--key=value`` <
``--MODEL.key=value``. Where two sources differ, a note says which value is used.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, Optional

#: The name of the source that wins over files: ``--key=value``, in Python ``settings`` or ``config_dict``.
GIVEN = "command line or settings"


class Source(NamedTuple):
    """Settings and where they are from, e.g. a file's name."""

    name: str
    values: Mapping[str, Any]


def merge(sources: Sequence[Source]) -> dict[str, Any]:
    """The settings of all sources; later ones win."""
    return {key: value for source in sources for key, value in source.values.items()}


def notes(sources: Sequence[Source], keys: Optional[Collection[str]] = None) -> list[str]:
    """One line for each key that sources differ in: the value that is used, and those that are not.

    Args:
        sources: in the order of :func:`merge`.
        keys: those to look at; None: all.
    """
    found: list[str] = []
    for key in merge(sources):
        of_key = [(source.values[key], source.name) for source in sources if key in source.values]
        value, name = of_key[-1]
        others = [f"{_short(other)} ({whose})" for other, whose in of_key[:-1] if other != value]
        if others and (keys is None or key in keys):
            found.append(f"{key}={_short(value)} ({name}) is used, not {', '.join(others)}")
    return found


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
