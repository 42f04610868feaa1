"""The text of an atomic file: decoded bytes, line numbers, and a check that every line has all fields.

Knows nothing of RecBole. Every fault is a ``ValueError`` of one line that names the file, the line (counted from 1, as
in an editor), the text found there, and the way out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np

#: Files of other formats: their first bytes, their name, and what to do with them.
_OTHER_FORMATS: tuple[tuple[bytes, str, str], ...] = (
    (b"\x1f\x8b", "gzip", "unpack it (gunzip)"),
    (b"PK\x03\x04", "zip (or .xlsx)", "unpack it, or save the sheet as text with tabs"),
    (b"\xfd7zXZ", "xz", "unpack it (unxz)"),
    (b"BZh", "bzip2", "unpack it (bunzip2)"),
    (b"\x28\xb5\x2f\xfd", "zstd", "unpack it (unzstd)"),
    (b"7z\xbc\xaf\x27\x1c", "7z", "unpack it"),
    (b"Rar!", "rar", "unpack it"),
    (b"PAR1", "parquet", "write it as text: DataFrame.to_csv(file, sep='\\t', index=False)"),
    (b"ARROW1", "feather (arrow)", "write it as text: DataFrame.to_csv(file, sep='\\t', index=False)"),
    (b"\x89HDF", "HDF5", "write it as text"),
    (b"\x93NUMPY", "numpy", "write it as text, or see recbole-diffusion convert"),
    (b"\xd0\xcf\x11\xe0", ".xls", "save the sheet as text with tabs"),
    (b"\x80\x02", "pickle", "write it as text"),
    (b"\x80\x03", "pickle", "write it as text"),
    (b"\x80\x04", "pickle", "write it as text"),
    (b"\x80\x05", "pickle", "write it as text"),
    (b"SQLite format 3", "SQLite", "write it as text"),
    (b"%PDF", "PDF", "write it as text"),
    (b"version https://git-lfs", "Git LFS pointer", "fetch the file itself (git lfs pull)"),
    (b"<", "HTML or XML", "download the file itself, not a page about it"),
    (b"{", "JSON", "write it as lines of fields"),
    (b"[", "JSON", "write it as lines of fields"),
)
_UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
#: Replaces a separator of several bytes, which pandas' fast parser does not support.
_STAND_IN = b"\x1f"


def shown(value: Any, most: int = 60) -> str:
    """A value for a message: quoted, with escaped invisible characters, cut after ``most`` characters."""
    text = value if isinstance(value, str) else str(value)
    return repr(text) if len(text) <= most else f"{text[:most]!r}… ({len(text)} characters)"


def fault(path: str, what: str, line: Optional[int] = None, column: Optional[str] = None) -> ValueError:
    """The error about a fault of a file, with line and column if given; ``what`` describes the fault."""
    places = [f"line {line}"] if line is not None else []
    places += [f"column {column!r}"] if column is not None else []
    return ValueError(f"{path}: {', '.join(places)}{': ' if places else ''}{what}")


@dataclass(frozen=True)
class AtomicText:
    """An atomic file as text.

    Attributes:
        path: the file, for messages.
        head: its first line.
        body: the other lines in UTF-8, each ended by a line feed; no blank ones, no byte order mark.
        blank: the line number of each blank line before the last row; they hold no data.
        numbers: the line number of each row of ``body``, shape (rows,).
        ends: the offsets of the line feeds in ``body``, shape (rows,).
    """

    path: str
    head: str
    body: bytes
    blank: np.ndarray
    numbers: np.ndarray
    ends: np.ndarray

    @property
    def rows(self) -> int:
        """The number of rows below the first line."""
        return len(self.ends)

    def line(self, row: int) -> int:
        """The line number of a row, counted from 0."""
        return int(self.numbers[row])

    def row(self, row: int) -> str:
        """The text of a row, without its line feed."""
        start = self.ends[row - 1] + 1 if row else 0
        return self.body[start : self.ends[row]].decode("utf-8")

    def fault(self, what: str, row: Optional[int] = None, column: Optional[str] = None) -> ValueError:
        """The error about a fault of this file; see :func:`fault`."""
        return fault(self.path, what, None if row is None else self.line(row), column)


def read(path: str, encoding: Optional[str] = None) -> AtomicText:
    """Read and decode a file.

    Args:
        path: the file.
        encoding: RecBole's setting of that name; UTF-8 if None. A byte order mark is removed.

    Raises:
        ValueError: the file cannot be read, is not text, or is not in this encoding.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise fault(path, f"cannot be read: {error.strerror}") from error
    raw = _to_utf8(path, raw, encoding or "utf-8")
    if b"\r" in raw:
        raw = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if not raw.strip():
        raise fault(path, "is empty; its first line names the columns, e.g. user_id:token, the others are the rows")
    head, _, body = raw.partition(b"\n")
    return _number_lines(path, head.decode("utf-8"), body)


