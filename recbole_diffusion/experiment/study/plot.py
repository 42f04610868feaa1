"""The plot of a study of steps: quality, its difference from the model as trained, and speed, against network calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recbole_diffusion.experiment import figures
from recbole_diffusion.experiment.study.results import Row, StudyResult


def plot_steps(result: StudyResult, title: str) -> list[Path]:
    """Write ``steps.png``, ``.svg`` and ``.pdf``; return the files, none without matplotlib."""
    with figures.figure(11, 3.4) as figure:
        if figure is None:
            return []
        quality, difference, speed = figure.subplots(1, 3)
        for place, (solver, rows) in enumerate(_by_solver(result).items()):
            style = {"color": figures.COLOURS[place % len(figures.COLOURS)], "marker": "o", "markersize": 4}
            calls = [(row.nfe or 0) * 1.05**place for row in rows]  # side by side, where intervals would overlap
            figures.errorbars(quality, calls, [(row.value, row.low, row.high) for row in rows], style, solver)
            differences = [(row.difference, row.difference_low, row.difference_high) for row in rows]
            figures.errorbars(difference, calls, differences, style, solver)
            speed.plot(calls, [row.users_per_s for row in rows], **style)
        _finish(result, quality, difference, speed)
        figure.suptitle(title, fontsize=10)
        return figures.save(figure, result.folder / "steps")


def _finish(result: StudyResult, quality: Any, difference: Any, speed: Any) -> None:
    """Draw the reference, and label the axes."""
    reference = next(row for row in result.rows if row.label == result.reference)
    if reference.value is not None:
        quality.axhline(reference.value, color="#666666", linewidth=0.8, linestyle="--")
    difference.axhline(0, color="#666666", linewidth=0.8, linestyle="--", label=f"{result.reference} ({reference.nfe})")
    calls = sorted({row.nfe for row in result.rows if row.nfe})
    for axes in (quality, difference, speed):
        axes.set_xscale("log")
        figures.logarithmic(axes.xaxis, calls)
        axes.set_xlabel("network calls per user")
    quality.set_ylabel(f"{result.metric}, 95 % interval over users")
    difference.set_ylabel("paired difference, 95 % interval")
    speed.set_yscale("log")
    figures.logarithmic(speed.yaxis)
    speed.set_ylabel("users per second")
    difference.legend(fontsize=8)


def _by_solver(result: StudyResult) -> dict[str, list[Row]]:
    """The rows of each solver, by the number of calls."""
    by_solver: dict[str, list[Row]] = {}
    for row in result.rows:
        if row.label != result.reference and row.nfe and row.value is not None:
            by_solver.setdefault(row.label.partition(" ")[0], []).append(row)
    return {solver: sorted(rows, key=lambda row: row.nfe or 0) for solver, rows in by_solver.items()}
