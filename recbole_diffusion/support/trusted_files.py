"""Files that this process may unpickle: those that it wrote itself, or all while the user says so."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

_trusted: set[tuple[str, int, int]] = set()


_trust_all = False


def trust_file(path: str) -> None:
    """Remember a file that this process has just written, so that it may be read back whatever it holds."""
    state = os.stat(path)
    _trusted.add((os.path.realpath(path), state.st_size, state.st_mtime_ns))


def is_trusted(path: Any) -> bool:
    """Whether ``path`` is a file that this process wrote and nobody changed since."""
    if not isinstance(path, (str, os.PathLike)) or not os.path.exists(path):
        return False
    state = os.stat(path)
    return (os.path.realpath(path), state.st_size, state.st_mtime_ns) in _trusted


def trust_all(trust: bool) -> None:
    """Whether RecBole's own calls may unpickle any file, until :func:`undo` or the next call."""
    global _trust_all
    _trust_all = trust


def trusts_all() -> bool:
    """What :func:`trust_all` was last told."""
    return _trust_all


@contextlib.contextmanager
def trusting(trust: bool) -> Iterator[None]:
    """For the time of one run or load: trust any file if ``trust``, else as before."""
    before = _trust_all
    trust_all(trust or before)
    try:
        yield
    finally:
        trust_all(before)
