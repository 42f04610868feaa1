"""The account of a data set: what its files held, and what became of the rows on the way to the splits."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


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

    def read(self, file: str, rows: int) -> None:
        """A file was read."""
        self.files[file] = rows

    def drop(self, reason: str, rows: int, requested: bool) -> None:
        """Rows were dropped; nothing is recorded for 0. Without a request it is a warning too."""
        if rows:
            self.dropped.append(Dropped(reason, rows, requested))
            if not requested:
                self.note(f"{rows} rows were dropped: {reason}")

    def note(self, text: str) -> None:
        """Add a warning, once."""
        if text not in self.notes:
            self.notes.append(text)

    def plain(self) -> dict[str, Any]:
        """For json: ``{"files": {...}, "dropped": [{"reason", "rows", "requested"}]}``."""
        return {"files": dict(self.files), "dropped": [asdict(each) for each in self.dropped]}


def account_of(dataset: Any) -> Account:
    """The account of a data set, made where there is none (RecBole's pickles)."""
    if getattr(dataset, "account", None) is None:
        dataset.account = Account()
    found: Account = dataset.account
    return found
