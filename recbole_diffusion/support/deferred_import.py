"""Deferred imports: packages that are imported at their first use."""

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
    """Make ``from module import function`` inside the block bind wrappers that import the module when called.

    It serves for third-party code that imports a slow module and rarely uses it. It has no effect if the module is
    loaded already.

    Args:
        module: the dotted name of the slow module.
        functions: the names that the code inside the block imports from it.
    """
    if module in sys.modules:
        yield
        return
    stand_in = types.ModuleType(module)
    for name in functions:
        setattr(stand_in, name, _deferred_function(module, name))
    sys.modules[module] = stand_in
    try:
        yield
    finally:
        del sys.modules[module]


def _deferred_function(module: str, name: str) -> Callable[..., Any]:
    """A function that imports the module and calls its function ``name``."""

    def function(*args: Any, **kwargs: Any) -> Any:
        return getattr(importlib.import_module(module), name)(*args, **kwargs)

    function.__name__ = function.__qualname__ = name
    return function


class _LazyPackage(types.ModuleType):
    """A package whose ``__init__`` runs at the first access to a name that it defines."""

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
    """Defer the ``__init__`` of a package until one of its names is read; submodules can be imported before that.

    It serves for a package whose ``__init__`` imports all of its modules although one is needed. It has no effect if
    the package is loaded already.

    Args:
        name: the dotted name; its parent package is imported.

    Raises:
        ModuleNotFoundError: the package does not exist.
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
