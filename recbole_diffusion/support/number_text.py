"""Numbers as text that stands for exactly that number."""

from __future__ import annotations


def exact(value: float) -> str:
    """Return a number in six digits if these are all that it has, else in as many as it has."""
    short = f"{value:g}"
    return short if float(short) == value else repr(float(value))
