"""Ray for the time of one command: on this machine and nobody else's, or in a cluster that is there.

A session of our own listens on loopback only, keeps its files in one short folder that goes with it, and starts no
dashboard. Before ray 2.52 nothing asks who connects: others who are logged in on the same machine could. From 2.52 on
each session has a token of its own, which is not written anywhere.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import re
import secrets
import shutil
import signal
import socket
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

from recbole_diffusion.experiment.cluster import folder as ray_folder
from recbole_diffusion.experiment.cluster import process as ray_process

OBJECT_STORE_BYTES = 200 * 2**20  # results are small; Ray's least is 75 MiB, its default a third of the memory
#: Ray asks this constant whether its own address is 127.0.0.1, and binds everything to its own address.
#: ``_node_ip_address="127.0.0.1"`` does not do it: Ray turns it back into the network card's.
_LOOPBACK_ONLY = ("ray._private.ray_constants", "ENABLE_RAY_CLUSTER", False)
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_AUTHENTICATION = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@contextlib.contextmanager
def session(
    workers: Optional[int] = None, address: Optional[str] = None, threads: int = 1, gpus: Optional[float] = None
) -> Iterator[Any]:
    """Start Ray, or join a cluster; give the ``ray`` module; leave nothing behind.

    Args:
        workers: CPU slots of a session on this machine; a task takes one unless it says otherwise.
        address: of a cluster, ``host:port`` or ``auto``. It is left running, and its resources are its own affair.
        threads: for OpenMP, MKL and OpenBLAS in each worker; a cluster's workers are limited by
            :func:`recbole_diffusion.experiment.jobs.executor.limit_threads`.
        gpus: how many GPUs a session on this machine may use; None: all that are visible.

    Raises:
        ValueError: no ray that works here, one that runs already, or no cluster at the address; one line.
    """
    _check("threads", threads)
    if address is None:
        _check("workers", workers)
    with contextlib.ExitStack() as stack:
        stack.enter_context(ray_process.restored_environment())
        os.environ.update(_variables(threads, address is None))
        handler = signal.getsignal(signal.SIGTERM)
        ray = import_ray()
        if ray.is_initialized():
            raise ValueError("Ray runs already in this process; call ray.shutdown() first")
        terminable = stack.enter_context(ray_process.Terminable(handler))
        stack.enter_context(ray_process.replaced("ray._private.utils", "set_sigterm_handler", lambda handler: None))
        # Newer Rays print a paragraph for each worker that dies, into our output and whatever log_to_driver says.
        stack.enter_context(
            ray_process.replaced("ray._private.worker", "print_to_stdstream", lambda *args, **kwargs: None)
        )
        if address is None:
            stack.enter_context(ray_process.replaced(*_LOOPBACK_ONLY))
            stack.enter_context(_local(ray, int(workers or 1), gpus, stack.enter_context(ray_folder.folder())))
        else:
            stack.enter_context(_joined(ray, address))
        terminable.handle()  # ray 2.6.3 has just put one there for its C++ part
        yield ray


def import_ray() -> Any:
    """The ``ray`` module.

    Raises:
        ValueError: it is not there or does not work with what is installed; one line that mends it.
    """
    from recbole_diffusion.compat import doctor
    from recbole_diffusion.support import libraries  # workers import this module and need neither

    found = doctor.installed()
    serial = "or leave out --workers and --address: the serial executor needs no ray"
    if found["ray"] is None:
        numpy = found["numpy"]
        old = sys.version_info < (3, 12) and numpy is not None and numpy.major < 2
        mend = "'recbole-diffusion[pins]'" if old else "'ray[tune]>=2.49'"
        raise ValueError(f"ray is not installed; pip install {mend}, {serial}")
    for fault in doctor.FAULTS:
        if re.search(r"\bray\b", fault.what) and fault.holds(found):
            raise ValueError(f"{fault.what}; mend: {fault.mend}; {serial}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*pkg_resources is deprecated")
        try:
            return importlib.import_module("ray")
        except Exception as error:  # whatever a damaged library raises
            failure = libraries.failure_of(error) or libraries.Failure("ray", False, str(error))
            raise ValueError(f"{failure.line}; {serial}") from error


def search_path() -> list[str]:
    """This process's ``sys.path``, absolute, without what is not there; a worker imports from it what we import."""
    entries = [os.path.abspath(entry or os.curdir) for entry in sys.path]
    return [entry for entry in dict.fromkeys(entries) if os.path.exists(entry)]


