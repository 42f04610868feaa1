"""What a key may be: rules in the yaml files, checked before anything runs.

A rule is what stands in brackets in a model file's comment: ``(int >= 1 or null)``, ``(float in [0, 1))``,
``(linear | cosine)``, ``(list of int >= 1 or [])``, ``(list of 3 str)``, ``(list of different str)``. Alternatives are
joined by ``or``. ``interval``, ``shares``, ``mode`` and ``values`` are in :mod:`recbole_diffusion.settings.forms`, the
rules of mappings in :mod:`recbole_diffusion.settings.nested`.
"""

from __future__ import annotations

import ast
import difflib
import functools
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple, Optional

import yaml

from recbole_diffusion.settings.forms import FORMS
from recbole_diffusion.support import yaml_files


class Key(NamedTuple):
    """A key of a yaml file: its default, its rule (None if it states none), what it means."""

    default: Any
    rule: Optional[str]
    meaning: str


_COMMENT = re.compile(r"^(?P<key>[\w-]+):[^#]*#\s*(?P<rest>\(.*)$")


def read_keys(file: Path) -> dict[str, Key]:
    """Every key of a properties file with the rule and the meaning in its comment."""
    comments = _comments(file, os.stat(file).st_mtime_ns)
    return {key: Key(value, *comments.get(key, (None, ""))) for key, value in yaml_files.load_yaml(file).items()}


@functools.lru_cache(maxsize=256)
def _comments(file: Path, changed: int) -> dict[str, tuple[str, str]]:
    """Rule and meaning by key; read once for each state of the file."""
    matches = map(_COMMENT.match, file.read_text(encoding="utf-8").splitlines())
    return {match["key"]: _split_brackets(match["rest"]) for match in matches if match}


def _split_brackets(text: str) -> tuple[str, str]:
    """``(rule) meaning`` into its parts; the rule may hold ``[0, 1)``, whose bracket is not counted."""
    bare = re.sub(r"[\[(][^\[\]()]*,[^\[\]()]*[\])]", lambda m: "_" * len(m[0]), text[1:])
    end = bare.index(")") + 1
    return text[1:end], text[end + 1 :].strip()


def parse_value(text: str) -> Any:
    """A value from the command line: yaml, and Python's literals where yaml has none. Nothing is evaluated."""
    lowered = text.strip().lower()
    if text and not lowered:
        return text  # a separator
    if lowered in {"none", "null", "~", ""}:
        return None
    if lowered in {"true", "false"}:
        return lowered == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        pass
    try:
        return yaml.load(text, Loader=yaml_files.YamlLoader) if text[:1] in "[{" else text
    except yaml.YAMLError:
        return text


_NUMBER = r"[-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|inf)"
_SIMPLE = re.compile(
    rf"^(?P<kind>int|float)(?:\s*(?P<op>>=|>|<=|<)\s*(?P<bound>{_NUMBER})"
    rf"|\s+in\s+(?P<left>[\[(])\s*(?P<low>{_NUMBER})\s*,\s*(?P<high>{_NUMBER})\s*(?P<right>[\])]))?$"
)
_LIST = re.compile(r"^list of (?:(?P<count>\d+) |(?P<different>different ))?(?P<of>.+)$")
_KINDS: dict[str, type] = {"bool": bool, "str": str, "dict": dict}


@dataclass(frozen=True)
class Mismatch(Exception):
    """The value does not fit the rule."""

    allowed: str


def check(rule: str, value: Any) -> Any:
    """``value``, as the type that the rule asks for (``5.0`` becomes 5 for an int).

    The rule ``schedule`` stands for the names of the noise schedules.

    Raises:
        Mismatch: no alternative of the rule takes it.
    """
    for alternative in re.split(r"\s+or\s+", rule):
        try:
            return _check_one(alternative.strip(), value)
        except Mismatch:
            continue
    raise Mismatch(rule)


