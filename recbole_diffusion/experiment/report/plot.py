"""The plots of a comparison, drawn from their points without matplotlib's global state."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from recbole_diffusion.evaluation.metric_names import paper_name
from recbole_diffusion.experiment import figures
from recbole_diffusion.experiment.report import labels
from recbole_diffusion.experiment.report.points import FORMATS, MEAN

Row = dict[str, Any]
Style = dict[str, dict[str, Any]]
_MARKERS = "os^DvPX*"
_TITLES = {
    "accuracy": "Accuracy",
    "accuracy_cost": "Accuracy against cost",
    "accuracy_coverage": "Accuracy against coverage",
    "learning_curves": "Learning curves",
    "tuning": "Tuning",
}


def draw(
    name: str,
    rows: Sequence[Row],
    dataset: str,
    models: Sequence[str],
    seeds: Sequence[int],
    formats: Sequence[str] = FORMATS,
) -> dict[str, bytes]:
    """Return a plot in each of the formats, by suffix. Equal points give equal bytes.

    Args:
        name: a key of :data:`recbole_diffusion.experiment.report.points.PLOTS`.
        rows: the points, at least one.
        dataset: the data set's name, for the title.
        models: labels in the plan's order; a model has the same colour in all plots.
        seeds: of the runs, for the title.
        formats: some of ``png``, ``svg``, ``pdf``.
    """
    functions = {
        "accuracy": _accuracy,
        "accuracy_cost": _accuracy_cost,
        "accuracy_coverage": _accuracy_coverage,
        "learning_curves": _learning_curves,
        "tuning": _tuning,
    }
    with matplotlib.rc_context(figures.STYLE):
        figure = Figure(layout="constrained", dpi=figures.DPI)
        FigureCanvasAgg(figure)
        number = f"{len(seeds)} seeds" if len(seeds) > 1 and name != "tuning" else f"seed {seeds[0]}"
        figure.suptitle(f"{_TITLES[name]}: {dataset}, {_metric(rows)}, {number}", fontsize=10)
        functions[name](figure, list(rows), _style(models))
        return {suffix: _encoded(figure, suffix) for suffix in formats}


def _metric(rows: Sequence[Row], key: str = "metric") -> str:
    return paper_name(rows[0][key])


def _encoded(figure: Figure, suffix: str) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format=suffix, dpi=figures.DPI, metadata=figures.METADATA[suffix])
    return stream.getvalue()


def _style(models: Sequence[str]) -> Style:
    """Colour, marker and line style of each model; dashed lines are for models without epochs."""
    count = len(figures.COLOURS)
    return {
        label: {
            "color": figures.COLOURS[index % count],
            "marker": _MARKERS[(index + index // count) % len(_MARKERS)],
            "linestyle": ("-", "-.", ":")[index // count % 3],
        }
        for index, label in enumerate(models)
    }


def _accuracy(figure: Figure, rows: list[Row], style: Style) -> None:
    """Means with intervals and seeds; beside them the paired differences from the reference."""
    paired = any(row["difference_low"] is not None for row in rows)
    figure.set_size_inches(9 if paired else 6, 1.3 + 0.28 * len(rows))
    axes = figure.subplots(1, 1 + paired, sharey=True, squeeze=False)[0]
    for y, row in enumerate(rows):
        _interval(axes[0], y, row["mean"], row["low"], row["high"], row, style)
        seeds = [float(mean) for mean in row["by_seed"].split()]
        axes[0].plot(seeds, [y] * len(seeds), "|", color="black", markersize=8, markeredgewidth=0.8, zorder=3)
        if paired:
            difference = 0.0 if row["model"] == row["reference"] else row["difference"]
            _interval(axes[1], y, difference, row["difference_low"], row["difference_high"], row, style)
    axes[0].set_yticks(range(len(rows)), [row["model"] for row in rows])
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    axes[0].set_xlabel(f"test {_metric(rows)}: mean, 95 % interval over users; | seeds")
    for panel in axes:
        panel.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    _explain_filling(figure)
    if paired:
        axes[1].axvline(0, color="black", linewidth=0.8)
        axes[1].set_xlabel(f"difference from {rows[0]['reference']}, 95 % interval over users")
        axes[1].tick_params(axis="y", length=0)


def _interval(axes: Any, y: float, mean: Any, low: Any, high: Any, row: Row, style: Style) -> None:
    colour = style[row["model"]]["color"]
    if low is not None:
        axes.plot([low, high], [y, y], color=colour, linewidth=2, solid_capstyle="butt")
    if mean is not None:
        face = colour if row["diffusion"] else "white"
        axes.plot([mean], [y], "o", color=colour, markerfacecolor=face, markersize=6, markeredgewidth=1.4)


def _accuracy_cost(figure: Figure, rows: list[Row], style: Style) -> None:
    panels = [("seconds", "seconds of a run in all"), ("test_users_per_s", "users per second at test")]
    if any(row.get("energy_wh") for row in rows):
        panels.append(("energy_wh", "watt-hours of a run"))
    figure.set_size_inches(5.5 * len(panels), 4.8)
    axes = figure.subplots(1, len(panels), sharey=True)
    for panel, (key, text) in zip(axes, panels):
        measured = [row for row in rows if row[key]]
        panel.set_xlabel(text)
        _scatter(panel, measured, key, style)
        _logarithmic(panel, [row[key] for row in measured], 4)
    axes[0].set_ylabel(f"test {_metric(rows)}")
    _label_points(figure, axes)


def _accuracy_coverage(figure: Figure, rows: list[Row], style: Style) -> None:
    figure.set_size_inches(6.5, 4.8)
    axes = figure.subplots()
    _scatter(axes, rows, "coverage", style)
    axes.set_xlabel(f"test {_metric(rows, 'coverage_metric')}")
    axes.set_ylabel(f"test {_metric(rows)}")
    _label_points(figure, [axes])


def _scatter(axes: Any, rows: list[Row], key: str, style: Style) -> None:
    """One mark per model, filled for diffusion models."""
    for row in rows:
        model_style = style[row["model"]]
        face = model_style["color"] if row["diffusion"] else "white"
        axes.plot(
            row[key],
            row["mean"],
            model_style["marker"],
            color=model_style["color"],
            markerfacecolor=face,
            markersize=7,
            markeredgewidth=1.4,
            label=row["model"],
        )
    axes.margins(0.12)


def _explain_filling(figure: Figure, more: str = "") -> None:
    figure.supxlabel(f"filled: diffusion models{more}", fontsize=8, color="#555555")


def _label_points(figure: Figure, axes: Sequence[Any]) -> None:
    """Write each point's label. Labels are placed in pixels, so the layout is made final first."""
    _explain_filling(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for panel in axes:
        lines = list(panel.lines)
        labels.write(
            panel,
            [line.get_label() for line in lines],
            [float(line.get_xdata()[0]) for line in lines],
            [float(line.get_ydata()[0]) for line in lines],
        )


def _logarithmic(axes: Any, values: Sequence[float], factor: float) -> None:
    """Make the x axis logarithmic, with plain numbers, if the values differ by more than ``factor``."""
    if not values or max(values) <= factor * min(values):
        return
    axes.set_xscale("log")
    subs = (1.0, 2.0, 5.0) if max(values) < 1000 * min(values) else (1.0,)
    axes.xaxis.set_major_locator(LogLocator(10, subs))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}" if value < 1e6 else f"{value:.0e}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _learning_curves(figure: Figure, rows: list[Row], style: Style) -> None:
    """Mean and range while all seeds train, then the single seeds that train longer; over epochs and over seconds."""
    figure.set_size_inches(11, 4.8)
    axes = figure.subplots(1, 2, sharey=True)
    means = {label: [row for row in rows if row["model"] == label and row["seed"] == MEAN] for label in style}
    order = sorted((label for label in style if means[label]), key=lambda label: -max(r["score"] for r in means[label]))
    for panel, key in zip(axes, ("epoch", "seconds")):
        for label in order:
            tails = [row for row in rows if row["model"] == label and row["seed"] != MEAN]
            _curve(panel, means[label], tails, key, style[label])
        panel.xaxis.set_major_locator(MaxNLocator("auto", integer=key == "epoch"))
        _logarithmic(panel, [row[key] for row in rows if row[key]], 20)
    axes[0].set_xlabel("epoch")
    axes[1].set_xlabel("seconds of training, that of a base included")
    axes[0].set_ylabel(f"validation {_metric(rows)}")
    _explain_filling(figure, "; star: chosen epoch of a seed" if any(row.get("chosen") for row in rows) else "")
    handles = {line.get_label(): line for line in axes[0].lines}
    figure.legend([handles[label] for label in order], order, loc="outside right center", fontsize=8)


