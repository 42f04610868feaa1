"""The result of a study: a row per variant, with tests against the reference, as text, csv and markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

from recbole_diffusion.experiment import report
from recbole_diffusion.experiment.report import captions, study_section
from recbole_diffusion.experiment.report.analysis import LIMIT, Analysis, analyse
from recbole_diffusion.experiment.report.files import ReportOptions
from recbole_diffusion.experiment.report.reading import read
from recbole_diffusion.experiment.report.results import higher_is_better
from recbole_diffusion.experiment.report.study_section import section_of
from recbole_diffusion.experiment.study.checkpoint_study import Outcome, overlap
from recbole_diffusion.support.atomic_write import atomic_write_text

OVERLAP_AT = 10


class Row(NamedTuple):
    """One variant.

    Attributes:
        label: its name.
        value, low, high: the main metric with its 95 % interval over users.
        difference, difference_low, difference_high: from the reference, with its 95 % interval; None for it.
        p: of Wilcoxon's signed-rank test over users against the reference, corrected by Holm; None for the reference.
        overlap: mean share of the first 10 items that are the reference's too.
        nfe: network calls per user; None if it varies.
        users_per_s: users ranked per second.
        metrics: all metrics.
        reference: label of the row that it is compared with; empty: the study's reference.
        seeds: number of trainings that the values are means of; 0: the checkpoint's.
        sd: standard deviation of the main metric over these trainings.
    """

    label: str
    value: Optional[float]
    low: Optional[float]
    high: Optional[float]
    difference: Optional[float]
    difference_low: Optional[float]
    difference_high: Optional[float]
    p: Optional[float]
    overlap: float
    nfe: Optional[int]
    users_per_s: float
    metrics: dict[str, float]
    reference: str = ""
    seeds: int = 0
    sd: Optional[float] = None

    def is_worse(self, higher: bool = True) -> bool:
        """Whether the variant is significantly worse than the reference (p < .05)."""
        if self.p is None or self.difference is None:
            return False
        return self.p < LIMIT and (self.difference < 0) == higher


class StudyResult(NamedTuple):
    """The result of a study.

    Attributes:
        folder: of the study.
        dataset: the data set's name.
        metric: the main metric.
        reference: label of the variant that the others are compared with.
        rows: of the variants, in their order.
        notes: for the reader.
        head: the data in one line.
        files: that the study has written.
        failed: number of trainings that failed.
    """

    folder: Path
    dataset: str
    metric: str
    reference: str
    rows: list[Row]
    notes: list[str]
    head: str
    files: list[Path]
    failed: int = 0

    @property
    def higher(self) -> bool:
        """Whether a higher value of the main metric is better."""
        return higher_is_better(self.metric) is not False

    def cheapest(self) -> Optional[Row]:
        """Return the variant with the fewest network calls that is not significantly worse than the reference.

        Of those with equal calls the best. Variants whose calls vary are left out.
        """
        good = [row for row in self.rows if row.nfe is not None and row.value is not None]
        good = [row for row in good if not row.is_worse(self.higher)]
        sign = -1 if self.higher else 1
        return min(good, key=lambda row: (row.nfe, sign * (row.value or 0.0)), default=None)

    def table(self) -> str:
        """Return the rows as text."""
        from texttable import Texttable

        table = Texttable(max_width=0)
        table.set_deco(Texttable.HEADER)
        columns = self.columns()
        table.set_cols_dtype(["t"] * len(columns))
        table.set_cols_align(["l", *"r" * (len(columns) - 1)])
        table.header(columns)
        for row in self.rows:
            table.add_row(self.texts(row))
        return str(table.draw())

    def markdown(self) -> str:
        """Return the rows as a markdown table."""
        columns = self.columns()
        lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *(self.texts(row) for row in self.rows)]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)

    def _references(self) -> str:
        own = list(dict.fromkeys(row.reference for row in self.rows if row.reference))
        return self.reference + "".join(f", for retrained models against {label}" for label in own)

    def columns(self) -> list[str]:
        """Return the names of the columns."""
        references = list(dict.fromkeys(row.reference or self.reference for row in self.rows))
        interval, against = "95 % interval", f"against {' / '.join(references)}"
        return ["", self.metric, interval, against, "p", f"overlap@{OVERLAP_AT}", "calls per user", "users/s"]

    def texts(self, row: Row) -> list[str]:
        """Return the entries of a row."""
        difference = "–" if row.difference is None else f"{row.difference:+.4f}"
        return [
            row.label,
            "–" if row.value is None else f"{row.value:.4f}{'' if row.sd is None else f' ± {row.sd:.4f}'}",
            "–" if row.low is None else f"{row.low:.4f} to {row.high:.4f}",
            difference,
            "–" if row.p is None else captions.p_text(row.p).replace("p = ", "").replace("p < ", "< "),
            f"{row.overlap:.2f}",
            "varies" if row.nfe is None else str(row.nfe),
            f"{row.users_per_s:,.0f}",
        ]

    def text(self) -> str:
        """Return data, table and notes."""
        return "\n".join([self.head, "", self.table(), "", self.tests(), *self.notes])

    def tests(self) -> str:
        """Return a line on the tests and the intervals."""
        return (
            f"p: Wilcoxon's signed-rank test over users against {self._references()}, Holm's correction; intervals: "
            f"bootstrap over users; overlap: share of the first {OVERLAP_AT} items."
        )


def collect(
    folder: Path,
    outcomes: Sequence[Outcome],
    metric: str,
    reference: str,
    notes: Sequence[str],
    retrained: Sequence[Row] = (),
    finish: Optional[Callable[[StudyResult], Any]] = None,
) -> StudyResult:
    """Test the variants against the reference, and write the files and the report of the folder.

    Args:
        folder: of the study, with its ``comparison.json``.
        outcomes: of the variants.
        metric: the main metric.
        reference: label of the variant that the others are compared with.
        notes: for the reader.
        retrained: rows of trainings, below those of the checkpoint.
        finish: adds notes and plots to the result before it is written.
    """
    comparison = read(folder, metric)
    (dataset,) = comparison.results
    analysis = analyse(comparison, dataset, reference)
    first = next(outcome for outcome in outcomes if outcome.variant == reference)
    rows = [*(_row(analysis, outcome, first) for outcome in outcomes), *retrained]
    head = captions.data(comparison.plan, dataset)
    result = StudyResult(folder, dataset, metric, reference, rows, list(notes), head, [])
    if finish is not None:
        finish(result)
    _write(result, comparison.plan)
    result.files.extend(report.write(folder, ReportOptions(metric=metric, reference=reference), comparison))
    return result


def _row(analysis: Analysis, outcome: Outcome, reference: Outcome) -> Row:
    metric = analysis.main
    low, high = analysis.intervals.get((outcome.variant, metric), (None, None))
    test: dict[str, Any] = analysis.against_reference(outcome.variant, metric) or {}
    return Row(
        outcome.variant, outcome.metrics.get(metric), low, high,
        test.get("difference"), test.get("low"), test.get("high"), test.get("p_wilcoxon_holm"),
        overlap(outcome.lists, reference.lists, OVERLAP_AT), outcome.nfe, outcome.users_per_s, outcome.metrics,
    )  # fmt: skip


def _write(result: StudyResult, plan: dict[str, Any]) -> None:
    """Write ``study.md``, ``study.csv`` and the section of the page."""
    from recbole_diffusion.experiment.report import records

    title = f"{plan['study'].capitalize()}: {plan['models'][0]['model']} on {result.dataset}"
    lines = [f"# {title}", ""]
    lines += [f"`{plan['command']}`", ""] if plan.get("command") else []
    lines += [result.head, "", result.markdown(), "", result.tests(), *(f"\n{note}" for note in result.notes)]
    content = {"study.md": "\n".join(lines) + "\n", "study.csv": records.to_csv(_csv_rows(result)).decode()}
    for name, text in content.items():
        atomic_write_text(result.folder / name, text)
        result.files.append(result.folder / name)
    trainings = [result.folder / "train" / "report" / "index.html"] if any(row.seeds for row in result.rows) else []
    texts = [result.texts(row) for row in result.rows]
    below = [result.tests(), *result.notes]
    section = section_of(title, result.columns(), texts, below, result.folder, [*result.files, *trainings])
    study_section.write(result.folder, section)


def _csv_rows(result: StudyResult) -> list[dict[str, Any]]:
    rows = []
    for row in result.rows:
        values = row._asdict()
        metrics = values.pop("metrics")
        rows.append({"variant": values.pop("label"), "metric": result.metric, **values, **metrics})
    return rows
