"""Registry of the files that this process may unpickle: files that it wrote, or any file while the user allows it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from packaging.version import Version

_trusted: dict[str, tuple[int, int]] = {}


_trust_all = False


def trust_file(path: str) -> None:
    """Mark a file that this process has just written as trusted, until its size or time of modification changes."""
    state = os.stat(path)
    _trusted[os.path.realpath(path)] = state.st_size, state.st_mtime_ns


def is_trusted(path: Any) -> bool:
    """Whether ``path`` is a file that this process marked as trusted, unchanged since then."""
    if not isinstance(path, (str, os.PathLike)) or not os.path.exists(path):
        return False
    state = os.stat(path)
    return _trusted.get(os.path.realpath(path)) == (state.st_size, state.st_mtime_ns)


def trust_all(trust: bool) -> None:
    """Set whether RecBole's own calls may unpickle any file, until the next call."""
    global _trust_all
    _trust_all = trust


def trusts_all() -> bool:
    """Whether :func:`trust_all` is in effect."""
    return _trust_all


def torch_can_check() -> bool:
    """Whether torch has ``weights_only``, which checks a file while it is unpickled: since 1.13."""
    import torch

    return Version(torch.__version__).release >= (1, 13)


@contextlib.contextmanager
def trusting(trust: bool) -> Iterator[None]:
    """Trust any file inside the block if ``trust``; otherwise change nothing."""
    before = _trust_all
    trust_all(trust or before)
    try:
        yield
    finally:
        trust_all(before)
