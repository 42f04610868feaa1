"""A fork server: a process that has imported what jobs need and forks one child for each job.

Importing torch, RecBole and torch's compiler takes seconds; a fork takes milliseconds and is as clean as a new process,
since the server itself runs no job. The server has one thread, computes nothing and leaves CUDA alone, so that a child
may start thread pools and CUDA as a new process does. A child that is killed costs its own job only.

The server and its children end when the process that started them ends, however it ends: they wait for the end of a
pipe. ``multiprocessing``'s own fork server would import the main module of Ray's worker in each child, and Ray with it.

Messages on the Unix socket are a length of eight bytes and a pickle. The socket lies in a folder that only its owner
may enter, since whoever can connect can run code. This module imports neither torch nor ray.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import os
import pickle
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, NamedTuple, NoReturn, Optional

from recbole_diffusion.experiment.cluster import folder as short_folder

#: Where a process can fork safely after importing torch; elsewhere each job gets a new process.
AVAILABLE = sys.platform == "linux"
_LENGTH = struct.Struct("!Q")
#: No threads at import: OpenBLAS starts its pool then, and the allocator that pyarrow brings one of its own.
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
        function: of a module that the child can import; it takes ``arguments`` and returns bytes.
        arguments: picklable.
        environment: the child's environment variables, all of them.
        directory: its working directory.
    """

    function: Callable[..., bytes]
    arguments: tuple[Any, ...]
    environment: dict[str, str]
    directory: str


@contextlib.contextmanager
def fork_server(path: list[str], preload: Optional[str] = None) -> Iterator[str]:
    """Start a fork server for the time of a ``with`` block; give the address of its socket.

    The block begins at once: requests wait until the server has imported what it is told to.

    Args:
        path: its ``sys.path``.
        preload: ``module:function``, called before the first fork; it must start no thread.
    """
    with short_folder.folder() as folder:
        address = str(folder / "jobs")
        server = _start(address, path, preload)
        try:
            yield address
        finally:
            _end(server)


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


def _end(server: subprocess.Popen[bytes]) -> None:
    server.terminate()  # at once, also while it imports
    server.wait()
    if server.stdin is not None:
        server.stdin.close()  # for its children


@functools.lru_cache(maxsize=1)
def own_address(preload: Optional[str]) -> str:
    """The address of a fork server of this process, started at the first call; it ends with the process."""
    server = fork_server(sys.path, preload)
    address = server.__enter__()
    _kept.append(server)
    return address


_kept: list[Any] = []  # a context manager that is collected leaves its block


def call(address: str, request: JobRequest) -> Optional[bytes]:
    """What the request's function returns in a child; None if the child was killed.

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
    """A whole message, or None where the other side has gone before its end."""
    with connection.makefile("rb") as stream:
        head = stream.read(_LENGTH.size)
        if len(head) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack(head)
        content = stream.read(length)
    return content if len(content) == length else None


def _serve(listener: int, preload: Optional[str]) -> None:
    """In the server: fork a child for each connection, until the process that started the server has gone."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel keeps no dead children
    if preload is not None:
        module, _, name = preload.partition(":")
        with contextlib.suppress(Exception):  # a child fails with the same error, which is the job's then
            getattr(importlib.import_module(module), name)()
    gc.freeze()  # no collection of a child writes to what it shares with the server
    with socket.socket(fileno=listener) as server:
        while True:
            ready: list[Any] = select.select([server.fileno(), _STDIN], [], [])[0]
            if _STDIN in ready:
                return
            connection, _ = server.accept()
            if os.fork() == 0:
                server.close()
                _child(connection)
            connection.close()


def _child(connection: socket.socket) -> NoReturn:
    """In a child: run one job, answer, end."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        content = _receive(connection)
        if content is not None:
            threading.Thread(target=_end_with, args=(connection,), daemon=True).start()
            _send(connection, _run(content))
    finally:
        os._exit(0)


def _end_with(connection: socket.socket) -> None:
    """End this process when the client or the server's owner does; neither sends anything more."""
    select.select([connection.fileno(), _STDIN], [], [])
    os._exit(1)


def _run(content: bytes) -> bytes:
    with contextlib.suppress(OSError):  # as Ray's workers: where memory ends, the kernel ends a job and not the command
        Path("/proc/self/oom_score_adj").write_text("1000")
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()  # a new process would have drawn its own
    request: JobRequest = pickle.loads(content)
    os.environ.clear()
    os.environ.update(request.environment)
    os.chdir(request.directory)
    return request.function(*request.arguments)
