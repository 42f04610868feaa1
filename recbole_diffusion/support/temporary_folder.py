"""Temporary folders, named with the process's id and locked while it lives; those of killed processes are removed."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable, Optional

from recbole_diffusion.support.owners import has_ended

#: Beginning of the names of this package's temporary folders.
PREFIX = "recbole-diffusion-"
_LOCK = "in-use"
#: Seconds after which a folder without a lock file is one that was left before it got one.
_WITHOUT_LOCK_S = 3600


@contextlib.contextmanager
def temporary_folder(prefix: str = PREFIX, parent: Optional[Path] = None) -> Iterator[Path]:
    """Create a locked folder, named with this process's id, for a ``with`` block.

    Folders of the same prefix whose process was killed are removed first.

    Args:
        prefix: beginning of the name.
        parent: folder to create it in; None: the system's temporary folder.
    """
    parent = Path(tempfile.gettempdir()).absolute() if parent is None else parent
    remove_stale(parent, prefix)
    folder = Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-", dir=parent))
    try:
        with open(folder / _LOCK, "w") as lock:
            with contextlib.suppress(OSError):  # a file system without locks: the process's id decides
                fcntl.flock(lock, fcntl.LOCK_EX)  # one that looks whether it is locked holds it for a moment
            yield folder
    finally:
        _remove(folder)


def remove_stale(parent: Path, prefix: str = PREFIX, before: Callable[[Path], None] = lambda folder: None) -> None:
    """Remove the folders whose process was killed before it could remove them.

    Only this user's folders with names that :func:`temporary_folder` gives, and one without a lock file only when it is
    old: between its creation and that of its lock file the process may live in another container, where its id means
    nothing here.

    Args:
        parent: the folder that they are in.
        prefix: beginning of their names.
        before: called with each folder before it is removed.
    """
    name = re.compile(rf"{re.escape(prefix)}(\d+)-[a-z0-9_]{{8}}")
    for folder in parent.glob(f"{glob.escape(prefix)}*-*"):
        matched = name.fullmatch(folder.name)
        if matched and _is_own(folder) and has_ended(int(matched[1])) and not _is_locked(folder / _LOCK):
            before(folder)
            _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a folder, its lock file last.

    This process may be killed meanwhile, and what a killed process started may still write into its folder, so that it
    cannot be removed yet. Without its lock file it would then be taken for a new one.
    """
    with contextlib.suppress(OSError):
        for entry in folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name != _LOCK:
                with contextlib.suppress(OSError):  # gone meanwhile; then the others are removed all the same
                    entry.unlink()
        if [entry.name for entry in folder.iterdir()] in ([], [_LOCK]):
            shutil.rmtree(folder, ignore_errors=True)


def _is_own(folder: Path) -> bool:
    """Whether it is a folder of this user. Another could make a link of such a name, to a folder of this user."""
    try:
        status = folder.lstat()
    except OSError:  # it has gone
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def _is_locked(file: Path) -> bool:
    """Whether a process holds the lock. It may run in another container, where its id means nothing here.

    On a file system without locks the id alone counts.
    """
    try:
        handle = os.open(file, os.O_RDONLY)
    except FileNotFoundError:
        with contextlib.suppress(OSError):
            return time.time() - file.parent.stat().st_mtime < _WITHOUT_LOCK_S
        return True
    except OSError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return isinstance(error, BlockingIOError)
    finally:
        os.close(handle)
    return False
