"""Jobs in parallel in Ray's workers, each in a process of its own.

This module imports neither torch nor ray: workers import it first.
"""

from __future__ import annotations

import os
import pickle
from collections import deque
from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import Any, Callable, Optional

from recbole_diffusion.experiment.cluster.session import search_path
from recbole_diffusion.experiment.jobs import fork_server
from recbole_diffusion.experiment.jobs.calls import KILLED, NODE_DIED, Done, call_limited, one_line

#: The function that a fork server calls before its first fork.
PRELOAD = "recbole_diffusion.experiment.jobs.run_job:preload"


class OnRay:
    """Jobs in parallel, each in a worker process of Ray.

    Args:
        ray: the module, connected to a session.
        threads, cpus, gpus, fresh: see :func:`recbole_diffusion.experiment.jobs.executor.executor`.
        server: the address of a fork server on this machine; None: each worker starts its own.

    Raises:
        ValueError: no machine of the session has that many CPUs and GPUs.
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
        self._task = ray.remote(**options)(_worker_function())
        self._started: dict[str, float] = {}
        if not self.slots():
            raise ValueError(f"cpus={cpus}, gpus={gpus}: no machine of this Ray has that many; ask for less")

    def running(self) -> list[str]:
        """Return the keys of the jobs that are running."""
        return list(self._started)

    def map(
        self,
        function: Callable[[Any], Any],
        jobs: Sequence[tuple[str, Any]],
        tick: Optional[Callable[[], Any]] = None,
    ) -> Iterator[Done]:
        """Call ``function(argument)`` for each ``(key, argument)``, in parallel as far as the resources allow.

        Args:
            function: of a module that the workers can import, or picklable with cloudpickle.
            jobs: with unique keys.
            tick: called every second, and whenever a job ends.

        Yields:
            Each job when it ends.
        """
        waiting = deque(jobs)
        submitted: dict[Any, str] = {}
        try:
            while waiting or submitted:
                slots = self.slots()
                while waiting and len(submitted) <= slots:  # one more than slots: no worker waits for the driver
                    key, argument = waiting.popleft()
                    call = self.ray.cloudpickle.dumps((function, argument))
                    submitted[self._task.remote(self._common, call)] = key
                self._note_started(list(submitted.values())[:slots])
                if tick:
                    tick()
                ready, _ = self.ray.wait(list(submitted), timeout=1.0)
                for reference in ready:
                    yield self._done(submitted.pop(reference), reference)
        finally:
            self._started = {}
            for reference in submitted:
                self.ray.cancel(reference, force=True)

    def slots(self) -> int:
        """Return how many jobs can run at once, summed over machines: a job cannot use parts of two of them."""
        total = 0
        for node in self.ray.nodes():
            if node["Alive"]:
                resources = node["Resources"]
                ratios = [resources.get("CPU", 0) / self.cpus]
                if self.gpus:
                    ratios.append(resources.get("GPU", 0) / self.gpus)
                total += int(min(ratios) + 1e-6)
        return total

    def _note_started(self, keys: list[str]) -> None:
        now = perf_counter()
        self._started = {key: self._started.get(key, now) for key in keys}

    def _done(self, key: str, reference: Any) -> Done:
        exceptions = self.ray.exceptions
        start = self._started.pop(key, None)
        value, error = None, None
        try:
            value, error = pickle.loads(self.ray.get(reference))
        except exceptions.WorkerCrashedError:
            error = KILLED
        except exceptions.NodeDiedError:
            error = NODE_DIED
        except exceptions.OutOfMemoryError:
            error = "out of memory: Ray ended the worker because the machine had too little left"
        except exceptions.RayError as failure:  # a RayTaskError: before the job began
            error = one_line(getattr(failure, "cause", None) or failure)
        return Done(key, value, error, 0.0 if start is None else perf_counter() - start)


def _worker_function() -> Callable[..., bytes]:
    """The function that Ray runs in a worker. It is nested, so that Ray pickles it by value and not by name.

    It runs before the worker can import this package, and makes it importable.
    """

    def run_in_worker(common: tuple[list[str], int, bool, bool, Optional[str]], call: bytes) -> bytes:
        import os
        import sys

        path, threads, with_gpu, forks, server = common
        sys.path[:] = [p for p in path if os.path.exists(p)] + [p for p in sys.path if p not in path]
        sys.argv = sys.argv[:1]  # RecBole's own Config reads it
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ[name] = str(threads)
        if not with_gpu:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        from recbole_diffusion.experiment.jobs.ray_executor import call_in_child, call_pickled

        return call_in_child(call, threads, server) if forks else call_pickled(call, threads)

    return run_in_worker


def call_in_child(call: bytes, threads: int, server: Optional[str]) -> bytes:
    """In a worker: let a child of a fork server execute :func:`call_pickled`."""
    request = fork_server.JobRequest(call_pickled, (call, threads), dict(os.environ), os.getcwd())
    try:
        if server is None:
            raise FileNotFoundError("no fork server on this machine")
        answer = fork_server.call(server, request)
    except OSError:  # no server, or it was killed
        answer = fork_server.call(fork_server.own_address(PRELOAD), request)
    return pickle.dumps((None, KILLED)) if answer is None else answer


def call_pickled(call: bytes, threads: int) -> bytes:
    """In a worker or its child: unpickle function and argument, call, and pickle (value, error).

    The result is bytes, so that no large array of it stays in Ray's object store.
    """
    try:
        function, argument = pickle.loads(call)
        value, error = call_limited(function, argument, threads)
        return pickle.dumps((value, error), protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as failure:  # the function cannot be imported, or its result cannot be pickled
        return pickle.dumps((None, one_line(failure)))
