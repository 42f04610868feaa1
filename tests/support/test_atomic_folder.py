"""Several files of a folder, replaced together: all old or all new, whatever fails and whenever it is killed."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest

from recbole_diffusion.support import atomic_folder
from recbole_diffusion.support.atomic_folder import recover, replace_files

FOLDER = Path("data/set")
OLD, NEW = {"a": "old", "b": "old", "gone": "old"}, {"a": "new", "b": "new", "c": "new"}


def contents():
    return {file.name: file.read_text() for file in FOLDER.iterdir()} if FOLDER.exists() else None


def write_old():
    FOLDER.mkdir(parents=True)
    for name, text in OLD.items():
        (FOLDER / name).write_text(text)


def write_new():
    with replace_files(FOLDER, obsolete=lambda stage: {"gone"} - {file.name for file in stage.iterdir()}) as stage:
        for name, text in NEW.items():
            (stage / name).write_text(text)


def stages():
    return [path for path in Path("data").rglob("*") if ".writing-" in path.name]


@pytest.mark.parametrize("exists", [False, True])
def test_the_new_files_and_nothing_else(exists):
    if exists:
        write_old()
        (FOLDER / "other").write_text("stays")
    write_new()
    assert contents() == {**NEW, **({"other": "stays"} if exists else {})}
    assert stages() == []


def test_an_error_of_the_block_or_of_the_check_leaves_the_old_files():
    def refuse():
        raise ValueError("it is taken")

    write_old()
    with pytest.raises(ValueError, match="it is taken"):
        with replace_files(FOLDER, check=refuse) as stage:
            (stage / "a").write_text("new")
    with pytest.raises(KeyError), replace_files(FOLDER) as stage:
        (stage / "a").write_text(NEW["no such file"])
    assert contents() == OLD
    assert stages() == []


@pytest.mark.parametrize("exists", [False, True])
def test_a_full_disk_names_the_folder_and_its_state(exists, monkeypatch):
    if exists:
        write_old()

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    state = "is as it was before" if exists else "does not exist"
    with pytest.raises(OSError, match=f"No space left on device: 'data/set' was not written and {state}"):
        write_new()
    assert contents() == (OLD if exists else None)
    assert stages() == []


@pytest.mark.parametrize("exists", [False, True])
def test_killed_at_each_rename_a_reader_finds_all_old_or_all_new_files(exists, monkeypatch):
    """The first renames write the list of obsolete files and commit; then each file is moved."""
    outcomes = []
    for number in range(1, 7):
        FOLDER.mkdir(parents=True, exist_ok=True)
        for file in [*FOLDER.iterdir()]:
            file.unlink()
        FOLDER.rmdir()
        if exists:
            FOLDER.parent.rmdir()
            write_old()
        child = os.fork()
        if child == 0:
            rename, done = os.replace, []

            def killed(source, target, rename=rename, done=done, number=number):
                done.append(target)
                if len(done) == number:
                    os.kill(os.getpid(), signal.SIGKILL)
                rename(source, target)

            os.replace = killed
            write_new()
            os._exit(0)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        recover(FOLDER)
        assert contents() in ((OLD if exists else None), NEW)
        assert stages() == []
        outcomes.append((ended, contents() == NEW))
    assert outcomes == [(-9, False), (-9, False), (-9, True), (-9, True), (-9, True), (0, True)]


def test_a_move_that_fails_is_completed_by_the_next_reader(monkeypatch):
    write_old()
    rename = os.replace

    def fails(source, target):
        if Path(target).name == "b" and Path(target).parent == FOLDER:
            raise PermissionError(errno.EACCES, "Permission denied")
        rename(source, target)

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(PermissionError, match="'data/set' is half written; the next command that uses it completes it"):
        write_new()
    with pytest.raises(PermissionError, match="half written"):
        recover(FOLDER)
    monkeypatch.setattr(os, "replace", rename)
    recover(FOLDER)
    assert contents() == NEW
    assert stages() == []


def test_the_stage_of_a_living_writer_is_left_alone():
    write_old()
    with replace_files(FOLDER) as stage:
        (stage / "a").write_text("new")
        child = os.fork()
        if child == 0:
            recover(FOLDER)
            os._exit(not stage.is_dir())
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert contents() == {**OLD, "a": "new"}


@pytest.mark.parametrize(("age", "removed"), [(3600.0, False), (25 * 3600.0, True)])
def test_without_locks_the_age_decides(age, removed, monkeypatch):
    import time

    def no_locks(handle, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(atomic_folder.fcntl, "flock", no_locks)
    stage = Path("data/.set.writing-abcdefgh")
    stage.mkdir(parents=True)
    os.utime(stage, (time.time() - age,) * 2)
    recover(FOLDER)
    assert stage.exists() is not removed


def test_a_writer_that_was_killed_after_its_commit_does_not_come_after_a_later_one():
    """The later one has begun before; under the lock it first completes the other, and its check sees those files."""
    write_old()
    seen = []
    with replace_files(FOLDER, check=lambda: seen.append((FOLDER / "a").read_text())) as stage:
        (stage / "a").write_text("last")
        child = os.fork()
        if child == 0:
            atomic_folder._complete = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
            write_new()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    recover(FOLDER)
    assert seen == ["new"]
    assert contents() == {**NEW, "a": "last"}
    assert stages() == []


@pytest.mark.parametrize("moment", ["before it is opened", "before it is locked"])
def test_a_stage_that_another_process_removes_at_once_is_made_again(moment, tmp_path, monkeypatch):
    """The other process finds it without a lock, as one that a killed writer has left."""
    monkeypatch.chdir(tmp_path)
    write_old()
    removed = []

    def remove(stage):
        if not removed:
            removed.append(Path(stage).name)
            os.rmdir(stage)

    create, lock = atomic_folder.tempfile.mkdtemp, atomic_folder.fcntl.flock

    def mkdtemp(**options):
        stage = create(**options)
        if moment == "before it is opened":
            remove(stage)
        return stage

    def flock(handle, operation):
        for stage in atomic_folder._stages(FOLDER):
            remove(stage)
        lock(handle, operation)

    monkeypatch.setattr(atomic_folder.tempfile, "mkdtemp", mkdtemp)
    if moment == "before it is locked":
        monkeypatch.setattr(atomic_folder.fcntl, "flock", flock)
    write_new()
    assert len(removed) == 1
    assert contents() == NEW
