"""RecBole's ``quick_start`` without an import of ray, and repairs of two functions that it calls."""

from __future__ import annotations

import contextlib
import importlib
import sys
import types
from collections.abc import Iterator
from typing import Any

from recbole_diffusion.support.patch import Undo, replace
from recbole_diffusion.support.random_state import random_state, restore_random_state


class _LazyTune(types.ModuleType):
    """A stand-in for ``ray.tune`` in RecBole's quick_start. It imports ray when an attribute is used."""

    def report(self, **metrics: Any) -> None:
        if "ray" not in sys.modules:
            return  # hyperopt runs without ray: no session receives the report
        tune = importlib.import_module("ray.tune")
        try:
            tune.report(**metrics)
        except TypeError:  # ray >= 2.7 takes a dict
            tune.report(metrics)

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module("ray.tune"), name)


@contextlib.contextmanager
def _stub_ray() -> Iterator[types.ModuleType]:
    lazy_tune = _LazyTune("ray.tune")
    ray = types.ModuleType("ray")
    ray.__dict__["tune"] = lazy_tune
    sys.modules.update({"ray": ray, "ray.tune": lazy_tune})
    try:
        yield lazy_tune
    finally:
        for name in ("ray", "ray.tune"):
            sys.modules.pop(name, None)


def quick_start_module() -> types.ModuleType:
    """Import RecBole's ``quick_start`` module without importing ray (ray 2.6.3 cannot be imported on numpy 2)."""
    if "recbole.quick_start.quick_start" not in sys.modules and "ray" not in sys.modules:
        with _stub_ray():
            return importlib.import_module("recbole.quick_start.quick_start")
    return importlib.import_module("recbole.quick_start.quick_start")


def tune_of_any_ray(quick_start: types.ModuleType) -> Undo:
    """Replace ``ray.tune`` in quick_start, also where ray was imported before it (in a ray worker)."""
    return replace((quick_start, "tune", _LazyTune("ray.tune")))


def flops_without_side_effects(quick_start: types.ModuleType) -> Undo:
    """Keep ``get_flops`` from drawing from the global random state and from failing without ``predict``."""
    original = quick_start.get_flops

    def get_flops(*args: Any, **kwargs: Any) -> Any:
        state = random_state()
        try:
            return original(*args, **kwargs)
        except (AssertionError, NotImplementedError):
            return "not counted: predict() is not implemented"
        finally:
            restore_random_state(state)

    return replace((quick_start, "get_flops", get_flops))
