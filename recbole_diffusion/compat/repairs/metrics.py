"""Repairs of RecBole's collector and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

from recbole_diffusion.compat.repairs.registration import repair
from recbole_diffusion.support.patch import Undo, replace


@repair(drop_when="RecBole's collector stops calling .cpu() on counters")
def collector_plain_values() -> Optional[Undo]:
    """Collector.get_data_struct calls .cpu() on ints and Counters: coverage, Gini and tail metrics crash."""
    from recbole.evaluator.collector import Collector

    from recbole_diffusion.evaluation import collect

    original = Collector.get_data_struct

    def get_data_struct(self: Any) -> Any:
        data = self.data_struct._data_dict
        plain_values = {key: data.pop(key) for key in list(data) if not hasattr(data[key], "cpu")}
        try:
            result = original(self)
        finally:
            data.update(plain_values)
        result._data_dict.update(plain_values)
        collect.clear(self)  # RecBole deletes the rows that it knows
        return result

    return replace((Collector, "get_data_struct", get_data_struct))


@repair(drop_when="RecBole's collector drops items that are not candidates and sums ranks in float64")
def collector_candidates() -> Optional[Undo]:
    """Where a user has fewer than k candidates, RecBole's lists go on with masked items and the padding item."""
    from recbole.evaluator.collector import Collector

    from recbole_diffusion.evaluation import collect

    return replace(
        (Collector, "eval_batch_collect", collect.collect_batch),
        (Collector, "data_collect", collect.collect_train_data),
    )


@repair(drop_when="RecBole's entropy is undivided, coverage and Gini leave out the padding item, novelty exists")
def list_metrics() -> Optional[Undo]:
    """ShannonEntropy is divided by the number of items, coverage and Gini count the padding item; no novelty."""
    from recbole_diffusion.evaluation import list_metrics as ours

    return _register(ours.ALL)


@repair(drop_when="RecBole has recall by groups, intra-list diversity, calibration and serendipity")
def further_metrics() -> Optional[Undo]:
    """RecBole lacks recall by groups of items and users, intra-list diversity, calibration and serendipity."""
    from recbole_diffusion.evaluation import diversity_metrics, group_metrics

    return _register((*group_metrics.ALL, *diversity_metrics.ALL))


def _register(metrics: Sequence[Any]) -> Undo:
    """Add metric classes to RecBole's tables, and return a function that restores the tables."""
    from recbole.evaluator import register

    undos = []
    for metric in metrics:
        for table, value in (
            (register.metrics_dict, metric),
            (register.metric_information, metric.metric_need),
            (register.metric_types, metric.metric_type),
        ):
            undos.append(_replace_item(table, metric.__name__.lower(), value))
    smaller_metrics = register.smaller_metrics
    added = [name for name in (m.__name__.lower() for m in metrics if m.smaller) if name not in smaller_metrics]
    smaller_metrics.extend(added)

    def revert() -> None:
        for name in added:
            smaller_metrics.remove(name)
        for undo_item in reversed(undos):
            undo_item()

    return revert


def _replace_item(table: dict[str, Any], key: str, value: Any) -> Undo:
    """Set an entry of a dict and return a function that restores the former entry or removes the new one."""
    had_key, former_value = key in table, table.get(key)
    table[key] = value

    def revert() -> None:
        if had_key:
            table[key] = former_value
        else:
            del table[key]

    return revert
