"""Commands in forked processes: fast to start, so that many can be killed; and what they leave behind."""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import json
import os
import random
import re
import shutil
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
        session: its process id, which is also that of its session.
    """

    code: int
    text: str
    seconds: float
    session: int = 0


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
        os.environ["TMPDIR"] = tempfile.tempdir = str(_temporary(folder))
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
    kill_worker: bool = False,
    limit: float = 300.0,
) -> Ended:
    """Execute a command in a forked process, and kill it, or one of its workers, after some seconds.

    See :func:`start`.
    """
    (folder / "printed").unlink(missing_ok=True)
    begin = time.monotonic()
    child = start(words, folder, before, function)
    if kill_worker:
        _kill_worker(child, folder, begin + (kill_after or 0.0))
    code = wait(child, None if kill_worker else kill_after, limit)
    seconds = time.monotonic() - begin
    text = (folder / "printed").read_text(errors="replace") if (folder / "printed").exists() else ""
    return Ended(code, text, seconds, child)


def _kill_worker(child: int, folder: Path, moment: float) -> None:
    """Kill a process that trains, the first that does after a moment, unless the command has ended before."""
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        training = [process for process in processes_of({child}, folder) if "/work/" in _link(process, "cwd")]
        if training and time.monotonic() >= moment:
            os.kill(training[0], signal.SIGKILL)
            return
        time.sleep(0.01)


# What is left


def _temporary(folder: Path) -> Path:
    """The temporary folder of the commands in ``folder``: ``tmp`` in it, or what that links to."""
    return (folder / "tmp").resolve()


@contextlib.contextmanager
def short_temporary_folder(folder: Path) -> Iterator[None]:
    """Let ``tmp`` in the folder be a link to a folder whose name is short enough for Ray's sockets."""
    short = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))
    (folder / "tmp").symlink_to(short)
    try:
        yield
    finally:
        shutil.rmtree(short, ignore_errors=True)


def processes_of(sessions: set[int], folder: Path) -> list[int]:
    """The living processes of commands that were started in a folder.

    Those are the members of the commands' sessions, and the programs that they started, which have their TMPDIR.
    """
    variable = b"TMPDIR=" + os.fsencode(_temporary(folder))
    members = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if (int(fields[3]) in sessions or variable in variables) and fields[0] != "Z":
            members.append(int(entry.name))
    return members


def processes_left(sessions: set[int], folder: Path, seconds: float) -> list[str]:
    """The names of the processes that have not ended after some seconds; see :func:`processes_of`."""
    limit = time.monotonic() + seconds
    while (left := processes_of(sessions, folder)) and time.monotonic() < limit:
        time.sleep(0.05)
    return [_command(process) for process in left]


def _command(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:80]
    except OSError:
        return str(process)


def _link(process: int, name: str) -> str:
    try:
        return os.readlink(f"/proc/{process}/{name}")
    except OSError:
        return ""


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

#: Entries that another execution of the same training may have otherwise; ``sha256`` is of the file, times included.
TIMES = re.compile(
    r".*_s|.*_s_per_epoch|.*seconds|.*seconds_.*|timing|started|host|pid|driver|process|where|.*memory.*|.*mib|.*users_per_s.*"
    r"|sha256|environment|energy.*|.*joules.*|created|folder|checkpoint|command|.*_path|.*_dir|prepared_data|platform|notes"
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
