"""Atomic replacement of several files of a folder: a reader sees all of the old ones or all of the new ones.

The new files are composed in a stage, a hidden folder. It is committed by one rename; from then on the files are moved
to their places, by the writer or, where that was killed, by the next caller of :func:`recover`. Readers call it first.
The writer holds a lock on the stage, which the kernel releases when the process ends.

::

    .NAME.writing-XXXXXXXX/new/        a stage that is being composed
    .NAME.writing-XXXXXXXX/ready/      a committed one
    .NAME.writing-XXXXXXXX/obsolete    names of old files that go, as json
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Callable

from recbole_diffusion.support.atomic_write import STALE, atomic_write_text, disk_error, first_disk_error, sync_folder


def _pass() -> None:
    """Default of ``check``."""


def _none(stage: Path) -> tuple[str, ...]:
    """Default of ``obsolete``."""
    return ()


@contextlib.contextmanager
def replace_files(
    folder: Path, check: Callable[[], object] = _pass, obsolete: Callable[[Path], Iterable[str]] = _none
) -> Iterator[Path]:
    """Provide an empty folder whose files are put into ``folder`` together at the end of the block, unless it raises.

    Args:
        folder: created if needed.
        check: called before the files are put there, while no other process may change the folder; may raise.
        obsolete: called with the folder of the new files after ``check``; returns names of files in ``folder`` that go.

    Raises:
        OSError, MemoryError: the message names the folder and its state.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    recover(folder)
    handled = sys.exc_info()[1]
    stage, handle = _create_stage(folder)
    try:
        (stage / "new").mkdir()
        yield stage / "new"
        for file in (stage / "new").iterdir():
            _sync_file(file)
        with _locked(folder.parent):
            _recover_locked(folder)  # of a writer that was killed in the meantime: it must not come after this one
            check()
            atomic_write_text(stage / "obsolete", json.dumps(sorted(obsolete(stage / "new"))))
            os.replace(stage / "new", stage / "ready")
            _complete(stage, folder)
    except Exception as error:
        first = first_disk_error(error, handled)
        if first is None:
            raise
        raise disk_error(first, f"{str(folder)!r} {_state(stage, folder)}") from error
    finally:
        with contextlib.suppress(OSError, MemoryError):
            if not (stage / "ready").exists():
                shutil.rmtree(stage, ignore_errors=True)
            os.close(handle)


def recover(folder: Path) -> None:
    """Complete or remove what killed writers of :func:`replace_files` have left; wait for one that moves its files.

    Raises:
        OSError: files cannot be moved; the message names the folder.
    """
    if not _stages(folder):
        return
    with _locked(folder.parent):
        _recover_locked(folder)


def _recover_locked(folder: Path) -> None:
    """Complete or remove the stages of killed writers, while this process may move files."""
    for stage in _stages(folder):
        with _abandoned(stage) as is_abandoned:
            if is_abandoned and (stage / "ready").is_dir():
                try:
                    _complete(stage, folder)
                except OSError as error:
                    raise disk_error(error, f"{str(folder)!r} {_state(stage, folder)}") from error
            elif is_abandoned:
                shutil.rmtree(stage, ignore_errors=True)


def _stages(folder: Path) -> list[Path]:
    """The stages of a folder: in it if it existed when they were made, else beside it."""
    places = (folder, folder.parent)
    return sorted(stage for place in places for stage in place.glob(f".{folder.name}.writing-*") if stage.is_dir())


def _create_stage(folder: Path) -> tuple[Path, int]:
    """Create and lock a stage, on the file system of the folder; retry if it is removed before it is locked."""
    place = folder if folder.is_dir() else folder.parent
    while True:
        stage = Path(tempfile.mkdtemp(prefix=f".{folder.name}.writing-", dir=place))
        try:
            handle = os.open(stage, os.O_RDONLY)
        except FileNotFoundError:
            continue
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if stage.exists():
            return stage, handle
        os.close(handle)


def _complete(stage: Path, folder: Path) -> None:
    """Move the files of a committed stage to their places. It may be called again after an interruption."""
    folder.mkdir(exist_ok=True)
    for name in json.loads((stage / "obsolete").read_text(encoding="utf-8")):
        (folder / name).unlink(missing_ok=True)
    for file in sorted((stage / "ready").iterdir()):
        os.replace(file, folder / file.name)
    sync_folder(folder)
    shutil.rmtree(stage, ignore_errors=True)


@contextlib.contextmanager
def _abandoned(stage: Path) -> Iterator[bool]:
    """Whether the writer of a stage has ended; without locks, whether the stage is a day old.

    The lock is held inside the block: a writer that has just created the stage waits, and takes another one then.
    """
    try:
        handle = os.open(stage, os.O_RDONLY)
    except OSError:  # it has gone
        yield False
        return
    try:
        yield _lock_at_once(handle)
    finally:
        os.close(handle)


def _lock_at_once(handle: int) -> bool:
    """Lock a stage if nobody holds it; return whether nobody does, without locks whether it is a day old."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return time.time() - os.fstat(handle).st_mtime > STALE
    return True


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder that exists, so that one process at a time moves files in it. It leaves no file."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _sync_file(file: Path) -> None:
    with open(file, "rb") as stream:
        os.fsync(stream.fileno())


def _state(stage: Path, folder: Path) -> str:
    """What is in the folder after an error."""
    if (stage / "ready").exists():
        return "is half written; the next command that uses it completes it"
    return "was not written and is as it was before" if folder.exists() else "was not written and does not exist"
