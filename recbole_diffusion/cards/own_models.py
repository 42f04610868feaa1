"""A user's own model, ``--model=module:Class``: found where the user stands, and the settings that its source reads.

RecBole's Config gives None for a key that nothing sets, so that a forgotten setting becomes None somewhere in a model.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import inspect
import os
import sys
import textwrap
import traceback
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

#: Packages whose models bring the defaults of their keys.
_WITH_DEFAULTS = ("recbole", "recbole_diffusion")
#: Packages of base classes that read no settings.
_NO_SETTINGS = ("torch", "builtins", "abc", "typing")
_CONDITIONAL = (ast.If, ast.IfExp, ast.Try, ast.BoolOp, ast.Compare, ast.While, ast.Lambda)


def is_module(name: str) -> bool:
    """Whether a module of that name can be found, also in the working folder."""
    with_here()
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def with_here() -> str:
    """Look for modules in the working folder too, after all others; returns the folder.

    ``python -m`` has it on Python's path, a console script has its own folder there.
    """
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    return here


def load(path: str) -> type:
    """The class that ``package.module:Class`` names.

    Raises:
        ValueError: no such module or class, or a module that cannot be imported; one line.
    """
    name, _, attribute = path.partition(":")
    module = _module(path, name)
    found = module
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, type):
        classes = [key for key, value in vars(module).items() if isinstance(value, type)]
        near = difflib.get_close_matches(attribute, classes, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        where = getattr(module, "__file__", None) or name
        raise ValueError(f"model {path!r} cannot be loaded: {where} has no class {attribute!r}{hint}")
    if getattr(found, "type", None) is None:
        raise ValueError(f"model {path!r} cannot be used: it is not derived from one of RecBole's recommenders")
    return found


def _module(path: str, name: str) -> Any:
    here = with_here()
    if name.endswith(".py") or os.sep in name:
        module = os.path.splitext(os.path.basename(name))[0]
        raise ValueError(f"model {path!r} names a file; write {module}:{path.partition(':')[2]}, from its folder")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise ValueError(
                f"model {path!r} cannot be loaded: no module {error.name!r} in {here} or on Python's path "
                "(PYTHONPATH, installed packages)"
            ) from error
        raise ValueError(f"model {path!r} cannot be loaded: {_place(error)}{error}") from error
    except Exception as error:  # whatever the module does when it is imported
        text = " ".join(str(error).split())
        raise ValueError(f"model {path!r} cannot be loaded: {_place(error)}{type(error).__name__}: {text}") from error


def _place(error: BaseException) -> str:
    """File and line where a module's import failed."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    last = [frame for frame in frames if frame.filename != __file__][-1:]
    return f"{last[0].filename}, line {last[0].lineno}: " if last else ""


class Unset(NamedTuple):
    """Keys that a model reads and nothing sets.

    Attributes:
        needed: read whatever happens.
        possible: read under a condition, or with something in place of None.
    """

    needed: list[str]
    possible: list[str]


def check_keys(config: Any, tuned: Collection[str] = ()) -> None:
    """Name the keys that an own model reads and nothing sets; RecBole's models and ours bring defaults for theirs.

    Args:
        config: with ``model_class``, ``final_config_dict``, and ``notes``, which the possible ones are added to.
        tuned: keys that something else sets later.

    Raises:
        ValueError: the model reads one whatever happens.
    """
    if config.model_class.__module__.partition(".")[0] in _WITH_DEFAULTS:
        return
    unset = unset_keys(config.model_class, {*config.final_config_dict, *tuned})
    if unset.needed:
        first, several = unset.needed[0], len(unset.needed) > 1
        raise ValueError(
            f"{config.model_class.__name__} reads {', '.join(unset.needed)}, which nothing sets; "
            f"give --{first}=VALUE{' and the others' if several else ''}, or "
            "register_model(ModelSpec(properties=FILE.yaml)) with the defaults"
        )
    for key in unset.possible:
        config.notes.append(f"{config.model_class.__name__} reads {key!r}, which nothing sets: it may find None there")


def unset_keys(model_class: type, known: Collection[str]) -> Unset:
    """The keys that the sources of a model and its bases read, without the known ones."""
    needed: set[str] = set()
    possible: set[str] = set()
    called = True  # whether the constructor of the class is
    for each in model_class.__mro__:
        package = each.__module__.partition(".")[0]
        if package in _NO_SETTINGS:
            continue
        for key, function, condition in _reads(each):
            if key in known:
                continue
            if function == "__init__" and called and not condition:
                needed.add(key)
            elif package not in _WITH_DEFAULTS:
                possible.add(key)
        called = called and ("__init__" not in vars(each) or "super(" in _source(vars(each)["__init__"]))
    return Unset(sorted(needed), sorted(possible - needed))


def _source(of: Any) -> str:
    try:
        return textwrap.dedent(inspect.getsource(of))
    except (OSError, TypeError):  # made in a session, without a file
        return ""


def _reads(model_class: type) -> Iterator[tuple[str, str, bool]]:
    """Each key that the class reads as ``config["key"]``, in which function, and whether under a condition."""
    try:
        tree = ast.parse(_source(model_class))
    except SyntaxError:  # a class within an expression
        return
    yield from _walk(tree, "", False)


def _walk(node: ast.AST, function: str, condition: bool) -> Iterator[tuple[str, str, bool]]:
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        key = node.slice.value
        if isinstance(node.ctx, ast.Load) and _is_config(node.value) and isinstance(key, str):
            yield key, function, condition
    if isinstance(node, ast.FunctionDef):
        function = function or node.name
    condition = condition or isinstance(node, _CONDITIONAL)
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, function, condition)


def _is_config(node: ast.AST) -> bool:
    return (isinstance(node, ast.Name) and node.id == "config") or (
        isinstance(node, ast.Attribute) and node.attr == "config"
    )
