"""Reader of delimited text: csv, tsv, ``::`` and others. Every cell stays the text that the file holds."""

from __future__ import annotations

import contextlib
import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Optional

import pandas as pd

from recbole_diffusion.data.importing.coded import code
from recbole_diffusion.data.importing.roles import looks_like_header
from recbole_diffusion.data.importing.table import Table, counted
from recbole_diffusion.data.reading.text import shown

#: Delimiters that are tried, in this order.
DELIMITERS = ("::", "\t", ",", ";", "|", " ")
_WORDS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "space": " ", "pipe": "|"}
#: Stands for a delimiter of several characters, which pandas' fast parser does not support.
_STAND_IN = "\x1f"
#: Characters and lines by which the form is decided.
_SAMPLE, _SAMPLE_LINES = 100_000, 50
_LINE_BREAK = re.compile("\r\n|\r|\n")  # str.splitlines also splits at characters that may be in a cell
_TYPED = re.compile(r"([^:\s\"']+):(token|float|token_seq|float_seq)")


class Form(NamedTuple):
    """How a text is written.

    Attributes:
        delimiter: between the cells.
        quoted: whether ``"`` encloses cells.
        header: whether the first record names the columns.
    """

    delimiter: str
    quoted: bool
    header: bool


def read(
    source: str,
    raw: bytes,
    delimiter: Optional[str] = None,
    header: Optional[bool] = None,
    quotes: Optional[bool] = None,
    encoding: Optional[str] = None,
    names: Sequence[str] = (),
) -> Table:
    """Read a delimited text.

    Args:
        source: name of the file, for messages.
        raw: its bytes, unpacked.
        delimiter: between the cells; None: the one of :data:`DELIMITERS` that fits.
        header: whether the first record names the columns; None: decided by its words.
        quotes: whether ``"`` encloses cells; None: yes, except with ``::`` and with tabs.
        encoding: UTF-8 if None; a byte order mark is respected.
        names: columns that the caller asks for, which show that a first record names the columns.

    Raises:
        ValueError: a row has another number of cells than the first; or the form cannot be decided.
    """
    text = _decode(source, raw, encoding)
    with _long_cells(len(text)):
        return _read(source, text, delimiter, header, quotes, names)


@contextlib.contextmanager
def _long_cells(limit: int) -> Iterator[None]:
    """Have the csv module read cells of any length; its own limit is 131,072 characters."""
    before = csv.field_size_limit(limit)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _read(
    source: str,
    text: str,
    delimiter: Optional[str],
    header: Optional[bool],
    quotes: Optional[bool],
    names: Sequence[str],
) -> Table:
    form = _form_of(source, text, delimiter, header, quotes, names)
    head = _records(text, form, 2)
    if not form.quoted and "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    columns = _column_names(source, head[0]) if form.header else [str(place + 1) for place in range(len(head[0]))]
    frame = _parse(source, text, form, len(columns), head)
    described = {"\t": "tabs", " ": "spaces"}.get(form.delimiter, repr(form.delimiter))
    table = Table(
        source,
        f"text separated by {described}, {'names in the first line' if form.header else 'no line of names'}",
        {name: code(frame[place]) for place, name in enumerate(columns)},
        has_names=form.header,
        rows=len(frame),
    )
    _check_short_rows(table, text, form)
    return table


def _decode(source: str, raw: bytes, encoding: Optional[str]) -> str:
    """Decode the text, without a byte order mark and without empty lines before the first record."""
    marks = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
    encoding = encoding or next((name for mark, name in marks.items() if raw.startswith(mark)), "utf-8")
    try:
        text = raw.decode(encoding).lstrip("\ufeff")
    except LookupError:
        raise ValueError(f"--encoding={encoding} is not known; allowed: utf-8, latin-1 and Python's others") from None
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{source}: line {line}: byte 0x{raw[error.start]:02x} is not {encoding}; give its encoding, e.g. "
            "--encoding=latin-1"
        ) from None
    if "\0" in text:
        raise ValueError(f"{source}: holds NUL bytes; if it is text in UTF-16, give --encoding=utf-16-le")
    if not text.strip():
        raise ValueError(f"{source}: is empty")
    text = text.lstrip("\r\n")
    return text if "\n" in text else text.replace("\r", "\n")  # line breaks of old Macs


def _form_of(
    source: str,
    text: str,
    delimiter: Optional[str],
    header: Optional[bool],
    quotes: Optional[bool],
    names: Sequence[str],
) -> Form:
    """Complete the form: what the caller leaves open is decided by the first lines."""
    sample = _lines(text[:_SAMPLE])
    whole = sample[:-1] if len(text) > _SAMPLE and len(sample) > 1 else sample
    lines = [line for line in whole[:_SAMPLE_LINES] if line.strip()]
    delimiter = _WORDS.get(delimiter, delimiter) if delimiter else _delimiter_of(source, lines)
    if delimiter not in lines[0]:
        raise ValueError(f"{source}: the first line, {shown(lines[0])}, has no delimiter {delimiter!r}")
    if quotes is None:
        quotes = delimiter not in {"::", "\t"}
        if delimiter == "\t" and any(re.search(r'(^|\t)"[^\t]*"(\t|$)', line) for line in lines):
            raise ValueError(
                f"{source}: cells between tabs are in quotes; give --quotes=yes if the quotes enclose the cells, "
                "--quotes=no if they belong to the values"
            )
    if header is None:
        header = looks_like_header(_records(text, Form(delimiter, quotes, True), 1)[0], names)
    return Form(delimiter, quotes, header)


