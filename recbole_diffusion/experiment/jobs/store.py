"""Where a comparison keeps what has been run: one json file per cell, written whole or not at all.

A cell is one training: a model with its settings, a data set, a seed. Its key is a hash of everything that its numbers
depend on, so that a file that is there is never made again and one that was made by other code is not taken for it.

::

    FOLDER/comparison.json     what was asked: models, data sets, seeds, metrics, budget, environment
    FOLDER/cells/KEY.json      one finished cell: settings, results, cost, epochs
    FOLDER/cells/KEY.npz       its test metrics per user, where it has any
    FOLDER/failed/KEY.json     one cell that failed, with its reason; it is tried again by ``--resume``
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
from filelock import FileLock, Timeout

from recbole_diffusion.evaluation.per_user import UserMetrics
from recbole_diffusion.settings import scopes
from recbole_diffusion.support.atomic_write import atomic_write, atomic_write_text, sweep
from recbole_diffusion.support.json_values import nan_to_null

FORMAT = 2


@dataclass(frozen=True)
class Cell:
    """One training.

    Attributes:
        label: the model's name in tables, e.g. ``DDRM:BPR``.
        model: what :func:`recbole_diffusion.run` takes.
        dataset: the data set's name.
        seed: of the training; the split has a seed of its own.
        settings: ``config_dict`` of the run, as plain values; paths are absolute.
        trial: the number of a trial of the tuning, which sees the validation split only; None for a run that is tested.
        basis: what else the numbers depend on: hashes of the data and of the code.
    """

    label: str
    model: str
    dataset: str
    seed: int
    settings: dict[str, Any]
    trial: Optional[int] = None
    basis: dict[str, str] = field(default_factory=dict)

    #: Settings that change no number.
    NO_EFFECT = scopes.without_effect()
    #: Settings that may name a file: its content is in ``basis``, and where it lies changes no number.
    OF_FILES = scopes.keys(scopes.Scope.CONTENT)

    @property
    def key(self) -> str:
        """The cell's hash, 20 hexadecimal digits. Its label is not part of it, nor is where its files lie."""
        content = asdict(self)
        del content["label"]
        content["settings"] = {
            key: Path(value).name if key in self.OF_FILES and isinstance(value, str) else value
            for key, value in self.settings.items()
            if key not in self.NO_EFFECT
        }
        text = json.dumps(content, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:20]


class Store:
    """A comparison's folder.

    Args:
        folder: made where it is not there.
        new: False: it is to be there.

    Raises:
        ValueError: it is no folder, or with ``new=False`` not there.
    """

    def __init__(self, folder: Union[str, Path], new: bool = True) -> None:
        self.folder = Path(folder).absolute()
        if not self.folder.is_dir() and (self.folder.exists() or not new):
            raise ValueError(f"{str(folder)!r} is not the folder of a comparison: {_why_not(self.folder)}")

    def plan(self) -> dict[str, Any]:
        """What was asked: ``comparison.json``.

        Raises:
            ValueError: it is not there, or of another format.
        """
        file = self.folder / "comparison.json"
        try:
            plan: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"{str(self.folder)!r} is not the folder of a comparison: {error}") from error
        if plan.get("format") != FORMAT:
            raise ValueError(f"{str(file)!r} has format {plan.get('format')!r}; this version reads {FORMAT}")
        return plan

    def write_plan(self, plan: dict[str, Any]) -> None:
        """Write ``comparison.json``."""
        _write(self.folder / "comparison.json", {"format": FORMAT, **plan})

    def cell(self, key: str) -> Optional[dict[str, Any]]:
        """The record of a finished cell; None where there is none, or where its file is damaged."""
        return _read(self.folder / "cells" / f"{key}.json")

    def failure(self, key: str) -> Optional[dict[str, Any]]:
        """The record of a failed cell, None where there is none."""
        return _read(self.folder / "failed" / f"{key}.json")

    def users(self, key: str) -> Optional[UserMetrics]:
        """The test metrics per user of a finished cell; None where it has none."""
        file = self.folder / "cells" / f"{key}.npz"
        if not file.is_file():
            return None
        with np.load(file, allow_pickle=False) as arrays:
            values = arrays["values"]
            return UserMetrics(arrays["users"], dict(zip(map(str, arrays["names"]), values.T.astype(np.float64))))

    def finish(self, key: str, record: dict[str, Any], users: Optional[UserMetrics] = None) -> None:
        """Keep a cell: its users first, its record last, so that a record that is there is whole."""
        if users is not None:
            (self.folder / "cells").mkdir(parents=True, exist_ok=True)
            atomic_write(self.folder / "cells" / f"{key}.npz", lambda file: _write_users(file, users))
        _write(self.folder / "cells" / f"{key}.json", record)
        (self.folder / "failed" / f"{key}.json").unlink(missing_ok=True)

    def fail(self, key: str, record: dict[str, Any]) -> None:
        """Keep the reason of a failure."""
        _write(self.folder / "failed" / f"{key}.json", record)


def _why_not(folder: Path) -> str:
    return "it is a file" if folder.exists() else "it is not there"


def _write_users(file: Any, users: UserMetrics) -> None:
    names = list(users.metrics)
    values = np.stack([users.metrics[name] for name in names], axis=1) if names else np.empty((len(users.users), 0))
    np.savez_compressed(file, users=users.users, names=np.array(names), values=values)


def _write(file: Path, content: dict[str, Any]) -> None:
    text = json.dumps(nan_to_null(content), indent=1, default=str) + "\n"
    file.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(file, text)


def _read(file: Path) -> Optional[dict[str, Any]]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there; or damaged by hand, since our files are whole
        return None
    return found if isinstance(found, dict) else None


@contextlib.contextmanager
def exclusive_lock(folder: Path, what: str) -> Iterator[None]:
    """Create ``folder`` if needed and hold an exclusive lock on it.

    Removes what a process that was killed has left in it. A folder that was made for nothing, since the block was left
    by an error before anything was written, is removed again.

    Args:
        folder: of the comparison or tuning.
        what: is kept there: ``comparison`` or ``tuning``.

    Raises:
        ValueError: another process works there.
    """
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(str(folder / ".lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(f"another {what} is at work in {str(folder)!r}; wait for it or take another") from None
    try:
        for name in ("work", "ray"):
            shutil.rmtree(folder / name, ignore_errors=True)
        sweep(folder, recursive=True)
        yield
    except ValueError:
        if new and not any((folder / name).exists() for name in ("comparison.json", "tune.json", "cells", "failed")):
            shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        lock.release()
