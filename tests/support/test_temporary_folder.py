"""Temporary folders: those of killed processes are removed, and nothing else."""

import errno
import os
import shutil
import subprocess
import sys

import pytest

from recbole_diffusion.support import temporary_folder as module
from recbole_diffusion.support.temporary_folder import PREFIX, remove_stale, temporary_folder


@pytest.fixture(scope="module")
def dead():
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def made(path, lock=True, age=0.0):
    """A folder with a file, as old as ``age`` seconds."""
    path.mkdir()
    (path / "results.csv").write_text("of a user")
    if lock:
        (path / "in-use").touch()
    then = path.stat().st_mtime - age
    os.utime(path, (then, then))
    return path


def test_a_folder_lives_as_long_as_its_block(tmp_path):
    with temporary_folder(parent=tmp_path) as folder:
        remove_stale(tmp_path)
        assert folder.name.startswith(f"{PREFIX}{os.getpid()}-")
        assert [file.name for file in folder.iterdir()] == ["in-use"]
    assert not folder.exists()


def test_the_folder_of_a_killed_process_is_removed(tmp_path, dead):
    left = made(tmp_path / f"{PREFIX}{dead}-abc_d123")
    before_its_lock = made(tmp_path / f"{PREFIX}{dead}-abc_d124", lock=False, age=7200)
    with temporary_folder(parent=tmp_path):
        assert not left.exists()
        assert not before_its_lock.exists()


@pytest.mark.parametrize("name", ["20991231-backup", "1-a", "{dead}-abcdefgh-copy", "{dead}-ABCDEFGH", "old-results1"])
def test_a_users_folder_of_a_like_name_stays(tmp_path, dead, name):
    own = made(tmp_path / f"{PREFIX}{name.format(dead=dead)}", age=10**6)
    with temporary_folder(parent=tmp_path):
        assert (own / "results.csv").read_text() == "of a user"


def test_a_folder_that_has_no_lock_yet_stays(tmp_path, dead):
    """In another container a process with another number has just made it."""
    young = made(tmp_path / f"{PREFIX}{dead}-abcdefgh", lock=False)
    remove_stale(tmp_path)
    assert young.exists()


def test_a_folder_that_is_still_written_to_keeps_its_lock_file_and_is_removed_later(tmp_path, dead, monkeypatch):
    """Programs that the killed process started write on: what is deleted comes back until they end."""
    left = made(tmp_path / f"{PREFIX}{dead}-abcdefgh")
    (left / "session").mkdir()
    rmtree = shutil.rmtree

    def deleted_and_made_again(path, **options):
        rmtree(path, **options)
        if path.name == "session":
            path.mkdir()

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", deleted_and_made_again)
        remove_stale(tmp_path)
    assert sorted(entry.name for entry in left.iterdir()) == ["in-use", "session"]
    remove_stale(tmp_path)
    assert not left.exists()


def test_a_link_of_such_a_name_is_not_followed(tmp_path, dead):
    """Another user can make one in /tmp, to a folder of this user."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "letter").write_text("of the user")
    os.utime(home, (0, 0))
    link = tmp_path / f"{PREFIX}{dead}-abcdefgh"
    link.symlink_to(home)
    remove_stale(tmp_path, before=pytest.fail)
    (home / "in-use").touch()
    remove_stale(tmp_path, before=pytest.fail)
    assert (home / "letter").read_text() == "of the user"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_another_users_folder_stays(tmp_path, dead):
    other = made(tmp_path / f"{PREFIX}{dead}-abcdefgh")
    os.chown(other, 65534, 65534)
    remove_stale(tmp_path, before=pytest.fail)
    assert (other / "results.csv").exists()


def test_without_locks_the_process_decides(tmp_path, dead, monkeypatch):
    left, own = made(tmp_path / f"{PREFIX}{dead}-abcdefgh"), made(tmp_path / f"{PREFIX}{os.getpid()}-abcdefgh")

    def no_locks(handle, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(module.fcntl, "flock", no_locks)
    remove_stale(tmp_path)
    assert not left.exists()
    assert own.exists()
