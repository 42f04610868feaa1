"""The trials of a tuning as a picture: their scores in order, and against each key."""

from __future__ import annotations

import functools
import json
import math
from typing import Any

from recbole_diffusion.experiment.space.search_space import Interval, Space, identity
from recbole_diffusion.experiment.tune.report import TuneResult
from recbole_diffusion.support.atomic_write import atomic_write

COLOURS = {"finished": "#0072B2", "stopped": "#E69F00", "best": "#D55E00", "line": "#666666"}  # Okabe and Ito's
MARKS = {"finished": "o", "stopped": "v"}


def plot(result: TuneResult, space: Space, bigger: bool) -> list[str]:
    """``trials.png`` and ``trials.svg``; without matplotlib nothing but a note that says so."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        return ["no plot of the trials: pip install matplotlib"]
    keys = [key for key in space.dimensions if len({identity(r["chosen"][key]) for r in result.records.values()}) > 1]
    columns = min(4, len(keys) + 1)
    rows = math.ceil((len(keys) + 1) / columns)
    with rc_context({"font.size": 8, "svg.hashsalt": "recbole-diffusion", "svg.fonttype": "none"}):
        figure = Figure(figsize=(3.1 * columns + 0.4, 2.6 * rows + 0.5), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
        _order(axes[0], result, bigger)
        for axis, key in zip(axes[1:], keys):
            _against(axis, result, space, key)
        for axis in axes[len(keys) + 1 :]:
            axis.set_axis_off()
        figure.suptitle(_title(result))
        for kind in ("png", "svg"):
            dates = {"Date": None} if kind == "svg" else None  # the same trials, the same file
            save = functools.partial(figure.savefig, format=kind, dpi=200, metadata=dates)
            atomic_write(result.folder / f"trials.{kind}", save)
    return []


def _title(result: TuneResult) -> str:
    record = result.records[result.trial]
    return (
        f"{record['model']} on {record['dataset']}: validation {result.metric} of {len(result.records)} trials"
        f"{f', {len(result.failures)} failed' if result.failures else ''} (seed {record['seed']})"
    )


def _order(axis: Any, result: TuneResult, bigger: bool) -> None:
    """Scores in the order of the trials, and the best so far."""
    numbers = sorted(result.records)
    scores = [result.records[number]["valid_score"] for number in numbers]
    best: list[float] = []
    for score in scores:
        best.append(score if not best else (max if bigger else min)(score, best[-1]))
    axis.step(numbers, best, where="post", color=COLOURS["line"], linewidth=1, label="best so far")
    _dots(axis, result, dict(zip(numbers, map(float, numbers))))
    axis.set(xlabel="trial", ylabel=result.metric)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.legend(fontsize=6, frameon=False, loc="best")


def _dots(axis: Any, result: TuneResult, places: dict[int, float]) -> None:
    for status, mark in MARKS.items():
        numbers = [n for n in places if result.records[n]["status"] == status]
        if numbers:
            scores = [result.records[n]["valid_score"] for n in numbers]
            label = "stopped early" if status == "stopped" else "trained to its end"
            where = [places[n] for n in numbers]
            axis.scatter(where, scores, s=16, marker=mark, color=COLOURS[status], alpha=0.8, label=label, zorder=3)
    score = result.records[result.trial]["valid_score"]
    ring = {"s": 90, "marker": "o", "facecolors": "none", "edgecolors": COLOURS["best"], "label": "chosen", "zorder": 4}
    axis.scatter([places[result.trial]], [score], **ring)
    axis.grid(alpha=0.25, linewidth=0.5)


def _against(axis: Any, result: TuneResult, space: Space, key: str) -> None:
    """Scores against the values of a key: numbers on a line, other values side by side."""
    values = {number: record["chosen"][key] for number, record in result.records.items()}
    dimension = space.dimensions[key]
    if isinstance(dimension, Interval):
        _dots(axis, result, {number: float(value) for number, value in values.items()})
        axis.set_xscale("log" if dimension.log else "linear")
    else:
        kinds = _kinds(dimension.values, list(values.values()))
        jitter = _jitter(values)
        _dots(axis, result, {n: kinds.index(identity(value)) + jitter[n] for n, value in values.items()})
        labels = [_tick(json.loads(kind)) for kind in kinds]
        slant = sum(map(len, labels)) > 26
        axis.set_xticks(range(len(kinds)), labels, rotation=35 if slant else 0, ha="right" if slant else "center")
        axis.set_xlim(-0.5, len(kinds) - 0.5)
    axis.set(xlabel=key)


def _kinds(allowed: Any, tried: list[Any]) -> list[str]:
    """The values in the order of the space; the defaults' among numbers in their place, else at the end."""
    kinds = list(dict.fromkeys([*map(identity, allowed), *map(identity, tried)]))
    numbers = [json.loads(kind) for kind in kinds]
    if all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in numbers):
        return [kind for _, kind in sorted(zip(numbers, kinds))]
    return kinds


def _jitter(values: dict[int, Any]) -> dict[int, float]:
    """A little to the side for each further trial with the same value."""
    seen: dict[str, int] = {}
    places = {}
    for number, value in values.items():
        count = seen[identity(value)] = seen.get(identity(value), -1) + 1
        places[number] = 0.06 * (((count + 1) // 2) * (-1) ** count)
    return {number: max(-0.4, min(0.4, place)) for number, place in places.items()}


def _tick(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, list):
        return ",".join(map(_tick, value))
    return f"{value:g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)