def _curve(axes: Any, means: list[Row], seeds: list[Row], key: str, model_style: Row) -> None:
    label, colour = means[0]["model"], model_style["color"]
    xs = [row[key] for row in means]
    if len(means) == 1:
        axes.axhline(means[0]["score"], color=colour, linestyle="--", linewidth=1.2, label=label)
        return
    axes.fill_between(xs, [row["low"] for row in means], [row["high"] for row in means], color=colour, alpha=0.18, lw=0)
    face = colour if means[0]["diffusion"] else "white"
    mark = {"marker": model_style["marker"], "markevery": [-1], "markersize": 6, "markerfacecolor": face}
    line = {"color": colour, "linestyle": model_style["linestyle"], "lw": 1.5}
    axes.plot(xs, [row["score"] for row in means], label=label, **line, **mark)
    chosen = [row for row in seeds if row.get("chosen")]
    star = {"marker": "*", "linestyle": "none", "markersize": 9, "markeredgecolor": "white", "markeredgewidth": 0.5}
    if chosen:
        axes.plot([r[key] for r in chosen], [r["score"] for r in chosen], color=colour, label="_", zorder=3, **star)
    last = means[-1]["epoch"]
    for seed in {row["seed"] for row in seeds}:
        tail = [row for row in seeds if row["seed"] == seed and row["epoch"] >= last]
        axes.plot([row[key] for row in tail], [row["score"] for row in tail], color=colour, lw=0.6, label="_")


