"""Imports of other packages that are put off until their first use."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import types
from collections.abc import Iterator
from typing import Any, Callable


@contextlib.contextmanager
def deferred(module: str, *functions: str) -> Iterator[None]:
    """Let ``from module import function`` inside the block bind functions that import the module when called.

    For a package that imports another one at its head and calls it rarely. No effect where the module is loaded.

    Args:
        module: the dotted name of the module that is imported at the head.
        functions: the names that are imported from it.
    """
    if module in sys.modules:
        yield
        return
    stand_in = types.ModuleType(module)
    for name in functions:
        setattr(stand_in, name, _importing(module, name))
    sys.modules[module] = stand_in
    try:
        yield
    finally:
        del sys.modules[module]


def _importing(module: str, name: str) -> Callable[..., Any]:
    def function(*args: Any, **kwargs: Any) -> Any:
        return getattr(importlib.import_module(module), name)(*args, **kwargs)

    function.__name__ = function.__qualname__ = name
    return function


class _LazyPackage(types.ModuleType):
    """A package whose ``__init__`` runs when a name that only it defines is read."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__all__":
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        self.__class__ = types.ModuleType  # type: ignore[assignment]
        try:
            self.__spec__.loader.exec_module(self)  # type: ignore[union-attr]
        except BaseException:
            self.__class__ = _LazyPackage
            raise
        return getattr(self, name)


def lazy_package(name: str) -> None:
    """Put off the ``__init__`` of a package until one of its names is read; its modules can be imported before that.

    For a package whose ``__init__`` imports all of its modules where one is needed. No effect where it is loaded.

    Args:
        name: the dotted name; its parent package is imported.

    Raises:
        ModuleNotFoundError: there is no such package.
    """
    if name in sys.modules:
        return
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(f"no package {name}", name=name)
    package = importlib.util.module_from_spec(spec)
    package.__class__ = _LazyPackage
    sys.modules[name] = package
    parent, _, last = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], last, package)
