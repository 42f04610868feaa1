"""The facts of a finished run: its checkpoint, and the files of its folder where that still exists."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np

from recbole_diffusion.evaluation.per_user import UserMetrics
from recbole_diffusion.settings.config import settings_of
from recbole_diffusion.support import json_files
from recbole_diffusion.training import checkpoint


class RunFacts(NamedTuple):
    """The facts of a run.

    Attributes:
        file: the checkpoint.
        settings: plain settings by key.
        state: the other entries of the checkpoint: ``data``, ``epochs_done``, ``best_valid_result``.
        folder: the run's folder; None if it is gone.
        manifest: content of manifest.json; empty if it is gone.
        metrics: content of metrics.json; empty if it is gone.
        per_user: test metrics per user; None if they were not written.
    """

    file: Path
    settings: dict[str, Any]
    state: dict[str, Any]
    folder: Optional[Path]
    manifest: dict[str, Any]
    metrics: dict[str, Any]
    per_user: Optional[UserMetrics]


def read(file: Path, trust: bool = False) -> RunFacts:
    """Read the facts of a run.

    Args:
        file: its checkpoint.
        trust: unpickle any object in it.

    Raises:
        ValueError: it is no checkpoint of a run, or a file of the run's folder is damaged.
    """
    state = checkpoint.read(file, trust)
    settings = settings_of(state, f"checkpoint {str(file)!r}")
    folder = next(_folders(file, settings), None)
    if folder is None:
        return RunFacts(file, settings, state, None, {}, {}, None)
    manifest = _json(folder / "manifest.json")
    checksums = manifest.get("files")
    for name in ("metrics.json", "per_user.csv"):
        if (folder / name).is_file():
            _check(folder / name, checksums)
    return RunFacts(
        file,
        settings,
        state,
        folder,
        manifest,
        _json(folder / "metrics.json"),
        _per_user(folder / "per_user.csv"),
    )


def _folders(file: Path, settings: dict[str, Any]) -> Iterator[Path]:
    """Folders that may be the run's: beside the link to the checkpoint, or of the checkpoint's name."""
    name = file.resolve().stem
    name = name[: -len("-last")] if name.endswith("-last") else name
    outputs = Path(settings.get("output_dir") or "outputs")
    candidates = [file.absolute().parent, outputs / name, file.resolve().parent.parent / outputs.name / name]
    return (folder for folder in candidates if (folder / "manifest.json").is_file())


def _check(file: Path, checksums: Any) -> None:
    """Compare a file of the run with its checksum.

    Raises:
        ValueError: they differ; one line with the file.
    """
    try:
        json_files.check(file, checksums)
    except ValueError as error:
        raise ValueError(
            f"folder {str(file.parent)!r}: {error}; restore the file, or remove it to do without"
        ) from None


def _json(file: Path) -> dict[str, Any]:
    """The mapping in a json file of the run; empty if it is missing.

    Raises:
        ValueError: it is damaged; one line with the file.
    """
    try:
        return json_files.read(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise _damaged(file, error) from error


def _damaged(file: Path, error: Exception) -> ValueError:
    return ValueError(
        f"folder {str(file.parent)!r}: {file.name} is damaged or cannot be read ({error}); restore the file, or "
        "remove it to do without"
    )


def _per_user(file: Path) -> Optional[UserMetrics]:
    """The metrics per user in a csv file; None without the file, or without users.

    Raises:
        ValueError: it is damaged; one line with the file.
    """
    if not file.is_file():
        return None
    try:
        with open(file, encoding="utf-8", newline="") as stream:
            title, *rows = csv.reader(stream)
        if any(len(row) != len(title) for row in rows):
            raise ValueError("a row is shorter or longer than the first one")
        columns = list(zip(*rows))
        values = {name: np.array(column, dtype=np.float64) for name, column in zip(title[1:], columns[1:])}
    except (OSError, ValueError, csv.Error) as error:
        raise _damaged(file, error) from error
    return UserMetrics(np.array(columns[0], dtype=str), values) if columns else None
