"""Commands in forked processes: fast to start, so that many can be killed; and what they leave behind."""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

import numpy as np

from recbole_diffusion.testing import HEADER, write_inter

USERS, ITEMS = 30, 24
#: Settings of every command: trainings of a few hundredths of a second.
SMALL = (
    "--data_path=dataset", "--epochs=4", "--stopping_step=100", "--topk=[5]", "--metrics=[Recall,NDCG]",
    "--valid_metric=NDCG@5", "--state=WARNING", "--show_progress=False", "--train_batch_size=64",
)  # fmt: skip
DIFFREC = ("--steps=3", "--dims=[8]")
EVALUATION = "--eval_args={split: {LS: valid_and_test}, order: TO, group_by: user, mode: full}"


class Ended(NamedTuple):
    """How a command ended.

    Attributes:
        code: exit code; -9 if it was killed.
        text: what it printed, both streams.
        seconds: its duration.
    """

    code: int
    text: str
    seconds: float


def write_data(folder: Path, name: str = "tiny", seed: int = 0) -> None:
    """Write a data set of 30 users and 24 items, in which users like the items of their own parity."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(USERS):
        liked = [item for item in range(ITEMS) if item % 2 == user % 2]
        for position, item in enumerate(rng.permutation(liked)[: rng.integers(8, 11)]):
            rows.append((f"u{user}", f"i{item}", 5.0, 1_000_000_000 + 1000 * position + user))
    write_inter(folder, name, rows, HEADER)


def preload() -> None:
    """Import what commands import, and parse what they parse, so that forked processes start at once."""
    for name in ("matplotlib.figure", "scipy.stats", "texttable", "recbole.data.dataset", "recbole.trainer"):
        importlib.import_module(name)
    for name in ("cli.compare", "cli.run", "cli.tune", "cli.data", "experiment.report.files", "experiment.compare"):
        importlib.import_module(f"recbole_diffusion.{name}")
    from recbole_diffusion.experiment.jobs import fingerprint, run_job

    run_job.preload()
    for model in ("DiffRec", "EASE", "BPR"):
        fingerprint.code_fingerprint(model)


def _undrawn() -> None:
    """Write figures without drawing them, which takes seconds."""
    import matplotlib.figure

    from recbole_diffusion.experiment.report import files

    matplotlib.figure.Figure.savefig = lambda self, file, **_: file.write(b"not drawn")  # type: ignore
    files._draw_function = lambda: None


def start(
    words: Sequence[str], folder: Path, before: Callable[[], Any] = lambda: None, function: Optional[Callable] = None
) -> int:
    """Fork a process, the leader of its session, that executes a command in ``folder``.

    Args:
        words: of the command line.
        folder: its working folder; ``tmp`` in it is its folder of temporary files, ``printed`` what it prints.
        before: called in the process first; what it returns, if anything, is called when the command has ended.
        function: called instead of the command line.

    Returns:
        Its process id.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        os.setsid()
        os.chdir(folder)
        Path("tmp").mkdir(exist_ok=True)
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder / "tmp")
        printed = os.open("printed", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(printed, 1)
        os.dup2(printed, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
        sys.argv = ["recbole-diffusion"]
        _undrawn()
        from recbole_diffusion.cli import main

        after = before()
        try:
            code = int(function() or 0) if function else main(words)
        finally:
            if after:
                after()
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def wait(child: int, kill_after: Optional[float] = None, limit: float = 300.0) -> int:
    """Wait for a process, and kill it with SIGKILL after some seconds; its exit code, -9 if it was killed."""
    begin = time.monotonic()
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        passed = time.monotonic() - begin
        if kill_after is not None and passed >= kill_after:
            os.kill(child, signal.SIGKILL)
            kill_after = None
        if passed > limit:
            os.killpg(child, signal.SIGKILL)
            raise RuntimeError(f"process {child} did not end within {limit} s")
        time.sleep(0.002)


def execute(
    words: Sequence[str],
    folder: Path,
    kill_after: Optional[float] = None,
    before: Callable[[], Any] = lambda: None,
    function: Optional[Callable] = None,
) -> Ended:
    """Execute a command in a forked process, and kill it after some seconds; see :func:`start`."""
    (folder / "printed").unlink(missing_ok=True)
    begin = time.monotonic()
    child = start(words, folder, before, function)
    code = wait(child, kill_after)
    seconds = time.monotonic() - begin
    return Ended(
        code, (folder / "printed").read_text(errors="replace") if (folder / "printed").exists() else "", seconds
    )


# What is left


def processes_of(session: int) -> list[int]:
    """The processes of a session."""
    members = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            members.append(int(entry.parent.name))
    return members


def temporary_files(folder: Path) -> list[str]:
    """Files and folders that only a process at work needs: unfinished writes, stages, and all in ``tmp``."""
    pattern = re.compile(r".*\.tmp|.*\.writing-.*|.*\.checked|\.unpacked-.*|\.replaced-.*")
    names = [path for path in folder.rglob("*") if pattern.fullmatch(path.name)]
    inside = (folder / "tmp").iterdir() if (folder / "tmp").is_dir() else []
    names += [path for path in inside if not path.name.startswith("torchinductor")]  # torch's own cache, which it keeps
    return sorted({str(path.relative_to(folder)) for path in names})


def held_locks(folder: Path) -> list[str]:
    """Lock files that a process holds."""
    held = []
    for path in [*folder.rglob("*.lock"), *folder.rglob(".lock")]:
        with open(path) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                held.append(str(path.relative_to(folder)))
    return held


# What is equal

#: Entries that another execution of the same training may have otherwise.
TIMES = re.compile(
    r".*_s|.*_s_per_epoch|.*seconds|.*seconds_.*|timing|started|host|pid|driver|process|where|.*memory.*|.*mib|.*users_per_s.*"
    r"|environment|energy.*|.*joules.*|created|folder|checkpoint|command|.*_path|.*_dir|prepared_data|platform|notes"
)


def without_times(value: Any) -> Any:
    """A value of json without times, places and processes."""
    if isinstance(value, dict):
        return {key: without_times(entry) for key, entry in value.items() if not TIMES.fullmatch(key)}
    return [without_times(entry) for entry in value] if isinstance(value, list) else value


def contents(folder: Path, pattern: str) -> dict[str, Any]:
    """The json files that match, by path, without times."""
    return {str(file.relative_to(folder)): without_times(json.loads(file.read_text())) for file in folder.glob(pattern)}


def draws(seed: int) -> Iterator[float]:
    """Uniform numbers from 0 to 1."""
    generator = random.Random(seed)
    while True:
        yield generator.random()
