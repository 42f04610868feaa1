"""Schema of the settings: rules for the values of keys, written in the yaml files and checked before a run starts.

A rule is the text in brackets at the beginning of a key's comment: ``(int >= 1 or null)``, ``(float in [0, 1))``,
``(linear | cosine)``, ``(list of int >= 1 or [])``, ``(list of 3 str)``, ``(list of different str)``. Alternatives are
joined by ``or``. The named forms ``interval``, ``shares``, ``mode`` and ``values`` are defined in
:mod:`recbole_diffusion.settings.forms`, the rules of mappings in :mod:`recbole_diffusion.settings.nested`.
"""

from __future__ import annotations

import ast
import difflib
import functools
import operator
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

import yaml

from recbole_diffusion.settings.forms import FORMS
from recbole_diffusion.support import yaml_files


class Key(NamedTuple):
    """A key of a yaml file.

    Attributes:
        default: its value in the file.
        rule: the values allowed; None if the file states no rule.
        meaning: the rest of its comment.
    """

    default: Any
    rule: Optional[str]
    meaning: str


_COMMENT = re.compile(r"^(?P<key>[\w-]+):[^#]*#\s*(?P<rest>\(.*)$")


def read_keys(file: Path) -> dict[str, Key]:
    """Read the keys of a properties file, with the rule and the meaning in their comments."""
    comments = _comments(file, os.stat(file).st_mtime_ns)
    return {key: Key(value, *comments.get(key, (None, ""))) for key, value in yaml_files.load_yaml(file).items()}


@functools.lru_cache(maxsize=256)
def _comments(file: Path, changed: int) -> dict[str, tuple[str, str]]:
    """Rule and meaning by key; cached by the file and its time of modification."""
    matches = map(_COMMENT.match, file.read_text(encoding="utf-8").splitlines())
    return {match["key"]: _split_brackets(match["rest"]) for match in matches if match}


def _split_brackets(text: str) -> tuple[str, str]:
    """Split ``(rule) meaning`` into its parts; the brackets of an interval such as ``[0, 1)`` do not end the rule."""
    bare = re.sub(r"[\[(][^\[\]()]*,[^\[\]()]*[\])]", lambda m: "_" * len(m[0]), text[1:])
    end = bare.index(")") + 1
    return text[1:end], text[end + 1 :].strip()


def parse_value(text: str) -> Any:
    """Parse a value from the command line as a Python literal or yaml; nothing is evaluated."""
    lowered = text.strip().lower()
    if text and not lowered:
        return text  # white space is a separator, e.g. field_separator
    if lowered in {"none", "null", "~", ""}:
        return None
    if lowered in {"true", "false"}:
        return lowered == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        pass
    try:
        return yaml_files.parse(text) if text[:1] in "[{" else text
    except (yaml.YAMLError, ValueError):
        return text


#: No int that a rule allows reaches this number, which no tensor's size can have.
_TOO_LARGE = 2**63
_NUMBER = r"[-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|inf)"
_SIMPLE = re.compile(
    rf"^(?P<kind>int|float)(?:\s*(?P<op>>=|>|<=|<)\s*(?P<bound>{_NUMBER})"
    rf"|\s+in\s+(?P<left>[\[(])\s*(?P<low>{_NUMBER})\s*,\s*(?P<high>{_NUMBER})\s*(?P<right>[\])]))?$"
)
_LIST = re.compile(r"^list of (?:(?P<count>\d+) |(?P<different>different ))?(?P<of>.+)$")
_KINDS: dict[str, type] = {"bool": bool, "str": str, "dict": dict}


@dataclass(frozen=True)
class Mismatch(Exception):
    """The value does not fit the rule ``allowed``."""

    allowed: str


def check(rule: str, value: Any) -> Any:
    """Check a value against a rule.

    The rule ``schedule`` stands for the names of the noise schedules.

    Returns:
        The value in the rule's type: ``5.0`` becomes 5 for an int.

    Raises:
        Mismatch: the value fits no alternative of the rule.
    """
    for alternative in re.split(r"\s+or\s+", rule):
        try:
            return _check_alternative(alternative.strip(), value)
        except Mismatch:
            continue
    raise Mismatch(rule)


def _check_alternative(rule: str, value: Any) -> Any:
    """:func:`check` for a rule without ``or``."""
    if rule == "null":
        fits, result = value is None or value == "None", None  # yaml reads Python's None as a string
    elif rule in _KINDS:
        fits, result = isinstance(value, _KINDS[rule]), value
    elif rule in FORMS:
        fits, result = _check_form(rule, value)
    elif rule == "[]":
        fits, result = isinstance(value, (list, tuple)) and len(value) == 0, []
    elif rule == "list":
        fits, result = isinstance(value, (list, tuple)), value
    elif rule.startswith("list"):
        fits, result = _check_list(rule, value)
    elif _SIMPLE.match(rule):
        fits, result = _check_number(rule, value)
    else:
        choices = [choice.strip() for choice in expand_rule(rule).split("|")]
        if "none" in choices and (value is None or value == "None"):  # the command line parses none as None
            return "none"
        fits, result = isinstance(value, (str, bool)) and str(value) in choices, str(value)
    if not fits:
        raise Mismatch(rule)
    return result


