"""Repairs of RecBole 1.2.1 on current libraries, one function each.

- Each repair is applied only where its condition holds.
- It changes only what RecBole's own code sees.
- :func:`undo` reverts it.

In an environment in which RecBole works, only wrong numbers change: ShannonEntropy, Pop, and lists of users with fewer
than k candidates. Importing this package patches nothing. Our runner and :func:`recbole_diffusion.enable` call
:func:`apply`.
"""

from __future__ import annotations

from recbole_diffusion.compat.repairs import checkpoints, dataset, libraries, metrics  # noqa: F401 - they register
from recbole_diffusion.compat.repairs.libraries import NUMPY_ALIAS_USERS
from recbole_diffusion.compat.repairs.models import repair_model
from recbole_diffusion.compat.repairs.quick_start import (
    flops_without_side_effects,
    quick_start_module,
    tune_of_any_ray,
)
from recbole_diffusion.compat.repairs.registration import REPAIRS, Repair, apply, repair, undo

__all__ = [
    "NUMPY_ALIAS_USERS",
    "REPAIRS",
    "Repair",
    "apply",
    "flops_without_side_effects",
    "quick_start_module",
    "repair",
    "repair_model",
    "tune_of_any_ray",
    "undo",
]
