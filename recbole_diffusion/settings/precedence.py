"""Precedence of the sources of settings, the same for ``run``, ``compare`` and ``tune``.

From weakest to strongest: defaults, ``preset``, config files (later ones win), the file of one model
(``NAME@FILE.yaml``), ``--key=value``, ``--MODEL.key=value``. Where two sources differ, a note names the value in use.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, Optional

#: The name of the source that overrides files: ``--key=value``, in Python ``settings`` or ``config_dict``.
GIVEN = "command line or settings"


class Source(NamedTuple):
    """Settings of one source.

    Attributes:
        name: of the source, e.g. a file's name.
        values: the settings by key.
    """

    name: str
    values: Mapping[str, Any]


def merge(sources: Sequence[Source]) -> dict[str, Any]:
    """Merge the settings of all sources; later ones win."""
    return {key: value for source in sources for key, value in source.values.items()}


def notes(sources: Sequence[Source], keys: Optional[Collection[str]] = None) -> list[str]:
    """Describe each key on which sources differ: the value in use, and the overridden ones.

    Args:
        sources: in the order of :func:`merge`.
        keys: the keys to compare; None for all.

    Returns:
        One line for each such key.
    """
    lines: list[str] = []
    for key in merge(sources):
        candidates = [(source.values[key], source.name) for source in sources if key in source.values]
        value, name = candidates[-1]
        overridden = [f"{_short(weaker)} ({origin})" for weaker, origin in candidates[:-1] if weaker != value]
        if overridden and (keys is None or key in keys):
            lines.append(f"{key}={_short(value)} ({name}) is used, not {', '.join(overridden)}")
    return lines


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