def _check_form(name: str, value: Any) -> tuple[bool, Any]:
    """Whether the value has the named form, and the value in its canonical spelling."""
    try:
        return True, FORMS[name][0](value)
    except ValueError:
        return False, value


def _check_list(rule: str, value: Any) -> tuple[bool, Any]:
    """Whether the value fits a rule ``list of ...``, and the list with its elements converted."""
    match = _LIST.match(rule)
    assert match is not None
    if not isinstance(value, (list, tuple)) or not value:
        return False, value
    result = [_check_alternative(match["of"], element) for element in value]
    if match["count"] and len(result) != int(match["count"]):
        return False, value
    folded = [element.lower() if isinstance(element, str) else element for element in result]
    return not match["different"] or len({*folded}) == len(folded), result


def _check_number(rule: str, value: Any) -> tuple[bool, Any]:
    """Whether the value fits a rule ``int ...`` or ``float ...``, and the converted number."""
    match = _SIMPLE.match(rule)
    assert match is not None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        return False, value
    if match["kind"] == "int":
        if abs(value) >= _TOO_LARGE or float(value) != int(value):
            return False, value
        value = int(value)
    elif abs(value) > sys.float_info.max and value not in (float("inf"), -float("inf")):  # an int beyond all floats
        return False, value
    else:
        value = float(value)
    if match["op"]:
        return _COMPARE[match["op"]](value, float(match["bound"])), value
    if match["left"]:
        above = _COMPARE[">=" if match["left"] == "[" else ">"](value, float(match["low"]))
        below = _COMPARE["<=" if match["right"] == "]" else "<"](value, float(match["high"]))
        return above and below, value
    return True, value


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
}


def rule_from_default(default: Any) -> Optional[str]:
    """The rule of a key that states none: the type of its default, or null. None if the default does not tell."""
    if isinstance(default, bool):
        return "bool or null"
    if isinstance(default, (int, float)):
        return "float or null"
    return "list or null" if isinstance(default, list) else None


def check_key(key: str, value: Any, rule: Optional[str], default: Any) -> Any:
    """Check the value of one key.

    Args:
        key: its name, for the message.
        value: its value.
        rule: its rule; None for the rule that follows from ``default``.
        default: its default.

    Returns:
        The value, in the type of ``rule``.

    Raises:
        ValueError: one line with the key, the value and what is allowed.
    """
    stated = rule or rule_from_default(default)
    if stated is None:
        return value
    try:
        result = check(stated, value)
    except Mismatch:
        raise ValueError(f"{key}={value!r} is not allowed; allowed: {describe_rule(stated)}") from None
    return result if rule else value


def describe_rule(rule: str) -> str:
    """Format a rule for a message: named forms are replaced by their descriptions."""
    parts = sorted(re.split(r"\s+or\s+", rule), key=lambda part: part in FORMS)
    return " or ".join(FORMS[part][1] if part in FORMS else expand_rule(part) for part in parts)


def expand_rule(rule: str) -> str:
    """Replace the rule ``schedule`` by the names of the noise schedules; other rules are returned unchanged.

    If the module of the schedules is loaded, its registered names are used. Otherwise its source is parsed, so that
    ``--help`` does not import torch.
    """
    if rule != "schedule":
        return rule
    loaded = sys.modules.get(_SCHEDULES)
    return " | ".join(loaded.NAMES if loaded is not None else _names_in_source())


#: The module of the noise schedules, which imports torch.
_SCHEDULES = "recbole_diffusion.diffusion.schedule"


@functools.lru_cache(maxsize=1)
def _names_in_source() -> list[str]:
    """The names of the built-in noise schedules: the keys of the only dict literal in the module's source."""
    package, *inner = _SCHEDULES.split(".")
    source = resources.files(package).joinpath("/".join(inner) + ".py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Dict):
            return [ast.literal_eval(key) for key in node.value.keys if key is not None]
    raise AssertionError(f"no table in {_SCHEDULES}")


def nearest(key: str, known: Iterable[str]) -> Optional[str]:
    """The known key most similar to ``key``, ignoring case; None if none is similar."""
    by_lower = {name.lower(): name for name in sorted(known)}
    matches = difflib.get_close_matches(key.lower(), by_lower, n=1, cutoff=0.7)
    return by_lower[matches[0]] if matches else None
