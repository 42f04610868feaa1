"""recbole-diffusion: diffusion recommenders for RecBole.

The import of this package changes nothing in RecBole, and imports neither torch nor ray. The public names are imported
when they are first used.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

#: Module of each public name.
_LAZY = {
    "run": "quick_start",
    "load": "quick_start",
    "evaluate": "experiment.evaluate",
    "enable": "bridge",
    "disable": "bridge",
    "Config": "settings.config",
    "ModelSpec": "registry",
    "Paper": "registry",
    "register_model": "registry",
}
__all__ = ["__version__", *_LAZY]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
