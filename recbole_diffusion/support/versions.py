"""Installed versions, from their metadata: nothing is imported."""

from __future__ import annotations

import importlib
from importlib import metadata
from typing import Optional

#: Whose versions a run's manifest and ``doctor`` name.
PACKAGES = ("recbole-diffusion", "recbole", "torch", "numpy", "pandas", "scipy", "ray", "scikit-learn")


def version(package: str) -> Optional[str]:
    """The installed version, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        if package == "recbole-diffusion":  # a bare checkout
            return str(importlib.import_module("recbole_diffusion").__version__)
        return None
