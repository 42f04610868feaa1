"""One interface for many jobs: one after the other in this process, or side by side in Ray's workers.

Both limit the threads in the same way, so that both give the same numbers bit for bit; both turn what goes wrong in a
job into one line and go on with the others. A worker runs each job in a process of its own, forked from one that has
imported what jobs need (:mod:`fork_server`). This module imports neither torch nor ray: workers import it first.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Callable, NamedTuple, Optional, Union

from recbole_diffusion.experiment.cluster.session import search_path, session
from recbole_diffusion.experiment.jobs import fork_server

Job = tuple[str, Any]
Tick = Optional[Callable[[], Any]]
KILLED = "the worker process was killed (out of memory?)"
#: What the fork server calls before it forks.
PRELOAD = "recbole_diffusion.experiment.jobs.run_job:preload"


class Done(NamedTuple):
    """A job that has ended.

    Attributes:
        key: the job's.
        value: what the function returned; None where it failed.
        error: why it failed, one line; None where it did not.
        seconds: from its start to its end, the start of a worker process included.
    """

    key: str
    value: Any
    error: Optional[str]
    seconds: float


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
    """An executor for the time of a ``with`` block.

    Args:
        workers: CPU slots of a Ray session on this machine; None, and no address: no Ray.
        address: of a Ray cluster, see :func:`recbole_diffusion.experiment.cluster.session.session`.
        threads: of each job.
        cpus: CPU slots that a job takes; fractions are allowed.
        gpus: GPUs that a job takes on Ray; fractions are allowed; 0: it sees none. Without Ray it sees what we see.
        fresh: a new process for each job on Ray, so that nothing of one job reaches the next. It is not connected to
            Ray itself.
        server: what :func:`server_for_workers` gave; None: one is started here where it is needed.

    Raises:
        ValueError: an argument that is not allowed, no ray, no cluster, or no node with that many CPUs and GPUs.
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
    """A fork server for workers on this machine: it imports while the caller prepares and Ray starts.

    Args:
        workers, address: as :func:`executor`'s.

    Yields:
        The server's address; None where jobs do not run on this machine's Ray, or no process can be forked safely.
    """
    if workers is None or address is not None or not fork_server.AVAILABLE:
        yield None
        return
    with fork_server.fork_server(search_path(), PRELOAD) as server:
        yield server


class Serial:
    """Jobs one after the other in this process.

    Args:
        threads: of OpenMP, BLAS and torch while a job runs; as before between jobs.
    """

    def __init__(self, threads: int = 1) -> None:
        importlib.import_module("torch")  # a job that imported it would take all cores
        self.threads = threads
        self._running: list[str] = []

    def slots(self) -> int:
        """One: jobs run one after the other."""
        return 1

    def running(self) -> list[str]:
        """The key of the job that runs now."""
        return list(self._running)

    def map(self, function: Callable[[Any], Any], jobs: Sequence[Job], tick: Tick = None) -> Iterator[Done]:
        """Call ``function(argument)`` for each ``(key, argument)``; ``tick()`` before each."""
        for key, argument in jobs:
            self._running = [key]
            if tick:
                tick()
            start = perf_counter()
            try:
                value, error = _call(function, argument, self.threads)
            finally:
                self._running = []
            yield Done(key, value, error, perf_counter() - start)


