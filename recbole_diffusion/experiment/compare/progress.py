"""What a comparison shows while it works: a table that fills, a bar, and the time that is left.

On a terminal, where rich is there, the table is drawn again in place; elsewhere each run that ends is one line.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from time import monotonic
from typing import Any, Optional

from recbole_diffusion.experiment.jobs.run_spec import RunSpec


class _Row:
    """One model's line."""

    def __init__(self, planned: int) -> None:
        self.planned, self.ended, self.failures = planned, 0, 0
        self.scores: list[float] = []
        self.seconds: list[float] = []


class Progress:
    """A context manager.

    Args:
        sizes: (label, number of runs) of each model.
        metric: the main one.
        where: ``workers`` says how many runs are made at once.
    """

    def __init__(self, sizes: Sequence[tuple[str, int]], metric: str, where: Any, stream: Any = None) -> None:
        self.rows = {label: _Row(planned) for label, planned in sizes}
        self.metric, self.at_once = metric.lower(), max(where.workers or 1, 1)
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

    def say(self, text: str) -> None:
        """A line of text, above the table where there is one."""
        if self.live is not None:
            self.live.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=self.stream, flush=True)

    def found(self, spec: RunSpec, record: dict[str, Any]) -> None:
        """A run that an earlier call has run."""
        self._count(spec, record)
        self.rows[spec.label].seconds.pop()  # not the time of this call's machine
        self.say(f"{self._place()} {_name(spec)}: there already, {self._score(record)}")

    def start(self, specs: Sequence[RunSpec]) -> None:
        """These will be run now."""
        self.waiting = {spec.key: spec for spec in specs}

    def tick(self, running: Sequence[str]) -> None:
        """What runs now."""
        self.running = {key: _name(self.waiting[key]) for key in running if key in self.waiting}

    def done(self, spec: RunSpec, record: dict[str, Any]) -> None:
        """A run has ended well."""
        self._count(spec, record)
        text = f"{self._score(record)}, {record['timing']['wall_s']:.1f} s"
        self.say(f"{self._place()} {_name(spec)}: {text}; {self._left()}")

    def failed(self, spec: RunSpec, error: str) -> None:
        """A run has failed."""
        row = self.rows[spec.label]
        row.ended, row.failures = row.ended + 1, row.failures + 1
        self._over(spec)
        self.say(f"{self._place()} {_name(spec)}: FAILED, {error}")

    def _count(self, spec: RunSpec, record: dict[str, Any]) -> None:
        row = self.rows[spec.label]
        row.ended += 1
        row.seconds.append(float(record["timing"]["wall_s"]))
        if record["test"]:
            row.scores.append(float(record["test"].get(self.metric, float("nan"))))
        self._over(spec)

    def _over(self, spec: RunSpec) -> None:
        self.waiting.pop(spec.key, None)
        self.running.pop(spec.key, None)

    def _place(self) -> str:
        total = sum(row.planned for row in self.rows.values())
        return f"[{sum(row.ended for row in self.rows.values()):>{len(str(total))}}/{total}]"

    def _score(self, record: dict[str, Any]) -> str:
        which = "test" if record["test"] else "valid"
        value = (record[which] or {}).get(self.metric)
        return f"{which} {self.metric} " + ("-" if value is None else f"{value:.4f}")

    def seconds_left(self) -> Optional[float]:
        """By the mean seconds of each model's runs, of all where it has none; None before the first has ended."""
        every = [second for row in self.rows.values() for second in row.seconds]
        if not every:
            return None
        mean = sum(every) / len(every)
        left = 0.0
        for row in self.rows.values():
            own = sum(row.seconds) / len(row.seconds) if row.seconds else mean
            left += own * max(row.planned - row.ended, 0)
        return left / self.at_once

    def _left(self) -> str:
        seconds = self.seconds_left()
        return "time left not known yet" if seconds is None else f"{_duration(seconds)} left"

    def table(self) -> Any:
        """The table and the bar, for rich."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        for title in ("model", "runs", self.metric, "s a run", ""):
            table.add_column(title, justify="left" if title in ("model", "") else "right")
        running = list(self.running.values())
        for label, row in self.rows.items():
            now = [name for name in running if name.split(" ")[0] == label]
            state = f"runs: {', '.join(name[len(label) :].strip() for name in now)}" if now else ""
            state += f"  {row.failures} failed" if row.failures else ""
            score = f"{sum(row.scores) / len(row.scores):.4f}" if row.scores else "-"
            seconds = f"{sum(row.seconds) / len(row.seconds):.1f}" if row.seconds else "-"
            table.add_row(label, f"{row.ended}/{row.planned}", score, seconds, state)
        total, ended = (sum(getattr(row, part) for row in self.rows.values()) for part in ("planned", "ended"))
        line = f"{self._place()} {_duration(monotonic() - self.begun)} so far; {self._left()}"
        return Group(table, ProgressBar(total=max(total, 1), completed=ended, width=60), line)


def _name(spec: RunSpec) -> str:
    what = f"seed {spec.seed}" if spec.trial is None else f"trial {spec.trial}"
    return f"{spec.label} {spec.dataset} {what}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
