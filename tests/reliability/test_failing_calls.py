"""The n-th call that writes fails, n = 1, 2, … until none does: old content or new, and one line says which."""

from __future__ import annotations

import json
import logging
import os
import signal
from pathlib import Path

import failing_calls
import forked_commands as forked
import kill_stories
import numpy as np
import pytest
import torch
from failing_calls import Calls, failing

from recbole_diffusion.evaluation.per_user import UserMetrics
from recbole_diffusion.experiment.jobs.store import Store
from recbole_diffusion.support.atomic_write import atomic_write, atomic_write_text, sweep
from recbole_diffusion.training import checkpoint, run_log


def read(name):
    """The content of one of the kinds of files that are written below, as a list."""
    if name.endswith(".npz"):
        with np.load(name) as arrays:
            return arrays["x"].tolist()
    if name.endswith(".pth"):
        return torch.load(name)["x"].tolist()
    return json.loads(Path(name).read_text())


WRITERS = {
    "a.json": lambda value: atomic_write_text("a.json", json.dumps(value)),
    "a.npz": lambda value: atomic_write("a.npz", lambda file: np.savez_compressed(file, x=np.array(value))),
    "a.pth": lambda value: checkpoint.write({"x": torch.tensor(value)}, Path("a.pth")),
}


@pytest.mark.filterwarnings("error")  # such as those of archives that are collected after their file is closed
@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("error", list(failing_calls.ERRORS))
@pytest.mark.parametrize("name", list(WRITERS))
def test_a_file_is_the_old_one_or_the_new_one_and_the_error_says_so(name, error, lasting):
    for n in range(1, 100):
        WRITERS[name]([1, 2])
        raised = None
        with failing(Calls(n, error, lasting)) as calls:
            try:
                WRITERS[name]([3, 4])
            except (OSError, MemoryError) as caught:
                raised = caught
        assert read(name) == ([3, 4] if raised is None else [1, 2])
        assert [file.name for file in Path().iterdir()] == [name]
        if raised is not None and calls.failed != "mkdir":
            assert str(raised).endswith(f"{name!r} was not written and is as it was before")
            assert (error == "MemoryError") == isinstance(raised, MemoryError)
        if not calls.failed:
            break
    assert 5 < n < 50


@pytest.mark.parametrize("name", list(WRITERS))
def test_killed_at_its_nth_call_a_file_is_the_old_one_or_the_new_one(name):
    """Also the folder is swept clean. The two calls after the rename sync the folder."""
    outcomes = []
    for n in range(1, 100):
        WRITERS[name]([1, 2])
        child = os.fork()
        if child == 0:
            with failing(Calls(n, failing_calls.KILL)):
                WRITERS[name]([3, 4])
            os._exit(0)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        sweep(".")
        assert [file.name for file in Path().iterdir()] == [name]
        outcomes.append((ended, read(name)))
        if ended == 0:
            break
    assert {ended for ended, _ in outcomes[:-1]} == {-signal.SIGKILL}
    states = [content for _, content in outcomes]
    assert states == sorted(states)
    assert states[0] == [1, 2]
    assert states[-1] == [3, 4]


def test_a_new_file_that_was_not_written_does_not_exist():
    with failing(Calls(2, "ENOSPC")), pytest.raises(OSError, match="'new' was not written and does not exist"):
        atomic_write_text("new", "x")
    assert list(Path().iterdir()) == []


def test_an_error_that_the_caller_handles_is_not_taken_for_one_of_the_file():
    try:
        raise OSError(28, "No space left on device")
    except OSError:
        with pytest.raises(ValueError, match=r"^of the content$"):
            atomic_write("a", lambda file: (_ for _ in ()).throw(ValueError("of the content")))


@pytest.mark.parametrize("error", ["ENOSPC", "MemoryError"])
def test_a_record_exists_only_if_the_whole_run_is_kept(error):
    """A comparison's run: metrics per user and the record, which comes last."""
    users = UserMetrics(np.array(["u1", "u2"]), {"ndcg@5": np.array([0.25, 0.5])})
    for n in range(1, 60):
        store, raised = Store(f"folder{n}"), False
        with failing(Calls(n, error, lasting=n % 2 == 0)) as calls:
            try:
                store.finish("key", {"test": 1}, users)
            except (OSError, MemoryError):
                raised = True
        assert (store.record("key") is None) == raised
        if not raised:
            assert store.users("key").metrics["ndcg@5"].tolist() == [0.25, 0.5]
        assert forked.temporary_files(store.folder) == []
        store.finish("key", {"test": 2}, users)
        assert store.record("key") == {"test": 2, "has_users": True}
        if not calls.failed:
            break
    assert 10 < n < 60


def test_a_log_that_cannot_be_written_is_said_in_one_line_and_the_run_goes_on(capfd):
    for n in (1, 2):  # its opening, its first line
        Path(f"run{n}").mkdir()
        with failing(Calls(n, "ENOSPC", lasting=True)):
            run_log.start_logging({"state": "INFO"}, Path(f"run{n}").absolute())
            for line in ("first", "second"):
                logging.getLogger().info(line, extra=run_log.TO_FILE)
            run_log.stop_logging()
        text = capfd.readouterr().err
        assert text.count("\n") == 1
        assert f"run{n}/run.log' cannot be written: No space left on device; the log ends here" in text


@pytest.fixture
def told(tmp_path):
    """``told(story)``: the undisturbed result, and a function that makes a new working folder."""
    forked.preload()

    def new(name):
        folder = tmp_path / name
        folder.mkdir()
        forked.write_data(folder / "dataset")
        return folder

    return lambda story: (kill_stories.undisturbed(story, new("undisturbed")), new)


@pytest.mark.parametrize(
    ("n", "error"),
    [(51, "kill"), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((12, "ENOSPC"), (95, "MemoryError")))],
)
def test_a_run_in_which_a_call_fails_is_resumed_to_the_same_result(n, error, told):
    """The first manifest, two checkpoints, the end; benchmarks/reliability_kills.py has every call."""
    story = kill_stories.Run()
    reference, new = told(story)
    outcome = kill_stories.fail(story, new("failing"), reference, n, error, lasting=n % 2 == 0)
    assert outcome.faults == []
    assert outcome.call
    if error in {"ENOSPC", "EIO"}:
        assert "was not written and" in outcome.line


@pytest.mark.slow
@pytest.mark.parametrize("story", [kill_stories.Compare(), kill_stories.Tune()], ids=["compare", "tune"])
@pytest.mark.parametrize(("n", "error"), [(30, "ENOSPC"), (101, "EIO"), (150, "kill")])
def test_a_comparison_and_a_tuning_in_which_a_call_fails(story, n, error, told):
    reference, new = told(story)
    assert kill_stories.fail(story, new("failing"), reference, n, error, lasting=n % 2 == 0).faults == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "story", [kill_stories.Run(), kill_stories.Compare(), kill_stories.Tune()], ids=["run", "compare", "tune"]
)
def test_killed_at_random_moments_a_command_is_done_in_the_end_and_leaves_nothing(story, told):
    reference, new = told(story)
    moments = forked.draws(7)

    def strike(_):
        return {"kill_after": next(moments) * reference["seconds"] * 1.4}

    assert kill_stories.tell(story, new("killed"), reference, strike)[1] == []
