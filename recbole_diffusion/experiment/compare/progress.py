"""The progress of a comparison: a table and a bar on a terminal with rich, elsewhere one line per run that ends."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from time import monotonic
from typing import Any, Optional

from recbole_diffusion.experiment.jobs.run_spec import RunSpec


class _ModelProgress:
    """The runs of one model: a row of the table."""

    def __init__(self, planned: int) -> None:
        self.planned, self.ended, self.failed = planned, 0, 0
        self.scores: list[float] = []
        self.seconds: list[float] = []


class Progress:
    """Context manager that prints the progress of runs.

    Args:
        run_counts: (label, number of runs) of each model.
        metric: the main metric.
        workers: how many runs are made at once; None: one.
        stream: for the output; None: stderr.
    """

    def __init__(
        self, run_counts: Sequence[tuple[str, int]], metric: str, workers: Optional[int] = None, stream: Any = None
    ) -> None:
        self.rows = {label: _ModelProgress(planned) for label, planned in run_counts}
        self.metric, self.workers = metric.lower(), max(workers or 1, 1)
        self.stream = stream or sys.stderr
        self.begun = monotonic()
        self.running: dict[str, str] = {}
        self.waiting: dict[str, RunSpec] = {}
        self.live: Any = None

    def __enter__(self) -> Progress:
        if self.stream.isatty():
            with contextlib.suppress(ModuleNotFoundError):
                from rich.console import Console
                from rich.live import Live

                self.live = Live(console=Console(file=self.stream), refresh_per_second=2, get_renderable=self.table)
                self.live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self.live is not None:
            self.running = {}
            self.live.__exit__(*error)

    def print(self, text: str) -> None:
        """Print a line, above the table if there is one."""
        if self.live is not None:
            self.live.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=self.stream, flush=True)

    def skip(self, spec: RunSpec, record: dict[str, Any]) -> None:
        """Count a run that an earlier call has made."""
        self._count(spec, record)
        self.rows[spec.label].seconds.pop()  # measured in another call, maybe on another machine
        self.print(f"{self._position()} {_name(spec)}: finished before, {self._score(record)}")

    def start(self, specs: Sequence[RunSpec]) -> None:
        """Note which runs are to be made."""
        self.waiting = {spec.key: spec for spec in specs}

    def tick(self, running: Sequence[str]) -> None:
        """Note the keys of the runs that are being made."""
        self.running = {key: _name(self.waiting[key]) for key in running if key in self.waiting}

    def finish(self, spec: RunSpec, record: dict[str, Any]) -> None:
        """Count a finished run."""
        self._count(spec, record)
        text = f"{self._score(record)}, {record['timing']['wall_s']:.1f} s"
        self.print(f"{self._position()} {_name(spec)}: {text}; {self._time_left()}")

    def fail(self, spec: RunSpec, error: str) -> None:
        """Count a failed run."""
        row = self.rows[spec.label]
        row.ended, row.failed = row.ended + 1, row.failed + 1
        self._forget(spec)
        self.print(f"{self._position()} {_name(spec)}: FAILED, {error}")

    def _count(self, spec: RunSpec, record: dict[str, Any]) -> None:
        row = self.rows[spec.label]
        row.ended += 1
        row.seconds.append(float(record["timing"]["wall_s"]))
        if record["test"]:
            row.scores.append(float(record["test"].get(self.metric, float("nan"))))
        self._forget(spec)

    def _forget(self, spec: RunSpec) -> None:
        self.waiting.pop(spec.key, None)
        self.running.pop(spec.key, None)

    def _position(self) -> str:
        """``[ 3/12]``: how many runs of all have ended."""
        ended, planned = (sum(getattr(row, name) for row in self.rows.values()) for name in ("ended", "planned"))
        return f"[{ended:>{len(str(planned))}}/{planned}]"

    def _score(self, record: dict[str, Any]) -> str:
        phase = "test" if record["test"] else "valid"
        value = (record[phase] or {}).get(self.metric)
        return f"{phase} {self.metric} " + ("-" if value is None else f"{value:.4f}")

    def seconds_left(self) -> Optional[float]:
        """Estimate the time left from each model's mean seconds per run; None before any run has finished."""
        all_seconds = [seconds for row in self.rows.values() for seconds in row.seconds]
        if not all_seconds:
            return None
        overall_mean = sum(all_seconds) / len(all_seconds)
        total = 0.0
        for row in self.rows.values():
            mean = sum(row.seconds) / len(row.seconds) if row.seconds else overall_mean
            total += mean * max(row.planned - row.ended, 0)
        return total / self.workers

    def _time_left(self) -> str:
        seconds = self.seconds_left()
        return "time left not known yet" if seconds is None else f"{_duration(seconds)} left"

    def table(self) -> Any:
        """Return the table and the bar, for rich."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        for title in ("model", "runs", self.metric, "s a run", ""):
            table.add_column(title, justify="left" if title in ("model", "") else "right")
        running = list(self.running.values())
        for label, row in self.rows.items():
            of_model = [name for name in running if name.split(" ")[0] == label]
            state = f"runs: {', '.join(name[len(label) :].strip() for name in of_model)}" if of_model else ""
            state += f"  {row.failed} failed" if row.failed else ""
            score = f"{sum(row.scores) / len(row.scores):.4f}" if row.scores else "-"
            seconds = f"{sum(row.seconds) / len(row.seconds):.1f}" if row.seconds else "-"
            table.add_row(label, f"{row.ended}/{row.planned}", score, seconds, state)
        ended, planned = (sum(getattr(row, name) for row in self.rows.values()) for name in ("ended", "planned"))
        line = f"{self._position()} {_duration(monotonic() - self.begun)} so far; {self._time_left()}"
        return Group(table, ProgressBar(total=max(planned, 1), completed=ended, width=60), line)


def _name(spec: RunSpec) -> str:
    run = f"seed {spec.seed}" if spec.trial is None else f"trial {spec.trial}"
    return f"{spec.label} {spec.dataset} {run}"


def _duration(seconds: float) -> str:
    """``42 s``, ``3 min 20 s``, ``2 h 5 min``."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
