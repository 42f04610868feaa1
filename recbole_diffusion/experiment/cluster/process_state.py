"""State of this process that a Ray session changes, restored when the session ends."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def restored_environment() -> Iterator[None]:
    """Restore the environment variables at the end of a ``with`` block."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)
        if "ray" in sys.modules:
            reload_authentication()


@contextlib.contextmanager
def replaced_attribute(module: str, name: str, value: Any) -> Iterator[None]:
    """Replace an attribute of a module of Ray's in a ``with`` block, if the module has it."""
    owner: Any = importlib.import_module(module)
    if not hasattr(owner, name):
        yield
        return
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def reload_authentication() -> None:
    """Make Ray read the variables of its authentication again; it reads them at import and caches the token."""
    raylet: Any = importlib.import_module("ray._raylet")
    if hasattr(raylet, "AuthenticationTokenLoader"):  # ray before 2.52 has no token
        raylet.Config.initialize("")
        raylet.AuthenticationTokenLoader.instance().reset_cache()


class SigtermHandler:
    """Context manager under which SIGTERM leaves the block as Ctrl-C does; the process then exits with status 143.

    Args:
        before: the handler to restore; Ray sets its own when it is imported.
    """

    def __init__(self, before: Any) -> None:
        self.before = before
        self.received = False

    def __enter__(self) -> SigtermHandler:
        self.install()
        return self

    def install(self) -> Any:
        """Install the handler if this is the main thread, and return the previous one."""
        in_main = threading.current_thread() is threading.main_thread()
        return signal.signal(signal.SIGTERM, self._handler) if in_main else None

    def _handler(self, number: int, frame: Any) -> None:
        self.received = True
        raise KeyboardInterrupt  # a SystemExit within ray.wait() would end the process without cleaning up

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if self.before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.before)
        if self.received and kind is not None:
            raise SystemExit(128 + signal.SIGTERM) from None
