"""Atomic file writes: a reader sees the old file or the new one, also after a crash, a SIGKILL or on a full disk.

A file is written under a temporary name beside its target, synced, and renamed; then the folder is synced. The writer
holds a lock on the temporary file, which the kernel releases when the process ends. :func:`sweep` removes temporary
files without a lock. This module does not import RecBole or torch.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import re
import secrets
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Callable, Optional, Union, cast

from recbole_diffusion.support.owners import lock_at_once

#: Between the target's name and the process id in a temporary file's name.
_MARK = ".writing-"
_TEMPORARY = re.compile(rf"\..*{re.escape(_MARK)}\d+-[0-9a-f]{{8}}\.tmp")
#: Errors of the file system that are raised again with the name of the file; others may be the content's, e.g. of a
#: download.
_OF_THE_DISK = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOMEM)
)
#: Attribute of :func:`disk_error` with the path of the file or folder that was not written.
_TARGET = "not_written"
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
        OSError: the folder cannot be written, or the disk is full; the message names the file and what is there now.
        MemoryError: likewise.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, "wb") as device:
            write(device)
        return
    target = Path(os.path.realpath(path))
    with _naming(path, target), _locked_temporary(target) as (file, temporary):
        write(file)
        file.flush()
        os.fsync(file.fileno())
        os.replace(temporary, target)
    sync_folder(target.parent)


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
def _naming(path: Union[str, os.PathLike[str]], target: Path) -> Iterator[None]:
    """Raise errors of the disk, and a lack of memory, again with the file's name and what is there now.

    torch and zipfile fail a second time when they close an archive that could not be written. The first error counts.
    """
    handled = sys.exc_info()[1]  # what the caller is handling belongs to other files
    try:
        yield
    except Exception as error:
        first = first_disk_error(error, handled, files=(Path(path), target, target.parent))
        if first is None:
            raise
        state = "is as it was before" if target.exists() else "does not exist"
        raise disk_error(first, target, f"{os.fspath(path)!r} was not written and {state}") from error


def disk_error(first: BaseException, target: Path, outcome: str) -> BaseException:
    """The error to raise instead of :func:`first_disk_error`, whose message ends with the outcome.

    It keeps the target in an attribute that :func:`first_disk_error` reads; ``filename`` would be printed once more.
    """
    if not isinstance(first, OSError):
        return MemoryError(outcome)
    error = OSError(first.errno, f"{first.strerror or os.strerror(first.errno or 0)}: {outcome}")
    vars(error)[_TARGET] = str(target)
    return error


def first_disk_error(
    error: BaseException, handled: Optional[BaseException], files: Sequence[Path], folders: Sequence[Path] = ()
) -> Optional[BaseException]:
    """The first error of the disk, or lack of memory, that an error was raised for or after; None if there is none.

    An error that names another file, such as a source that may not be read, is not counted: it says what is wrong.

    Args:
        error: the last one.
        handled: an earlier one, where the search ends.
        files: what is written, and the folders in which temporary files are.
        folders: the folders in which any file is written.
    """
    first, seen = cast(Optional[BaseException], None), set[int]()
    current = cast(Optional[BaseException], error)
    while current is not None and current is not handled and id(current) not in seen:
        seen.add(id(current))
        if isinstance(current, MemoryError):
            first = current
        elif isinstance(current, OSError) and _concerns(current, files, folders):
            first = current if _is_of_disk(current) else first
        elif _TARGET in vars(current):  # what it was raised for belongs to that other file
            break
        current = current.__cause__ or current.__context__
    return first


def _concerns(error: OSError, files: Sequence[Path], folders: Sequence[Path]) -> bool:
    """Whether an error names one of the files, a temporary file beside them, a file in the folders, or none."""
    names = [vars(error).get(_TARGET), error.filename, error.filename2]
    paths = [os.path.abspath(os.fsdecode(name)) for name in names if isinstance(name, (str, bytes, os.PathLike))]
    exact, within = ([os.path.abspath(path) for path in places] for places in (files, folders))
    return not paths or any(
        path in exact
        or (os.path.dirname(path) in exact and _TEMPORARY.fullmatch(os.path.basename(path)))
        or any(os.path.commonpath((path, folder)) == folder for folder in within)
        for path in paths
    )


def _is_of_disk(error: OSError) -> bool:
    return error.errno in _OF_THE_DISK or _MARK in str(error.filename)


@contextlib.contextmanager
def _locked_temporary(target: Path) -> Iterator[tuple[Stream, Path]]:
    """A new file beside ``target``, open and locked; removed unless it was renamed."""
    file, temporary = _create(target)
    try:
        with file:
            try:
                yield file, temporary
            except BaseException:
                file.is_abandoned = True
                raise
    except BaseException:
        with contextlib.suppress(
            OSError, MemoryError
        ):  # a sweep removes it later; the first error is the one to report
            temporary.unlink(missing_ok=True)
        raise


class Stream(io.BufferedWriter):
    """A file that is being written. After an error it takes what comes, and keeps nothing.

    An archive of numpy's that could not be written tries it again when it is collected, long after its file is closed,
    and would print a traceback.
    """

    is_abandoned = False
    _position = 0

    def _takes_all(self) -> bool:
        return self.is_abandoned and self.closed

    def write(self, content: Any) -> int:
        if not self._takes_all():
            return super().write(content)
        self._position += len(content)
        return len(content)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if not self._takes_all():
            return super().seek(offset, whence)
        self._position = offset
        return offset

    def tell(self) -> int:
        return self._position if self._takes_all() else super().tell()

    def flush(self) -> None:
        if not self._takes_all():
            super().flush()


def _create(target: Path) -> tuple[Stream, Path]:
    """Create and lock a temporary file; retry with another name if a sweep removes it before it is locked."""
    name = os.fsdecode(os.fsencode(target.name)[:_LONGEST_NAME])
    while True:
        temporary = target.with_name(f".{name}{_MARK}{os.getpid()}-{secrets.token_hex(4)}.tmp")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)  # umask and ACLs apply
        try:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX)  # waits while a sweep holds the lock
            if os.fstat(handle).st_nlink:
                return Stream(io.FileIO(handle, "wb")), temporary
        except BaseException:
            _discard(handle, temporary)
            raise
        os.close(handle)


def _discard(handle: int, temporary: Path) -> None:
    """Close and remove a temporary file, as far as that is possible."""
    for step in (lambda: os.close(handle), lambda: temporary.unlink(missing_ok=True)):
        with contextlib.suppress(OSError, MemoryError):
            step()


def _remove_stale(file: Path) -> bool:
    """Remove a temporary file if its writer has ended; return whether it was removed."""
    try:
        with open(file, "r+b") as stream:  # NFS locks only files that are open for writing
            if not lock_at_once(stream.fileno(), os.fstat(stream.fileno()).st_mtime):
                return False
            file.unlink()
            return True
    except OSError:  # removed by another sweep, or owned by another user
        return False


def _list_folder(folder: Union[str, Path]) -> Iterator[tuple[str, list[str], list[str]]]:
    """The files of one folder in the form of ``os.walk``."""
    with contextlib.suppress(OSError):
        yield str(folder), [], os.listdir(folder)


def sync_folder(folder: Path) -> None:
    """Sync a folder, so that a new name in it survives a crash. Errors are ignored: some file systems cannot.

    The new file is in its place already, and must not be reported as not written.
    """
    with contextlib.suppress(OSError, MemoryError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
