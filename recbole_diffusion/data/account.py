"""The account of a data set: the rows that its files held, and the rows that were dropped before the split."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Callable

#: Characters after which a warning is cut.
LONGEST = 400


@dataclass(frozen=True)
class Dropped:
    """Rows that were dropped for one reason.

    Attributes:
        reason: a text that names the file or the setting.
        rows: their number.
        requested: whether a setting requests it. Otherwise it is a warning too.
    """

    reason: str
    rows: int
    requested: bool


@dataclass
class Account:
    """Rows read and rows dropped. It holds plain values only, since it is pickled with the data set.

    Attributes:
        files: number of rows by file name.
        dropped: one entry per reason, in chronological order.
        notes: warnings about the data, one line each.
    """

    files: dict[str, int] = field(default_factory=dict)
    dropped: list[Dropped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def record_file(self, file: str, rows: int) -> None:
        """Enter the number of rows of a file."""
        self.files[file] = rows

    def record_dropped(self, reason: str, rows: int, requested: bool) -> None:
        """Enter dropped rows, unless there are none. If no setting requested it, add a warning."""
        if rows:
            self.dropped.append(Dropped(reason, rows, requested))
            if not requested:
                self.note(f"{rows} {'row was' if rows == 1 else 'rows were'} dropped: {reason}")

    def note(self, text: str) -> None:
        """Add a warning as one line, unless it is there already."""
        line = one_line(text)
        if line not in self.notes:
            self.notes.append(line)

    def plain(self) -> dict[str, Any]:
        """Convert to plain values for json: ``{"files": {...}, "dropped": [{"reason", "rows", "requested"}]}``."""
        return {"files": dict(self.files), "dropped": [asdict(entry) for entry in self.dropped]}


def rows_line(plain: dict[str, Any]) -> str:
    """Format the account of a data set, as of :meth:`Account.plain`: rows read, and rows lost in loading by reason."""
    files = ", ".join(f"{name} {rows:,} rows" for name, rows in plain["files"].items() if ".inter" in name)
    dropped = [entry for entry in plain["dropped"] if entry["rows"]]
    reasons = "; ".join(f"{entry['rows']:,} {entry['reason']}" for entry in dropped)
    lost = sum(entry["rows"] for entry in dropped)
    return f"{files}; {lost:,} lost in loading{f' ({reasons})' if reasons else ''}"


def account_of(dataset: Any) -> Account:
    """The account of a data set, created if missing (in data sets that RecBole pickled)."""
    if getattr(dataset, "account", None) is None:
        dataset.account = Account()
    account: Account = dataset.account
    return account


def one_line(text: str) -> str:
    """Remove line breaks and colour codes from ``text``, and shorten long lists of numbers and long lines."""
    line = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", text).split())
    line = re.sub(r"\[(\d+(?:, \d+){9,})\]", _shorten_list, line)
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} ..."


def _shorten_list(match: re.Match[str]) -> str:
    numbers = match[1].split(", ")
    return f"[{', '.join(numbers[:5])}, ... ({len(numbers)} in all)]"


class _WarningsToNotes(logging.Filter):
    """Filter that passes warnings to ``note`` and keeps them out of the log.

    Args:
        note: called with each warning.
        level: the lowest level of other records that are logged.
    """

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
    """Call ``note`` with each warning that RecBole logs inside the block, instead of logging it.

    RecBole logs to the root logger. While data are loaded, the run's log is not set up yet, and Python would print the
    bare line on stderr.
    """
    root = logging.getLogger()
    level = root.level
    warnings_to_notes = _WarningsToNotes(note, level)
    root.addFilter(warnings_to_notes)
    is_silent = level > logging.WARNING
    if is_silent:  # else not set: each change empties a cache of every logger
        root.setLevel(logging.WARNING)
    try:
        yield
    finally:
        root.removeFilter(warnings_to_notes)
        if is_silent:
            root.setLevel(level)