def _number_lines(path: str, head: str, body: bytes) -> AtomicText:
    """Remove blank lines from ``body`` and record the line number of each row."""
    if body and not body.endswith(b"\n"):
        body += b"\n"
    ends = _offsets(body, b"\n")
    filled = np.diff(ends, prepend=-1) > 1
    numbers = np.flatnonzero(filled) + 2
    blank = np.flatnonzero(~filled) + 2
    if len(blank):
        body = b"\n".join(line for line in body.split(b"\n") if line) + (b"\n" if len(numbers) else b"")
        ends = _offsets(body, b"\n")
        blank = blank[blank < numbers[-1]] if len(numbers) else blank[:0]
    return AtomicText(path, head, body, blank, numbers, ends)


def _offsets(body: bytes, byte: bytes) -> np.ndarray:
    """The offsets at which a byte occurs, int64, ascending."""
    return np.flatnonzero(np.frombuffer(body, np.uint8) == byte[0])


def _to_utf8(path: str, raw: bytes, encoding: str) -> bytes:
    """Re-encode the file's bytes as UTF-8 without a byte order mark."""
    _check_format(path, raw, encoding)
    try:
        text = raw.decode(encoding)
    except LookupError:
        raise ValueError(
            f"encoding={encoding!r} is not known; allowed: utf-8, latin-1, gbk and Python's others"
        ) from None
    except UnicodeError as error:
        start = getattr(error, "start", 0)
        byte = f"byte 0x{raw[start]:02x} is" if start < len(raw) else "its end is"
        raise fault(
            path,
            f"{byte} not {encoding}; set encoding to the file's own, e.g. encoding: latin-1, or save it as UTF-8",
            raw[:start].count(b"\n") + 1,
        ) from None
    if encoding.lower() not in {"utf-8", "utf8"} or raw.startswith(_UTF8_MARK):
        raw = text.lstrip("\ufeff").encode("utf-8")
    nul = raw.find(b"\0")
    if nul >= 0:
        way_out = "it looks like UTF-16: set encoding: utf-16-le" if raw[:200].count(b"\0") > 9 else "take it out"
        raise fault(path, f"a NUL byte; {way_out}", raw[:nul].count(b"\n") + 1)
    return raw


def _check_format(path: str, raw: bytes, encoding: str) -> None:
    """Check that the first bytes are not those of another format, nor the byte order mark of another encoding.

    Raises:
        ValueError: they are.
    """
    unicode = encoding.lower().replace("_", "-").startswith(("utf-8", "utf8", "utf-16", "utf16", "utf-32", "utf32"))
    for magic, name, way_out in _OTHER_FORMATS:
        if raw.startswith(magic) or (magic.isascii() and raw[:64].lstrip(b"\xef\xbb\xbf \n").startswith(magic)):
            raise fault(path, f"is no atomic file but {name}; {way_out}")
    if raw.startswith(_UTF16_MARKS) and not encoding.lower().startswith(("utf-16", "utf_16", "utf16", "utf-32")):
        raise fault(path, f"is in UTF-16, read with encoding={encoding!r}; set encoding: utf-16, or save it as UTF-8")
    if raw.startswith(_UTF8_MARK) and not unicode:
        raise fault(path, f"begins with the mark of UTF-8, read with encoding={encoding!r}; set encoding: utf-8")


