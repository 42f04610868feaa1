"""Robustness: comparisons on one split whose training part has more and more noise.

Each ratio is a comparison in a folder of its own, ``ratio-0.1``, so that finished runs are never repeated and
``report`` reads each. The noise is added to the training split only; see :mod:`recbole_diffusion.data.train_noise`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np

from recbole_diffusion.evaluation.metric_names import paper_name
from recbole_diffusion.experiment import figures, report
from recbole_diffusion.experiment.compare import Resources, compare
from recbole_diffusion.experiment.jobs.store import check_links
from recbole_diffusion.experiment.report import captions, records, significance
from recbole_diffusion.experiment.report.analysis import Analysis, analyse
from recbole_diffusion.experiment.report.files import ReportOptions, write_study_page
from recbole_diffusion.experiment.report.reading import read
from recbole_diffusion.experiment.report.results import ModelResult, common_users, values_of
from recbole_diffusion.experiment.report.study_section import section_of
from recbole_diffusion.experiment.report.tables import MARK
from recbole_diffusion.support.atomic_write import atomic_write_text
from recbole_diffusion.support.number_text import exact

KINDS = ("random", "natural")
RATIOS = (0.0, 0.1, 0.2, 0.3)


@dataclass
class Robustness:
    """The result of a study of robustness.

    Attributes:
        folder: of the study.
        dataset, noise, metric: the data set, the kind of noise, the main metric.
        rows: one per model and ratio, see :func:`_row`.
        heads: the data of each ratio in one line.
        files: that the study has written.
        failed: number of runs that failed.
    """

    folder: Path
    dataset: str
    noise: str
    metric: str
    rows: list[dict[str, Any]]
    heads: list[str]
    failed: int = 0
    files: list[Path] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """The ratios, in rising order."""
        return sorted({row["ratio"] for row in self.rows})

    @property
    def models(self) -> list[str]:
        """The labels of the models, the best without noise first."""
        clean = {row["model"]: row["mean"] for row in self.rows if row["ratio"] == self.ratios[0]}
        return sorted(clean, key=lambda model: -(clean[model] or 0.0))

    def row(self, model: str, ratio: float) -> Optional[dict[str, Any]]:
        """Return the row of a model at a ratio; None without finished runs."""
        return next((row for row in self.rows if row["model"] == model and row["ratio"] == ratio), None)

    def table(self) -> str:
        """Return means and relative changes as text: a line per model."""
        from texttable import Texttable

        table = Texttable(max_width=0)
        table.set_deco(Texttable.HEADER)
        columns = self.columns()
        table.set_cols_dtype(["t"] * len(columns))
        table.set_cols_align(["l", *"r" * (len(columns) - 1)])
        table.header(columns)
        for model in self.models:
            table.add_row(self.texts(model))
        return str(table.draw())

    def markdown(self) -> str:
        """Return the page of the study."""
        columns = self.columns()
        lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *(self.texts(model) for model in self.models)]
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        heads = "\n".join(f"- {head}" for head in self.heads)
        title = f"# Robustness of {paper_name(self.metric)} on {self.dataset} to {self.noise} noise"
        picture = "![metric and relative change against the ratio](robustness.png)"
        return f"{title}\n\n{table}\n\n{self.caption()}\n\n{heads}\n\n{picture}\n"

    def caption(self) -> str:
        """Return what the columns mean."""
        return (
            f"{paper_name(self.metric)} at each ratio of added training interactions to clean ones, mean over seeds ± "
            "standard deviation; change: from the lowest ratio, in percent, with its 95 % bootstrap interval over "
            f"users. {MARK} differs from the best model at that ratio (Wilcoxon over users, Holm, p < .05). As in the "
            "papers, added items are masked in rankings like all training items; the change of Pop shows what the mask "
            "does."
        )

    def columns(self) -> list[str]:
        """Return the names of the columns."""
        changes = [f"change at {exact(ratio)}" for ratio in self.ratios[1:]]
        return ["model", *(f"ratio {exact(ratio)}" for ratio in self.ratios), *changes]

    def texts(self, model: str) -> list[str]:
        """Return the entries of a model's row."""
        rows = [self.row(model, ratio) for ratio in self.ratios]
        return [model, *(_mean_text(row) for row in rows), *(_change_text(row) for row in rows[1:])]


def _mean_text(row: Optional[dict[str, Any]]) -> str:
    if row is None or row["mean"] is None:
        return "–"
    deviation = "" if row["sd"] is None else f" ± {row['sd']:.4f}"
    return f"{row['mean']:.4f}{deviation}{MARK if row['differs'] else ''}"


