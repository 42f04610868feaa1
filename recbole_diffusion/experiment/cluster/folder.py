"""The folder of a Ray session: short enough for sockets, ours while we live, gone afterwards."""

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
#: What Ray puts behind the folder's name in a Unix socket's path, which the system limits to 107 bytes.
_LONGEST_SOCKET = "/session_2026-11-22_20-34-35_520000_4194304/sockets/plasma_store"


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A new folder, locked and named with our process id; what sessions left that were killed goes first."""
    where = base()
    remove_stale(where)
    made = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=where))
    try:
        with open(made / _LOCK, "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def base() -> Path:
    """The system's temporary folder, or ``/tmp`` where its name is too long for a socket."""
    where = Path(tempfile.gettempdir()).absolute()
    longest = f"{where}/{PREFIX}4194304-12345678{_LONGEST_SOCKET}"
    return where if len(os.fsencode(longest)) <= 107 else Path("/tmp")


def remove_stale(where: Path) -> None:
    """Remove the folders of sessions whose process was killed before it could."""
    for each in where.glob(f"{PREFIX}*-*"):
        pid = each.name[len(PREFIX) :].partition("-")[0]
        if pid.isdigit() and not _alive(int(pid)) and not _locked(each / _LOCK):
            shutil.rmtree(each, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _locked(file: Path) -> bool:
    """Whether a process holds it, be it in another container, where its number means nothing to us."""
    try:
        with open(file) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
