"""Temporary replacement of attributes of other modules and classes (monkey patching)."""

from __future__ import annotations

from typing import Any, Callable

Undo = Callable[[], None]


def replace(*changes: tuple[Any, str, Any]) -> Undo:
    """Set attributes.

    Args:
        changes: (owner, attribute name, new value).

    Returns:
        A function that restores the old values and deletes attributes that did not exist.
    """
    missing = object()
    before = [(owner, name, vars(owner).get(name, missing)) for owner, name, _ in changes]
    for owner, name, value in changes:
        setattr(owner, name, value)

    def revert() -> None:
        for owner, name, value in before:
            if value is missing:
                delattr(owner, name)
            else:
                setattr(owner, name, value)

    return revert
