"""The temporary folder of a Ray session: short enough for sockets, locked while its process lives, then removed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = "recdiff-ray-"
_LOCK = "in-use"
#: What Ray appends to the folder's name in a Unix socket's path, which the system limits to 107 bytes.
_LONGEST_SOCKET = "/session_2026-11-22_20-34-35_520000_4194304/sockets/plasma_store"


@contextlib.contextmanager
def session_folder() -> Iterator[Path]:
    """Create a locked folder, named with this process's id, for a ``with`` block.

    Folders of sessions that were killed are removed first.
    """
    parent = parent_folder()
    remove_stale(parent)
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=parent))
    try:
        with open(folder / _LOCK, "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def parent_folder() -> Path:
    """Return the system's temporary folder, or ``/tmp`` if its name is too long for a socket."""
    parent = Path(tempfile.gettempdir()).absolute()
    longest = f"{parent}/{PREFIX}4194304-12345678{_LONGEST_SOCKET}"
    return parent if len(os.fsencode(longest)) <= 107 else Path("/tmp")


def remove_stale(parent: Path) -> None:
    """Remove the folders of sessions whose process was killed before it could remove them."""
    for folder in parent.glob(f"{PREFIX}*-*"):
        pid = folder.name[len(PREFIX) :].partition("-")[0]
        if pid.isdigit() and not _is_alive(int(pid)) and not _is_locked(folder / _LOCK):
            shutil.rmtree(folder, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def _is_locked(file: Path) -> bool:
    """Whether a process holds the lock. It may run in another container, where its id means nothing here."""
    try:
        with open(file) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
