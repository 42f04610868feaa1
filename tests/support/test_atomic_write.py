"""Atomic writes: old file or new one, permissions, temporary files of killed writers."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from recbole_diffusion.support import atomic_write as module
from recbole_diffusion.support.atomic_write import atomic_write, atomic_write_text, sweep


def names(folder="."):
    return sorted(each.name for each in Path(folder).iterdir())


def temporary_of(name="a.txt"):
    """What a killed writer leaves."""
    file = Path(f".{name}.writing-4194305-0123abcd.tmp")
    file.write_text("half")
    return file


def test_the_new_content_and_nothing_beside_it():
    atomic_write_text("a.txt", "old")
    atomic_write("a.txt", lambda file: file.write("neu ü".encode()))
    assert Path("a.txt").read_text(encoding="utf-8") == "neu ü"
    assert names() == ["a.txt"]


def test_numpy_arrays_and_torch_tensors_can_be_written():
    import torch

    atomic_write("a.npz", lambda file: np.savez_compressed(file, x=np.arange(5)))
    atomic_write("a.pth", lambda file: torch.save({"x": torch.arange(5)}, file))
    assert np.load("a.npz")["x"].tolist() == torch.load("a.pth")["x"].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), ValueError()])
@pytest.mark.parametrize("where", ["write", "fsync", "replace"])
def test_an_error_keeps_the_old_file_and_leaves_no_temporary(where, error, monkeypatch):
    atomic_write_text("a.txt", "old")

    def fails(*arguments):
        raise error

    if where != "write":
        monkeypatch.setattr(os, where, fails)
    with pytest.raises(type(error)):
        atomic_write("a.txt", fails if where == "write" else lambda file: file.write(b"new"))
    assert Path("a.txt").read_text() == "old"
    assert names() == ["a.txt"]


def test_file_and_folder_are_synced_in_this_order_around_the_rename(monkeypatch):
    done = []
    sync, replace = os.fsync, os.replace

    def noted_sync(handle):
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else f"file of {os.fstat(handle).st_size}")
        sync(handle)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(os, "replace", lambda *paths: (done.append("rename"), replace(*paths)))
    atomic_write_text("a.txt", "12345")
    assert done == ["file of 5", "rename", "folder"]


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_permissions_follow_the_umask(umask):
    before = os.umask(umask)
    try:
        atomic_write_text("a.txt", "x")
        Path("plain.txt").write_text("x")
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat("a.txt").st_mode) == 0o666 & ~umask == stat.S_IMODE(os.stat("plain.txt").st_mode)


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    Path("elsewhere/a.txt").write_text("old")
    os.symlink("elsewhere/a.txt", "link")
    atomic_write_text("link", "new")
    assert os.readlink("link") == "elsewhere/a.txt"
    assert Path("elsewhere/a.txt").read_text() == "new"


def test_a_folder_on_another_device():
    here = os.stat(".").st_dev
    folders = [folder for folder in ("/dev/shm", tempfile.gettempdir(), Path.home()) if os.access(folder, os.W_OK)]
    other = next((folder for folder in folders if os.stat(folder).st_dev != here), None)
    if other is None:
        pytest.skip("no second file system")
    file = Path(other, f"recbole-diffusion-test-{os.getpid()}.txt")
    try:
        os.symlink(file, "link")
        atomic_write_text("link", "new")
        assert file.read_text() == "new"
        assert not list(file.parent.glob(f".{file.name}*"))
    finally:
        file.unlink(missing_ok=True)


def test_a_pipe_is_written_to():
    code = "from recbole_diffusion.support.atomic_write import atomic_write_text as w; w('/dev/stdout', 'hello')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("hello", "")


@pytest.mark.parametrize("name", ["x" * 250 + ".json", "ü" * 120 + ".npz"])
def test_the_longest_names(name):
    atomic_write_text(name, "x")
    assert names() == [name]


def test_a_folder_that_is_not_there():
    with pytest.raises(FileNotFoundError):
        atomic_write_text("no/a.txt", "x")


# Sweeping


def test_a_sweep_removes_what_nobody_writes_and_nothing_else():
    Path("sub").mkdir()
    others = ["a.txt", ".a.txt.tmp", ".syncthing.a.txt.tmp", ".a.txt.abcdefgh.tmp", "a.writing-1-0123abcd.tmp"]
    for other in others:
        Path(other).write_text("x")
    temporary_of()
    Path("sub", temporary_of("b.pth")).touch()
    assert sweep(".", "not-there") == 2
    assert names() == sorted([*others, "sub"])
    assert len(names("sub")) == 1
    assert sweep(".", recursive=True) == 1
    assert names("sub") == []


def test_a_file_that_is_being_written_is_left_alone():
    seen = []

    def write(file):
        seen.append((sweep("."), names()))
        file.write(b"new")

    atomic_write("a.txt", write)
    ((removed, during),) = seen
    assert removed == 0
    assert len(during) == 1
    assert Path("a.txt").read_text() == "new"


def test_a_writer_whose_temporary_was_swept_before_it_was_locked_takes_another(monkeypatch):
    """The moment between the opening and the lock."""
    lock, swept = module.fcntl.flock, []

    def sweep_first(handle, operation):
        if not swept:
            swept.append(True)
            (left,) = names()
            os.unlink(left)
        lock(handle, operation)

    monkeypatch.setattr(module.fcntl, "flock", sweep_first)
    atomic_write_text("a.txt", "new")
    assert Path("a.txt").read_text() == "new"
    assert names() == ["a.txt"]


@pytest.mark.parametrize(("age", "removed"), [(3600.0, 0), (25 * 3600.0, 1)])
def test_without_locks_the_age_decides(age, removed, monkeypatch):
    def no_locks(handle, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(module.fcntl, "flock", no_locks)
    file = temporary_of()
    os.utime(file, (time.time() - age,) * 2)
    assert sweep(".") == removed
    assert file.exists() is not bool(removed)
    atomic_write_text("b.txt", "x")
    assert Path("b.txt").read_text() == "x"


WRITER = """
import sys, time, numpy as np
from recbole_diffusion.support.atomic_write import atomic_write
count = 0

