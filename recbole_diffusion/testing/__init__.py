"""The contract suite: tests that every diffusion model must pass, in this package and in others.

A test file of another package::

    from recbole_diffusion.testing import ContractTests

    class TestMine(ContractTests):
        model = "Mine"

The settings come from the model's card (``contract``). pytest is imported with :class:`ContractTests`, not before.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

_LAZY = {
    "HEADER": "board",
    "SETTINGS": "board",
    "write_board": "board",
    "write_inter": "board",
    "Built": "building",
    "build": "building",
    "noisy": "building",
    "quick": "building",
    "split": "building",
    "taken": "building",
    "train": "building",
    "trainer_of": "building",
    "users_of": "building",
    "ContractTests": "contract",
}
__all__ = list(_LAZY)

#: Modules that hold assertions of the contract suite.
_ASSERTING = (
    "contract_settings",
    "contract_scores",
    "contract_evaluation",
    "contract_checkpoint",
    "contract_device",
    "contract_ablation",
)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = f"{__name__}.{_LAZY[name]}"
    if name == "ContractTests" and module not in sys.modules:
        import pytest

        # A failing assert then shows the compared values.
        pytest.register_assert_rewrite(*(f"{__name__}.{asserting}" for asserting in _ASSERTING))
    return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    return sorted(__all__)