def _change_text(row: Optional[dict[str, Any]]) -> str:
    if row is None or row["change"] is None:
        return "–"
    interval = "" if row["change_low"] is None else f" ({row['change_low']:+.1f} to {row['change_high']:+.1f})"
    return f"{row['change']:+.1f} %{interval}"


def robustness(
    models: Sequence[str],
    dataset: str,
    noise: str = "random",
    ratios: Sequence[float] = RATIOS,
    seeds: Sequence[int] = (1, 2, 3),
    folder: Union[str, Path] = "robustness",
    settings: Optional[Mapping[str, Any]] = None,
    own: Optional[Mapping[str, Mapping[str, Any]]] = None,
    below: Optional[float] = None,
    resources: Optional[Resources] = None,
    metric: Optional[str] = None,
    reference: Optional[str] = None,
    files: Sequence[Union[str, Path]] = (),
    command: str = "",
) -> Robustness:
    """Compare models at several ratios of noise in the training split.

    Args:
        models, seeds, settings, own, resources, metric, reference, files: see
            :func:`recbole_diffusion.experiment.compare.compare`.
        dataset: the data set's name.
        noise: ``random``, or ``natural`` (the interactions that ``val_interval`` filters out).
        ratios: added interactions, as a share of those of the clean training split.
        folder: of the study. Finished runs in it are not repeated.
        below: for natural noise: interactions with a rating below it are the noise, the others the data.
        command: the command line, for the record.

    Raises:
        ValueError: an unknown kind, a negative ratio, or see ``compare``; one line.
    """
    if noise not in KINDS:
        raise ValueError(f"noise={noise!r} is not allowed; allowed: {' | '.join(KINDS)}")
    if not ratios or not all(0 <= ratio < np.inf for ratio in ratios):
        raise ValueError(f"ratios={list(ratios)!r} is not allowed; allowed: numbers from 0")
    common = dict(settings or {})
    if below is not None:
        if not np.isfinite(below):
            raise ValueError(f"below={below!r} is not allowed; allowed: a number")
        if noise != "natural":
            raise ValueError(f"below={below!r} has no effect with noise={noise!r}; allowed: with noise=natural")
        rating = common.get("RATING_FIELD") or "rating"
        common["val_interval"] = {**(common.get("val_interval") or {}), rating: f"[{exact(below)},inf)"}
    folder = Path(folder)
    check_links(folder)
    comparisons: dict[float, Path] = {}
    failed = 0
    for ratio in sorted(set(ratios)):
        noise_keys = {"train_noise": noise, "train_noise_ratio": ratio} if ratio else {}
        print(f"ratio {exact(ratio)}: {noise if ratio else 'no'} noise in the training split")
        comparisons[ratio] = folder / f"ratio-{exact(ratio)}"
        store = compare(
            models, [dataset], seeds, comparisons[ratio], {**common, **noise_keys}, own, 0, resources, command, metric,
            reference, files,
        )  # fmt: skip
        report.write(store.folder, ReportOptions(metric=metric, reference=reference))
        keys = [key for model in store.plan()["models"] for keys in model["runs"].values() for key in keys]
        failed += sum(store.record(key) is None for key in keys)
    result = collect(folder, comparisons, noise, metric, reference, command)
    result.failed = failed
    return result


def collect(
    folder: Path,
    comparisons: Mapping[float, Path],
    noise: str,
    metric: Optional[str],
    reference: Optional[str],
    command: str = "",
) -> Robustness:
    """Read the comparisons of the ratios, and write table, csv and plot.

    Args:
        folder: of the study.
        comparisons: folder of the comparison of each ratio, in rising order.
        noise: its kind.
        metric, reference: of the reports.
        command: the command line, for the record.
    """
    rows, heads = [], []
    clean: dict[str, ModelResult] = {}
    analysis: Optional[Analysis] = None
    for ratio, path in comparisons.items():
        comparison = read(path, metric)
        (dataset,) = comparison.results
        analysis = analyse(comparison, dataset, reference)
        clean = clean or {result.label: result for result in analysis.results}
        notes = [note for note in comparison.plan["notes"] if "train noise" in note]
        heads.append(
            f"ratio {exact(ratio)}: {captions.data(comparison.plan, dataset)} {' '.join(_noise_notes(notes))}".strip()
        )
        rows += [_row(analysis, result, ratio, clean.get(result.label)) for result in analysis.results]
    assert analysis is not None  # there is at least one ratio
    result = Robustness(folder, analysis.dataset, noise, analysis.main, rows, heads)
    _write(result)
    pages = [path / "report" / "index.html" for path in comparisons.values()]
    title = f"Robustness of {paper_name(result.metric)} on {result.dataset} to {noise} noise"
    texts = [result.texts(model) for model in result.models]
    lines = [result.caption(), *heads]
    section = section_of(title, result.columns(), texts, lines, folder, [*result.files, *pages])
    result.files.append(write_study_page(folder, section, command))
    return result