def _check(key: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{key}={value!r} is not allowed; allowed: a whole number from 1")


def _variables(threads: int, own: bool) -> dict[str, str]:
    variables = {"RAY_USAGE_STATS_ENABLED": "0"}
    if own:
        os.environ.pop("RAY_ADDRESS", None)
        variables.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads)))
        variables["RAY_task_oom_retries"] = "0"  # a run that was too large once will be again
        variables["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "1"  # a task without a GPU sees none, as before 2.50
        variables["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # loopback, for the processes that Ray starts
        if not any(name in os.environ for name in _AUTHENTICATION):
            variables.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    return variables


@contextlib.contextmanager
def _local(ray: Any, workers: int, gpus: Optional[float], folder: Path) -> Iterator[None]:
    """A Ray of our own; on leaving, none of its processes is left."""
    import psutil

    me = psutil.Process()
    before, started = set(me.children()), set()
    ray_process.read_authentication()
    shared = shutil.disk_usage("/dev/shm").free if os.path.isdir("/dev/shm") else 0
    try:
        try:
            ray.init(
                address="local",
                num_cpus=workers,
                num_gpus=gpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=OBJECT_STORE_BYTES,
                job_config=_job(ray),
                _temp_dir=str(folder),
                _plasma_directory=None if shared > 2 * OBJECT_STORE_BYTES else str(folder),
            )
        except Exception as error:  # Ray raises bare ones too, e.g. where a process of it takes too long to start
            reason = " ".join(str(error).split())[:300]
            raise ValueError(f"Ray did not start: {reason}; try again, or leave out --workers: no ray then") from error
        finally:
            started = set(me.children()) - before
        yield
    finally:
        _shut_down(ray, started)


def _shut_down(ray: Any, started: set[Any]) -> None:
    """End Ray and what it started. Its workers have nothing to keep; alone they notice after two seconds."""
    import psutil

    family = set(started)
    for process in started:
        with contextlib.suppress(psutil.NoSuchProcess):
            family.update(process.children(recursive=True))
    ray.shutdown()
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(family, timeout=5)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=5)


@contextlib.contextmanager
def _joined(ray: Any, address: str) -> Iterator[None]:
    """A cluster that is there; on leaving it goes on without us."""
    host, _, port = _head(address).rpartition(":")
    if not port.isdigit() or "/" in host:
        raise ValueError(f"address={address!r} is not allowed; allowed: host:port of the cluster's head, or auto")
    if not _listens(host, int(port)):
        raise ValueError(f"address={address!r}: nothing listens on {host}:{port}; start a cluster: ray start --head")
    if address == "auto" and _has_token():
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # as Ray does for auto; for host:port it wants to be told
    ray_process.read_authentication()
    with contextlib.ExitStack() as stack:
        if host in _LOOPBACK and not _listens(ray.util.get_node_ip_address(), int(port)):
            stack.enter_context(ray_process.replaced(*_LOOPBACK_ONLY))
        stack.callback(ray.shutdown)
        try:
            ray.init(address=f"{host}:{port}", log_to_driver=False, logging_level=logging.ERROR, job_config=_job(ray))
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            hint = "both sides need the same ray and Python, and RAY_AUTH_MODE=token where the cluster has a token"
            raise ValueError(f"address={address!r}: Ray cannot join: {reason}; {hint}") from error
        yield


def _has_token() -> bool:
    return any(name in os.environ for name in _AUTHENTICATION[1:]) or (Path.home() / ".ray" / "auth_token").is_file()


def _head(address: str) -> str:
    """``auto``: what RAY_ADDRESS names, or the last ``ray start`` here; Ray itself would take anybody's session."""
    if address != "auto":
        return address
    utils: Any = importlib.import_module("ray._private.utils")
    found = os.environ.get("RAY_ADDRESS") or utils.read_ray_address()
    if not found or found == "auto":
        raise ValueError("address='auto': no cluster was started on this machine; give host:port of its head")
    return str(found)


def _listens(host: str, port: int) -> bool:
    """Ask before Ray does, which waits for minutes."""
    try:
        socket.create_connection((host.strip("[]"), port), timeout=5).close()
    except OSError:
        return False
    return True


def _job(ray: Any) -> Any:
    return ray.job_config.JobConfig(_py_driver_sys_path=search_path()[::-1])  # each is put in front of the others
