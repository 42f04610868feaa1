"""Fault injection: the n-th call that changes files fails, once or from then on, or kills the process.

Counted are, in the main thread: ``os.open`` and ``open`` for writing, ``write`` of the files so opened, ``os.fsync``,
``os.replace``, ``os.mkdir``, ``os.symlink``, ``tempfile.mkdtemp``, ``tempfile.mkstemp``, ``torch.save``, ``np.savez``
and ``np.savez_compressed``. Of the writes of one file the 1st, 2nd, 4th, 8th, …
are counted. A ``write`` that fails has written half of its bytes.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from typing import Any, Callable, Optional

import numpy as np
import torch

from recbole_diffusion.support import atomic_write

#: The errors that are injected, by name.
ERRORS: dict[str, Callable[[], BaseException]] = {
    "ENOSPC": lambda: OSError(errno.ENOSPC, "No space left on device"),
    "EIO": lambda: OSError(errno.EIO, "Input/output error"),
    "EACCES": lambda: PermissionError(errno.EACCES, "Permission denied"),
    "MemoryError": lambda: MemoryError(),
}
KILL = "kill"
_OF_PATHS = ("replace", "mkdir", "symlink")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Calls:
    """The calls so far, and the one that fails.

    Args:
        n: number of the call that fails, from 1; None: none does.
        error: a name of :data:`ERRORS`, or :data:`KILL`.
        lasting: whether all later calls fail too.

    Attributes:
        count: number of calls.
        failed: name of the first call that failed.
    """

    def __init__(self, n: Optional[int] = None, error: str = "ENOSPC", lasting: bool = False) -> None:
        self.n, self.error, self.lasting = n, error, lasting
        self.count, self.failed = 0, ""

    def check(self, name: str, *paths: Any) -> None:
        """Count a call, and fail if it is its turn; ``paths`` are those that the kernel's own error would name."""
        if threading.current_thread() is not threading.main_thread():
            return  # TensorBoard writes from a thread of its own: its turn would depend on the time
        self.count += 1
        if self.n is None or self.count < self.n or (self.count > self.n and not self.lasting):
            return
        self.failed = self.failed or name
        if self.error == KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        error = ERRORS[self.error]()
        if paths and isinstance(error, OSError):
            raise type(error)(error.errno, error.strerror, *map(str, paths))
        raise error


class _File:
    """A file whose ``write`` is counted."""

    def __init__(self, file: Any, calls: Calls) -> None:
        self.__dict__.update(_file=file, _calls=calls, _writes=0)

    def write(self, content: Any) -> Any:
        self.__dict__["_writes"] += 1
        try:
            if not self._writes & (self._writes - 1):
                self._calls.check("write")
        except BaseException:
            self._file.write(content[: len(content) // 2])
            raise
        return self._file.write(content)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._file, name, value)

    def __iter__(self) -> Any:
        return iter(self._file)

    def __enter__(self) -> _File:
        self._file.__enter__()
        return self

    def __exit__(self, *error: Any) -> Any:
        return self._file.__exit__(*error)


@contextlib.contextmanager
def failing(calls: Calls) -> Iterator[Calls]:
    """Count, and let fail, the calls of the block."""
    originals: list[tuple[Any, str, Any]] = []

    def put(owner: Any, name: str, function: Callable[..., Any]) -> None:
        originals.append((owner, name, getattr(owner, name)))
        setattr(owner, name, function)

    def counted(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def function(*arguments: Any, **keywords: Any) -> Any:
            calls.check(name, *[path for path in arguments if name in _OF_PATHS][:1])
            return original(*arguments, **keywords)

        put(owner, name, function)

    open_file, open_handle, write_stream = builtins.open, os.open, atomic_write.Stream.write

    def counted_open(file: Any, mode: str = "r", *arguments: Any, **keywords: Any) -> Any:
        if not set(mode) & set("wax+") or (isinstance(file, str) and file.startswith("/proc/")):
            return open_file(file, mode, *arguments, **keywords)
        calls.check("open", file)
        return _File(open_file(file, mode, *arguments, **keywords), calls)

    def counted_os_open(path: Any, flags: int, *arguments: Any, **keywords: Any) -> int:
        if flags & _WRITES:
            calls.check("os.open", path)
        return open_handle(path, flags, *arguments, **keywords)

    def counted_write(self: Any, content: Any) -> int:
        self.writes = getattr(self, "writes", 0) + 1
        try:
            if not self.writes & (self.writes - 1) and not self.is_abandoned:
                calls.check("write")
        except BaseException:
            write_stream(self, content[: len(content) // 2])
            raise
        return write_stream(self, content)

    try:
        put(builtins, "open", counted_open)
        put(os, "open", counted_os_open)
        put(atomic_write.Stream, "write", counted_write)
        for name in ("fsync", "replace", "mkdir", "symlink"):
            counted(os, name)
        for name in ("mkdtemp", "mkstemp"):
            counted(tempfile, name)
        counted(torch, "save")
        for name in ("savez", "savez_compressed"):
            counted(np, name)
        yield calls
    finally:
        for owner, name, original in reversed(originals):
            setattr(owner, name, original)