def _noise_notes(notes: Sequence[str]) -> list[str]:
    """The notes on the added rows, without the labels of the models, each once."""
    return list(dict.fromkeys(note[note.index("train noise") :] + "." for note in notes))


def _row(analysis: Analysis, result: ModelResult, ratio: float, clean: Optional[ModelResult]) -> dict[str, Any]:
    """The numbers of one model at one ratio; ``clean`` is its result at the lowest ratio."""
    metric = analysis.main
    low, high = analysis.intervals.get((result.label, metric), (None, None))
    test = analysis.against_reference(result.label, metric) or {}
    mean = result.mean(metric)
    base = None if clean is None else clean.mean(metric)
    change = None if mean is None or not base or clean is result else 100 * (mean / base - 1)
    change_low, change_high = (None, None) if change is None or clean is None else _interval(clean, result, metric)
    return {
        "model": result.label,
        "diffusion": result.diffusion,
        "ratio": ratio,
        "metric": metric,
        "seeds": len(result.runs),
        "mean": mean,
        "sd": result.sd(metric),
        "low": low,
        "high": high,
        "change": change,
        "change_low": change_low,
        "change_high": change_high,
        "reference": analysis.reference,
        "p_wilcoxon_holm": test.get("p_wilcoxon_holm"),
        "differs": analysis.differs(result.label, metric),
    }


def _interval(clean: ModelResult, noisy: ModelResult, metric: str) -> tuple[Optional[float], Optional[float]]:
    """The 95 % bootstrap interval over users of the relative change in percent."""
    if clean.users is None or noisy.users is None:
        return None, None
    users = common_users([clean.users, noisy.users])
    if len(users) < 2:
        return None, None
    values = np.stack([values_of(of_model, metric, users) for of_model in (clean.users, noisy.users)])
    before, after = significance.bootstrap_means(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        changes = np.where(before > 0, 100 * (after / before - 1), np.nan)
    return significance.interval(changes)


def _write(result: Robustness) -> None:
    """Write ``robustness.md``, ``.csv`` and the plots."""
    texts = {"robustness.md": result.markdown(), "robustness.csv": records.to_csv(result.rows).decode()}
    for name, text in texts.items():
        atomic_write_text(result.folder / name, text)
        result.files.append(result.folder / name)
    result.files += _plot(result)


def _change_of(row: dict[str, Any], lowest: float) -> tuple[Optional[float], Optional[float], Optional[float]]:
    """A row's change and its bounds: 0 at the lowest ratio, None if it is not known."""
    if row["ratio"] == lowest:
        return 0.0, None, None
    return row["change"], row["change_low"], row["change_high"]


def _plot(result: Robustness) -> list[Path]:
    """Plot the metric and its relative change against the ratio, a line per model; dashed without diffusion."""
    with figures.figure(9, 3.8) as figure:
        if figure is None:
            return []
        level, change = figure.subplots(1, 2)
        for place, model in enumerate(result.models):
            rows = [
                row for ratio in result.ratios for row in [result.row(model, ratio)] if row and row["mean"] is not None
            ]
            if not rows:
                continue
            line = "-" if rows[0]["diffusion"] else "--"
            style = {
                "color": figures.COLOURS[place % len(figures.COLOURS)],
                "marker": figures.MARKERS[place // len(figures.COLOURS) % len(figures.MARKERS)],
                "markersize": 5,
                "linestyle": line,
            }
            ratios = [row["ratio"] for row in rows]
            bounds = [(row["mean"], row["low"], row["high"]) for row in rows]
            figures.errorbars(level, ratios, bounds, style, model)
            changes = [_change_of(row, result.ratios[0]) for row in rows]
            figures.errorbars(change, ratios, changes, style, model)
        for axes in (level, change):
            axes.set_xticks(result.ratios)
            axes.set_xlabel(f"ratio of {result.noise} noise in the training split")
        level.set_ylabel(f"{paper_name(result.metric)}, 95 % interval over users")
        change.set_ylabel("change from the lowest ratio, %")
        figure.legend(*level.get_legend_handles_labels(), loc="outside right upper", title="dashed: no diffusion")
        figure.suptitle(f"{result.dataset}, {result.noise} noise", fontsize=10)
        return figures.save(figure, result.folder / "robustness")
