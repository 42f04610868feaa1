"""The files of a report, and the summary for the terminal."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional, Union

from recbole_diffusion.experiment.report import (
    accounts,
    captions,
    html_page,
    pages,
    points,
    records,
    study_section,
    tables,
)
from recbole_diffusion.experiment.report.analysis import Analysis, analyse
from recbole_diffusion.experiment.report.reading import read
from recbole_diffusion.experiment.report.results import ComparisonResults
from recbole_diffusion.experiment.report.study_section import StudySection
from recbole_diffusion.support.atomic_write import atomic_write
from recbole_diffusion.support.json_values import nan_to_null

#: The beginning of the names of files with the metrics of each user.
PER_USER = "per_user"


@dataclass(frozen=True)
class ReportOptions:
    """What a report shows, and where.

    Attributes:
        metric: the main metric; None: the comparison's.
        reference: the label of the model that the others are tested against; None: the best one.
        topk: cut-offs of the metrics; None: the comparison's.
        columns: metrics of the tables; None: all of the comparison.
        formats: of the plots, some of ``png``, ``svg``, ``pdf``.
        out: the folder of the report; None: ``report`` in the comparison's.
        per_user: write the metrics of each user as csv.

    Raises:
        ValueError: an unknown format.
    """

    metric: Optional[str] = None
    reference: Optional[str] = None
    topk: Optional[Sequence[int]] = None
    columns: Optional[Sequence[str]] = None
    formats: Sequence[str] = points.FORMATS
    out: Union[str, Path, None] = None
    per_user: bool = False

    def __post_init__(self) -> None:
        for suffix in self.formats:
            if suffix not in points.FORMATS:
                raise ValueError(f"formats={suffix!r} is not allowed; allowed: {' | '.join(points.FORMATS)}")

    def read(self, folder: Union[str, Path]) -> ComparisonResults:
        """Read a comparison with the metrics of the report; raises a ValueError, see :func:`reading.read`."""
        return read(folder, self.metric, self.topk, self.columns)


def write(
    folder: Union[str, Path],
    options: Optional[ReportOptions] = None,
    comparison: Optional[ComparisonResults] = None,
) -> list[Path]:
    """Write the tables, statistics, plots and the page of a comparison, finished or not.

    Args:
        folder: of the comparison.
        options: of the report; None: the defaults.
        comparison: the content of the folder, from ``options.read``; None: it is read.

    Returns:
        The files. Without matplotlib plots are left out, and a warning is logged.

    Raises:
        ValueError: the folder holds no comparison, an unknown metric or model, a damaged run, a metric that cannot be
            computed.
    """
    options = options or ReportOptions()
    comparison = comparison or options.read(folder)
    analyses = [analyse(comparison, dataset, options.reference) for dataset in comparison.results]
    drawn = _plots(comparison, analyses, options.formats)
    files = {name: content for name, content in drawn.items() if name.endswith((".csv", *options.formats))}
    for name, rows in records.csv_files(analyses).items():
        if rows:
            files[name] = records.to_csv(rows)
    for analysis in analyses if options.per_user else ():
        files[f"{PER_USER}-{analysis.file_name}.csv"] = records.to_csv(records.per_user_rows(analysis))
    text = json.dumps(nan_to_null(records.document(comparison, analyses)), indent=1, default=str) + "\n"
    files["results.json"] = text.encode()
    pictures = _pictures(files)
    files["results.md"] = pages.markdown(comparison, analyses, pictures).encode()
    files["results.tex"] = pages.latex(comparison, analyses).encode()
    svgs = {name: content for name, content in drawn.items() if name.endswith(".svg")}
    report = Path(options.out or Path(folder) / "report").absolute()
    study = study_section.as_html(Path(folder).absolute(), report)
    files["index.html"] = html_page.page(comparison, analyses, svgs, [*files], study).encode()
    return _write_files(report, files)


def write_study_page(folder: Path, section: StudySection, command: str = "") -> Path:
    """Write ``report/index.html`` of a study that is not a comparison, such as a trajectory; return the file."""
    study_section.write(folder, section)
    report = folder / "report"
    study = study_section.as_html(folder, report) or ""
    _write_page(report, html_page.study_page(section.title, command, study))
    return report / "index.html"


def _write_page(report: Path, text: str) -> None:
    report.mkdir(parents=True, exist_ok=True)
    atomic_write(report / "index.html", functools.partial(_write_bytes, content=text.encode()))


def _pictures(files: Iterable[str]) -> list[str]:
    """The plots that a markdown page shows: png files, else svg files."""
    by_suffix = {suffix: [name for name in files if name.endswith(suffix)] for suffix in (".png", ".svg")}
    return by_suffix[".png"] or by_suffix[".svg"]


def summary(
    folder: Union[str, Path],
    options: Optional[ReportOptions] = None,
    comparison: Optional[ComparisonResults] = None,
) -> str:
    """Return accuracy and cost of a comparison, for the terminal.

    Args:
        folder, options, comparison: see :func:`write`.

    Raises:
        ValueError: see :func:`write`.
    """
    options = options or ReportOptions()
    comparison = comparison or options.read(folder)
    return "\n\n".join(
        _dataset_summary(comparison, analyse(comparison, dataset, options.reference, resamples=0), options)
        for dataset in comparison.results
    )


def _dataset_summary(comparison: ComparisonResults, analysis: Analysis, options: ReportOptions) -> str:
    """Accuracy and cost on one data set; a terminal has room for metrics at the main metric's cut-off only."""
    cut_off = analysis.main.partition("@")[2]
    metrics = [name for name in analysis.accuracy if name.partition("@")[2] == cut_off] or analysis.accuracy
    metrics = analysis.accuracy if options.topk or options.columns else metrics
    lines = [
        captions.data(comparison.plan, analysis.dataset),
        tables.plain(tables.accuracy(analysis, metrics)),
        "",
        tables.plain(tables.cost(analysis)),
        "",
        *([tables.plain(tables.beyond(analysis)), ""] if options.columns and analysis.beyond else []),
        *(
            line
            for line in (captions.verdict(analysis), captions.beside_yardsticks(analysis), captions.energy(analysis))
            if line
        ),
        *(line for line in (captions.marks(analysis, captions.IN_TEXT),) if line),
        *(f"Note: {note}" for note in pages.notes(comparison, analysis)),
        *(f"Data: {line}" for line in accounts.account_lines(analysis.results)),
    ]
    return "\n".join(lines)


