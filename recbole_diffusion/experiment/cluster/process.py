"""What a Ray session changes in this process, and how it is put back."""

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
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)
        if "ray" in sys.modules:
            read_authentication()


@contextlib.contextmanager
def replaced(module: str, name: str, value: Any) -> Iterator[None]:
    """Set a name of one of Ray's modules, where it has it."""
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


def read_authentication() -> None:
    """Ray reads the variables at its import and keeps the token; make it read them again."""
    raylet: Any = importlib.import_module("ray._raylet")
    if hasattr(raylet, "AuthenticationTokenLoader"):  # ray before 2.52 knows no token
        raylet.Config.initialize("")
        raylet.AuthenticationTokenLoader.instance().reset_cache()


class Terminable:
    """SIGTERM leaves the session as Ctrl-C does, and the process with status 143 as if nobody had handled it."""

    def __init__(self, before: Any) -> None:
        """``before``: the handler to put back; Ray sets one of its own when it is imported."""
        self.before = before
        self.came = False

    def __enter__(self) -> Terminable:
        self.handle()
        return self

    def handle(self) -> Any:
        """From now on; the handler before."""
        in_main = threading.current_thread() is threading.main_thread()
        return signal.signal(signal.SIGTERM, self._handler) if in_main else None

    def _handler(self, number: int, frame: Any) -> None:
        self.came = True
        raise KeyboardInterrupt  # a SystemExit within ray.wait() ends the process on the spot

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if self.before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.before)
        if self.came and kind is not None:
            raise SystemExit(128 + signal.SIGTERM) from None