def _delimiter_of(source: str, lines: Sequence[str]) -> str:
    """The first of the delimiters that all first lines have in one and the same number."""
    for candidate in DELIMITERS:
        rows = [_split(line, candidate) for line in lines]
        if len(rows[0]) > 1 and len({len(cells) for cells in rows}) == 1:
            return candidate
    present = [candidate for candidate in DELIMITERS[:-1] if candidate in lines[0]]
    if present:  # cells with line breaks, or rows of unequal length, which the parser reports
        return present[0]
    raise ValueError(
        f"{source}: no delimiter was recognised in its first line, {shown(lines[0])}; give --delimiter=CHARACTER"
    )


def _lines(text: str) -> list[str]:
    return _LINE_BREAK.split(text)


def _split(line: str, delimiter: str) -> list[str]:
    if len(delimiter) > 1:
        return line.split(delimiter)
    return next(iter(csv.reader([line], delimiter=delimiter)), [])


def _records(text: str, form: Form, count: int) -> list[list[str]]:
    """The first records, at most ``count``."""
    if len(form.delimiter) > 1 or not form.quoted:
        lines = (line for line in _lines(text[:1_000_000]) if line.strip())
        return [line.split(form.delimiter) for line, _ in zip(lines, range(count))]
    # newline="": a carriage return alone ends a line, as it does for pandas; the csv module would raise at one
    lines_of = io.StringIO(text, newline="")
    records = (record for record in csv.reader(lines_of, delimiter=form.delimiter) if record)
    return [record for record, _ in zip(records, range(count))]


def _column_names(source: str, cells: Sequence[str]) -> list[str]:
    """The names of the columns. Types as in RecBole's atomic files are removed if all columns have one.

    A first column without a name is pandas' index.
    """
    names = [cell.strip() for cell in cells]
    if names and not names[0]:
        names[0] = "index"
    typed = [_TYPED.fullmatch(name) for name in names]
    names = [match[1] for match in typed if match] if all(typed) else names
    for place, name in enumerate(names):
        if not name:
            raise ValueError(f"{source}: column {place + 1} has no name in the first line; name it")
        if names.count(name) > 1:
            raise ValueError(f"{source}: names the column {name!r} {names.count(name)} times; give each its own name")
    return names


def _parse(source: str, text: str, form: Form, width: int, head: Sequence[Sequence[str]]) -> pd.DataFrame:
    """Parse the cells with pandas' C parser into columns of text, numbered from 0."""
    first_row = head[1 if form.header else 0] if len(head) > form.header else []
    if not first_row:
        raise ValueError(f"{source}: has no rows below the names of its columns")
    if len(first_row) != width:
        raise ValueError(
            f"{source}: the first row has {len(first_row)} cells and the line of names {width}; give --header=no if "
            "the first line is a row"
        )
    delimiter = form.delimiter
    if len(delimiter) > 1:
        if _STAND_IN in text:
            raise ValueError(f"{source}: holds the character 0x1f, which --delimiter={delimiter} does not allow")
        text, delimiter = text.replace(delimiter, _STAND_IN), _STAND_IN
    try:
        return pd.read_csv(
            io.BytesIO(text.encode("utf-8", "surrogatepass")),
            sep=delimiter,
            header=None,
            names=range(width),
            index_col=False,
            skiprows=1 if form.header else 0,
            dtype=object,  # with dtype category, pandas 3.1 reads 007 as the number 7
            keep_default_na=False,
            na_filter=True,
            quoting=csv.QUOTE_MINIMAL if form.quoted else csv.QUOTE_NONE,
            low_memory=False,
            encoding="utf-8",
        )
    except (pd.errors.ParserError, ValueError) as error:
        reason = " ".join(str(error).split()).replace("Error tokenizing data. C error: ", "")
        raise ValueError(
            f"{source}: {reason}; a cell that holds the delimiter {form.delimiter!r} needs quotes, and --quotes=no "
            "reads quotes as part of the values"
        ) from None


def _check_short_rows(table: Table, text: str, form: Form) -> None:
    """Check that every row has all cells; pandas silently fills up short rows, and refuses long ones.

    Raises:
        ValueError: a row has fewer cells.
    """
    width, first = len(table.columns), int(form.header)
    records: Iterable[list[str]]
    if len(form.delimiter) > 1 or not form.quoted or '"' not in text:
        if text.count(form.delimiter) == (width - 1) * (table.rows + first):
            return
        records = (line.split(form.delimiter) for line in text.split("\n") if line.strip("\r"))
    else:
        records = (record for record in csv.reader(io.StringIO(text, newline=""), delimiter=form.delimiter) if record)
    short = [row for row, record in enumerate(records, -first) if len(record) < width]
    if short:
        raise table.fault(
            f"has fewer cells than the {width} columns ({counted(len(short), 'such row')}); an empty cell still needs "
            "its delimiter",
            row=max(short[0], 0),
        )
