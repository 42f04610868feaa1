"""Plot the trials of a tuning: the scores in order, and the scores against each key."""

from __future__ import annotations

import functools
import itertools
import json
import math
from typing import Any

from recbole_diffusion.experiment import figures
from recbole_diffusion.experiment.space.search_space import Interval, Space, canonical_json
from recbole_diffusion.experiment.tune.report import TuneResult
from recbole_diffusion.support.atomic_write import atomic_write

COLOURS = {"finished": "#0072B2", "stopped": "#E69F00", "best": "#D55E00", "line": "#666666"}  # Okabe and Ito's palette
MARKS = {"finished": "o", "stopped": "v"}


def plot(result: TuneResult, space: Space, bigger: bool) -> list[str]:
    """Write ``trials.png`` and ``trials.svg``.

    Args:
        result: the result of the tuning.
        space: its search space. Keys with one value in all trials have no plot.
        bigger: whether larger scores are better.

    Returns:
        Notes for the user: how to install matplotlib, if it is missing.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        return ["no plot of the trials: pip install matplotlib"]
    records = result.records.values()
    keys = [key for key in space.dimensions if len({canonical_json(record["chosen"][key]) for record in records}) > 1]
    columns = min(4, len(keys) + 1)
    rows = math.ceil((len(keys) + 1) / columns)
    with rc_context({**figures.STYLE, "font.size": 8}):
        figure = Figure(figsize=(3.1 * columns + 0.4, 2.6 * rows + 0.5), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
        _plot_in_order(axes[0], result, bigger)
        for axis, key in zip(axes[1:], keys):
            _plot_against_key(axis, result, space, key)
        for axis in axes[len(keys) + 1 :]:
            axis.set_axis_off()
        figure.suptitle(_title(result))
        for ending in ("png", "svg"):
            metadata = figures.METADATA[ending]  # the same trials give the same file
            save = functools.partial(figure.savefig, format=ending, dpi=figures.DPI, metadata=metadata)
            atomic_write(result.folder / f"trials.{ending}", save)
    return []


def _title(result: TuneResult) -> str:
    record = result.records[result.trial]
    return (
        f"{record['model']} on {record['dataset']}: validation {result.metric} of {len(result.records)} trials"
        f"{f', {len(result.failures)} failed' if result.failures else ''} (seed {record['seed']})"
    )


def _plot_in_order(axis: Any, result: TuneResult, bigger: bool) -> None:
    """Plot the scores in the order of the trials, and the best score so far."""
    numbers = sorted(result.records)
    scores = [result.records[number]["valid_score"] for number in numbers]
    best = list(itertools.accumulate(scores, max if bigger else min))
    axis.step(numbers, best, where="post", color=COLOURS["line"], linewidth=1, label="best so far")
    _dots(axis, result, dict(zip(numbers, map(float, numbers))))
    axis.set(xlabel="trial", ylabel=result.metric)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.legend(fontsize=6, frameon=False, loc="best")


def _dots(axis: Any, result: TuneResult, positions: dict[int, float]) -> None:
    """Draw a dot for each trial, at its position on the x axis, and a ring around the chosen one."""
    for status, mark in MARKS.items():
        numbers = [number for number in positions if result.records[number]["status"] == status]
        if numbers:
            scores = [result.records[number]["valid_score"] for number in numbers]
            label = "stopped early" if status == "stopped" else "trained to its end"
            x = [positions[number] for number in numbers]
            axis.scatter(x, scores, s=16, marker=mark, color=COLOURS[status], alpha=0.8, label=label, zorder=3)
    score = result.records[result.trial]["valid_score"]
    ring = {"s": 90, "marker": "o", "facecolors": "none", "edgecolors": COLOURS["best"], "label": "chosen", "zorder": 4}
    axis.scatter([positions[result.trial]], [score], **ring)
    axis.grid(alpha=0.25, linewidth=0.5)


def _plot_against_key(axis: Any, result: TuneResult, space: Space, key: str) -> None:
    """Plot the scores against the values of a key: an interval on a scale, the values of a choice side by side."""
    values = {number: record["chosen"][key] for number, record in result.records.items()}
    dimension = space.dimensions[key]
    if isinstance(dimension, Interval):
        _dots(axis, result, {number: float(value) for number, value in values.items()})
        axis.set_xscale("log" if dimension.log else "linear")
    else:
        categories = _categories(dimension.values, list(values.values()))
        jitter = _jitter(values)
        positions = {n: categories.index(canonical_json(value)) + jitter[n] for n, value in values.items()}
        _dots(axis, result, positions)
        labels = [_tick_label(json.loads(category)) for category in categories]
        slant = sum(map(len, labels)) > 26
        axis.set_xticks(range(len(categories)), labels, rotation=35 if slant else 0, ha="right" if slant else "center")
        axis.set_xlim(-0.5, len(categories) - 0.5)
    axis.set(xlabel=key)


def _categories(allowed: Any, tried: list[Any]) -> list[str]:
    """The values of a key as texts: numbers in ascending order, other values in the order of the space.

    A default outside of the space comes last among values that are no numbers.
    """
    categories = list(dict.fromkeys([*map(canonical_json, allowed), *map(canonical_json, tried)]))
    values = [json.loads(category) for category in categories]
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        return [category for _, category in sorted(zip(values, categories))]
    return categories


def _jitter(values: dict[int, Any]) -> dict[int, float]:
    """A horizontal offset of each trial, so that dots of the same value lie side by side."""
    counts: dict[str, int] = {}
    offsets = {}
    for number, value in values.items():
        count = counts[canonical_json(value)] = counts.get(canonical_json(value), -1) + 1
        offsets[number] = 0.06 * (((count + 1) // 2) * (-1) ** count)
    return {number: max(-0.4, min(0.4, offset)) for number, offset in offsets.items()}


def _tick_label(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, list):
        return ",".join(map(_tick_label, value))
    return f"{value:g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)
