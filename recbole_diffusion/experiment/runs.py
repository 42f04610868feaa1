"""List the runs in a folder, from the files that each run has written. Imports neither torch nor RecBole.

Runs that were killed and runs with damaged files are listed too, with their problem.
"""

from __future__ import annotations

import csv
import io
import json
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional

from recbole_diffusion.support import json_files
from recbole_diffusion.support.csv_cells import inert
from recbole_diffusion.support.owners import has_ended

#: The first files that a run writes, in this order; a folder with one of them is a run's.
_RUN_FILES = ("manifest.json", "config.yaml", "run.log", "metrics.json")


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        folder: of the run.
        status: ``finished``, ``running``, ``interrupted`` (its process has ended), ``failed`` or ``damaged``.
        started: local time; for a damaged folder the time of its last change.
        model, dataset, seed: of the run; None if unknown.
        seconds: total time; None unless it finished.
        valid, test: the metrics of the best epoch.
        checkpoint: path of the checkpoint; None if unknown.
        problem: one line for a failed or damaged run.
    """

    folder: Path
    status: str
    started: datetime
    model: Optional[str] = None
    dataset: Optional[str] = None
    seed: Optional[int] = None
    seconds: Optional[float] = None
    valid: dict[str, float] = field(default_factory=dict)
    test: dict[str, float] = field(default_factory=dict)
    checkpoint: Optional[str] = None
    problem: Optional[str] = None

    def row(self) -> dict[str, Any]:
        """Return one flat row for csv, with ``valid_<metric>`` and ``test_<metric>`` for each metric."""
        row: dict[str, Any] = {"folder": str(self.folder), "model": self.model, "dataset": self.dataset}
        row.update(seed=self.seed, status=self.status, started=self.started.isoformat(timespec="seconds"))
        row.update(seconds=self.seconds, checkpoint=self.checkpoint, problem=self.problem)
        row.update({f"valid_{metric}": value for metric, value in self.valid.items()})
        row.update({f"test_{metric}": value for metric, value in self.test.items()})
        return row


def find(folder: Path) -> list[Run]:
    """Return the runs directly below a folder, and the folder itself if it is a run; the newest first.

    Raises:
        ValueError: the folder does not exist.
    """
    if not folder.is_dir():
        raise ValueError(
            f"folder {str(folder)!r} does not exist; runs are kept in outputs unless --output_dir is given"
        )
    candidates = [folder, *(path for path in folder.iterdir() if path.is_dir())]
    runs = [read(path) for path in candidates if any((path / name).is_file() for name in _RUN_FILES)]
    return sorted(runs, key=lambda run: (run.started.timestamp(), run.folder.name), reverse=True)


def read(folder: Path) -> Run:
    """Read a run; ``problem`` names a missing or damaged file."""
    try:
        manifest = _read_mapping(folder / "manifest.json")
        status, started = str(manifest["status"]), datetime.fromisoformat(str(manifest["started"])).astimezone()
    except (OSError, ValueError, KeyError, OverflowError) as error:
        last_change = datetime.fromtimestamp(folder.stat().st_mtime, timezone.utc).astimezone()
        reason = f"manifest.json lacks {error}" if isinstance(error, KeyError) else str(error)
        return Run(folder, "damaged", last_change, problem=reason)
    metrics, problem = {}, manifest.get("error")
    if status == "finished":
        try:
            metrics = _read_mapping(folder / "metrics.json")
            json_files.check(folder / "metrics.json", manifest.get("files"))
        except (OSError, ValueError) as error:
            status, problem, metrics = "damaged", error, {}
    elif status == "running" and _has_ended(manifest.get("process")):
        status = "interrupted"
    fields: dict[str, Any] = {key: manifest.get(key) for key in ("model", "dataset", "seed", "checkpoint")}
    return Run(
        folder,
        status,
        started,
        **fields,
        seconds=_numbers(manifest, "timing").get("total_s"),
        valid=_numbers(metrics, "best_valid_result"),
        test=_numbers(metrics, "test_result"),
        problem=None if problem is None else " ".join(str(problem).split()),
    )


def _read_mapping(file: Path) -> dict[str, Any]:
    """The mapping in a json file.

    Raises:
        ValueError: the file is missing, is not json or holds no mapping.
    """
    try:
        return json_files.read(file)
    except FileNotFoundError:
        raise ValueError(f"{file.name} is missing") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise ValueError(f"{file.name} is not json") from None
    except ValueError as error:
        raise ValueError(f"{file.name}: {error}") from None


def _numbers(content: dict[str, Any], key: str) -> dict[str, float]:
    """The numbers in the mapping ``content[key]``; empty if it is no mapping."""
    mapping = content.get(key)
    if not isinstance(mapping, dict):
        return {}
    return {name: value for name, value in mapping.items() if isinstance(value, (int, float))}


def _has_ended(process: Any) -> bool:
    """Whether a run's process is known to have ended; unknown for another machine."""
    if not isinstance(process, dict) or process.get("host") != platform.node():
        return False
    try:
        return has_ended(int(process["pid"]))
    except (ValueError, TypeError, KeyError, OverflowError):  # no number
        return False


def metrics_of(runs: Iterable[Run], limit: int = 3) -> list[str]:
    """Return the default metrics of the table: the first ones of the newest run that has any."""
    return next((list(run.test or run.valid)[:limit] for run in runs if run.test or run.valid), [])


def as_table(runs: Sequence[Run], metrics: Sequence[str]) -> str:
    """Return the runs as text with test metrics; validation metrics, in brackets, for runs that were not tested."""
    from texttable import Texttable

    header = ["model", "data", "seed", "status", *metrics, "time", "started", "folder"]
    table = Texttable(max_width=0)
    table.set_deco(Texttable.HEADER)
    table.set_cols_align(["l", "l", "r", "l", *("r" for _ in metrics), "r", "l", "l"])
    table.set_cols_dtype(["t"] * len(header))
    table.add_row(header)
    for run in runs:
        table.add_row(
            [
                run.model or "-",
                run.dataset or "-",
                "-" if run.seed is None else run.seed,
                run.status,
                *(_score(run, metric) for metric in metrics),
                "-" if run.seconds is None else _duration(run.seconds),
                f"{run.started:%d %b %H:%M}",
                run.folder.name,
            ]
        )
    problems = [f"{run.folder.name}: {run.problem}" for run in runs if run.problem]
    lines = [line.rstrip() for line in str(table.draw()).splitlines()]
    return "\n".join([*lines, *(["", *problems] if problems else [])])


def as_csv(runs: Sequence[Run]) -> str:
    """Return the runs as csv with all metrics; a metric that a run does not have is empty.

    Texts that a spreadsheet would run as formulas begin with an apostrophe.
    """
    rows = [{inert(column): inert(value) for column, value in run.row().items()} for run in runs]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns or ["folder"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _score(run: Run, metric: str) -> str:
    scores, template = (run.test, "{:.4f}") if run.test else (run.valid, "({:.4f})")
    value = {name.lower(): score for name, score in scores.items()}.get(metric.lower())
    return "-" if value is None else template.format(value)


def _duration(seconds: float) -> str:
    """``48 s``, ``12 min``, ``3.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
