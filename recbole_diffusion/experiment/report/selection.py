"""The metrics of a report: main metric, cut-offs and columns that the user asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Optional

from recbole_diffusion.evaluation.metric_names import metric_key


class Selection(NamedTuple):
    """The metrics of a report, as results hold them, e.g. ``ndcg@10``.

    Attributes:
        main: the metric that models are ranked by.
        columns: the metrics of the tables; None: all that were measured.
    """

    main: str
    columns: Optional[list[str]] = None

    @property
    def required(self) -> list[str]:
        """The metrics that the runs must have, or that are computed from their lists."""
        return list(dict.fromkeys([self.main, *(self.columns or ())]))


def select(
    plan: Mapping[str, Any],
    metric: Optional[str] = None,
    topk: Optional[Sequence[int]] = None,
    columns: Optional[Sequence[str]] = None,
) -> Selection:
    """Return the metrics of a report.

    Args:
        plan: content of comparison.json.
        metric: the main metric, with or without a cut-off; None: the comparison's.
        topk: cut-offs; None: the comparison's.
        columns: metrics of the tables, with or without a cut-off; None: all of the comparison, at ``topk``.
    """
    planned_main = str(plan["main_metric"]).lower()
    planned = [str(name).lower() for name in [*plan.get("metrics", ()), planned_main]]
    cut_offs = [str(k) for k in topk] if topk else _cut_offs(planned)
    main = metric_key(metric) if metric else planned_main
    if metric and "@" not in main and main not in planned:
        main = _at(main, cut_offs)[0]
    elif not metric and topk and main.partition("@")[2] not in ("", *cut_offs):
        main = f"{main.partition('@')[0]}@{cut_offs[0]}"
    bases = dict.fromkeys(name.partition("@")[0] for name in planned)
    names = [metric_key(name) for name in columns] if columns else list(bases) if topk else None
    if names is None:
        return Selection(main)
    return Selection(main, list(dict.fromkeys(full for name in names for full in _full_names(name, planned, cut_offs))))


def _full_names(name: str, planned: Sequence[str], cut_offs: Sequence[str]) -> list[str]:
    """The names with cut-offs; some metrics have none."""
    return [name] if "@" in name or name in planned else _at(name, cut_offs)


def _at(name: str, cut_offs: Sequence[str]) -> list[str]:
    return [f"{name}@{k}" for k in cut_offs] or [name]


def _cut_offs(metrics: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(k for name in metrics for k in [name.partition("@")[2]] if k))
