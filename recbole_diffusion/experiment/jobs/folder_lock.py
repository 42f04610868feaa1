"""The lock of a comparison's, tuning's or study's folder: one command at a time, in a folder that is its own."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from recbole_diffusion.experiment.cluster import session_folder
from recbole_diffusion.support.atomic_write import sweep

#: Files by which a folder is known to be that of a comparison or tuning; the lock is the first one.
_LOCK, _MARKS = ".lock", (".lock", "comparison.json", "tune.json")


@contextlib.contextmanager
def exclusive_lock(folder: Path, kind: str) -> Iterator[None]:
    """Create ``folder`` if needed and hold an exclusive lock on it.

    Removes temporary files that a killed process has left in it, and what is left of a killed Ray session. If the block
    creates the folder and raises a ValueError before anything is written, the folder is removed again.

    Args:
        folder: of the comparison or tuning.
        kind: of its content, for the message: ``comparison`` or ``tuning``.

    Raises:
        ValueError: another process holds the lock, or the folder holds files of others.
    """
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    _check_own(folder)
    lock = FileLock(str(folder / _LOCK), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(f"another {kind} is at work in {str(folder)!r}; wait for it or take another folder") from None
    try:
        for name in ("work", "ray"):
            shutil.rmtree(folder / name, ignore_errors=True)
        sweep(folder, recursive=True)
        session_folder.remove_stale()
        yield
    except ValueError:
        if is_new and not any((folder / name).exists() for name in ("comparison.json", "tune.json", "runs", "failed")):
            shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        lock.release()


def _check_own(folder: Path) -> None:
    """Check that a folder is new, empty, or that of a comparison or tuning, whose folders in it are removed at times.

    Raises:
        ValueError: it holds files of others.
    """
    others = sorted(entry.name for entry in folder.iterdir())
    if others and not any((folder / name).exists() for name in _MARKS):
        listed = ", ".join(others[:3]) + (", …" if len(others) > 3 else "")
        raise ValueError(f"{str(folder)!r} holds files of others ({listed}); take a new or an empty folder")
