"""The plots of a comparison, drawn from their points; matplotlib without its global state."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from recbole_diffusion.experiment.report import labels
from recbole_diffusion.experiment.report.points import MEAN

Row = dict[str, Any]
Style = dict[str, dict[str, Any]]
#: Okabe and Ito's colours, which colour-blind people tell apart, without yellow, and with grey.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
_MARKERS = "os^DvPX*"
_SETTINGS: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E5E5E5",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "text.parse_math": False,
    "svg.hashsalt": "recbole-diffusion",
}
_TITLES = {
    "accuracy": "Accuracy",
    "accuracy_cost": "Accuracy against cost",
    "accuracy_coverage": "Accuracy against coverage",
    "learning_curves": "Learning curves",
    "tuning": "Tuning",
}
DPI = 200


def draw(name: str, rows: Sequence[Row], dataset: str, models: Sequence[str], seeds: Sequence[int]) -> dict[str, bytes]:
    """A plot by its suffix, ``png`` and ``svg``; the same points give the same bytes.

    Args:
        name: of :data:`recbole_diffusion.experiment.report.points.PLOTS`.
        rows: its points, at least one.
        models: labels in the plan's order; each has its colour in all plots.
    """
    drawn = {
        "accuracy": _accuracy,
        "accuracy_cost": _accuracy_cost,
        "accuracy_coverage": _accuracy_coverage,
        "learning_curves": _learning_curves,
        "tuning": _tuning,
    }
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(layout="constrained", dpi=DPI)
        FigureCanvasAgg(figure)
        number = f"{len(seeds)} seeds" if len(seeds) > 1 and name != "tuning" else f"seed {seeds[0]}"
        figure.suptitle(f"{_TITLES[name]}: {dataset}, {rows[0]['metric']}, {number}", fontsize=10)
        drawn[name](figure, list(rows), _style(models))
        return {suffix: _saved(figure, suffix) for suffix in ("png", "svg")}


def _saved(figure: Figure, suffix: str) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format=suffix, dpi=DPI, metadata={"Date": None} if suffix == "svg" else {"Software": None})
    return out.getvalue()


def _style(models: Sequence[str]) -> Style:
    """A colour, marker and line of each model; dashes are for models without epochs."""
    count = len(_COLOURS)
    return {
        label: {
            "color": _COLOURS[place % count],
            "marker": _MARKERS[(place + place // count) % len(_MARKERS)],
            "linestyle": ("-", "-.", ":")[place // count % 3],
        }
        for place, label in enumerate(models)
    }


def _accuracy(figure: Figure, rows: list[Row], style: Style) -> None:
    """Means with intervals and seeds; beside them the differences from the reference, which are paired."""
    paired = any(row["difference_low"] is not None for row in rows)
    figure.set_size_inches(9 if paired else 6, 1.3 + 0.28 * len(rows))
    axes = figure.subplots(1, 1 + paired, sharey=True, squeeze=False)[0]
    for place, row in enumerate(rows):
        _bar(axes[0], place, row["mean"], row["low"], row["high"], row, style)
        seeds = [float(each) for each in row["by_seed"].split()]
        axes[0].plot(seeds, [place] * len(seeds), "|", color="black", markersize=8, markeredgewidth=0.8, zorder=3)
        if paired:
            difference = 0.0 if row["model"] == row["reference"] else row["difference"]
            _bar(axes[1], place, difference, row["difference_low"], row["difference_high"], row, style)
    axes[0].set_yticks(range(len(rows)), [row["model"] for row in rows])
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    axes[0].set_xlabel(f"test {rows[0]['metric']}: mean, 95 % interval over users; | seeds")
    for each in axes:
        each.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    _explain(figure)
    if paired:
        axes[1].axvline(0, color="black", linewidth=0.8)
        axes[1].set_xlabel(f"difference from {rows[0]['reference']}, 95 % interval over users")
        axes[1].tick_params(axis="y", length=0)


def _bar(axes: Any, place: float, mean: Any, low: Any, high: Any, row: Row, style: Style) -> None:
    colour = style[row["model"]]["color"]
    if low is not None:
        axes.plot([low, high], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
    if mean is not None:
        face = colour if row["diffusion"] else "white"
        axes.plot([mean], [place], "o", color=colour, markerfacecolor=face, markersize=6, markeredgewidth=1.4)


def _accuracy_cost(figure: Figure, rows: list[Row], style: Style) -> None:
    figure.set_size_inches(11, 4.8)
    axes = figure.subplots(1, 2, sharey=True)
    for each, key, text in zip(
        axes, ("seconds", "test_users_per_s"), ("seconds of a run in all", "users per second at test")
    ):
        there = [row for row in rows if row[key]]
        each.set_xlabel(text)
        _scatter(each, there, key, style)
        _logarithmic(each, [row[key] for row in there], 4)
    axes[0].set_ylabel(f"test {rows[0]['metric']}")
    _name_points(figure, axes)


def _accuracy_coverage(figure: Figure, rows: list[Row], style: Style) -> None:
    figure.set_size_inches(6.5, 4.8)
    axes = figure.subplots()
    _scatter(axes, rows, "coverage", style)
    axes.set_xlabel(f"test {rows[0]['coverage_metric']}")
    axes.set_ylabel(f"test {rows[0]['metric']}")
    _name_points(figure, [axes])


def _scatter(axes: Any, rows: list[Row], key: str, style: Style) -> None:
    """Diffusion models filled, the others not."""
    for row in rows:
        look = style[row["model"]]
        face = look["color"] if row["diffusion"] else "white"
        axes.plot(
            row[key],
            row["mean"],
            look["marker"],
            color=look["color"],
            markerfacecolor=face,
            markersize=7,
            markeredgewidth=1.4,
            label=row["model"],
        )
    axes.margins(0.12)


def _explain(figure: Figure) -> None:
    figure.supxlabel("filled: diffusion models", fontsize=8, color="#555555")


def _name_points(figure: Figure, axes: Sequence[Any]) -> None:
    """Names are placed in pixels, so that the layout must be final."""
    _explain(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for each in axes:
        lines = list(each.lines)
        labels.write(
            each,
            [line.get_label() for line in lines],
            [float(line.get_xdata()[0]) for line in lines],
            [float(line.get_ydata()[0]) for line in lines],
        )


def _logarithmic(axes: Any, values: Sequence[float], factor: float) -> None:
    """A logarithmic x axis with plain numbers, where the values differ by more than the factor."""
    if not values or max(values) <= factor * min(values):
        return
    axes.set_xscale("log")
    subs = (1.0, 2.0, 5.0) if max(values) < 1000 * min(values) else (1.0,)
    axes.xaxis.set_major_locator(LogLocator(10, subs))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}" if value < 1e6 else f"{value:.0e}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _learning_curves(figure: Figure, rows: list[Row], style: Style) -> None:
    """The mean as far as all seeds went, its band, and what single seeds went further; against epochs and seconds."""
    figure.set_size_inches(11, 4.8)
    axes = figure.subplots(1, 2, sharey=True)
    means = {label: [row for row in rows if row["model"] == label and row["seed"] == MEAN] for label in style}
    order = sorted((label for label in style if means[label]), key=lambda label: -max(r["score"] for r in means[label]))
    for each, key in zip(axes, ("epoch", "seconds")):
        for label in order:
            tails = [row for row in rows if row["model"] == label and row["seed"] != MEAN]
            _curve(each, means[label], tails, key, style[label])
        each.xaxis.set_major_locator(MaxNLocator("auto", integer=key == "epoch"))
        _logarithmic(each, [row[key] for row in rows if row[key]], 20)
    axes[0].set_xlabel("epoch")
    axes[1].set_xlabel("seconds of training, that of a base included")
    axes[0].set_ylabel(f"validation {rows[0]['metric']}")
    _explain(figure)
    handles = {line.get_label(): line for line in axes[0].lines}
    figure.legend([handles[label] for label in order], order, loc="outside right center", fontsize=8)


def _curve(axes: Any, means: list[Row], seeds: list[Row], key: str, look: Row) -> None:
    label, colour = means[0]["model"], look["color"]
    xs = [row[key] for row in means]
    if len(means) == 1:
        axes.axhline(means[0]["score"], color=colour, linestyle="--", linewidth=1.2, label=label)
        return
    axes.fill_between(xs, [row["low"] for row in means], [row["high"] for row in means], color=colour, alpha=0.18, lw=0)
    face = colour if means[0]["diffusion"] else "white"
    mark = {"marker": look["marker"], "markevery": [-1], "markersize": 6, "markerfacecolor": face}
    line = {"color": colour, "linestyle": look["linestyle"], "lw": 1.5}
    axes.plot(xs, [row["score"] for row in means], label=label, **line, **mark)
    last = means[-1]["epoch"]
    for seed in {row["seed"] for row in seeds}:
        tail = [row for row in seeds if row["seed"] == seed and row["epoch"] >= last]
        axes.plot([row[key] for row in tail], [row["score"] for row in tail], color=colour, lw=0.6, label="_")


def _tuning(figure: Figure, rows: list[Row], style: Style) -> None:
    """One panel per model, with the same scale; trials as dots, failed ones as crosses at the bottom."""
    there = [label for label in style if any(row["model"] == label for row in rows)]
    across = {4: 2}.get(len(there), min(len(there), 4 if len(there) > 6 else 3))
    down = math.ceil(len(there) / across)
    figure.set_size_inches(2.6 * across + 1, 2.1 * down + 0.6)
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for place, (axes, label) in enumerate(zip(grid.flat, there)):
        axes.tick_params(labelbottom=place + across >= len(there))  # nothing is below it
        _trials(axes, [row for row in rows if row["model"] == label], style[label]["color"])
        axes.set_title(label, fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    for axes in list(grid.flat)[len(there) :]:
        axes.set_visible(False)
    figure.supxlabel("trial", fontsize=9)
    figure.supylabel(f"validation {rows[0]['metric']}", fontsize=9)


def _trials(axes: Any, rows: list[Row], colour: str) -> None:
    scored = [row for row in rows if row["score"] is not None]
    failed = [row["trial"] for row in rows if row["score"] is None]
    axes.plot([row["trial"] for row in scored], [row["score"] for row in scored], "o", color=colour, markersize=4)
    axes.step(
        [row["trial"] for row in scored], [row["best_so_far"] for row in scored], where="post", color=colour, lw=1.3
    )
    if failed:  # an empty line would have no extent, and the layout with it
        axes.plot(failed, [0.05] * len(failed), "x", color="black", transform=axes.get_xaxis_transform())