def single_byte(text: AtomicText, separator: str) -> tuple[AtomicText, str]:
    """Replace a separator of several bytes by one byte, which pandas' fast parser needs.

    Returns:
        The text and its separator; both unchanged if the separator has one byte.

    Raises:
        ValueError: the replacement, the character 0x1f, is in the file.
    """
    if len(separator.encode("utf-8")) == 1:
        return text, separator
    if _STAND_IN in text.body:
        raise text.fault(f"holds the character 0x1f, which field_separator={separator!r} does not allow; take it out")
    body = text.body.replace(separator.encode("utf-8"), _STAND_IN)
    head = text.head.replace(separator, _STAND_IN.decode())
    changed = AtomicText(text.path, head, body, text.blank, text.numbers, _offsets(body, b"\n"))
    return changed, _STAND_IN.decode()


def check_fields(text: AtomicText, separator: str, columns: int, field_separator: str) -> None:
    """Check that every row has one field for each column, and that no row repeats the header.

    Args:
        text: the file.
        separator: one byte.
        columns: the number of columns in the header.
        field_separator: the separator in the user's file, for messages.

    Raises:
        ValueError: a row does not fit; the message names the first one.
    """
    separators = _offsets(text.body, separator.encode("utf-8"))
    per_line = columns - 1
    if len(separators) == per_line * text.rows and _all_lines_have(separators, text.ends, per_line):
        _check_repeated_head(text)
        return
    counts = np.diff(np.searchsorted(separators, text.ends), prepend=0)
    wrong = np.flatnonzero(counts != per_line)
    row, count = int(wrong[0]), int(counts[wrong[0]]) + 1
    line = text.row(row).replace(separator, field_separator)
    raise text.fault(
        f"{count} {'field' if count == 1 else 'fields'} where line 1 names {columns} columns"
        f"{f' ({len(wrong)} such lines)' if len(wrong) > 1 else ''}: {shown(line)}; "
        f"{_way_out(line, count, columns, field_separator, len(wrong) == text.rows)}",
        row,
    )


def _all_lines_have(separators: np.ndarray, ends: np.ndarray, per_line: int) -> bool:
    """Whether each line has ``per_line`` separators, given that this is right on average."""
    if per_line == 0 or not len(ends):
        return True
    last_inside = (separators[per_line - 1 :: per_line] < ends).all()
    first_inside = (separators[per_line::per_line] > ends[:-1]).all()
    return bool(last_inside and first_inside)


def _way_out(line: str, count: int, columns: int, separator: str, everywhere: bool) -> str:
    """How to repair a line that has ``count`` fields for ``columns`` columns; ``everywhere``: all lines have."""
    if line.startswith(("#", "%", "//")):
        return "comments are not part of an atomic file: take them out"
    if not line.strip():
        return "take out lines that hold only spaces"
    candidates = [mark for mark in ("\t", ",", ";", "|", "::", " ") if mark != separator]
    for candidate in candidates:
        if count == 1 and columns > 1 and len(line.split(candidate)) == columns:
            return f"here the fields are separated by {candidate!r}: write all lines with {separator!r}"
    if count > columns:
        if everywhere:
            return "name every column in line 1, or take out separators at the ends of the lines"
        return f"a field must not hold the separator {separator!r}"
    return f"a field that is empty still needs its separator {separator!r}"


def _check_repeated_head(text: AtomicText) -> None:
    line = text.head.encode("utf-8") + b"\n"
    start = 0 if text.body.startswith(line) else text.body.find(b"\n" + line) + 1
    if start == 0 and not text.body.startswith(line):
        return
    row = int(np.searchsorted(text.ends, start))
    raise text.fault("repeats line 1, the names of the columns; take it out", row)
