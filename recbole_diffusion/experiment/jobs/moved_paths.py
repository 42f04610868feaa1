"""Find the paths that a comparison or a tuning has kept after its folder or the whole project was moved."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_diffusion.experiment.jobs.fingerprint import PATHS


def moved_path(path: str, before: str, now: Path, content: str = "") -> str:
    """Return ``path`` if it exists, else the path that has the same position relative to the folder, if that exists.

    Args:
        path: absolute; anything else is returned unchanged, e.g. the word for the data that come with RecBole.
        before: the folder when the path was written down.
        now: the folder.
        content: a name that the path must contain, e.g. a data set's folder.
    """
    if not os.path.isabs(path):
        return path
    moved = os.path.normpath(os.path.join(now, os.path.relpath(path, before)))
    for candidate in (path, moved):
        if os.path.exists(os.path.join(candidate, content) if content else candidate):
            return candidate
    return path


def moved_settings(settings: Mapping[str, Any], before: str, now: Path, dataset: str = "") -> dict[str, Any]:
    """Return settings with :func:`moved_path` applied to paths; ``data_path`` must contain the folder ``dataset``."""
    moved = dict(settings)
    for key, value in settings.items():
        if key in PATHS and isinstance(value, str) and value:
            moved[key] = moved_path(value, before, now, dataset if key == "data_path" else "")
    return moved
