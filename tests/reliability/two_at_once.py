"""Eight processes that start the same command in one folder at the same moment, and the kill of the one that works."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable, NamedTuple

import forked_commands as forked
from forked_commands import DIFFREC, SMALL

PROCESSES = 8
#: The command of each kind of folder, by the kind. The table of the import is written by :func:`write_table`.
COMMANDS: dict[str, Sequence[str]] = {
    "compare": ["compare", "--models=DiffRec,EASE", "--dataset=tiny", "--seeds=2", "--folder=made", *SMALL, *DIFFREC],
    "tune": ["tune", "--model=BPR", "--dataset=tiny", "--trials=3", "--folder=made", "--executor=serial", *SMALL],
    "prepared": ["run", "--model=DiffRec", "--dataset=tiny", "--prepared_data=made", *SMALL, *DIFFREC],
    "pretraining": [
        *("run", "--model=DDRM", "--dataset=tiny", "--pretrain_dir=made", "--steps=3"),
        *("--base_model=BPR", "--base_config={epochs: 3, embedding_size: 8}", *SMALL),
    ],
    "import": ["data", "import", "table.csv", "--name=made"],
}  # fmt: skip
#: Kinds of folders for which the others wait; for the rest they end with one line at once.
WAITING = ("prepared", "pretraining")


class Result(NamedTuple):
    """The ends of the processes: their exit codes, last lines, and how many did the work itself."""

    codes: list[int]
    lines: list[str]
    workers: int


def write_table(file: Path) -> None:
    """Write a table of interactions."""
    rows = [f"u{user},i{(user * 7 + n * 5) % 24},{1 + n % 5},{1_000_000 + n}" for user in range(30) for n in range(8)]
    file.write_text("\n".join(["user,item,rating,time", *rows]) + "\n")


def start_all(kind: str, folder: Path, slow: bool = False) -> Result:
    """Start the processes, and let them go at the same moment.

    Args:
        kind: a key of :data:`COMMANDS`.
        folder: with the data.
        slow: whether the worker takes so long that it can be killed at work, which is done. The others then go on.
    """
    write_table(folder / "table.csv")
    (folder / "go").unlink(missing_ok=True)
    (folder / "worked").write_text("")
    children = [
        forked.start(COMMANDS[kind], folder, _before(kind, folder, number, slow)) for number in range(PROCESSES)
    ]
    time.sleep(0.3)
    (folder / "go").touch()
    if slow:
        limit = time.monotonic() + 120
        while not (folder / "worked").read_text() and time.monotonic() < limit:
            time.sleep(0.01)
        os.kill(int((folder / "worked").read_text().split()[0]), signal.SIGKILL)
    codes = [forked.wait(child) for child in children]
    lines = [(folder / f"printed{number}").read_text().strip().rpartition("\n")[2] for number in range(PROCESSES)]
    return Result(codes, lines, len((folder / "worked").read_text().split()))


def _before(kind: str, folder: Path, number: int, slow: bool) -> Callable[[], None]:
    def before() -> None:
        printed = os.open(f"printed{number}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.dup2(printed, 1)
        os.dup2(printed, 2)
        _note_work(kind, folder, slow)
        while not (folder / "go").exists():
            time.sleep(0.005)

    return before


def _note_work(kind: str, folder: Path, slow: bool) -> None:
    """Note the process that prepares, trains a base, compares, tunes or installs an import; with ``slow`` it stays."""
    from recbole_diffusion.data import prepared
    from recbole_diffusion.experiment.compare.comparison import Comparison
    from recbole_diffusion.experiment.tune.tuning import Tuning
    from recbole_diffusion.pretraining import cache
    from recbole_diffusion.support import atomic_folder

    def noted(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def function(*arguments: Any, **keywords: Any) -> Any:
            handle = os.open(folder / "worked", os.O_WRONLY | os.O_APPEND)
            os.write(handle, f"{os.getpid()}\n".encode())
            os.close(handle)
            if slow and len((folder / "worked").read_text().split()) == 1:
                time.sleep(60)
            return original(*arguments, **keywords)

        setattr(owner, name, function)

    works: dict[str, tuple[Any, str]] = {
        "compare": (Comparison, "run"),
        "tune": (Tuning, "run"),
        "prepared": (prepared, "_create"),
        "pretraining": (cache, "_train"),
        "import": (atomic_folder, "_complete"),
    }
    noted(*works[kind])
