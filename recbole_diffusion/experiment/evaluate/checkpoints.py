"""The evaluation of a checkpoint at other metrics and cut-offs than those of its run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

from recbole_diffusion.evaluation.list_evaluation import NOT_OF_LISTS
from recbole_diffusion.serving.measurement import Evaluated, evaluate

__all__ = ["Evaluated", "evaluate", "overrides"]


def overrides(
    metrics: Optional[Sequence[str]], topk: Optional[Sequence[int]], stored: dict[str, Any]
) -> dict[str, Any]:
    """The settings that change metrics and cut-offs; ``valid_metric`` must be one of the measured metrics.

    Args:
        metrics, topk: None: those of ``stored``.
        stored: the settings without the change.
    """
    if metrics is None and topk is None:
        return {}
    names = list(metrics or _as_list(stored.get("metrics")) or ["Recall"])
    cut_offs = list(topk or _as_list(stored.get("topk")) or [10])
    first = names[0]
    has_cut_off = first.lower() not in NOT_OF_LISTS
    return {
        "metrics": names,
        "topk": cut_offs,
        "valid_metric": f"{first}@{cut_offs[0]}" if has_cut_off else first,
    }


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [] if value is None else [value]
