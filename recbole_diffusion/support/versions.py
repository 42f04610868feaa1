"""Installed versions of packages, from their metadata, without importing them."""

from __future__ import annotations

import functools
import importlib
import sys
from importlib import metadata
from typing import Optional

#: The packages whose versions a run's manifest and ``doctor`` list.
PACKAGES = ("recbole-diffusion", "recbole", "torch", "numpy", "pandas", "scipy", "ray", "scikit-learn")


def version(package: str) -> Optional[str]:
    """The installed version of a package; None if it is not installed."""
    return _version(package, tuple(sys.path))


@functools.cache
def _version(package: str, _: tuple[str, ...]) -> Optional[str]:
    """:func:`version`, read once for each search path: metadata are mails, whose parser takes milliseconds."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        if package == "recbole-diffusion":  # a bare checkout
            return str(importlib.import_module("recbole_diffusion").__version__)
        return None
