"""Several files of a folder, replaced together: all old or all new, whatever fails and whenever it is killed."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from pathlib import Path

import pytest

from recbole_diffusion.support import atomic_folder
from recbole_diffusion.support.atomic_folder import recover, replace_files, unchanged
from recbole_diffusion.support.atomic_write import atomic_write

FOLDER = Path("data/set")
OLD, NEW = {"a": "old", "b": "old", "gone": "old"}, {"a": "new", "b": "new", "c": "new"}


def contents():
    if not FOLDER.exists():
        return None
    return {file.name: file.read_text() for file in FOLDER.iterdir() if file.is_file()}


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
    with pytest.raises(ValueError, match="half written by another user or process and cannot be completed here"):
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
            shutil.rmtree(stage)

    create, lock = Path.mkdir, atomic_folder.fcntl.flock

    def mkdir(path, *arguments, **options):
        create(path, *arguments, **options)
        if moment == "before it is opened" and ".writing-" in path.name:
            remove(path)

    def flock(handle, operation):
        for stage in atomic_folder._stages(FOLDER):
            remove(stage)
        lock(handle, operation)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    if moment == "before it is locked":
        monkeypatch.setattr(atomic_folder.fcntl, "flock", flock)
    write_new()
    assert len(removed) == 1
    assert contents() == NEW


def killed_in(function, owner=None, name=""):
    """Call a function in a child that is killed in it, or where it first calls ``owner.name``."""
    child = os.fork()
    if child == 0:
        if owner is not None:
            setattr(owner, name, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
        function()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def test_a_kill_while_the_finished_stage_is_removed_neither_blocks_nor_removes_a_file_of_later():
    write_old()
    killed_in(write_new, atomic_folder.shutil, "rmtree")
    assert contents() == NEW
    assert len(stages()) == 1
    (FOLDER / "gone").write_text("put there since")
    recover(FOLDER)
    assert contents() == {**NEW, "gone": "put there since"}
    assert stages() == []


@pytest.mark.parametrize("rest", [(), ("obsolete",)])
def test_any_rest_of_a_finished_stage_is_removed(rest):
    """The entries of a folder are removed in any order."""
    write_old()
    stage = FOLDER / ".writing-abcdefgh"
    (stage / "ready").mkdir(parents=True)
    for name in rest:
        (stage / name).write_text("[]")
    recover(FOLDER)
    assert contents() == OLD


def test_a_kill_after_the_old_files_have_gone_does_not_remove_them_again():
    write_old()

    def write():
        rename = os.replace
        os.replace = lambda source, target: (
            os.kill(os.getpid(), signal.SIGKILL) if Path(target).parent == FOLDER else rename(source, target)
        )
        write_new()

    killed_in(write)
    assert not (FOLDER / "gone").exists()
    (FOLDER / "gone").write_text("put there since")
    recover(FOLDER)
    assert contents() == {**NEW, "gone": "put there since"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
@pytest.mark.parametrize("mode", [None, 0o700])
def test_another_user_does_not_read_a_half_written_folder(mode, tmp_path, monkeypatch):
    """Also where the stage cannot be looked into, as that of an earlier version."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == "root" and len(folder.parts) > 2:
            folder.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    write_old()
    killed_in(write_new, atomic_folder.os, "rename")
    (stage,) = stages()
    if mode is not None:
        stage.chmod(mode)
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        try:
            recover(FOLDER)
        except ValueError as error:
            line = "'data/set' is half written by another user or process and cannot be completed here"
            os._exit(0 if str(error).startswith(line) and "user with id 0" in str(error) else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    recover(FOLDER)
    assert contents() == NEW
    assert stages() == []


def test_a_child_of_the_killed_writer_that_holds_its_lock_does_not_hinder():
    write_old()
    ready, go = os.pipe()

    def write():
        with replace_files(FOLDER, obsolete=lambda _: ["gone"]) as stage:
            for name, text in NEW.items():
                (stage / name).write_text(text)
            if os.fork() == 0:  # inherits the lock
                os.close(go)
                os.read(ready, 1)
                os._exit(0)
            atomic_folder._complete = lambda *_: os.kill(os.getpid(), signal.SIGKILL)

    killed_in(write)
    assert contents() == OLD
    recover(FOLDER)
    assert contents() == NEW
    os.close(go)
    os.close(ready)


def test_without_locks_a_committed_stage_is_named_until_it_is_a_day_old(monkeypatch):
    import time

    def no_locks(handle, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    write_old()
    killed_in(write_new, atomic_folder, "_complete")
    monkeypatch.setattr(atomic_folder.fcntl, "flock", no_locks)
    with pytest.raises(ValueError, match="half written by another user or process"):
        recover(FOLDER)
    (stage,) = stages()
    os.utime(stage, (time.time() - 25 * 3600.0,) * 2)
    recover(FOLDER)
    assert contents() == NEW


def test_the_name_of_a_folder_is_no_pattern():
    folder = Path("data/ml[1]")
    folder.mkdir(parents=True)
    (folder / "a").write_text("old")

    def write():
        with replace_files(folder) as stage:
            (stage / "a").write_text("new")

    killed_in(write, atomic_folder, "_complete")
    recover(folder)
    assert (folder / "a").read_text() == "new"
    assert stages() == []


def test_the_stage_can_be_read_by_others_and_the_files_follow_the_umask():
    FOLDER.mkdir(parents=True)
    with replace_files(FOLDER) as stage:
        (stage / "a").write_text("new")
        assert stage.parent.stat().st_mode & 0o555 == 0o555


def test_interactions_are_moved_last(monkeypatch):
    moved, rename = [], os.replace
    monkeypatch.setattr(os, "replace", lambda source, target: (moved.append(Path(target).name), rename(source, target)))
    with replace_files(FOLDER) as stage:
        for name in ("set.user", "set.inter", "set.item", "set.json"):
            (stage / name).write_text("new")
    assert moved[-4:] == ["set.item", "set.json", "set.user", "set.inter"]


def test_an_error_that_names_another_file_stays():
    """A source that may not be read is no fault of the folder."""
    write_old()
    with pytest.raises(PermissionError, match=r"Permission denied: '/home/me/source.csv'$"):
        with replace_files(FOLDER):
            raise PermissionError(errno.EACCES, "Permission denied", "/home/me/source.csv")
    with pytest.raises(OSError, match=r"'other' was not written and does not exist$"):
        with replace_files(FOLDER):
            atomic_write("other", full)
    with pytest.raises(OSError, match="'data/set' was not written and is as it was before"):
        with replace_files(FOLDER) as stage:
            atomic_write(stage / "a", full)
    assert contents() == OLD


def full(file):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_folder_that_is_replaced_while_it_is_read_is_named():
    write_old()
    (FOLDER / "set.inter").write_text("old")
    with unchanged(FOLDER, {".inter"}):
        (FOLDER / "other").write_text("is not read")

    def replace():
        with replace_files(FOLDER) as stage:
            (stage / "set.inter").write_text("old")

    def remove_and_read():
        (FOLDER / "set.inter").unlink()
        (FOLDER / "set.inter").read_text()

    for change in (replace, remove_and_read):
        with pytest.raises(ValueError, match=r"'data/set' was changed while it was read \(set.inter\).*again"):
            with unchanged(FOLDER, {".inter"}):
                change()
    (FOLDER / "set.inter").write_text("old")
    with pytest.raises(KeyError), unchanged(FOLDER, {".inter"}):
        raise KeyError("another error")


def test_a_writer_that_is_killed_while_its_files_are_read_is_named():
    """It has moved nothing yet: only its stage says that the files belong to the past."""
    write_old()
    (FOLDER / "set.inter").write_text("old")

    def write():
        with replace_files(FOLDER) as stage:
            (stage / "set.inter").write_text("new")

    with pytest.raises(ValueError, match="was changed while it was read"), unchanged(FOLDER, {".inter"}):
        killed_in(write, atomic_folder, "_complete")
    assert (FOLDER / "set.inter").read_text() == "new"


def test_files_that_are_made_while_an_empty_folder_is_read_are_a_download():
    with unchanged(FOLDER, {".inter"}):
        FOLDER.mkdir(parents=True)
        (FOLDER / "set.inter").write_text("new")


def committed(place, obsolete, **files):
    """A committed stage as a stranger may make it."""
    (place / "ready").mkdir(parents=True)
    (place / "obsolete").write_text(obsolete)
    for name, text in files.items():
        (place / "ready" / name).write_text(text)


@pytest.mark.parametrize(
    "names", ['["../../own"]', '["{own}"]', '[".."]', '["a\\u0000"]', "[1]", '{{"own": 1}}', "{{", "[" * 10**5]
)
def test_a_strangers_stage_removes_no_file_elsewhere(names, tmp_path):
    write_old()
    own = tmp_path / "own"
    own.write_text("of the user")
    committed(FOLDER / ".writing-12345678", names.format(own=own), a="new")
    with pytest.raises(ValueError, match=r"'.*/data/set/.writing-12345678' is damaged, or not made by this package"):
        recover(FOLDER)
    assert own.read_text() == "of the user"
    assert contents() == OLD


def test_a_strangers_stage_moves_no_file_from_elsewhere(tmp_path):
    write_old()
    own = tmp_path / "private"
    own.mkdir()
    (own / "letter").write_text("of the user")
    committed(FOLDER / ".writing-12345678", "[]")
    (FOLDER / ".writing-12345678" / "ready").rmdir()
    (FOLDER / ".writing-12345678" / "ready").symlink_to(own)
    with pytest.raises(ValueError, match="is damaged, or not made by this package"):
        recover(FOLDER)
    shutil.rmtree(FOLDER / ".writing-12345678")
    committed(tmp_path / "stage", "[]", a="new")
    (FOLDER / ".writing-87654321").symlink_to(tmp_path / "stage")
    recover(FOLDER)
    assert (own / "letter").exists()
    assert (tmp_path / "stage" / "ready" / "a").exists()
    assert contents() == OLD


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
@pytest.mark.parametrize("sticky", [True, False])
def test_beside_a_folder_only_who_may_write_it_is_believed(sticky):
    write_old()
    committed(Path("data/.set.writing-12345678"), "[]", a="of another user")
    os.chown("data/.set.writing-12345678", 65534, 65534)
    Path("data").chmod(0o1777 if sticky else 0o777)  # as /tmp; without the bit, the folder itself could be replaced
    recover(FOLDER)
    assert contents() == (OLD if sticky else {**OLD, "a": "of another user"})


@pytest.mark.parametrize("through", ["link", "."])
def test_a_folder_is_one_under_any_of_its_names(through, monkeypatch):
    """A stage that was left under one name is completed under another."""
    write_old()
    Path("data/link").symlink_to("set")
    killed_in(write_new, atomic_folder.os, "rename")
    with monkeypatch.context() as patched:
        if through == ".":
            patched.chdir(FOLDER)
        recover(Path("data/link" if through == "link" else "."))
    assert contents() == NEW
    assert stages() == []


def test_a_folder_in_the_place_of_a_file_is_named_before_anything_changes():
    write_old()
    (FOLDER / "c").mkdir()
    with pytest.raises(ValueError, match=r"'data/set/c' is a folder, a file of that name cannot be written; remove it"):
        write_new()
    assert contents() == OLD
    assert stages() == []
