"""Rules of settings that are mappings: their keys, and the values allowed for each key.

The rules are in ``properties/recbole.yaml``, which describes the notation at its beginning, and those of RecBole's
models in ``properties/recbole-models.yaml``. An unknown key inside a mapping has no effect in RecBole. Here it is an
error, which suggests the most similar known key.
"""

from __future__ import annotations

import functools
from typing import Any, Union

from recbole_diffusion.settings import schema
from recbole_diffusion.support import yaml_files

Rule = Union[str, dict[str, Any], None]


@functools.lru_cache(maxsize=2)
def recbole_rules(models: bool = False) -> dict[str, Rule]:
    """The rules of RecBole's keys; callers must not modify them.

    Args:
        models: include the keys of RecBole's own models.
    """
    rules = yaml_files.load_yaml(yaml_files.properties() / "recbole.yaml")
    return {**rules, **yaml_files.load_yaml(yaml_files.properties() / "recbole-models.yaml")} if models else rules


def check(name: str, value: Any, rule: Rule, notes: list[str]) -> Any:
    """Check the value of a setting recursively.

    Args:
        name: the key, with dots between the keys of mappings.
        value: its value.
        rule: a rule of :mod:`schema`, or a mapping of rules; None allows any value.
        notes: takes a line for each unknown key, if the rule makes that a warning.

    Returns:
        The value, in the types of its rules.

    Raises:
        ValueError: one line with the key, the value and what is allowed.
    """
    if rule is None:
        return value
    if isinstance(rule, str):
        return schema.check_key(name, value, rule, None)
    if not isinstance(value, dict) or not {"keys", "each"} & {*rule}:
        return _check_non_mapping(name, value, rule)
    if rule.get("one") and (len(value) != 1 or not ({*value} <= {*rule.get("keys", value)})):
        raise _not_allowed(name, value, rule)
    _check_keys(name, value, rule, notes)
    rules = rule.get("keys", {})
    return {key: check(f"{name}.{key}", item, rules.get(key, rule.get("each")), notes) for key, item in value.items()}


def _check_non_mapping(name: str, value: Any, rule: dict[str, Any]) -> Any:
    """Check a value that is not a mapping, such as null, against the entry ``rule`` of a mapping's rules."""
    try:
        return schema.check(rule["rule"], value)
    except schema.Mismatch:
        raise _not_allowed(name, value, rule) from None


def _not_allowed(name: str, value: Any, rule: dict[str, Any]) -> ValueError:
    return ValueError(f"{name}={value!r} is not allowed; allowed: {rule['allowed']}")


def _check_keys(name: str, value: dict[Any, Any], rule: dict[str, Any], notes: list[str]) -> None:
    """Check that the keys of a mapping are known and complete.

    Raises:
        ValueError: a key is missing, or unknown and the rule does not make that a warning.
    """
    missing = [key for key in rule.get("needs", ()) if key not in value]
    if missing:
        raise ValueError(f"{name}={value!r} has no {missing[0]}; allowed: {rule['allowed']}")
    for key in value:
        if not isinstance(key, str):
            raise _not_allowed(name, value, rule)
        if "each" in rule or key in rule["keys"]:
            continue
        near = schema.nearest(key, rule["keys"])
        hint = f"; did you mean {near}?" if near else ""
        text = f"key '{name}.{key}' is unknown to RecBole and has no effect{hint}"
        if not rule.get("note"):
            raise ValueError(f"{text}; allowed: {rule['allowed']}")
        notes.append(text)
