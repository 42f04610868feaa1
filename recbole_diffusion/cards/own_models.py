"""Load a user's own model, ``--model=module:Class``, and find the settings that its source reads.

RecBole's Config returns None for a key without a value, so that a forgotten setting reaches the model as None.
:func:`check_keys` finds such keys before a run.
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

#: Packages whose models have files with the defaults of their keys.
_WITH_DEFAULTS = ("recbole", "recbole_diffusion")
#: Packages of base classes that read no settings.
_NO_SETTINGS = ("torch", "builtins", "abc", "typing")
_CONDITIONAL = (ast.If, ast.IfExp, ast.Try, ast.BoolOp, ast.Compare, ast.While, ast.Lambda)


def is_module(name: str) -> bool:
    """Return whether a module of that name exists on Python's path or in the working folder."""
    add_working_folder_to_path()
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def add_working_folder_to_path() -> str:
    """Append the working folder to Python's path, and return the folder.

    ``python -m`` puts it on the path, but a console script puts its own folder there.
    """
    working_folder = os.getcwd()
    if working_folder not in sys.path and "" not in sys.path:
        sys.path.append(working_folder)
    return working_folder


def load(path: str) -> type:
    """Import the model class ``package.module:Class``.

    Raises:
        ValueError: no such module or class, a module that cannot be imported, or a class that is no recommender of
            RecBole; one line.
    """
    name, _, attribute = path.partition(":")
    module = _import_module(path, name)
    model_class = module
    for nested_name in attribute.split("."):
        model_class = getattr(model_class, nested_name, None)
    if not isinstance(model_class, type):
        classes = [key for key, value in vars(module).items() if isinstance(value, type)]
        similar = difflib.get_close_matches(attribute, classes, n=1)
        hint = f"; did you mean {similar[0]}?" if similar else ""
        file = getattr(module, "__file__", None) or name
        raise ValueError(f"model {path!r} cannot be loaded: {file} has no class {attribute!r}{hint}")
    if getattr(model_class, "type", None) is None:
        raise ValueError(f"model {path!r} cannot be used: it is not derived from one of RecBole's recommenders")
    return model_class


def _import_module(path: str, name: str) -> Any:
    working_folder = add_working_folder_to_path()
    if name.endswith(".py") or os.sep in name:
        module = os.path.splitext(os.path.basename(name))[0]
        raise ValueError(f"model {path!r} names a file; write {module}:{path.partition(':')[2]}, from its folder")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise ValueError(
                f"model {path!r} cannot be loaded: no module {error.name!r} in {working_folder} or on Python's path "
                "(PYTHONPATH, installed packages)"
            ) from error
        raise ValueError(f"model {path!r} cannot be loaded: {_place_of(error)}{error}") from error
    except Exception as error:  # the module's own code may raise anything
        text = " ".join(str(error).split())
        raise ValueError(
            f"model {path!r} cannot be loaded: {_place_of(error)}{type(error).__name__}: {text}"
        ) from error


def _place_of(error: BaseException) -> str:
    """The file and line where the import of a module failed, as the beginning of a message; empty if unknown."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    last = [frame for frame in frames if frame.filename != __file__][-1:]
    return f"{last[0].filename}, line {last[0].lineno}: " if last else ""


class Unset(NamedTuple):
    """The keys that a model reads and that have no value.

    Attributes:
        needed: keys that the constructor always reads.
        possible: keys that are read under a condition, or outside of the constructor.
    """

    needed: list[str]
    possible: list[str]


def check_keys(config: Any, tuned: Collection[str] = ()) -> None:
    """Check that all keys that a user's model reads have values. RecBole's models and ours have defaults for theirs.

    Args:
        config: settings with ``model_class``, ``final_config_dict`` and ``notes``. A note is added for each key that
            may be read.
        tuned: keys that a tuning sets later.

    Raises:
        ValueError: the constructor always reads a key that has no value.
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
    """Find the keys that the source of a model and of its base classes reads.

    Args:
        model_class: the model.
        known: keys that have a value.
    """
    needed: set[str] = set()
    possible: set[str] = set()
    constructor_is_called = True
    for base_class in model_class.__mro__:
        package = base_class.__module__.partition(".")[0]
        if package in _NO_SETTINGS:
            continue
        for key, function, is_conditional in _reads(base_class):
            if key in known:
                continue
            if function == "__init__" and constructor_is_called and not is_conditional:
                needed.add(key)
            elif package not in _WITH_DEFAULTS:
                possible.add(key)
        constructor = vars(base_class).get("__init__")
        if constructor is not None and "super(" not in _source(constructor):
            constructor_is_called = False
    return Unset(sorted(needed), sorted(possible - needed))


def _source(class_or_function: Any) -> str:
    try:
        return textwrap.dedent(inspect.getsource(class_or_function))
    except (OSError, TypeError):  # defined in an interactive session, without a file
        return ""


def _reads(model_class: type) -> Iterator[tuple[str, str, bool]]:
    """The reads of ``config["key"]`` in a class: key, name of the function, and whether it is under a condition."""
    try:
        tree = ast.parse(_source(model_class))
    except SyntaxError:  # the source of a class within an expression does not parse alone
        return
    yield from _reads_below(tree, "", False)


def _reads_below(node: ast.AST, function: str, is_conditional: bool) -> Iterator[tuple[str, str, bool]]:
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        key = node.slice.value
        if isinstance(node.ctx, ast.Load) and _is_config(node.value) and isinstance(key, str):
            yield key, function, is_conditional
    if isinstance(node, ast.FunctionDef):
        function = function or node.name
    is_conditional = is_conditional or isinstance(node, _CONDITIONAL)
    for child in ast.iter_child_nodes(node):
        yield from _reads_below(child, function, is_conditional)


def _is_config(node: ast.AST) -> bool:
    return (isinstance(node, ast.Name) and node.id == "config") or (
        isinstance(node, ast.Attribute) and node.attr == "config"
    )
