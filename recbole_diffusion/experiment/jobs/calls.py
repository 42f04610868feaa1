"""Call a job's function in this process, with limited threads and with errors in one line.

This module imports neither torch nor ray: workers import it first.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

KILLED = "the worker process was killed (out of memory?)"
#: The error of a job whose machine left the Ray cluster.
NODE_DIED = "the machine that ran it has died or has left the Ray cluster"
#: The error of a trial on a cluster of several machines, before Ray knows which of both it was.
KILLED_OR_LOST = "the worker process was killed (out of memory?), or its machine has left the Ray cluster"


class Done(NamedTuple):
    """A job that has ended.

    Attributes:
        key: the job's.
        value: the function's result; None if the job failed.
        error: why it failed, one line; None if it did not.
        seconds: from the job's start to its end, including the start of a worker process.
    """

    key: str
    value: Any
    error: Optional[str]
    seconds: float


def call_limited(function: Callable[[Any], Any], argument: Any, threads: int) -> tuple[Any, Optional[str]]:
    """Return the function's result and None, or None and the error in one line."""
    with contextlib.suppress(OSError):  # Linux: reset the process's peak memory, so that it is this job's
        Path("/proc/self/clear_refs").write_text("5")
    try:
        with limit_threads(threads):
            return function(argument), None
    except (Exception, SystemExit) as error:  # RecBole calls exit() if a download fails
        return None, one_line(error)


def one_line(error: BaseException) -> str:
    """Return the error's message in one line of at most 500 characters."""
    text = " ".join(str(error).split())[:400]
    kind = type(error).__name__
    no_memory = "out of memory" in text or "can't allocate memory" in text
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and no_memory):
        return f"out of memory: {text or kind}"
    if isinstance(error, ValueError) and text:
        return text
    return f"{kind}: {text}" if text else kind


@contextlib.contextmanager
def limit_threads(threads: int) -> Iterator[None]:
    """Limit OpenMP, BLAS and torch to ``threads`` threads inside a ``with`` block.

    torch is limited if it is loaded; otherwise ``OMP_NUM_THREADS`` decides.
    """
    from threadpoolctl import threadpool_limits

    torch: Any = sys.modules.get("torch")
    previous = torch.get_num_threads() if torch else 0
    with threadpool_limits(limits=threads):
        if torch:
            torch.set_num_threads(threads)
        try:
            yield
        finally:
            if torch:
                torch.set_num_threads(previous)
