"""Replacement of several files of a folder: all of the old ones or all of the new ones, also after a kill.

The new files are composed in a stage, a hidden folder. It is committed by one rename; from then on the files are moved
to their places, by the writer or, where that was killed, by the next caller of :func:`recover`. Readers call it first.
While they are moved, which takes milliseconds, the folder holds old and new files: a reader takes them inside
:func:`unchanged`, which raises if they were replaced meanwhile. The writer holds a lock on a file of the stage, which
the kernel releases when the process ends.

::

    NAME/.writing-XXXXXXXX/lock        locked by the writer
    NAME/.writing-XXXXXXXX/new/        a stage that is being composed
    NAME/.writing-XXXXXXXX/ready/      a committed one
    NAME/.writing-XXXXXXXX/obsolete    names of old files that go, as json, until they have gone
    NAME/.writing-XXXXXXXX/done/       a stage whose files are all in their places
    .NAME.writing-XXXXXXXX/            a stage of a folder that did not exist when it was made

A stage may come from a stranger, with the folder that it is in. It can therefore change files of that folder only.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import json
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Callable, Optional

from recbole_diffusion.support.atomic_write import atomic_write_text, disk_error, first_disk_error, sync_folder
from recbole_diffusion.support.owners import lock_at_once


def _pass() -> None:
    """Default of ``check``."""


def _none(stage: Path) -> tuple[str, ...]:
    """Default of ``obsolete``."""
    return ()


#: The name of a stage in its folder; beside it, it follows a dot and the folder's name.
_STAGE = ".writing-????????"
#: The file of a stage that its writer locks.
_LOCK = "lock"


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
        ValueError: a file of the folder cannot be replaced, or see :func:`recover`.
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
        with _locked(folder.resolve().parent) as is_locked:
            # the files of a writer that was killed in the meantime must not come after these
            _recover_locked(folder, is_locked)
            check()
            names = sorted(obsolete(stage / "new"))
            _check_places(folder, [*(file.name for file in (stage / "new").iterdir()), *names])
            atomic_write_text(stage / "obsolete", json.dumps(names))
            sync_folder(stage / "new")
            os.replace(stage / "new", stage / "ready")
            sync_folder(stage)
            _complete(stage, folder)
    except Exception as error:
        first = first_disk_error(error, handled, files=(folder.parent,), folders=(stage, folder))
        if first is None:
            raise
        raise disk_error(first, folder, f"{str(folder)!r} {_state(stage, folder)}") from error
    finally:
        with contextlib.suppress(OSError, MemoryError):
            if not (stage / "ready").exists():
                shutil.rmtree(stage, ignore_errors=True)
            os.close(handle)


def recover(folder: Path) -> None:
    """Complete or remove what killed writers of :func:`replace_files` have left; wait for one that moves its files.

    Raises:
        OSError: files cannot be moved; the message names the folder.
        ValueError: the folder is half written, and this process may not complete it, or holds what no writer made.
    """
    if not _stages(folder):
        return
    with _locked(folder.resolve().parent) as is_locked:
        _recover_locked(folder, is_locked)


@contextlib.contextmanager
def unchanged(folder: Path, suffixes: Collection[str]) -> Iterator[Callable[[], None]]:
    """Hold a block in which files of a folder are read, and raise if they were replaced meanwhile.

    A reader takes no lock, so that it never delays a writer. Where there was no file before, as before a download, new
    ones are no change.

    Args:
        folder: that of the files; may be missing.
        suffixes: of the files that are read.

    Yields:
        A function that makes the check earlier, e.g. before what was read is stored.

    Raises:
        ValueError: a file was replaced, added, changed or removed, or the files are half written.
    """
    recover(folder)
    before = _versions(folder, suffixes)

    def check() -> None:
        recover(folder)  # of a writer that was killed in the meantime: its other files come only now
        after = _versions(folder, suffixes)
        changed = [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
        if before and changed:
            raise ValueError(
                f"{str(folder)!r} was changed while it was read ({', '.join(changed)}): another process has replaced "
                "files in it; run the command again"
            )

    try:
        yield check
    except Exception:
        check()  # the reason may be a file that was missing or torn in the meantime
        raise
    check()


def _versions(folder: Path, suffixes: Collection[str]) -> dict[str, tuple[int, int, int]]:
    """The inode, size in bytes and time of change in ns of each file, by its name."""
    versions = {}
    for file in sorted(folder.iterdir()) if folder.is_dir() else []:
        with contextlib.suppress(FileNotFoundError):
            if file.suffix in suffixes:
                status = file.stat()
                versions[file.name] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return versions


def _recover_locked(folder: Path, is_locked: bool) -> None:
    """Complete or remove the stages of killed writers.

    Args:
        folder: that of the files.
        is_locked: whether this process holds the lock under which files are moved. The writer of a committed stage has
            then ended, even if a process that it forked still holds the lock of the stage.
    """
    for stage in _stages(folder):
        with _abandoned(stage) as is_abandoned:
            if _is_committed(stage):
                if not (is_locked or is_abandoned):
                    raise ValueError(_half_written(stage, folder, "another process is writing it, or was killed"))
                _complete_left(stage, folder)
            elif is_abandoned:
                shutil.rmtree(stage, ignore_errors=True)


def _complete_left(stage: Path, folder: Path) -> None:
    """Complete what another process has left.

    Raises:
        ValueError: this process may not move the files.
        OSError: another error of the disk.
    """
    try:
        _complete(stage, folder)
    except PermissionError as error:
        raise ValueError(_half_written(stage, folder, error.strerror or "Permission denied")) from error
    except OSError as error:
        raise disk_error(error, folder, f"{str(folder)!r} {_state(stage, folder)}") from error


def _half_written(stage: Path, folder: Path, reason: str) -> str:
    """One line on files that this process may not complete."""
    try:
        owner = f"the user with id {stage.stat().st_uid}"
    except OSError:
        owner = "its owner"
    return (
        f"{str(folder)!r} is half written by another user or process and cannot be completed here ({reason}); wait for "
        f"it, or let {owner} use the data set, e.g. by recbole-diffusion data check {folder.name}"
    )


def _is_committed(stage: Path) -> bool:
    """Whether the files of a stage are to be moved; also where that cannot be seen, in another user's stage."""
    try:
        os.stat(stage / "ready")
    except FileNotFoundError:
        return False
    except PermissionError:
        return True
    return True


