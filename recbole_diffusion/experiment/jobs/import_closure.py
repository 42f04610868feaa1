"""The source files that a module needs: its imports, followed within some packages. Nothing is imported for it."""

from __future__ import annotations

import ast
import functools
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Optional

_IMPORTERS = frozenset({"import_module", "load_object"})
#: Folders of libraries.
INSTALLED = frozenset({"site-packages", "dist-packages"})


class Sources:
    """Where modules are found.

    Args:
        packages: folder of a package by its name.
        beside: folders of scripts, whose modules import each other; folders of installed libraries are left out.
    """

    def __init__(self, packages: dict[str, Path], beside: Iterable[Path] = ()) -> None:
        self.packages = packages
        self.beside = [folder for folder in beside if not INSTALLED & {*folder.parts}]

    def find(self, module: str) -> Optional[Path]:
        """The module's file; None where it is not of these packages and folders."""
        top, *rest = module.split(".")
        if top in self.packages:
            return _file(self.packages[top].joinpath(*rest))
        files = (_file(folder.joinpath(top, *rest)) for folder in self.beside)
        return next((file for file in files if file is not None), None)


def _file(place: Path) -> Optional[Path]:
    for file in (place / "__init__.py", place.with_name(f"{place.name}.py")):
        if file.is_file():
            return file
    return None


def closure(roots: Iterable[str], sources: Sources, without: Collection[str] = ()) -> dict[str, Path]:
    """Files by module: the roots, what they import, and the packages that these lie in.

    Imports inside functions count, those under ``if TYPE_CHECKING`` do not.

    Args:
        roots: names of modules.
        sources: where modules are found; others are left out.
        without: names of modules that are left out and not followed.
    """
    files: dict[str, Path] = {}
    waiting = list(roots)
    while waiting:
        module = waiting.pop()
        file = None if module in files or module in without else sources.find(module)
        if file is None:
            continue
        files[module] = file
        waiting += [*_packages_of(module), *imports_of(file, module)]
    return dict(sorted(files.items()))


def _packages_of(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def imports_of(file: Path, module: str) -> list[str]:
    """Names that may be modules, of every import in the file."""
    return list(_imports(str(file), file.stat().st_mtime_ns, module))


@functools.cache
def _imports(file: str, changed: int, module: str) -> tuple[str, ...]:
    try:
        tree = ast.parse(Path(file).read_bytes())
    except (SyntaxError, ValueError):  # of another version of Python
        return ()
    package = module if file.endswith("__init__.py") else module.rpartition(".")[0]
    return tuple(dict.fromkeys(name for node in _executed(tree) for name in _names(node, package)))


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """Every node but those for type checkers only."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and _name(child.test) == "TYPE_CHECKING":
            child = ast.Module(child.orelse, [])
        yield child
        yield from _executed(child)


def _names(node: ast.AST, package: str) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        base = ".".join([*above, *([node.module] if node.module else [])])
        return [base, *(f"{base}.{alias.name}" for alias in node.names)]
    if isinstance(node, ast.Call) and node.args and _name(node.func) in _IMPORTERS:
        first = node.args[0]
        return (
            [first.value.partition(":")[0]] if isinstance(first, ast.Constant) and isinstance(first.value, str) else []
        )
    return []


def _name(node: ast.AST) -> str:
    """Of a name, or the last part of a dotted one."""
    return str(getattr(node, "attr", getattr(node, "id", "")))
