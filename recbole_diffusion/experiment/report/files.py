"""The files of a report, and the summary for the terminal."""

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
from recbole_diffusion.experiment.report.results import ComparisonResults, read
from recbole_diffusion.support.atomic_write import atomic_write
from recbole_diffusion.support.json_values import nan_to_null


def write(folder: Union[str, Path], metric: Optional[str] = None, reference: Optional[str] = None) -> list[Path]:
    """Write the tables, statistics and plots of a comparison, finished or not, to ``FOLDER/report/``.

    Args:
        folder: of the comparison.
        metric: the main metric; None: the comparison's.
        reference: the label of the model that the others are tested against; None: the best one.

    Returns:
        The files. Without matplotlib plots are left out, and a warning is logged.

    Raises:
        ValueError: the folder holds no comparison, an unknown metric or model, a damaged run.
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
    return _write_files(Path(folder).absolute() / "report", files)


def summary(store: Store, metric: Optional[str] = None, reference: Optional[str] = None) -> str:
    """Return accuracy and cost of a comparison, for the terminal.

    Raises:
        ValueError: see :func:`write`.
    """
    comparison = read(store.folder)
    return "\n\n".join(
        _dataset_summary(comparison, analyse(comparison, dataset, metric, reference, resamples=0))
        for dataset in comparison.results
    )


def _dataset_summary(comparison: ComparisonResults, analysis: Analysis) -> str:
    """Accuracy and cost on one data set; a terminal has room for metrics at the main metric's cut-off only."""
    cut_off = analysis.main.partition("@")[2]
    metrics = [name for name in analysis.accuracy if name.partition("@")[2] == cut_off] or analysis.accuracy
    lines = [
        captions.data(comparison.plan, analysis.dataset),
        tables.plain(tables.accuracy(analysis, metrics)),
        "",
        tables.plain(tables.cost(analysis)),
        "",
        *(line for line in (captions.verdict(analysis), captions.marks(analysis, captions.IN_TEXT)) if line),
        *(f"Note: {note}" for note in pages.notes(comparison, analysis)),
        *(f"Data: {line}" for line in accounts.account_lines(analysis.results)),
    ]
    return "\n".join(lines)


def _plots(comparison: ComparisonResults, analyses: Iterable[Analysis]) -> dict[str, bytes]:
    """The content of each plot as png and svg and of its points as csv, by file name."""
    draw = _draw_function()
    files: dict[str, bytes] = {}
    seeds = comparison.plan["seeds"]
    for analysis in analyses:
        models = [result.label for result in analysis.results]
        for name, rows_of in points.PLOTS.items():
            rows, stem = rows_of(analysis), f"{name}-{analysis.file_name}"
            if rows:
                files[f"{stem}.csv"] = records.to_csv(rows)
                finished = {run["seed"] for result in analysis.results for run in result.runs}
                pictures = draw(name, rows, analysis.dataset, models, sorted(finished) or seeds) if draw else {}
                files.update({f"{stem}.{suffix}": content for suffix, content in pictures.items()})
    return files


def _draw_function() -> Optional[Callable[..., dict[str, bytes]]]:
    """:func:`plot.draw`, or None without matplotlib."""
    try:
        from recbole_diffusion.experiment.report import plot
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        logging.getLogger(__name__).warning("no plots without matplotlib: pip install matplotlib")
        return None
    return plot.draw


def _write_files(report: Path, files: dict[str, bytes]) -> list[Path]:
    """Write the files atomically, and remove those of an earlier report that this one does not have."""
    report.mkdir(exist_ok=True)
    patterns = [*records.NAMES, *(f"{name}-*.{suffix}" for name in points.PLOTS for suffix in ("png", "svg", "csv"))]
    for file in [file for pattern in patterns for file in report.glob(pattern) if file.name not in files]:
        file.unlink()
    for name, content in files.items():
        atomic_write(report / name, functools.partial(_write_bytes, content=content))
    return [report / name for name in sorted(files)]


def _write_bytes(stream: Any, content: bytes) -> None:
    stream.write(content)
