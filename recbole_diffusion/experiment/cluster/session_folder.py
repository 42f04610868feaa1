"""The temporary folder of a Ray session: short enough for sockets, locked while its process lives, then removed."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

from recbole_diffusion.support import temporary_folder

PREFIX = "recdiff-ray-"
#: What Ray appends to the folder's name in a Unix socket's path, which the system limits to 107 bytes.
_LONGEST_SOCKET = "/session_2026-11-22_20-34-35_520000_4194304/sockets/plasma_store"
#: How often the processes of a killed session are looked for: one that is killed may just have started another.
_ROUNDS = 5
_SECONDS = 2.0


@contextlib.contextmanager
def session_folder() -> Iterator[Path]:
    """Create a locked folder, named with this process's id, for a ``with`` block.

    Folders of killed sessions are removed first, and at the end: one that ran beside this one may have been killed.
    """
    remove_stale()
    try:
        with temporary_folder.temporary_folder(PREFIX, parent_folder()) as folder:
            yield folder
    finally:
        remove_stale()


def parent_folder() -> Path:
    """Return the system's temporary folder, or ``/tmp`` if its name is too long for a socket."""
    parent = Path(tempfile.gettempdir()).absolute()
    longest = f"{parent}/{PREFIX}4194304-12345678{_LONGEST_SOCKET}"
    return parent if len(os.fsencode(longest)) <= 107 else Path("/tmp")


def remove_stale(parent: Optional[Path] = None) -> None:
    """Remove the folders of sessions whose process was killed before it could remove them.

    What such a session started ends first: Ray's agents live on for up to a minute, and write the folder anew.

    Args:
        parent: the folder that they are in; None: :func:`parent_folder`.
    """
    parent = parent_folder() if parent is None else parent
    temporary_folder.remove_stale(parent, PREFIX, _end_processes)


def _end_processes(folder: Path) -> None:
    """Kill this user's Ray processes that work in the folder of a dead session."""
    import psutil

    for _ in range(_ROUNDS):
        found = [process for process in psutil.process_iter() if _works_in(process, folder)]
        if not found:
            return
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(found, timeout=_SECONDS)


def _works_in(process: Any, folder: Path) -> bool:
    """Whether a process is Ray's, and names the folder in its command line or has a file in it open.

    Ray's Python processes replace their command line by a title such as ``ray::IDLE``. A user's program that reads a
    log there is not Ray's.
    """
    import psutil

    try:
        if process.uids().real != os.getuid():
            return False
        words = process.cmdline()
        if not any(word.startswith("ray::") or "/ray/" in word for word in words[:3]):
            return False
        names = [*words, *(file.path for file in process.open_files())]
    except (psutil.Error, OSError):  # it has just ended
        return False
    return any(f"{path}/" in f"{name}/" for name in names for path in (folder, folder.resolve()))
