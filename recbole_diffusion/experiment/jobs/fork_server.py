"""A fork server: a process that has imported what jobs need and forks one child for each job.

Importing torch, RecBole and torch's compiler takes seconds, a fork takes milliseconds. A forked child is as clean as a
new process, because the server runs no job. The server has one thread, computes nothing and does not use CUDA, so that
a child can start thread pools and CUDA as a new process can. A child that is killed costs its own job only.

The server and its children wait for the end of a pipe. They therefore end when the process that started them ends, for
any reason. ``multiprocessing``'s own fork server would import the main module of Ray's worker in each child, and Ray
with it.

Messages on the Unix socket are a length of eight bytes and a pickle. Whoever can connect can run code, so the socket
lies in a folder that only its owner may enter. This module imports neither torch nor ray.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import os
import pickle
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, NamedTuple, NoReturn, Optional

from recbole_diffusion.experiment.cluster.session_folder import PREFIX, session_folder

#: Whether a process can fork safely after importing torch; elsewhere each job gets a new process.
AVAILABLE = sys.platform == "linux"
_LENGTH = struct.Struct("!Q")
#: No threads at import: OpenBLAS starts its pool then, and the allocator that comes with pyarrow a background thread.
_ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
_STDIN = 0
_CODE = """
import sys
sys.path[:] = {path!r}
from recbole_diffusion.experiment.jobs.fork_server import _serve
_serve({listener}, {preload!r})
"""


class JobRequest(NamedTuple):
    """A job for a child.

    Attributes:
        function: of a module that the child can import; takes ``arguments`` and returns bytes.
        arguments: picklable.
        environment: all environment variables of the child.
        directory: its working directory.
    """

    function: Callable[..., bytes]
    arguments: tuple[Any, ...]
    environment: dict[str, str]
    directory: str


@contextlib.contextmanager
def fork_server(path: list[str], preload: Optional[str] = None) -> Iterator[str]:
    """Start a fork server for a ``with`` block.

    The block begins at once; requests wait until the server has imported.

    Args:
        path: the server's ``sys.path``.
        preload: ``module:function``, called before the first fork; must not start a thread.

    Yields:
        The address of the server's socket.
    """
    with session_folder() as folder:
        address = str(folder / "jobs")
        server = _start(address, path, preload)
        try:
            yield address
        finally:
            _stop(server)


def _start(address: str, path: list[str], preload: Optional[str]) -> subprocess.Popen[bytes]:
    with socket.socket(socket.AF_UNIX) as listener:  # listening before the server runs: no client comes too early
        listener.bind(address)
        listener.listen(128)
        code = _CODE.format(path=path, listener=listener.fileno(), preload=preload)
        return subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[listener.fileno()],
            env={**os.environ, **_ONE_THREAD},
            start_new_session=True,  # Ctrl-C is for the process that started it
        )


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()  # at once, even while it imports
    server.wait()
    if server.stdin is not None:
        server.stdin.close()  # ends its children


@functools.lru_cache(maxsize=1)
def own_address(preload: Optional[str]) -> str:
    """Return the address of this process's own fork server, started at the first call; it ends with the process."""
    server = fork_server(sys.path, preload)
    address = server.__enter__()
    _open_servers.append(server)
    return address


_open_servers: list[Any] = []  # garbage collection of a context manager would leave its block


def call(address: str, request: JobRequest) -> Optional[bytes]:
    """Return the result of the request's function, called in a child; None if the child was killed.

    Raises:
        OSError: no server at the address.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        try:
            _send(connection, pickle.dumps(request))
            return _receive(connection)
        except ConnectionError:
            return None


def _send(connection: socket.socket, content: bytes) -> None:
    connection.sendall(_LENGTH.pack(len(content)))
    connection.sendall(content)


def _receive(connection: socket.socket) -> Optional[bytes]:
    """Return a complete message, or None if the other side has closed the connection before its end."""
    with connection.makefile("rb") as stream:
        head = stream.read(_LENGTH.size)
        if len(head) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack(head)
        content = stream.read(length)
    return content if len(content) == length else None


def _serve(listener: int, preload: Optional[str]) -> None:
    """In the server: fork a child for each connection, until the process that started the server ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel keeps no dead children
    if preload is not None:
        module, _, name = preload.partition(":")
        with contextlib.suppress(Exception):  # the same error in a child is reported as the job's
            getattr(importlib.import_module(module), name)()
    gc.freeze()  # no garbage collection of a child writes to memory that it shares with the server
    with socket.socket(fileno=listener) as server:
        while True:
            ready: list[Any] = select.select([server.fileno(), _STDIN], [], [])[0]
            if _STDIN in ready:  # that process was killed, such as Ray's worker: it cannot remove the folder
                folder = Path(server.getsockname()).parent
                if folder.name.startswith(PREFIX):
                    shutil.rmtree(folder, ignore_errors=True)
                return
            connection, _ = server.accept()
            if os.fork() == 0:
                server.close()
                _serve_request(connection)
            connection.close()


def _serve_request(connection: socket.socket) -> NoReturn:
    """In a child: run one job, send its result, exit."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        content = _receive(connection)
        if content is not None:
            threading.Thread(target=_exit_with, args=(connection,), daemon=True).start()
            _send(connection, _run(content))
    finally:
        os._exit(0)


def _exit_with(connection: socket.socket) -> None:
    """Exit when the client or the server's owner exits; neither of them sends anything more."""
    select.select([connection.fileno(), _STDIN], [], [])
    os._exit(1)


def _run(content: bytes) -> bytes:
    with contextlib.suppress(OSError):  # as Ray's workers: out of memory, the kernel kills a job and not the command
        Path("/proc/self/oom_score_adj").write_text("1000")
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()  # as in a new process; the children would share the server's state
    request: JobRequest = pickle.loads(content)
    os.environ.clear()
    os.environ.update(request.environment)
    os.chdir(request.directory)
    return request.function(*request.arguments)
