"""Conversion of values to what json can represent."""

from __future__ import annotations

import math
from typing import Any


def nan_to_null(content: Any) -> Any:
    """Replace infinity and nan, which json cannot represent, by None; tuples become lists, numpy's numbers Python's."""
    if isinstance(content, dict):
        return {key: nan_to_null(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [nan_to_null(value) for value in content]
    if type(content).__module__ == "numpy" and content.shape == ():  # numpy is not imported for this
        content = content.item()
    return None if isinstance(content, float) and not math.isfinite(content) else content
