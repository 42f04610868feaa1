"""RecBole's data sets made with our own pieces, for the time that one data set is made or split.

RecBole's Dataset has no places to plug in a reader or a split, and its class must stay its own, since data sets are
pickled. :func:`hooked` therefore replaces single methods of ``Dataset`` and puts them back afterwards, so that
``enable()`` and other users of RecBole see none of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from recbole_diffusion import atomic_files
from recbole_diffusion.compat import replace

#: (owner, attribute, replacement)
Hook = tuple[Any, str, Any]


def hooks(config: Any) -> list[Hook]:
    """The methods that are replaced."""
    return [*atomic_files.hooks()]


@contextlib.contextmanager
def hooked(config: Any) -> Iterator[None]:
    """Replace the methods of :func:`hooks` for the time of the block."""
    revert = replace(*hooks(config))
    try:
        yield
    finally:
        revert()
