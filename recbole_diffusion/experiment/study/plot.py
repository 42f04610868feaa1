"""The plot of a study of steps: quality and speed against network calls."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from recbole_diffusion.experiment.study.results import Row, StudyResult
from recbole_diffusion.support.atomic_write import atomic_write

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")  # Okabe and Ito's palette
FORMATS = ("png", "svg", "pdf")


def plot_steps(result: StudyResult, title: str) -> list[Path]:
    """Write ``steps.png``, ``.svg`` and ``.pdf``; return the files, none without matplotlib."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        return []
    settings: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.fonttype": "none"}
    settings |= {"axes.grid": True, "grid.color": "#E5E5E5", "axes.axisbelow": True, "legend.frameon": False}
    with rc_context({**settings, "svg.hashsalt": "recbole-diffusion", "text.parse_math": False}):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        quality, speed = figure.subplots(1, 2)
        for colour, (solver, rows) in zip(COLOURS, _by_solver(result).items()):
            _draw_solver(quality, speed, solver, rows, colour)
        reference = next(row for row in result.rows if row.label == result.reference)
        if reference.value is not None:
            quality.axhline(reference.value, color="#666666", linewidth=0.8, linestyle="--")
            quality.annotate(
                f"{result.reference}, {reference.nfe} calls", (1, reference.value), xycoords=("axes fraction", "data"),
                ha="right", va="bottom", color="#666666",
            )  # fmt: skip
        for axes in (quality, speed):
            axes.set_xscale("log")
            calls = sorted({row.nfe for row in result.rows if row.nfe})
            axes.set_xticks(calls, [str(count) for count in calls])
            axes.minorticks_off()
            axes.set_xlabel("network calls per user")
        quality.set_ylabel(f"{result.metric}, 95 % interval over users")
        speed.set_yscale("log")
        speed.set_ylabel("users per second")
        quality.legend()
        figure.suptitle(title, fontsize=10)
        return [_save(figure, result.folder / f"steps.{suffix}") for suffix in FORMATS]


def _by_solver(result: StudyResult) -> dict[str, list[Row]]:
    """The rows of each solver, by the number of calls."""
    by_solver: dict[str, list[Row]] = {}
    for row in result.rows:
        if row.label != result.reference and row.nfe and row.value is not None:
            by_solver.setdefault(row.label.partition(" ")[0], []).append(row)
    return {solver: sorted(rows, key=lambda row: row.nfe or 0) for solver, rows in by_solver.items()}


def _draw_solver(quality: Any, speed: Any, solver: str, rows: list[Row], colour: str) -> None:
    calls = [row.nfe for row in rows]
    values = [row.value or 0.0 for row in rows]
    below = [value - (value if row.low is None else row.low) for value, row in zip(values, rows)]
    above = [(value if row.high is None else row.high) - value for value, row in zip(values, rows)]
    quality.errorbar(calls, values, [below, above], color=colour, marker="o", markersize=4, capsize=2, label=solver)
    speed.plot(calls, [row.users_per_s for row in rows], color=colour, marker="o", markersize=4)


def _save(figure: Any, path: Path) -> Path:
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(path.suffix[1:])
    atomic_write(path, functools.partial(figure.savefig, format=path.suffix[1:], dpi=200, metadata=metadata))
    return path
