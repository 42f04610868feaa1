"""The runs that a folder holds, read from what each left; imports neither torch nor RecBole.

A run that was killed, or whose files are damaged, is listed too, with what is wrong.
"""

from __future__ import annotations

import csv
import io
import json
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional

#: What a run writes first, in this order; a folder with one of these is a run's.
_FILES = ("manifest.json", "config.yaml", "run.log", "metrics.json")


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        folder: of the run.
        status: ``finished``, ``running``, ``interrupted`` (its process has gone), ``failed``, ``damaged``.
        problem: one line for a run that failed or is damaged.
        started: local time; of a damaged folder its last change.
        seconds: in all; None unless it finished.
        valid, test: the metrics of the best epoch.
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
        """One flat row, for csv: ``valid_<metric>`` and ``test_<metric>`` for each metric."""
        row: dict[str, Any] = {"folder": str(self.folder), "model": self.model, "dataset": self.dataset}
        row.update(seed=self.seed, status=self.status, started=self.started.isoformat(timespec="seconds"))
        row.update(seconds=self.seconds, checkpoint=self.checkpoint, problem=self.problem)
        row.update({f"valid_{metric}": value for metric, value in self.valid.items()})
        row.update({f"test_{metric}": value for metric, value in self.test.items()})
        return row


def find(folder: Path) -> list[Run]:
    """The runs directly below a folder, or the run that it is; the newest first.

    Raises:
        ValueError: there is no such folder.
    """
    if not folder.is_dir():
        raise ValueError(
            f"folder {str(folder)!r} does not exist; runs are kept in outputs unless --output_dir is given"
        )
    candidates = [folder, *(path for path in folder.iterdir() if path.is_dir())]
    runs = [read(path) for path in candidates if any((path / name).is_file() for name in _FILES)]
    return sorted(runs, key=lambda run: (run.started.timestamp(), run.folder.name), reverse=True)


def read(folder: Path) -> Run:
    """One run; files that are missing or damaged are named in its ``problem``."""
    try:
        manifest = _mapping(folder / "manifest.json")
        status, started = str(manifest["status"]), datetime.fromisoformat(str(manifest["started"])).astimezone()
    except (OSError, ValueError, KeyError, OverflowError) as error:
        changed = datetime.fromtimestamp(folder.stat().st_mtime, timezone.utc).astimezone()
        reason = f"manifest.json lacks {error}" if isinstance(error, KeyError) else str(error)
        return Run(folder, "damaged", changed, problem=reason)
    metrics, problem = {}, manifest.get("error")
    if status == "finished":
        try:
            metrics = _mapping(folder / "metrics.json")
        except (OSError, ValueError) as error:
            status, problem = "damaged", error
    elif status == "running" and _has_gone(manifest.get("process")):
        status = "interrupted"
    about: dict[str, Any] = {key: manifest.get(key) for key in ("model", "dataset", "seed", "checkpoint")}
    return Run(
        folder,
        status,
        started,
        **about,
        seconds=_numbers(manifest, "timing").get("total_s"),
        valid=_numbers(metrics, "best_valid_result"),
        test=_numbers(metrics, "test_result"),
        problem=None if problem is None else " ".join(str(problem).split()),
    )


def _mapping(file: Path) -> dict[str, Any]:
    """The mapping in a json file.

    Raises:
        ValueError: it is missing, no json, or no mapping.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{file.name} is missing") from None
    except ValueError:
        raise ValueError(f"{file.name} is not json") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file.name} holds no mapping")
    return content


def _numbers(content: dict[str, Any], key: str) -> dict[str, float]:
    """The numbers in the mapping below ``key``; none where it is no mapping."""
    value = content.get(key)
    return (
        {name: part for name, part in value.items() if isinstance(part, (int, float))}
        if isinstance(value, dict)
        else {}
    )


def _has_gone(process: Any) -> bool:
    """Whether a run's process is known to have ended; on another machine it is not known."""
    if os.name != "posix" or not isinstance(process, dict) or process.get("host") != platform.node():
        return False
    try:
        os.kill(int(process["pid"]), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError, TypeError, KeyError, OverflowError):  # another user's, or no number
        return False
    return False


def metrics_of(runs: Iterable[Run], most: int = 3) -> list[str]:
    """The metrics to show where none are asked for: the first of the newest run that has some."""
    return next((list(run.test or run.valid)[:most] for run in runs if run.test or run.valid), [])


def as_table(runs: Sequence[Run], metrics: Sequence[str]) -> str:
    """The runs as text, with test metrics; of a run that was not tested those of the validation split, in brackets."""
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
    """The runs as csv, with all metrics; a metric that a run has not is empty."""
    rows = [run.row() for run in runs]
    names = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, names or ["folder"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _score(run: Run, metric: str) -> str:
    scores, form = (run.test, "{:.4f}") if run.test else (run.valid, "({:.4f})")
    value = {name.lower(): number for name, number in scores.items()}.get(metric.lower())
    return "-" if value is None else form.format(value)


def _duration(seconds: float) -> str:
    """``48 s``, ``12 min``, ``3.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
