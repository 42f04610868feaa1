"""Atomic file writes: a reader sees the old file or the new one, also after a crash, a SIGKILL or on a full disk.

A file is written under a temporary name beside its target, synced, and renamed; then the folder is synced. The writer
holds a lock on the temporary file, which the kernel releases when the process ends. :func:`sweep` removes temporary
files without a lock. This module does not import RecBole or torch.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Callable, Union

#: Between the target's name and the process id in a temporary file's name.
_MARK = ".writing-"
_TEMPORARY = re.compile(rf"\..*{re.escape(_MARK)}\d+-[0-9a-f]{{8}}\.tmp")
#: Seconds after which a temporary file is removed on a file system without locks.
_STALE = 24 * 3600.0
#: Bytes of the target's name that a temporary name contains; file names are limited to 255 bytes.
_LONGEST_NAME = 180


def atomic_write(path: Union[str, os.PathLike[str]], write: Callable[[BinaryIO], Any]) -> None:
    """Replace a file by the output of ``write(binary file)``. On an error the old file stays and no other is left.

    Permissions follow the umask, as for a file that is opened for writing. Of a symbolic link the target is replaced.
    An existing path that is not a regular file (``/dev/stdout``, a pipe) is written to directly.

    Args:
        path: of the file; its folder must exist.
        write: called once with the open file, which supports seek but not read.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, "wb") as device:
            write(device)
        return
    target = Path(os.path.realpath(path))
    with _locked_temporary(target) as (file, temporary):
        write(file)
        file.flush()
        os.fsync(file.fileno())
        os.replace(temporary, target)
    _sync_folder(target.parent)


def atomic_write_text(path: Union[str, os.PathLike[str]], text: str) -> None:
    """Replace a file by a text in UTF-8; see :func:`atomic_write`."""
    atomic_write(path, lambda file: file.write(text.encode()))


def sweep(*folders: Union[str, Path], recursive: bool = False) -> int:
    """Remove the temporary files of writers that were killed; files of running writers stay.

    Args:
        folders: missing and unreadable folders are skipped.
        recursive: include subfolders.

    Returns:
        The number of files removed.
    """
    removed = 0
    for folder in folders:
        listings = os.walk(folder) if recursive else _list_folder(folder)
        for path, _, names in listings:
            removed += sum(_remove_stale(Path(path, name)) for name in names if _TEMPORARY.fullmatch(name))
    return removed


@contextlib.contextmanager
def _locked_temporary(target: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """A new file beside ``target``, open and locked; removed unless it was renamed."""
    file, temporary = _create(target)
    try:
        with file:
            yield file, temporary
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _create(target: Path) -> tuple[BinaryIO, Path]:
    """Create and lock a temporary file; retry with another name if a sweep removes it before it is locked."""
    name = os.fsdecode(os.fsencode(target.name)[:_LONGEST_NAME])
    while True:
        temporary = target.with_name(f".{name}{_MARK}{os.getpid()}-{secrets.token_hex(4)}.tmp")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)  # umask and ACLs apply
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)  # waits while a sweep holds the lock
        if os.fstat(handle).st_nlink:
            return os.fdopen(handle, "wb"), temporary
        os.close(handle)


def _remove_stale(file: Path) -> bool:
    """Remove a temporary file if its writer has ended; return whether it was removed."""
    try:
        with open(file, "r+b") as stream:  # NFS locks only files that are open for writing
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            except OSError:  # a file system without locks
                if time.time() - os.fstat(stream.fileno()).st_mtime < _STALE:
                    return False
            file.unlink()
            return True
    except OSError:  # removed by another sweep, or owned by another user
        return False


def _list_folder(folder: Union[str, Path]) -> Iterator[tuple[str, list[str], list[str]]]:
    """The files of one folder in the form of ``os.walk``."""
    with contextlib.suppress(OSError):
        yield str(folder), [], os.listdir(folder)


def _sync_folder(folder: Path) -> None:
    """Sync a folder, so that a new name in it survives a crash. Errors are ignored: some file systems cannot."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