def _tuning(figure: Figure, rows: list[Row], style: Style) -> None:
    """One panel per model, with the same scale; trials are dots, failed ones crosses at the bottom."""
    tuned = [label for label in style if any(row["model"] == label for row in rows)]
    n_columns = {4: 2}.get(len(tuned), min(len(tuned), 4 if len(tuned) > 6 else 3))
    n_rows = math.ceil(len(tuned) / n_columns)
    figure.set_size_inches(2.6 * n_columns + 1, 2.1 * n_rows + 0.6)
    grid = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False)
    for index, (axes, label) in enumerate(zip(grid.flat, tuned)):
        axes.tick_params(labelbottom=index + n_columns >= len(tuned))  # only without a panel below
        _trials(axes, [row for row in rows if row["model"] == label], style[label]["color"])
        axes.set_title(label, fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    for axes in list(grid.flat)[len(tuned) :]:
        axes.set_visible(False)
    figure.supxlabel("trial", fontsize=9)
    figure.supylabel(f"validation {_metric(rows)}", fontsize=9)


def _trials(axes: Any, rows: list[Row], colour: str) -> None:
    scored = [row for row in rows if row["score"] is not None]
    failed = [row["trial"] for row in rows if row["score"] is None]
    axes.plot([row["trial"] for row in scored], [row["score"] for row in scored], "o", color=colour, markersize=4)
    axes.step(
        [row["trial"] for row in scored], [row["best_so_far"] for row in scored], where="post", color=colour, lw=1.3
    )
    if failed:  # an empty line would break the layout
        axes.plot(failed, [0.05] * len(failed), "x", color="black", transform=axes.get_xaxis_transform())
