"""What the harness of kills looks for: processes and temporary files that a command has left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import forked_commands as forked
import kill_stories
import pytest

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


class _Story(kill_stories.Story):
    """A command that leaves what ``leave`` leaves."""

    name = "left"

    def __init__(self) -> None:
        super().__init__()
        self.seconds_to_end = 0.3

    def before(self) -> None:
        pass

    def words(self, folder):  # type: ignore[no-untyped-def]
        (folder / kill_stories.BEGUN).write_text("")
        return None if (folder / "done").exists() else ["--help"]

    def result(self, folder):  # type: ignore[no-untyped-def]
        return {}


def _fork_a_sleeper() -> None:
    if os.fork() == 0:
        time.sleep(60)
        os._exit(0)


def _start_a_program() -> None:
    subprocess.Popen(SLEEP, start_new_session=True)


def _write_a_file() -> None:
    (Path(os.environ["TMPDIR"]) / "forgotten").touch()


@pytest.mark.parametrize(
    ("leave", "says"),
    [
        (_fork_a_sleeper, "process left: "),
        (_start_a_program, "process left: "),
        (_write_a_file, "left: tmp/forgotten"),
        (lambda: None, None),
    ],
    ids=["a member of its session", "a program in a session of its own", "a file", "nothing"],
)
@pytest.mark.parametrize("short", [False, True], ids=["", "short names"])
def test_what_a_command_leaves_is_a_fault(leave, says, short, tmp_path):  # type: ignore[no-untyped-def]
    link = forked.short_temporary_folder(tmp_path)
    if short:
        link.__enter__()
    sessions = []
    execute = forked.execute

    def noted(*arguments, **keywords):  # type: ignore[no-untyped-def]
        ended = execute(*arguments, **keywords)
        sessions.append(ended.session)
        return ended

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(forked, "execute", noted)
            reference = {"begun": 0, "result": {}}
            _, faults = kill_stories.tell(_Story(), tmp_path, reference, lambda _: {"before": leave})
        left = forked.processes_of(set(sessions), tmp_path)
    finally:
        for process in forked.processes_of(set(sessions), tmp_path):
            os.kill(process, 9)
        if short:
            link.__exit__(None, None, None)
    assert len(faults) == (says is not None)
    assert all(fault.startswith(says) for fault in faults)
    assert len(left) == (says == "process left: ")
