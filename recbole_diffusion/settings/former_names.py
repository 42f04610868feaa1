"""Former names of keys: ``; formerly infer_steps`` at the end of a key's comment makes the old name an alias.

A key of the same meaning has one name in all models. Configuration files, checkpoints and scripts with the old names
keep working.
"""

from __future__ import annotations

import re
from pathlib import Path

from recbole_diffusion.settings import schema
from recbole_diffusion.settings.precedence import Source

_FORMERLY = re.compile(r"; formerly (?P<names>[\w-]+(?:, [\w-]+)*)$")


def current_names(file: Path) -> dict[str, str]:
    """The current name of each former name of the keys in a model's yaml file."""
    names: dict[str, str] = {}
    for key, entry in schema.read_keys(file).items() if file.is_file() else ():
        match = _FORMERLY.search(entry.meaning)
        if match:
            names.update(dict.fromkeys(match["names"].split(", "), key))
    return names


def with_current_names(source: Source, names: dict[str, str]) -> Source:
    """Rename the former keys of a source.

    Args:
        source: the settings.
        names: what :func:`current_names` returned.

    Raises:
        ValueError: a key is set by both names, with different values.
    """
    values = dict(source.values)
    for old in [key for key in values if key in names]:
        new, value = names[old], values.pop(old)
        if values.get(new, value) != value:
            raise ValueError(f"{new}={values[new]!r} and {old}={value!r} are one setting; give {new} alone")
        values[new] = value
    return Source(source.name, values)
