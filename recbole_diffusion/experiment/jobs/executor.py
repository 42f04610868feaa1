"""Executors of jobs: one after the other in this process, or in parallel in Ray's workers.

Both limit threads in the same way, so that both give the same numbers bit for bit. Both report the error of a job in
one line and continue with the others. On Ray each job runs in its own process, forked from one that has imported what
jobs need (:mod:`fork_server`).
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import Any, Callable, Optional, Union

from recbole_diffusion.experiment.cluster.session import search_path, session
from recbole_diffusion.experiment.jobs import fork_server
from recbole_diffusion.experiment.jobs.calls import KILLED, Done, call_limited, limit_threads, one_line
from recbole_diffusion.experiment.jobs.ray_executor import PRELOAD, OnRay

__all__ = ["KILLED", "Done", "OnRay", "Serial", "executor", "limit_threads", "one_line", "server_for_workers"]


@contextlib.contextmanager
def executor(
    workers: Optional[int] = None,
    address: Optional[str] = None,
    threads: int = 1,
    cpus: float = 1.0,
    gpus: float = 0.0,
    fresh: bool = True,
    server: Optional[str] = None,
) -> Iterator[Union[Serial, OnRay]]:
    """Provide an executor inside a ``with`` block.

    Args:
        workers: CPU slots of a Ray session on this machine; without ``workers`` and ``address`` Ray is not used.
        address: of a Ray cluster, see :func:`recbole_diffusion.experiment.cluster.session.session`.
        threads: of each job.
        cpus: CPU slots per job; fractions are allowed.
        gpus: GPUs per job on Ray; fractions are allowed, and with 0 a job sees none. Without Ray a job sees the GPUs
            of this process.
        fresh: run each job on Ray in a new process that is not connected to Ray, so that no state of one job reaches
            the next.
        server: the address from :func:`server_for_workers`; None: start a fork server if one is needed.

    Raises:
        ValueError: an argument that is not allowed, no Ray, no cluster, or no machine with that many CPUs and GPUs.
    """
    for name, value, least in (("cpus", cpus, 0.01), ("gpus", gpus, 0.0)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= least:
            raise ValueError(f"{name}={value!r} is not allowed; allowed: a number from {least}")
    if workers is None and address is None:
        yield Serial(threads)
        return
    with contextlib.ExitStack() as stack:
        if fresh and server is None:
            server = stack.enter_context(server_for_workers(workers, address))
        ray = stack.enter_context(session(workers, address, threads))
        yield OnRay(ray, threads, cpus, gpus, fresh, server)


@contextlib.contextmanager
def server_for_workers(workers: Optional[int], address: Optional[str]) -> Iterator[Optional[str]]:
    """Start a fork server for workers on this machine. It imports while the caller prepares data and Ray starts.

    Args:
        workers, address: see :func:`executor`.

    Yields:
        The server's address; None if jobs do not run in a Ray session on this machine, or forking is not safe here.
    """
    if workers is None or address is not None or not fork_server.AVAILABLE:
        yield None
        return
    with fork_server.fork_server(search_path(), PRELOAD) as server:
        yield server


class Serial:
    """Jobs one after the other in this process.

    Args:
        threads: of OpenMP, BLAS and torch while a job runs; unchanged between jobs.
    """

    def __init__(self, threads: int = 1) -> None:
        importlib.import_module("torch")  # if a job imported it, its threads would not be limited
        self.threads = threads
        self._running: list[str] = []

    def slots(self) -> int:
        """Return 1: jobs run one after the other."""
        return 1

    def running(self) -> list[str]:
        """Return the key of the job that is running."""
        return list(self._running)

    def map(
        self,
        function: Callable[[Any], Any],
        jobs: Sequence[tuple[str, Any]],
        tick: Optional[Callable[[], Any]] = None,
    ) -> Iterator[Done]:
        """Call ``function(argument)`` for each ``(key, argument)``, and ``tick()`` before each."""
        for key, argument in jobs:
            self._running = [key]
            if tick:
                tick()
            start = perf_counter()
            try:
                value, error = call_limited(function, argument, self.threads)
            finally:
                self._running = []
            yield Done(key, value, error, perf_counter() - start)
