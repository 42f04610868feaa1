"""The account of a data set: what its files held, and what became of the rows on the way to the splits."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Callable

#: The longest warning that is kept whole, in characters.
LONGEST = 400


@dataclass(frozen=True)
class Dropped:
    """Rows that were left out.

    Attributes:
        reason: why, in words; names the file or the setting.
        rows: how many.
        requested: whether a setting asked for it. What nobody asked for is a warning.
    """

    reason: str
    rows: int
    requested: bool


@dataclass
class Account:
    """Rows read and rows dropped; plain values, so that it travels with a pickled data set.

    Attributes:
        files: rows by file name.
        dropped: one entry per reason, in the order in which it happened.
        notes: warnings about the data, one line each.
    """

    files: dict[str, int] = field(default_factory=dict)
    dropped: list[Dropped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def record_file(self, file: str, rows: int) -> None:
        """A file was read."""
        self.files[file] = rows

    def record_dropped(self, reason: str, rows: int, requested: bool) -> None:
        """Rows were dropped; nothing is recorded for 0. Without a request it is a warning too."""
        if rows:
            self.dropped.append(Dropped(reason, rows, requested))
            if not requested:
                self.note(f"{rows} {'row was' if rows == 1 else 'rows were'} dropped: {reason}")

    def note(self, text: str) -> None:
        """Add a warning as one line, once."""
        line = one_line(text)
        if line not in self.notes:
            self.notes.append(line)

    def plain(self) -> dict[str, Any]:
        """For json: ``{"files": {...}, "dropped": [{"reason", "rows", "requested"}]}``."""
        return {"files": dict(self.files), "dropped": [asdict(each) for each in self.dropped]}


def account_of(dataset: Any) -> Account:
    """The account of a data set, made where there is none (RecBole's pickles)."""
    if getattr(dataset, "account", None) is None:
        dataset.account = Account()
    found: Account = dataset.account
    return found


def one_line(text: str) -> str:
    """``text`` without line breaks and colours; long lists of numbers and long lines are shortened."""
    line = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", text).split())
    line = re.sub(r"\[(\d+(?:, \d+){9,})\]", _few, line)
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} ..."


def _few(numbers: re.Match[str]) -> str:
    every = numbers[1].split(", ")
    return f"[{', '.join(every[:5])}, ... ({len(every)} in all)]"


class _ToNotes(logging.Filter):
    """Hands warnings to ``note`` and keeps them out of the log."""

    def __init__(self, note: Callable[[str], None], level: int) -> None:
        super().__init__()
        self.note, self.level = note, level

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return record.levelno >= self.level
        self.note(record.getMessage())
        return False


@contextlib.contextmanager
def warnings_noted(note: Callable[[str], None]) -> Iterator[None]:
    """Call ``note`` with each warning that RecBole logs in the block.

    RecBole logs on the root logger. While data are loaded the run has no log yet, and Python would print the bare line
    on stderr.
    """
    root = logging.getLogger()
    level = root.level
    catcher = _ToNotes(note, level)
    root.addFilter(catcher)
    root.setLevel(min(level, logging.WARNING))
    try:
        yield
    finally:
        root.removeFilter(catcher)
        root.setLevel(level)
