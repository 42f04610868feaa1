"""The report of a comparison: tables, statistics, cost and plots, made from its folder as often as wanted."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Callable, Optional, Union

from recbole_diffusion.experiment.jobs.store import Store
from recbole_diffusion.experiment.report import accounts, captions, pages, points, records, tables
from recbole_diffusion.experiment.report.analysis import Analysis, analyse
from recbole_diffusion.experiment.report.results import Comparison, read
from recbole_diffusion.support.atomic_write import atomic_write
from recbole_diffusion.support.json_values import nan_to_null


def write(folder: Union[str, Path], metric: Optional[str] = None, reference: Optional[str] = None) -> list[Path]:
    """Write ``FOLDER/report/``, also of a comparison that has not finished.

    Args:
        folder: of a comparison.
        metric: the main one; None for the comparison's.
        reference: the label of the model that the others are tested against; None for the best.

    Returns:
        The files. Without matplotlib there are no plots, and one line is logged.

    Raises:
        ValueError: the folder holds no comparison; no such metric or model; a run that is damaged.
    """
    comparison = read(folder)
    analyses = [analyse(comparison, dataset, metric, reference) for dataset in comparison.results]
    files = _plots(comparison, analyses)
    pictures = [name for name in files if name.endswith(".png")]
    for name, rows in records.csv_files(analyses).items():
        if rows:
            files[name] = records.to_csv(rows)
    text = json.dumps(nan_to_null(records.document(comparison, analyses)), indent=1, default=str) + "\n"
    files["results.json"] = text.encode()
    files["results.md"] = pages.markdown(comparison, analyses, pictures).encode()
    files["results.tex"] = pages.latex(comparison, analyses).encode()
    return _put(Path(folder).absolute() / "report", files)


def summary(store: Store, metric: Optional[str] = None, reference: Optional[str] = None) -> str:
    """Accuracy and cost of a comparison for the terminal.

    Raises:
        ValueError: see :func:`write`.
    """
    comparison = read(store.folder)
    return "\n\n".join(
        _text(comparison, analyse(comparison, dataset, metric, reference, resamples=0))
        for dataset in comparison.results
    )


def _text(comparison: Comparison, found: Analysis) -> str:
    """The metrics with the main one's cut-off only: a terminal is narrow."""
    cut = found.main.partition("@")[2]
    shown = [each for each in found.accuracy if each.partition("@")[2] == cut] or found.accuracy
    lines = [
        captions.data(comparison.plan, found.dataset),
        tables.plain(tables.accuracy(found, shown)),
        "",
        tables.plain(tables.cost(found)),
        "",
        *(line for line in (captions.verdict(found), captions.marks(found, captions.IN_TEXT)) if line),
        *(f"Note: {note}" for note in pages.notes(comparison, found)),
        *(f"Data: {line}" for line in accounts.lines(found.results)),
    ]
    return "\n".join(lines)


def _plots(comparison: Comparison, analyses: Iterable[Analysis]) -> dict[str, bytes]:
    """Each plot as png and svg, and its points."""
    draw = _drawing()
    files: dict[str, bytes] = {}
    seeds = comparison.plan["seeds"]
    for found in analyses:
        models = [result.label for result in found.results]
        for name, rows_of in points.PLOTS.items():
            rows, stem = rows_of(found), f"{name}-{found.file_name}"
            if rows:
                files[f"{stem}.csv"] = records.to_csv(rows)
                ran = {run["seed"] for result in found.results for run in result.runs}  # a model may lack some
                pictures = draw(name, rows, found.dataset, models, sorted(ran) or seeds) if draw else {}
                files.update({f"{stem}.{suffix}": content for suffix, content in pictures.items()})
    return files


def _drawing() -> Optional[Callable[..., dict[str, bytes]]]:
    """What draws, where matplotlib is there."""
    try:
        from recbole_diffusion.experiment.report import plot
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        logging.getLogger(__name__).warning("no plots without matplotlib: pip install matplotlib")
        return None
    return plot.draw


def _put(report: Path, files: dict[str, bytes]) -> list[Path]:
    """Write the files whole; those of an earlier report that are none of this one's go."""
    report.mkdir(exist_ok=True)
    ours = [*records.NAMES, *(f"{name}-*.{suffix}" for name in points.PLOTS for suffix in ("png", "svg", "csv"))]
    for file in [file for pattern in ours for file in report.glob(pattern) if file.name not in files]:
        file.unlink()
    for name, content in files.items():
        atomic_write(report / name, functools.partial(_write, content=content))
    return [report / name for name in sorted(files)]


def _write(file: Any, content: bytes) -> None:
    file.write(content)