def _check_one(rule: str, value: Any) -> Any:
    if rule == "null":
        fits, result = value is None or value == "None", None  # yaml reads Python's None as a word
    elif rule in _KINDS:
        fits, result = isinstance(value, _KINDS[rule]), value
    elif rule in FORMS:
        fits, result = _read_form(rule, value)
    elif rule == "[]":
        fits, result = isinstance(value, (list, tuple)) and len(value) == 0, []
    elif rule == "list":
        fits, result = isinstance(value, (list, tuple)), value
    elif rule.startswith("list"):
        fits, result = _check_list(rule, value)
    elif _SIMPLE.match(rule):
        fits, result = _check_number(rule, value)
    else:
        choices = [choice.strip() for choice in choices_of(rule).split("|")]
        if "none" in choices and (value is None or value == "None"):  # as yaml and the command line read it
            return "none"
        fits, result = isinstance(value, (str, bool)) and str(value) in choices, str(value)
    if not fits:
        raise Mismatch(rule)
    return result


def _read_form(name: str, value: Any) -> tuple[bool, Any]:
    try:
        return True, FORMS[name][0](value)
    except ValueError:
        return False, value


def _check_list(rule: str, value: Any) -> tuple[bool, Any]:
    part = _LIST.match(rule)
    assert part is not None
    if not isinstance(value, (list, tuple)) or not value:
        return False, value
    result = [_check_one(part["of"], each) for each in value]
    if part["count"] and len(result) != int(part["count"]):
        return False, value
    folded = [each.lower() if isinstance(each, str) else each for each in result]
    return not part["different"] or len({*folded}) == len(folded), result


def _check_number(rule: str, value: Any) -> tuple[bool, Any]:
    part = _SIMPLE.match(rule)
    assert part is not None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        return False, value
    if part["kind"] == "int":
        if float(value) != int(value) if abs(value) != float("inf") else True:
            return False, value
        value = int(value)
    else:
        value = float(value)
    if part["op"]:
        bound = float(part["bound"])
        fits = {">=": value >= bound, ">": value > bound, "<=": value <= bound, "<": value < bound}[part["op"]]
    elif part["left"]:
        low, high = float(part["low"]), float(part["high"])
        fits = (value >= low if part["left"] == "[" else value > low) and (
            value <= high if part["right"] == "]" else value < high
        )
    else:
        fits = True
    return fits, value


def rule_from_default(default: Any) -> Optional[str]:
    """For keys without a rule: a number stays a number, a list a list, a flag a flag."""
    if isinstance(default, bool):
        return "bool or null"
    if isinstance(default, (int, float)):
        return "float or null"
    return "list or null" if isinstance(default, list) else None


def check_key(key: str, value: Any, rule: Optional[str], default: Any) -> Any:
    """The value of one key, checked.

    Raises:
        ValueError: one line with the key, the value and what is allowed.
    """
    stated = rule or rule_from_default(default)
    if stated is None:
        return value
    try:
        result = check(stated, value)
    except Mismatch:
        raise ValueError(f"{key}={value!r} is not allowed; allowed: {in_words(stated)}") from None
    return result if rule else value


def in_words(rule: str) -> str:
    """The rule as a message shows it: the named forms described."""
    parts = sorted(re.split(r"\s+or\s+", rule), key=lambda part: part in FORMS)
    return " or ".join(FORMS[part][1] if part in FORMS else choices_of(part) for part in parts)


def choices_of(rule: str) -> str:
    """The rule, with the names of the noise schedules in place of ``schedule``: those that are registered by now.

    Help needs no torch: while the schedules are not loaded, none is registered, and their source is read.
    """
    if rule != "schedule":
        return rule
    loaded = sys.modules.get(_SCHEDULES)
    return " | ".join(loaded.NAMES if loaded is not None else _names_in_source())


#: The module of the noise schedules, which imports torch.
_SCHEDULES = "recbole_diffusion.diffusion.schedule"


@functools.lru_cache(maxsize=1)
def _names_in_source() -> list[str]:
    """The keys of the one table in the module."""
    package, *inner = _SCHEDULES.split(".")
    source = resources.files(package).joinpath("/".join(inner) + ".py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Dict):
            return [ast.literal_eval(key) for key in node.value.keys if key is not None]
    raise AssertionError(f"no table in {_SCHEDULES}")


def nearest(key: str, known: Iterable[str]) -> Optional[str]:
    """The known key that is most like ``key``, if one is."""
    folded = {each.lower(): each for each in sorted(known)}
    found = difflib.get_close_matches(key.lower(), folded, n=1, cutoff=0.7)
    return folded[found[0]] if found else None