class OnRay:
    """Jobs side by side, each in a worker process of Ray.

    Args:
        ray: the module, connected.
        threads, cpus, gpus, fresh: as :func:`executor`'s.
        server: the address of a fork server on this machine; without, each worker starts one of its own.
    """

    def __init__(
        self,
        ray: Any,
        threads: int = 1,
        cpus: float = 1.0,
        gpus: float = 0.0,
        fresh: bool = True,
        server: Optional[str] = None,
    ) -> None:
        self.ray, self.cpus, self.gpus = ray, cpus, gpus
        forks = fresh and fork_server.AVAILABLE
        self._common = ray.put((search_path(), threads, gpus > 0, forks, server))
        options: dict[str, Any] = {"num_cpus": cpus, "num_gpus": gpus, "max_retries": 0}
        if fresh and not forks:
            options["max_calls"] = 1
        self._task = ray.remote(**options)(_bootstrap())
        self._running: dict[str, float] = {}
        if not self.slots():
            raise ValueError(f"cpus={cpus}, gpus={gpus}: no machine of this Ray has that many; ask for less")

    def running(self) -> list[str]:
        """The keys of the jobs that run now."""
        return list(self._running)

    def map(self, function: Callable[[Any], Any], jobs: Sequence[Job], tick: Tick = None) -> Iterator[Done]:
        """Call ``function(argument)`` for each ``(key, argument)``, as many at once as there is room for.

        Args:
            function: of a module that the workers can import, or picklable with cloudpickle.
            jobs: with different keys.
            tick: called each second, and whenever a job ends.

        Yields:
            What has ended, in the order in which it did.
        """
        waiting = deque(jobs)
        submitted: dict[Any, str] = {}
        try:
            while waiting or submitted:
                slots = self.slots()
                while waiting and len(submitted) <= slots:  # one more than there is room for: no worker waits for us
                    key, argument = waiting.popleft()
                    call = self.ray.cloudpickle.dumps((function, argument))
                    submitted[self._task.remote(self._common, call)] = key
                self._note_running(list(submitted.values())[:slots])
                if tick:
                    tick()
                ready, _ = self.ray.wait(list(submitted), timeout=1.0)
                for each in ready:
                    yield self._done(submitted.pop(each), each)
        finally:
            self._running = {}
            for each in submitted:
                self.ray.cancel(each, force=True)

    def slots(self) -> int:
        """How many jobs there is room for, machine by machine: a job cannot take half of two."""
        room = 0
        for node in self.ray.nodes():
            if node["Alive"]:
                have = node["Resources"]
                ratios = [have.get("CPU", 0) / self.cpus]
                if self.gpus:
                    ratios.append(have.get("GPU", 0) / self.gpus)
                room += int(min(ratios) + 1e-6)
        return room

    def _note_running(self, keys: list[str]) -> None:
        now = perf_counter()
        self._running = {key: self._running.get(key, now) for key in keys}

    def _done(self, key: str, reference: Any) -> Done:
        exceptions = self.ray.exceptions
        start = self._running.pop(key, None)
        value, error = None, None
        try:
            value, error = pickle.loads(self.ray.get(reference))
        except exceptions.WorkerCrashedError:
            error = KILLED
        except exceptions.OutOfMemoryError:
            error = "out of memory: Ray ended the worker because the machine had too little left"
        except exceptions.RayError as failure:  # a RayTaskError: before the job began
            error = one_line(getattr(failure, "cause", None) or failure)
        return Done(key, value, error, 0.0 if start is None else perf_counter() - start)


def _bootstrap() -> Callable[..., bytes]:
    def job(common: tuple[list[str], int, bool, bool, Optional[str]], call: bytes) -> bytes:
        """Sent as it is, not by name: it runs before our package can be imported, and sees to it that it can be."""
        import os
        import sys

        path, threads, with_gpu, forks, server = common
        sys.path[:] = [p for p in path if os.path.exists(p)] + [p for p in sys.path if p not in path]
        sys.argv = sys.argv[:1]  # RecBole's own Config reads it
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ[name] = str(threads)
        if not with_gpu:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        from recbole_diffusion.experiment.jobs.executor import _work, _work_in_child

        return _work_in_child(call, threads, server) if forks else _work(call, threads)

    return job


def _work_in_child(call: bytes, threads: int, server: Optional[str]) -> bytes:
    """In the worker: let a fork server's child do :func:`_work`."""
    request = fork_server.JobRequest(_work, (call, threads), dict(os.environ), os.getcwd())
    try:
        if server is None:
            raise FileNotFoundError("no fork server on this machine")
        answer = fork_server.call(server, request)
    except OSError:  # none, or it was killed
        answer = fork_server.call(fork_server.own_address(PRELOAD), request)
    return pickle.dumps((None, KILLED)) if answer is None else answer


def _work(call: bytes, threads: int) -> bytes:
    """In the worker or its child: unpickle, call, pickle. Bytes, so that no result keeps its place in Ray's store."""
    try:
        function, argument = pickle.loads(call)
        value, error = _call(function, argument, threads)
        return pickle.dumps((value, error), protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as failure:  # cannot be imported there, cannot be pickled
        return pickle.dumps((None, one_line(failure)))


def _call(function: Callable[[Any], Any], argument: Any, threads: int) -> tuple[Any, Optional[str]]:
    with contextlib.suppress(OSError):  # Linux: the peak memory of this process is this job's, not an earlier one's
        Path("/proc/self/clear_refs").write_text("5")
    try:
        with limit_threads(threads):
            return function(argument), None
    except (Exception, SystemExit) as error:  # RecBole leaves by exit() where a download fails
        return None, one_line(error)


def one_line(error: BaseException) -> str:
    """What went wrong, in one line of at most 500 characters."""
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
    """Limit OpenMP, BLAS and torch to so many threads; as before on leaving.

    torch is limited where it is loaded; where it is not, ``OMP_NUM_THREADS`` decides.
    """
    from threadpoolctl import threadpool_limits

    torch: Any = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 0
    with threadpool_limits(limits=threads):
        if torch:
            torch.set_num_threads(threads)
        try:
            yield
        finally:
            if torch:
                torch.set_num_threads(before)
