"""Rules of settings that are mappings: their keys, and what each of these may be.

The rules stand in ``properties/recbole.yaml``, whose head describes the notation, and those of RecBole's models in
``properties/recbole-models.yaml``. A key inside a mapping that nothing
reads would have no effect, as a misspelt key has none; it is refused, with the known key that is most like it.
"""

from __future__ import annotations

import functools
from typing import Any, Union

from recbole_diffusion.settings import schema
from recbole_diffusion.support import yaml_files

Rule = Union[str, dict[str, Any], None]


@functools.lru_cache(maxsize=2)
def recbole_rules(models: bool = False) -> dict[str, Rule]:
    """The rules of RecBole's keys, with ``models`` those of its own models too; not to be changed."""
    rules = yaml_files.load_yaml(yaml_files.properties() / "recbole.yaml")
    return {**rules, **yaml_files.load_yaml(yaml_files.properties() / "recbole-models.yaml")} if models else rules


def check(name: str, value: Any, rule: Rule, notes: list[str]) -> Any:
    """The value of a setting, checked to its depth, in the types that its rule asks for.

    Args:
        name: the key, with dots between the keys of mappings.
        value: what it is set to.
        rule: a rule in words, or a mapping of rules; None: anything.
        notes: takes a line for each key that has no effect, where the rule says that this is a warning.

    Raises:
        ValueError: one line with the key, the value and what is allowed.
    """
    if rule is None:
        return value
    if isinstance(rule, str):
        return schema.check_key(name, value, rule, None)
    if not isinstance(value, dict) or not {"keys", "each"} & {*rule}:
        return _plain(name, value, rule)
    if rule.get("one") and (len(value) != 1 or not ({*value} <= {*rule.get("keys", value)})):
        raise _refusal(name, value, rule)
    _check_names(name, value, rule, notes)
    inner = rule.get("keys", {})
    return {key: check(f"{name}.{key}", each, inner.get(key, rule.get("each")), notes) for key, each in value.items()}


def _plain(name: str, value: Any, rule: dict[str, Any]) -> Any:
    try:
        return schema.check(rule["rule"], value)
    except schema.Mismatch:
        raise _refusal(name, value, rule) from None


def _refusal(name: str, value: Any, rule: dict[str, Any]) -> ValueError:
    return ValueError(f"{name}={value!r} is not allowed; allowed: {rule['allowed']}")


def _check_names(name: str, value: dict[Any, Any], rule: dict[str, Any], notes: list[str]) -> None:
    """Whether the keys of a mapping are known and complete.

    Raises:
        ValueError: they are not, and the rule does not leave it at a note.
    """
    missing = [key for key in rule.get("needs", ()) if key not in value]
    if missing:
        raise ValueError(f"{name}={value!r} has no {missing[0]}; allowed: {rule['allowed']}")
    for key in value:
        if not isinstance(key, str):
            raise _refusal(name, value, rule)
        if "each" in rule or key in rule["keys"]:
            continue
        near = schema.nearest(key, rule["keys"])
        hint = f"; did you mean {near}?" if near else ""
        text = f"key '{name}.{key}' is unknown to RecBole and has no effect{hint}"
        if not rule.get("note"):
            raise ValueError(f"{text}; allowed: {rule['allowed']}")
        notes.append(text)
