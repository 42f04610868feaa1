"""The list of repairs, and what the repairs share: applying, reverting, limiting a patch to RecBole's own calls."""

from __future__ import annotations

import sys
import types
from dataclasses import dataclass
from typing import Any, Callable, Optional

from recbole_diffusion.support import trusted_files
from recbole_diffusion.support.patch import Undo


@dataclass(frozen=True)
class Repair:
    """A repair of RecBole's code.

    Attributes:
        name: of the function.
        reason: what fails without it; the first line of the function's docstring.
        drop_when: the change of RecBole that makes it unnecessary.
        run: applies it and returns the function that reverts it; returns None where it is not needed.
    """

    name: str
    reason: str
    drop_when: str
    run: Callable[[], Optional[Undo]]


REPAIRS: list[Repair] = []
_applied: dict[str, Undo] = {}


def repair(drop_when: str) -> Callable[[Callable[[], Optional[Undo]]], Callable[[], Optional[Undo]]]:
    """Register the decorated function as a repair; the first line of its docstring is the reason.

    Args:
        drop_when: the change of RecBole that makes the repair unnecessary.
    """

    def register(function: Callable[[], Optional[Undo]]) -> Callable[[], Optional[Undo]]:
        reason = (function.__doc__ or "").strip().splitlines()[0]
        REPAIRS.append(Repair(function.__name__, reason, drop_when, function))
        return function

    return register


def apply() -> list[str]:
    """Apply every repair that is needed and not yet applied.

    Returns:
        The names of all repairs in force.
    """
    for registered in REPAIRS:
        apply_once(registered.name, registered.run)
    return list(_applied)


def apply_once(name: str, run: Callable[[], Optional[Undo]]) -> None:
    """Call ``run`` unless the repair ``name`` is in force, and remember how to revert it."""
    if name not in _applied:
        revert = run()
        if revert is not None:
            _applied[name] = revert


def undo() -> None:
    """Revert every repair, the last one first."""
    trusted_files.trust_all(False)
    while _applied:
        _, revert = _applied.popitem()
        revert()


def called_by_recbole(depth: int = 2) -> bool:
    """Whether the caller of the function that asks is a module of RecBole.

    Args:
        depth: frames above this one; 2 is the caller of the calling function.
    """
    module_name = sys._getframe(depth).f_globals.get("__name__", "")
    return module_name == "recbole" or module_name.startswith("recbole.")


class Namespace(types.ModuleType):
    """A view of a module with additional names. It replaces the module in one importing module only."""

    def __init__(self, module: types.ModuleType, **added: Any) -> None:
        super().__init__(module.__name__)
        self.__dict__.update(added)
        self.__dict__["_module"] = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_module"], name)
