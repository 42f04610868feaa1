"""The key ``loss_without``: parts of a loss that are left out, to measure what each part contributes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def left_out(config: Any, parts: Sequence[str]) -> frozenset[str]:
    """Return the parts of the loss that the key ``loss_without`` leaves out.

    Args:
        config: the settings.
        parts: names of all parts of the model's loss.

    Raises:
        ValueError: an unknown part, or no part is left.
    """
    without = config["loss_without"] if "loss_without" in config else []  # noqa: SIM401  RecBole's Config has no get
    unknown = [part for part in without if part not in parts]
    if unknown or {*without} == {*parts}:
        raise ValueError(f"loss_without={without!r} is not allowed; allowed: some, not all, of {', '.join(parts)}")
    return frozenset(without)
