"""Wall time and processor seconds of a command with all the processes that it starts."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import psutil

#: Seconds between two looks at the processes; what a process does after the last one is not counted.
INTERVAL = 0.1


class Cost(NamedTuple):
    """Seconds by the clock, and of processors in all processes together."""

    wall: float
    cpu: float


def measured(words: Sequence[str], tree: Path, folder: Path) -> Cost:
    """Run ``python -m recbole_diffusion WORDS`` with the package of a source tree.

    Args:
        words: of the command line.
        tree: the folder that holds the package.
        folder: where the command stands.

    Raises:
        SystemExit: the command failed.
    """
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "recbole_diffusion", *words]
    start = perf_counter()
    process = psutil.Popen(
        command, env=environment, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    seconds: dict[tuple[int, float], float] = {}
    while process.poll() is None:
        for one in _family(process):
            with contextlib.suppress(psutil.Error):
                times = one.cpu_times()
                seconds[one.pid, one.create_time()] = times.user + times.system
        with contextlib.suppress(psutil.TimeoutExpired):
            process.wait(INTERVAL)
    wall = perf_counter() - start
    if process.returncode:
        raise SystemExit(f"{' '.join(words)}: {process.stderr.read()}")
    return Cost(wall, sum(seconds.values()))


def _family(process: psutil.Popen) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return [process, *process.children(recursive=True)]
    return []


def tree_name(tree: Path) -> str:
    """A tree's short commit, or its folder's name where it is no checkout."""
    command = ["git", "-C", str(tree), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() or tree.name
