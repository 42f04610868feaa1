"""Ray for the duration of one command: a session on this machine that others cannot reach, or an existing cluster.

A local session listens on loopback only, keeps its files in one short folder that is removed with it, and starts no
dashboard. Before ray 2.52 connections are not authenticated, so other users of the same machine could connect. From
2.52 on each session has its own token, which is not written to any file.
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
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

from recbole_diffusion.experiment.cluster import head, process_state
from recbole_diffusion.experiment.cluster.session_folder import session_folder

OBJECT_STORE_BYTES = 200 * 2**20  # results are small; Ray's least is 75 MiB, its default a third of the memory
#: Ray binds everything to its own address unless this constant says that it is 127.0.0.1.
#: ``_node_ip_address="127.0.0.1"`` has no effect: Ray turns it back into the network card's.
_LOOPBACK_ONLY = ("ray._private.ray_constants", "ENABLE_RAY_CLUSTER", False)
#: With ``include_dashboard=False`` Ray still starts the dashboard's process, and waits for it for up to 20 seconds.
_NO_DASHBOARD = ("ray._private.services", "start_api_server", lambda *args, **kwargs: (None, None))
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_AUTHENTICATION = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@contextlib.contextmanager
def session(
    workers: Optional[int] = None, address: Optional[str] = None, threads: int = 1, gpus: Optional[float] = None
) -> Iterator[Any]:
    """Start Ray, or join a cluster, for a ``with`` block; no process and no file of the session remains afterwards.

    Args:
        workers: CPU slots of a session on this machine; by default a task takes one.
        address: of a cluster, ``host:port`` or ``auto``. The cluster keeps running and decides on its own resources.
        threads: for OpenMP, MKL and OpenBLAS in each worker; a cluster's workers are limited by
            :func:`recbole_diffusion.experiment.jobs.executor.limit_threads`.
        gpus: how many GPUs a session on this machine may use; None: all visible ones.

    Yields:
        The ``ray`` module.

    Raises:
        ValueError: no usable Ray, a running Ray in this process, or no cluster at the address; one line.
    """
    _check_positive("threads", threads)
    if address is None:
        _check_positive("workers", workers)
    with contextlib.ExitStack() as stack:
        stack.enter_context(process_state.restored_environment())
        os.environ.update(_variables(threads, address is None))
        previous_handler = signal.getsignal(signal.SIGTERM)
        ray = import_ray()
        if ray.is_initialized():
            raise ValueError("Ray runs already in this process; call ray.shutdown() first")
        handler = stack.enter_context(process_state.SigtermHandler(previous_handler))
        stack.enter_context(
            process_state.replaced_attribute("ray._private.utils", "set_sigterm_handler", lambda handler: None)
        )
        # Newer Rays print a paragraph for each worker that dies, whatever log_to_driver is.
        stack.enter_context(
            process_state.replaced_attribute("ray._private.worker", "print_to_stdstream", lambda *args, **kwargs: None)
        )
        if address is None:
            stack.enter_context(process_state.replaced_attribute(*_LOOPBACK_ONLY))
            stack.enter_context(process_state.replaced_attribute(*_NO_DASHBOARD))
            stack.enter_context(_local(ray, int(workers or 1), gpus, stack.enter_context(session_folder())))
        else:
            stack.enter_context(_joined(ray, address))
        handler.install()  # again: ray 2.6.3 has just installed its own for its C++ part
        yield ray


def import_ray() -> Any:
    """Import and return the ``ray`` module.

    Raises:
        ValueError: it is not installed, or does not work with the installed libraries; one line with the fix.
    """
    from recbole_diffusion.compat import doctor
    from recbole_diffusion.support import libraries  # workers import this module and need neither

    installed = doctor.installed()
    serial = "or leave out --workers and --address: the serial executor needs no ray"
    if installed["ray"] is None:
        numpy = installed["numpy"]
        old = sys.version_info < (3, 12) and numpy is not None and numpy.major < 2
        requirement = "'recbole-diffusion[pins]'" if old else "'ray[tune]>=2.49'"
        raise ValueError(f"ray is not installed; pip install {requirement}, {serial}")
    for fault in doctor.FAULTS:
        if re.search(r"\bray\b", fault.what) and fault.holds(installed):
            raise ValueError(f"{fault.what}; mend: {fault.fix}; {serial}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*pkg_resources is deprecated")
        try:
            return importlib.import_module("ray")
        except Exception as error:  # a damaged library raises anything
            failure = libraries.failure_of(error) or libraries.Failure("ray", False, str(error))
            raise ValueError(f"{failure.line}; {serial}") from error


def search_path() -> list[str]:
    """Return the existing entries of ``sys.path`` as absolute paths, so that a worker imports the same modules."""
    entries = [os.path.abspath(entry or os.curdir) for entry in sys.path]
    return [entry for entry in dict.fromkeys(entries) if os.path.exists(entry)]


def _check_positive(key: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{key}={value!r} is not allowed; allowed: a whole number from 1")


def _variables(threads: int, local: bool) -> dict[str, str]:
    """Environment variables of a session, which its workers inherit if it is a local one."""
    variables = {"RAY_USAGE_STATS_ENABLED": "0"}
    if local:
        os.environ.pop("RAY_ADDRESS", None)
        variables.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads)))
        # On a busy machine Ray's agent can take longer than Ray's 30 s to start; Ray then ends this process.
        variables["RAY_agent_register_timeout_ms"] = "300000"
        variables["RAY_task_oom_retries"] = "0"  # a run that needed too much memory would need it again
        variables["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "1"  # a task without a GPU sees none, as before 2.50
        variables["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # loopback, for the processes that Ray starts
        if not any(name in os.environ for name in _AUTHENTICATION):
            variables.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    return variables


@contextlib.contextmanager
def _local(ray: Any, workers: int, gpus: Optional[float], folder: Path) -> Iterator[None]:
    """Start a local Ray for a ``with`` block, and end all of its processes afterwards."""
    import psutil

    this_process = psutil.Process()
    before, started = set(this_process.children()), set()
    process_state.reload_authentication()
    shared_memory = shutil.disk_usage("/dev/shm").free if os.path.isdir("/dev/shm") else 0
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
                job_config=_job_config(ray),
                _temp_dir=str(folder),
                _plasma_directory=None if shared_memory > 2 * OBJECT_STORE_BYTES else str(folder),
            )
        except Exception as error:  # Ray raises bare ones too, e.g. if one of its processes starts too slowly
            reason = " ".join(str(error).split())[:300]
            raise ValueError(f"Ray did not start: {reason}; try again, or leave out --workers: no ray then") from error
        finally:
            started = set(this_process.children()) - before
        yield
    finally:
        _shut_down(ray, started)


def _shut_down(ray: Any, started: set[Any]) -> None:
    """End Ray and the processes that it started. Workers would notice only after two seconds."""
    import psutil

    processes = set(started)
    for process in started:
        with contextlib.suppress(psutil.NoSuchProcess):
            processes.update(process.children(recursive=True))
    ray.shutdown()
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=5)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=5)


@contextlib.contextmanager
def _joined(ray: Any, address: str) -> Iterator[None]:
    """Join an existing cluster for a ``with`` block; the cluster keeps running."""
    host, port = head.host_and_port(address)
    if address == "auto" and _has_token():
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # Ray's own default for auto; host:port needs the user's
    process_state.reload_authentication()
    with contextlib.ExitStack() as stack:
        if host in _LOOPBACK and not head.listens(ray.util.get_node_ip_address(), port):
            stack.enter_context(process_state.replaced_attribute(*_LOOPBACK_ONLY))
        stack.callback(ray.shutdown)
        try:
            ray.init(
                address=f"{host}:{port}",
                log_to_driver=False,
                logging_level=logging.ERROR,
                job_config=_job_config(ray),
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            hint = "both sides need the same ray and Python, and RAY_AUTH_MODE=token where the cluster has a token"
            raise ValueError(f"address={address!r}: Ray cannot join: {reason}; {hint}") from error
        yield


def _has_token() -> bool:
    return any(name in os.environ for name in _AUTHENTICATION[1:]) or (Path.home() / ".ray" / "auth_token").is_file()


def _job_config(ray: Any) -> Any:
    # reversed: workers put each entry in front of the others
    return ray.job_config.JobConfig(_py_driver_sys_path=search_path()[::-1])