def _plots(comparison: ComparisonResults, analyses: Iterable[Analysis], formats: Sequence[str]) -> dict[str, bytes]:
    """The content of each plot, as svg in any case, and of its points as csv, by file name."""
    draw = _draw_function()
    files: dict[str, bytes] = {}
    seeds = comparison.plan["seeds"]
    for analysis in analyses:
        models = [result.label for result in analysis.results]
        for name, rows_of in points.PLOTS.items():
            rows, stem = rows_of(analysis), f"{name}-{analysis.file_name}"
            if rows:
                files[f"{stem}.csv"] = records.to_csv(rows)
                finished = sorted({run["seed"] for result in analysis.results for run in result.runs}) or seeds
                suffixes = sorted({*formats, "svg"})  # each drawing moves the layout: always the same order
                drawn = draw(name, rows, analysis.dataset, models, finished, suffixes) if draw else {}
                files.update({f"{stem}.{suffix}": content for suffix, content in drawn.items()})
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
    report.mkdir(parents=True, exist_ok=True)
    patterns = [*records.NAMES, f"{PER_USER}-*.csv"]
    patterns += [f"{name}-*.{suffix}" for name in points.PLOTS for suffix in (*points.FORMATS, "csv")]
    for file in [file for pattern in patterns for file in report.glob(pattern) if file.name not in files]:
        file.unlink()
    for name, content in files.items():
        atomic_write(report / name, functools.partial(_write_bytes, content=content))
    return [report / name for name in sorted(files)]


def _write_bytes(stream: Any, content: bytes) -> None:
    stream.write(content)
