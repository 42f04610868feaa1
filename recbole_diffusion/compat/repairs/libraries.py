"""Repairs of calls that newer versions of numpy, scipy and torch reject."""

from __future__ import annotations

import importlib
from typing import Any, Optional

import numpy as np
import torch
from packaging.version import Version

from recbole_diffusion.compat.repairs.registration import Namespace, called_by_recbole, repair
from recbole_diffusion.support.patch import Undo, replace

#: Modules of RecBole that use the removed names. A test compares the list with RecBole's sources.
NUMPY_ALIAS_USERS = (
    "data.interaction",
    "data.dataset.dataset",
    "evaluator.metrics",
    "trainer.hyper_tuning",
    "model.abstract_recommender",
    "model.layers",
    "model.context_aware_recommender.ffm",
)


@repair(drop_when="RecBole no longer uses np.float and the other removed aliases")
def numpy_aliases() -> Optional[Undo]:
    """numpy 1.24 dropped np.float, np.bool, np.str, np.long; numpy 2 also np.float_, which RecBole's Config reads."""
    if Version(np.__version__).release < (1, 24):
        return None
    from recbole.config.configurator import Config

    aliases = {"float": np.float64, "bool": np.bool_, "str": np.str_, "int": np.int_, "long": np.int_}
    modules = [importlib.import_module(f"recbole.{user}") for user in NUMPY_ALIAS_USERS]
    changes: list[tuple[Any, str, Any]] = [(module, "np", Namespace(np, **aliases)) for module in modules]
    if not hasattr(np, "float_"):
        changes.append((Config, "compatibility_settings", lambda self: None))
    return replace(*changes)


@repair(drop_when="RecBole builds its adjacency without dok_matrix._update")
def scipy_dok_update() -> Optional[Undo]:
    """scipy 1.13 dropped the private dok_matrix._update, which LightGCN, NGCF, NCL, GCMC and SpectralCF call."""
    from scipy.sparse import dok_matrix

    if hasattr(dok_matrix, "_update"):
        return None

    def _update(self: Any, data: Any) -> None:
        if not called_by_recbole():
            raise AttributeError("'dok_matrix' object has no attribute '_update'")
        self._dict.update(data)

    return replace((dok_matrix, "_update", _update))


@repair(drop_when="RecBole's models take their sparse products out of autocast")
def sparse_products_in_float32() -> Optional[Undo]:
    """torch's sparse products and their gradients fail in half precision: with enable_amp, LightGCN and others die."""
    original = torch.sparse.mm

    def mm(first: torch.Tensor, second: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if not called_by_recbole():
            return original(first, second, *args, **kwargs)
        with torch.autocast(first.device.type, enabled=False):
            return original(_in_float32(first), _in_float32(second), *args, **kwargs)

    return replace((torch.sparse, "mm", mm))


def _in_float32(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
