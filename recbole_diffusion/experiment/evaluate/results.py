"""The result of ``evaluate``: metrics with intervals over users, tests between entries, tables and files."""

from __future__ import annotations

import functools
import io
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np

from recbole_diffusion.experiment.evaluate.entry import BOOTSTRAP_USERS, Entry
from recbole_diffusion.experiment.report import captions, records, significance, tables
from recbole_diffusion.experiment.report.analysis import Analysis, analyse
from recbole_diffusion.experiment.report.results import ComparisonResults, ModelResult, higher_is_better
from recbole_diffusion.experiment.report.selection import Selection
from recbole_diffusion.support.atomic_write import atomic_write, atomic_write_text
from recbole_diffusion.support.json_values import nan_to_null


@dataclass
class Evaluation:
    """The metrics of checkpoints and lists on one part of one split.

    Attributes:
        dataset: the data set's name.
        split: ``train``, ``valid`` or ``test``.
        data: users, items, rows and ``split_sha256``.
        masked: which items were ranked, in words.
        notes: about all entries.
        entries: in the order in which they were passed.
        main: the metric that several entries are ranked by.
        reference: label of the entry that the others are compared with; None: the best.
    """

    dataset: str
    split: str
    data: dict[str, Any]
    masked: str
    notes: list[str]
    entries: list[Entry]
    main: str
    reference: Optional[str] = None

    @property
    def metrics(self) -> dict[str, Any]:
        """The value of each metric; with several entries a dict of these by label."""
        if len(self.entries) == 1:
            return self.entries[0].metrics
        return {entry.label: entry.metrics for entry in self.entries}

    @functools.cached_property
    def intervals(self) -> dict[tuple[str, str], tuple[float, float]]:
        """The 95 % intervals of the means over users, by (label, metric)."""
        return {(entry.label, name): pair for entry in self.entries for name, pair in entry.intervals().items()}

    @functools.cached_property
    def analysis(self) -> Optional[Analysis]:
        """Paired tests of several entries, as a comparison makes them; None for one entry."""
        if len(self.entries) == 1:
            return None
        plan = {"main_metric": self.main, "seeds": [0], "metrics": [], "datasets": {self.dataset: self.data}}
        results = [self._model_result(entry) for entry in self.entries]
        comparison = ComparisonResults(plan, {self.dataset: results}, Selection(self.main), {})
        resamples = significance.RESAMPLES if self._n_users() <= BOOTSTRAP_USERS else 0
        return analyse(comparison, self.dataset, self.reference, resamples)

    def _n_users(self) -> int:
        return max((len(entry.users.users) for entry in self.entries if entry.users is not None), default=0)

    def _model_result(self, entry: Entry) -> ModelResult:
        run = {"seed": 0, "test": nan_to_null(entry.metrics), "timing": {}, "data": self.data}
        return ModelResult(
            entry.label, entry.source, self.dataset, False, [run], [], [], [], 0, None, {}, entry.users, [entry.users]
        )  # fmt: skip

    @property
    def comparisons(self) -> list[dict[str, Any]]:
        """The paired tests, one row per metric, family and pair; empty for one entry."""
        return [] if self.analysis is None else self.analysis.pairs

    @property
    def per_user(self) -> Any:
        """The values of each user: a pandas frame with the columns ``entry``, ``user`` and one per metric."""
        import pandas as pd

        frames = [
            pd.DataFrame({"entry": entry.label, "user": entry.users.users, **entry.users.metrics})
            for entry in self.entries
            if entry.users is not None
        ]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["entry", "user"])

    def frame(self) -> Any:
        """The metrics as a pandas frame with the columns ``entry``, ``metric``, ``value``, ``low``, ``high``."""
        import pandas as pd

        return pd.DataFrame(self._rows())

    def _rows(self) -> list[dict[str, Any]]:
        rows = []
        for entry in self.entries:
            for metric, value in entry.metrics.items():
                low, high = self.intervals.get((entry.label, metric), (None, None))
                rows.append(
                    {
                        "entry": entry.label,
                        "metric": metric,
                        "value": value,
                        "low": low,
                        "high": high,
                        "users": entry.n_values(metric),
                    }
                )
        return rows

    def table(self) -> str:
        """The metrics as text, with the split, the masked items and the notes."""
        data = self.data
        rows = " / ".join(f"{data[phase]:,}" for phase in ("train", "valid", "test"))
        lines = [
            f"{self.dataset}, {self.split} split: {data['users']:,} users, {data['items']:,} items, {rows} rows "
            f"(train / valid / test), split {data['split_sha256'][:12]}; {self.masked}",
            *(f"{entry.label}: {note}" for entry in self.entries for note in entry.notes),
            "",
            self._single_table() if len(self.entries) == 1 else self._comparison_table(),
            *self.notes,
        ]
        return "\n".join(lines)

    def _single_table(self) -> str:
        """One row per metric: value, interval, number of users."""
        from texttable import Texttable

        (entry,) = self.entries
        table = Texttable(max_width=100)
        table.set_deco(Texttable.HEADER)
        table.set_cols_align(["l", "r", "r", "r"])
        table.set_cols_dtype(["t"] * 4)
        table.header(["metric", entry.label, "95 % interval", "users"])
        for row in self._rows():
            has_interval = row["low"] is not None and not math.isnan(row["low"])
            interval = f"{row['low']:.4f} to {row['high']:.4f}" if has_interval else "-"
            users = "-" if row["users"] is None else str(row["users"])
            arrow = " ↓" if higher_is_better(row["metric"]) is False else ""
            value = "-" if math.isnan(row["value"]) else f"{row['value']:.4f}"
            table.add_row([row["metric"] + arrow, value, interval, users])
        return f"{table.draw()}\n{self._interval_caption()}"

    def _interval_caption(self) -> str:
        if not self.intervals:
            return ""
        if self._n_users() > BOOTSTRAP_USERS:
            return "Intervals of the mean over users: normal."
        return f"Intervals of the mean over users: percentile bootstrap, {significance.RESAMPLES:,} resamples."

    def _comparison_table(self) -> str:
        """One row per entry, as a comparison's report prints it, and the meaning of the marks."""
        analysis = self.analysis
        assert analysis is not None
        parts = [tables.plain(tables.accuracy(analysis))]
        if analysis.beyond:
            parts.append(tables.plain(tables.beyond(analysis)))
        parts += [line for line in (captions.marks(analysis, captions.IN_TEXT),) if line]
        parts += [line for entry in self.entries for line in self._difference(analysis, entry)]
        parts += [f"Note: {note}" for note in analysis.notes]
        return "\n".join(parts)

    def _difference(self, analysis: Analysis, entry: Entry) -> list[str]:
        """The difference of an entry from the reference at the main metric, in a line; an empty list without one."""
        row = analysis.against_reference(entry.label, analysis.main)
        if row is None or row["difference"] is None:
            return []
        interval = "" if row["low"] is None else f" (95 % interval {row['low']:+.4f} to {row['high']:+.4f})"
        tested = captions.p_text(row["p_wilcoxon_holm"])
        counts = "" if row["users"] is None else f"; better, equal, worse for {_wins(row, analysis.main)} users"
        return [
            f"{analysis.main}, {entry.label} - {analysis.reference}: {row['difference']:+.4f}{interval}"
            f"{f', {tested}' if tested else ''}{counts}"
        ]

    def plain(self) -> dict[str, Any]:
        """The result as plain values, without the values of the users."""
        content: dict[str, Any] = nan_to_null(
            {
                "dataset": self.dataset,
                "split": self.split,
                "data": self.data,
                "masked": self.masked,
                "notes": self.notes,
                "main_metric": self.main,
                "entries": [
                    {
                        "label": entry.label,
                        "source": entry.source,
                        "kind": entry.kind,
                        "metrics": entry.metrics,
                        "intervals": {
                            metric: self.intervals[entry.label, metric]
                            for metric in entry.metrics
                            if (entry.label, metric) in self.intervals
                        },
                        "users": {metric: entry.n_values(metric) for metric in entry.metrics},
                        "notes": entry.notes,
                        "counts": entry.counts,
                    }
                    for entry in self.entries
                ],
                "reference": None if self.analysis is None else self.analysis.reference,
                "pairs": self.comparisons,
            }
        )
        return content

    def write(self, out: Union[str, Path]) -> list[Path]:
        """Write the result.

        Args:
            out: a file that ends in .json (metrics, intervals, tests), .csv (values of each user) or .npz (the same as
                arrays, one per metric); or a folder for evaluation.json, per_user.csv and comparisons.csv.

        Returns:
            The files.

        Raises:
            ValueError: another suffix, or a folder that is a file.
        """
        path = Path(out)
        check_out(path)
        writers = {".json": self._write_json, ".csv": self._write_csv, ".npz": self._write_npz}
        if path.suffix.lower() in writers:
            path.parent.mkdir(parents=True, exist_ok=True)
            writers[path.suffix.lower()](path)
            return [path]
        path.mkdir(parents=True, exist_ok=True)
        self._write_json(path / "evaluation.json")
        self._write_csv(path / "per_user.csv")
        files = [path / "evaluation.json", path / "per_user.csv"]
        if self.comparisons:
            content = records.to_csv(self.comparisons)
            atomic_write(path / "comparisons.csv", lambda stream: stream.write(content))
            files.append(path / "comparisons.csv")
        return files

    def _write_json(self, path: Path) -> None:
        atomic_write_text(path, json.dumps(self.plain(), indent=1, default=str) + "\n")

    def _write_csv(self, path: Path) -> None:
        text = io.StringIO()
        self.per_user.to_csv(text, index=False, lineterminator="\n")
        atomic_write_text(path, text.getvalue())

    def _write_npz(self, path: Path) -> None:
        frame = self.per_user
        arrays = {
            str(name): frame[name].to_numpy(dtype=str if name in ("entry", "user") else np.float64) for name in frame
        }
        atomic_write(path, lambda stream: np.savez_compressed(stream, **arrays))


def _wins(row: dict[str, Any], metric: str) -> str:
    """The numbers of users for whom the first entry is better, equal and worse."""
    counts = [row["wins"], row["ties"], row["losses"]]
    return ", ".join(f"{count:,}" for count in (counts[::-1] if higher_is_better(metric) is False else counts))


def check_out(path: Path) -> None:
    """Check that a result can be written to a path.

    Raises:
        ValueError: another suffix than .json, .csv and .npz, or an existing file without one.
    """
    if path.is_dir() or path.suffix.lower() in {".json", ".csv", ".npz"}:
        return
    if path.suffix or path.exists():
        raise ValueError(
            f"out={str(path)!r} is not allowed; allowed: a folder, or a file that ends in .json, .csv, .npz"
        )
