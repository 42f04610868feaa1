"""The table of ``gpu.py``, printed and written row by row, and its clock."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Callable, Optional

import torch

from recbole_diffusion.support.atomic_write import atomic_write_text

Task = Callable[[], object]
#: Most seconds that the calls that warm up, and those that are timed, take, whatever their number.
PATIENCE = {"cuda": 5.0, "cpu": 0.3}


@dataclass
class Row:
    """A line of the table.

    Attributes:
        part: ``check`` or ``measure``.
        name: what was done.
        value: a number with its unit, as text.
        beside: what it stands beside: the floor, the other device, the other variant.
        ratio: value over floor, or another quotient that the aim is about.
        aim: as the issue states it.
        verdict: ``pass``, ``fail``, ``missed``, ``met``, ``error``, ``skipped``, or nothing where no aim is stated.
        note: settings, reasons, places in the code.
        numbers: the same in seconds, bytes and counts, for the json.
    """

    part: str
    name: str
    value: str = ""
    beside: str = ""
    ratio: Optional[float] = None
    aim: str = ""
    verdict: str = ""
    note: str = ""
    numbers: Optional[dict[str, Any]] = None


class Report:
    """Rows so far, in ``gpu.json`` and ``gpu.md`` of a folder after each, so that a cut-off run keeps what it had."""

    def __init__(self, folder: Path, head: dict[str, Any], quiet: bool = False) -> None:
        self.folder, self.head, self.quiet, self.rows = folder, head, quiet, list[Row]()
        self.start = perf_counter()

    def add(self, row: Row) -> None:
        self.rows.append(row)
        ratio = "" if row.ratio is None else f"{row.ratio:.2f} x"
        cells = [row.name, row.value, row.beside, ratio, row.aim, row.verdict, row.note]
        if not self.quiet:
            print(f"{perf_counter() - self.start:5.0f} s  " + " | ".join(cell for cell in cells if cell), flush=True)
        self.write()

    def write(self) -> None:
        content = {**self.head, "seconds": perf_counter() - self.start, "rows": [asdict(row) for row in self.rows]}
        self.folder.mkdir(parents=True, exist_ok=True)
        atomic_write_text(self.folder / "gpu.json", json.dumps(content, indent=1, default=str) + "\n")
        atomic_write_text(self.folder / "gpu.md", self.markdown())

    def markdown(self) -> str:
        lines = [", ".join(f"{key} {value}" for key, value in self.head.items()), ""]
        for part, title in (("check", "Checks"), ("measure", "Measures")):
            rows = [row for row in self.rows if row.part == part]
            if not rows:
                continue
            lines += [
                f"### {title}",
                "",
                "| | value | beside | ratio | aim | verdict | note |",
                "|---|---|---|---|---|---|---|",
            ]
            for row in rows:
                ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
                cells = [row.name, row.value, row.beside, ratio, row.aim, row.verdict, row.note]
                lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
            lines.append("")
        counts = {
            verdict: sum(row.verdict == verdict for row in self.rows)
            for verdict in ("fail", "error", "missed", "skipped")
        }
        lines.append("; ".join(f"{count} {verdict}" for verdict, count in counts.items()))
        return "\n".join(lines) + "\n"


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(task: Task, device: torch.device, repeats: int = 5, warm: int = 1) -> float:
    """The median time of a call, from an idle device to an idle device, after ``warm`` calls that do not count."""
    return median(times(task, device, repeats, warm))


def times(task: Task, device: torch.device, repeats: int = 5, warm: int = 1) -> list[float]:
    patience = PATIENCE.get(device.type, 1.0)
    start = perf_counter()
    for _ in range(warm):
        task()
        synchronise(device)
        if perf_counter() - start > patience:
            break
    measured: list[float] = []
    while len(measured) < repeats and (not measured or sum(measured) < patience):
        start = perf_counter()
        task()
        synchronise(device)
        measured.append(perf_counter() - start)
    return measured


def kernel_seconds(task: Task, device: torch.device, repeats: int = 20, warm: int = 3) -> float:
    """The median time of a call by the device's own clock (CUDA events), with the launches of many calls in flight."""
    if device.type != "cuda":
        return seconds(task, device, repeats, warm)
    for _ in range(warm):
        task()
    marks = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(repeats)]
    for begin, end in marks:
        begin.record()
        task()
        end.record()
    torch.cuda.synchronize(device)
    return median(begin.elapsed_time(end) for begin, end in marks) / 1e3


def forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_mib(device: torch.device) -> float:
    """Most memory that tensors took since :func:`forget_peak`, in MiB; nan on the CPU."""
    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else math.nan


def peak_note(device: torch.device) -> str:
    """The peak as a note; nothing on the CPU."""
    return f"peak {peak_mib(device):,.0f} MiB" if device.type == "cuda" else ""


def duration(value: float) -> str:
    """Seconds with three digits."""
    return f"{value:.3g} s" if value >= 1 else f"{value * 1e3:.3g} ms"