def write(file):
    np.save(file, array)
    if count == 2 and "stop" in sys.argv:
        print("written and not renamed", flush=True)
        time.sleep(600)

while True:
    count += 1
    array = np.full(4_000_000, count)
    atomic_write("array.npy", write)
    if count == 1:
        print("first", flush=True)
"""


def test_sigkill_leaves_a_whole_file_and_the_sweep_no_temporary():
    """Killed once between a write and its renaming, then wherever the delays meet it."""
    for delay in (0.0, 0.005, 0.021, 0.055):
        words = [sys.executable, "-c", WRITER, "" if delay else "stop"]
        writer = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert writer.stdout.readline() == "first\n"
        if not delay:
            assert writer.stdout.readline() == "written and not renamed\n"
        time.sleep(delay)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        array = np.load("array.npy")
        assert array.shape == (4_000_000,)
        assert array[0] >= 1 if delay else array[0] == 1
        assert (array == array[0]).all()
    left = len(names()) - 1
    assert left > 0
    assert sweep(".") == left
    assert names() == ["array.npy"]


def test_a_living_process_keeps_its_file_from_the_sweep_of_another():
    code = (
        "import sys; from recbole_diffusion.support.atomic_write import atomic_write\n"
        "def write(file):\n"
        "    print('writing', flush=True); sys.stdin.readline(); file.write(b'whole')\n"
        "atomic_write('a.txt', write)"
    )
    writer = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert writer.stdout.readline() == "writing\n"
    assert sweep(".") == 0
    writer.communicate("go\n")
    assert writer.returncode == 0
    assert Path("a.txt").read_text() == "whole"


@pytest.mark.parametrize("name", ["/home/me/source.csv", "beside.csv"])
def test_an_error_that_names_another_file_stays(name):
    def write(file):
        raise PermissionError(errno.EACCES, "Permission denied", name)

    with pytest.raises(PermissionError, match=rf"Permission denied: '{name}'$"):
        atomic_write("a.txt", write)
    assert names() == []


def test_causes_in_a_circle_end():
    def write(file):
        first, second = OSError(errno.EPIPE, "first"), KeyError("second")
        first.__cause__, second.__cause__ = second, first
        raise first

    with pytest.raises(OSError, match="first"):
        atomic_write("a.txt", write)
