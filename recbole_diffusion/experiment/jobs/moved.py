"""Paths that a comparison or a tuning has written down, found again after its folder or the whole project has moved."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_diffusion.experiment.jobs.fingerprint import PATHS


def found_again(path: str, before: str, now: Path, inside: str = "") -> str:
    """The path as it was; where it is not there, what lies now where it lay from the folder, if that is there.

    Args:
        path: absolute; other words stay as they are.
        before: the folder when the path was written down.
        now: the folder.
        inside: what the path is to hold, e.g. a data set's folder.
    """
    if not os.path.isabs(path):  # the word for the data that RecBole brings along
        return path
    moved = os.path.normpath(os.path.join(now, os.path.relpath(path, before)))
    there = [each for each in (path, moved) if os.path.exists(os.path.join(each, inside) if inside else each)]
    return there[0] if there else path


def settings_again(settings: Mapping[str, Any], before: str, now: Path, dataset: str = "") -> dict[str, Any]:
    """Settings with their paths found again; ``data_path`` is to hold the folder ``dataset``."""
    found = dict(settings)
    for key, value in settings.items():
        if key in PATHS and isinstance(value, str) and value:
            found[key] = found_again(value, before, now, dataset if key == "data_path" else "")
    return found