def _stages(folder: Path) -> list[Path]:
    """The stages of a folder: in it if it existed when they were made, else beside it."""
    folder = folder.resolve()  # a link to it may have another name
    beside = folder.parent.glob(f".{glob.escape(folder.name)}{_STAGE}")
    stages = [*folder.glob(_STAGE), *(stage for stage in beside if _may_be_of(stage, folder))]
    return sorted(stage for stage in stages if stage.is_dir() and not stage.is_symlink())


def _may_be_of(stage: Path, folder: Path) -> bool:
    """Whether who made a stage beside a folder may write the folder: in ``/tmp`` anybody can make one.

    In a folder with the sticky bit, entries are their owner's alone.
    """
    try:
        place, owner = folder.parent.stat(), stage.lstat().st_uid
        owners = {os.geteuid(), place.st_uid, *([folder.stat().st_uid] if folder.exists() else [])}
    except OSError:  # it has gone
        return False
    return not place.st_mode & stat.S_ISVTX or owner in owners


def _create_stage(folder: Path) -> tuple[Path, int]:
    """Create and lock a stage, on the file system of the folder; retry if it is removed before it is locked."""
    folder = folder.resolve()
    while True:
        name = _STAGE.replace("????????", secrets.token_hex(4))
        stage = folder / name if folder.is_dir() else folder.parent / f".{folder.name}{name}"
        stage.mkdir()
        with contextlib.suppress(OSError):  # a file system without modes, or it has gone
            stage.chmod(stage.stat().st_mode | 0o555)  # other users see whether it is committed, whatever the umask
        try:
            handle = os.open(stage / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            continue
        except OSError:
            shutil.rmtree(stage, ignore_errors=True)
            raise
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return stage, handle
        os.close(handle)


def _check_places(folder: Path, names: Iterable[str]) -> None:
    """Check that files of a folder can be replaced or removed.

    Raises:
        ValueError: a folder is in their place.
    """
    for name in names:
        if (folder / name).is_dir():
            raise ValueError(f"{str(folder / name)!r} is a folder, a file of that name cannot be written; remove it")


def _complete(stage: Path, folder: Path) -> None:
    """Move the files of a committed stage to their places. It may be called again after an interruption.

    The list of old files is removed as soon as they have gone: a later call removes no file that was put there since.
    Interactions are moved last, so that they are never read with tables of items that are older than they.

    Raises:
        OSError: a file cannot be moved.
        ValueError: no writer of this package made the stage.
    """
    folder.mkdir(exist_ok=True)
    names = _obsolete(stage)
    if names is None or (stage / "ready").is_symlink():
        raise ValueError(f"{str(stage)!r} is damaged, or not made by this package; remove it, and make the data anew")
    for name in names:
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        (stage / "obsolete").unlink()
    for file in sorted((stage / "ready").iterdir(), key=lambda file: (file.suffix == ".inter", file.name)):
        os.replace(file, folder / file.name)
    sync_folder(folder)
    os.rename(stage / "ready", stage / "done")  # a kill below leaves a stage that is only removed
    shutil.rmtree(stage, ignore_errors=True)


def _obsolete(stage: Path) -> Optional[list[str]]:
    """The names of the files that go; none if they have gone, None if the list is not one of plain names."""
    try:
        names = json.loads((stage / "obsolete").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (ValueError, RecursionError):
        return None
    are_plain = isinstance(names, list) and all(isinstance(name, str) and _is_plain(name) for name in names)
    return names if are_plain else None


def _is_plain(name: str) -> bool:
    return name not in ("", ".", "..") and not {*name} & {"/", "\\", "\0"}


@contextlib.contextmanager
def _abandoned(stage: Path) -> Iterator[bool]:
    """Whether the writer of a stage has ended; without locks, whether the stage is a day old.

    The lock is held inside the block: a writer that has just created the stage waits, and takes another one then.
    """
    try:
        last_change = stage.stat().st_mtime
        handle = _open_lock(stage / _LOCK)
    except OSError:  # it has gone, or is another user's who has not written the lock yet
        yield False
        return
    try:
        yield lock_at_once(handle, last_change)
    finally:
        os.close(handle)


def _open_lock(file: Path) -> int:
    """Open the lock of a stage, for writing if this user may: NFS locks only files that are open for writing."""
    try:
        return os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:
        return os.open(file, os.O_RDONLY)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Hold a lock on a folder that exists, so that one process at a time moves files in it. It leaves no file.

    Yields:
        Whether the file system has such locks.
    """
    handle, is_locked = os.open(folder, os.O_RDONLY), True
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:
            is_locked = False
        yield is_locked
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
