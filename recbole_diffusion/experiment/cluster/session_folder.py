"""The temporary folder of a Ray session: short enough for sockets, locked while its process lives, then removed."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from recbole_diffusion.support import temporary_folder

PREFIX = "recdiff-ray-"
#: What Ray appends to the folder's name in a Unix socket's path, which the system limits to 107 bytes.
_LONGEST_SOCKET = "/session_2026-11-22_20-34-35_520000_4194304/sockets/plasma_store"


@contextlib.contextmanager
def session_folder() -> Iterator[Path]:
    """Create a locked folder, named with this process's id, for a ``with`` block.

    Folders of killed sessions are removed first and at the end, since Ray's agents write on for up to a minute.
    """
    parent = parent_folder()
    try:
        with temporary_folder.temporary_folder(PREFIX, parent) as folder:
            yield folder
    finally:
        remove_stale(parent)


def parent_folder() -> Path:
    """Return the system's temporary folder, or ``/tmp`` if its name is too long for a socket."""
    parent = Path(tempfile.gettempdir()).absolute()
    longest = f"{parent}/{PREFIX}4194304-12345678{_LONGEST_SOCKET}"
    return parent if len(os.fsencode(longest)) <= 107 else Path("/tmp")


def remove_stale(parent: Path) -> None:
    """Remove the folders of sessions whose process was killed before it could remove them."""
    temporary_folder.remove_stale(parent, PREFIX)
