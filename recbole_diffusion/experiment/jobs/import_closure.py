"""The import closure of modules: the source files that they import, found by parsing them and not by importing."""

from __future__ import annotations

import ast
import functools
import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Optional

_IMPORTERS = frozenset({"import_module", "load_object"})
#: Names of folders of installed libraries.
INSTALLED = frozenset({"site-packages", "dist-packages"})


class Sources:
    """Folders in which modules are looked for.

    Args:
        packages: the folder of each package, by name.
        script_folders: folders of scripts that import each other; folders of installed libraries are left out.
    """

    def __init__(self, packages: dict[str, Path], script_folders: Iterable[Path] = ()) -> None:
        self.packages = packages
        self.script_folders = [folder for folder in script_folders if not INSTALLED & {*folder.parts}]

    def find(self, module: str) -> Optional[Path]:
        """Return the module's file; None if it is not in these packages and folders."""
        top, *rest = module.split(".")
        if top in self.packages:
            return _file(os.path.join(self.packages[top], *rest))
        files = (_file(os.path.join(folder, top, *rest)) for folder in self.script_folders)
        return next((file for file in files if file is not None), None)


def _file(module_path: str) -> Optional[Path]:
    """The source file of a module; plain strings, since most names that are looked for are no modules."""
    for file in (f"{module_path}{os.sep}__init__.py", f"{module_path}.py"):
        if os.path.isfile(file):
            return Path(file)
    return None


def closure(roots: Iterable[str], sources: Sources, without: Collection[str] = ()) -> dict[str, Path]:
    """Return the files, by module, of the roots, of their direct and indirect imports, and of their packages.

    Imports inside functions count, those under ``if TYPE_CHECKING`` do not.

    Args:
        roots: names of modules.
        sources: folders in which modules are looked for; other modules are left out.
        without: names of modules that are left out and not followed.
    """
    files: dict[str, Path] = {}
    waiting, visited = list(roots), {*without}  # names that are no modules, too: most are imported by several files
    while waiting:
        module = waiting.pop()
        if module in visited:
            continue
        visited.add(module)
        file = sources.find(module)
        if file is not None:
            files[module] = file
            waiting += [*_packages_of(module), *imports_of(file, module)]
    return dict(sorted(files.items()))


def _packages_of(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def imports_of(file: Path, module: str) -> list[str]:
    """Return the names in every import of the file that may be modules."""
    return list(_parsed_imports(str(file), file.stat().st_mtime_ns, module))


@functools.cache
def _parsed_imports(file: str, changed_ns: int, module: str) -> tuple[str, ...]:
    try:
        tree = ast.parse(Path(file).read_bytes())
    except (SyntaxError, ValueError):  # of another version of Python
        return ()
    package = module if file.endswith("__init__.py") else module.rpartition(".")[0]
    return tuple(dict.fromkeys(name for node in _run_time_nodes(tree) for name in _imported_names(node, package)))


def _run_time_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Every node except those under ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and _last_name(child.test) == "TYPE_CHECKING":
            child = ast.Module(child.orelse, [])
        yield child
        yield from _run_time_nodes(child)


def _imported_names(node: ast.AST, package: str) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        origin = ".".join([*parents, *([node.module] if node.module else [])])
        return [origin, *(f"{origin}.{alias.name}" for alias in node.names)]
    if isinstance(node, ast.Call) and node.args and _last_name(node.func) in _IMPORTERS:
        argument = node.args[0]
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            return [argument.value.partition(":")[0]]
    return []


def _last_name(node: ast.AST) -> str:
    """A name, or the last part of a dotted one; empty for other nodes."""
    return str(getattr(node, "attr", getattr(node, "id", "")))
