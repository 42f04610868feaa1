"""Former names of keys: ``; formerly infer_steps`` at the end of a comment lets the old name stand for the new one.

The same thing has one name in all models. Configuration files, checkpoints and scripts with the old names keep working.
"""

from __future__ import annotations

import re
from pathlib import Path

from recbole_diffusion.settings import schema
from recbole_diffusion.settings.precedence import Source

_FORMERLY = re.compile(r"; formerly (?P<names>[\w-]+(?:, [\w-]+)*)$")


def current_names(file: Path) -> dict[str, str]:
    """Today's name of each former one, of the keys in a model's yaml file."""
    names: dict[str, str] = {}
    for key, entry in schema.read_keys(file).items() if file.is_file() else ():
        match = _FORMERLY.search(entry.meaning)
        if match:
            names.update(dict.fromkeys(match["names"].split(", "), key))
    return names


def with_current_names(source: Source, names: dict[str, str]) -> Source:
    """The settings of a source by today's names.

    Raises:
        ValueError: it has a key by both names, with different values.
    """
    values = dict(source.values)
    for old in [key for key in values if key in names]:
        new, value = names[old], values.pop(old)
        if values.get(new, value) != value:
            raise ValueError(f"{new}={values[new]!r} and {old}={value!r} are one setting; give {new} alone")
        values[new] = value
    return Source(source.name, values)
