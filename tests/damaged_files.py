"""Damaged and unusual files, and what is to be said about each; ``python tests/damaged_files.py`` prints the table.

Each case is a data set ``d`` of a few lines. It is either refused, in one line that names file, place and way out, or
read, with the rows and the notes that are stated here.
"""

from __future__ import annotations

import functools
import gzip
import os
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional, Union

import pandas as pd

from recbole_diffusion import quick_start
from recbole_diffusion.compat import repairs
from recbole_diffusion.data import pipeline
from recbole_diffusion.data.account import account_of

Content = Union[str, bytes, None]  # None: a folder

HEAD = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
ROWS = ["u1\ti1\t5\t100", "u1\ti2\t4\t101", "u1\ti3\t3\t102", "u2\ti1\t2\t103", "u2\ti2\t1\t104", "u2\ti3\t5\t105"]
READ = [("u1", "i1", 5, 100), ("u1", "i2", 4, 101), ("u1", "i3", 3, 102)]
READ += [("u2", "i1", 2, 103), ("u2", "i2", 1, 104), ("u2", "i3", 5, 105)]
IN_TIME = {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"}
AT_RANDOM = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "mode": "full"}
SETTINGS: dict[str, Any] = {"load_col": None, "eval_args": IN_TIME, "state": "ERROR", "show_progress": False}


@dataclass(frozen=True)
class Case:
    """A file and what is to be said about it.

    Attributes:
        what: what is wrong or unusual.
        files: content by suffix, such as ``.inter``; None for a folder.
        refused: texts that the message must hold; None where the data are read.
        rows: the rows that are read, names and numbers; None where only the notes count.
        notes: texts, each of which must be in a note of its own; the number of notes is theirs.
        item: rows of .item, where it is read.
        keys: settings on top of :data:`SETTINGS`.
        model: the model.
    """

    what: str
    files: dict[str, Content]
    refused: Optional[Sequence[str]] = None
    rows: Optional[list[tuple[Any, ...]]] = None
    notes: Sequence[str] = ()
    item: Optional[list[tuple[Any, ...]]] = None
    keys: dict[str, Any] = field(default_factory=dict)
    model: str = "BPR"


@functools.cache
def _config(model: str, keys: str) -> Any:
    return quick_start.configure(model, "d", config_dict=eval(keys))  # a repr of our own


def load(case: Case) -> tuple[Any, list[str]]:
    """The data set of a case, in the folder where we stand, and its notes.

    Raises:
        ValueError: it is refused.
    """
    folder = Path("dataset") / "d"
    folder.mkdir(parents=True)
    for suffix, content in case.files.items():
        file = folder / f"d{suffix}"
        if content is None:
            file.mkdir()
        else:
            file.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    repairs.apply()
    config = _config(case.model, repr({**SETTINGS, **case.keys}))
    config.notes = []
    dataset = pipeline.create_dataset(config)
    return dataset, account_of(dataset).notes


def rows_of(dataset: Any, frame: Any) -> list[tuple[Any, ...]]:
    """The rows of RecBole's frame by name: tokens as text, missing ones as None, sequences as lists."""
    columns = []
    for name in frame.columns:
        kind = dataset.field2type[name].value
        names = dataset.field2id_token.get(name)
        if kind == "token":
            columns.append([None if number == 0 else str(names[number]) for number in frame[name]])
        elif kind == "token_seq":
            columns.append([[str(names[number]) for number in numbers] for numbers in frame[name]])
        elif kind == "float":
            columns.append([float(value) for value in frame[name]])
        else:
            columns.append([[float(value) for value in values] for values in frame[name]])
    return list(zip(*columns))


def lines(*rows: str, head: str = HEAD, end: str = "\n") -> str:
    """A file of these lines."""
    return end.join([head, *rows]) + end


def line(number: int, row: str) -> str:
    """The good file with another line of this number."""
    rows = list(ROWS)
    rows[number - 2] = row
    return lines(*rows)


def inter(content: Content) -> dict[str, Content]:
    return {".inter": content}


def timed(*times: str, kind: str = "float") -> dict[str, Content]:
    """u's rows at these times, of a column of this type."""
    head = f"user_id:token\titem_id:token\ttimestamp:{kind}"
    return inter(lines(*(f"u\ti{place}\t{time}" for place, time in enumerate(times, 1)), head=head))


def at(*times: float) -> list[tuple[Any, ...]]:
    return [("u", f"i{place}", time) for place, time in enumerate(times, 1)]


GOOD = lines(*ROWS)
RATED = "user_id:token\titem_id:token\trating:float"
PAIRS = "user_id:token\titem_id:token"
LISTS = "user_id:token\titem_id:token\ttags:token_seq\tsizes:float_seq"
RO: dict[str, Any] = {"eval_args": AT_RANDOM}
PARTS: dict[str, Any] = {"benchmark_filename": ["train", "valid", "test"], **RO}
UNIX = [1706659200.0, 1706702400.0, 1706745600.0]  # 2024-01-31 at 0, 12 and 24 o'clock, UTC


def ids(*names: str) -> dict[str, Content]:
    """One user's rows of items of these names, no times."""
    return inter(lines(*(f"u\t{name}" for name in names), head=PAIRS))


def named(*names: Optional[str]) -> list[tuple[Any, ...]]:
    return [("u", name) for name in names]


def parts(train: str = GOOD, valid: str = GOOD, test: str = GOOD) -> dict[str, Content]:
    return {".train.inter": train, ".valid.inter": valid, ".test.inter": test}


STRUCTURE = [
    Case("a good file", inter(GOOD), rows=READ),
    Case("no line feed at the end", inter(GOOD[:-1]), rows=READ),
    Case("Windows line ends", inter(GOOD.replace("\n", "\r\n")), rows=READ),
    Case("old Mac line ends", inter(GOOD.replace("\n", "\r")), rows=READ),
    Case("empty", inter(""), ["d.inter", "is empty", "user_id:token"]),
    Case("only blank lines", inter("\n\n  \n"), ["d.inter", "is empty"]),
    Case("only the line of names", inter(HEAD + "\n"), ["d.inter", "no rows below line 1"]),
    Case("only the line of names, unended", inter(HEAD), ["d.inter", "no rows below line 1"]),
    Case("the first line blank", inter("\n" + GOOD), ["d.inter", "line 1", "blank", "user_id:token"]),
    Case("blank lines at the end", inter(GOOD + "\n\n\n"), rows=READ),
    Case(
        "a blank line in the middle", inter(line(4, ROWS[2] + "\n")), rows=READ, notes=["1 blank line of d.inter left"]
    ),
    Case("a line of spaces", inter(line(4, "   ")), ["d.inter", "line 4", "1 field where line 1 names 4", "spaces"]),
    Case(
        "a line number after a blank line", inter(line(4, "\nu1\ti3\tx\t1")), ["d.inter", "line 5", "'rating'", "'x'"]
    ),
    Case("a field too few", inter(line(4, "u1\ti3\t3")), ["d.inter", "line 4", "3 fields", "4 columns", "empty"]),
    Case("a field too many", inter(line(4, "u1\ti3\t3\t1\t2")), ["d.inter", "line 4", "5 fields", "must not hold"]),
    Case(
        "a field too few and one too many on the next line",
        inter(lines(*ROWS[:2], "u1\ti3\t3", "u2\ti1\t2\t103\tx", *ROWS[4:])),
        ["d.inter", "line 4", "3 fields where line 1 names 4 columns (2 such lines)"],
    ),
    Case(
        "a separator at the end of every line but the first",
        inter(lines(*(row + "\t" for row in ROWS))),
        ["d.inter", "line 2", "5 fields where line 1 names 4", "name every column"],
    ),
    Case("a separator at the end of the first line", inter(lines(*ROWS, head=HEAD + "\t")), ["line 1", "no name"]),
    Case("a comment", inter(line(3, "# half of them")), ["d.inter", "line 3", "comments"]),
    Case("the first line again, of joined files", inter(GOOD + GOOD), ["d.inter", "line 8", "repeats line 1"]),
    Case("a line with another separator", inter(line(5, "u2,i1,2,103")), ["d.inter", "line 5", "','", "'\\t'"]),
    Case("a NUL byte", inter(line(5, "u2\0\ti1\t2\t103")), ["d.inter", "line 5", "NUL", "take it out"]),
    Case("cut off in the last line", inter(GOOD[:-6]), ["d.inter", "line 7", "3 fields"]),
    Case(
        "a quote that opens and never closes",
        inter(line(3, 'u1\t"i2\t4\t101')),
        rows=[READ[0], ("u1", '"i2', 4, 101), *READ[2:]],
    ),
    Case(
        "names in quotes",
        inter(GOOD.replace("i1", '"i1"')),
        rows=[(user, item.replace("i1", '"i1"'), *more) for user, item, *more in READ],
        notes=["1 name of column 'item_id' in d.inter is in quotes, e.g. '\"i1\"'"],
    ),
    Case("a file of a spreadsheet, all in quotes", inter('"user_id:token"\t"item_id:token"\n"u"\t"i"\n'), ["quotes"]),
    Case("commas, said so", inter(GOOD.replace("\t", ",")), rows=READ, keys={"field_separator": ","}),
    Case("a separator of two characters", inter(GOOD.replace("\t", "::")), rows=READ, keys={"field_separator": "::"}),
    Case("packed by gzip", inter(gzip.compress(GOOD.encode())), ["d.inter", "gzip", "unpack"]),
    Case("packed by zip, or a spreadsheet", inter(b"PK\x03\x04" + b"\0" * 9), ["d.inter", "zip", "xlsx", "text"]),
    Case("parquet", inter(b"PAR1" + b"\0" * 9), ["d.inter", "parquet", "to_csv"]),
    Case("JSON", inter('{"user_id": 1}\n'), ["d.inter", "JSON", "lines"]),
    Case("a page in place of a download", inter("<!DOCTYPE html>\n<html>"), ["d.inter", "HTML", "download"]),
    Case("a pointer of Git LFS", inter("version https://git-lfs.github.com/spec/v1\n"), ["d.inter", "git lfs pull"]),
]
ENCODING = [
    Case("a byte order mark", inter(b"\xef\xbb\xbf" + GOOD.encode()), rows=READ),
    Case("Latin-1, not said", inter(line(3, "é\ti2\t4\t1").encode("latin-1")), ["line 3", "0xe9", "encoding: latin-1"]),
    Case(
        "Latin-1, said",
        inter(line(3, "é\ti2\t4\t101").encode("latin-1")),
        rows=[READ[0], ("é", "i2", 4, 101), *READ[2:]],
        keys={"encoding": "latin-1"},
    ),
    Case("UTF-16, not said", inter(GOOD.encode("utf-16")), ["d.inter", "UTF-16", "encoding: utf-16"]),
    Case("UTF-16 without its mark", inter(GOOD.encode("utf-16-le")), ["line 1", "NUL", "encoding: utf-16-le"]),
    Case("UTF-16, said", inter(GOOD.encode("utf-16")), rows=READ, keys={"encoding": "utf-16"}),
    Case(
        "UTF-8 with its mark, Latin-1 said",
        inter(b"\xef\xbb\xbf" + GOOD.encode()),
        ["d.inter", "mark of UTF-8", "encoding: utf-8"],
        keys={"encoding": "latin-1"},
    ),
    Case("an encoding that is none", inter(GOOD), ["encoding='utf-88'", "utf-8"], keys={"encoding": "utf-88"}),
]
BARE = HEAD.replace(":token", "").replace(":float", "")
TYPES = [
    Case(
        "names without types",
        inter(lines(*ROWS, head=BARE)),
        ["d.inter", "line 1", "no types", r"'user_id:token\titem_id:token\trating:float\ttimestamp:float'"],
    ),
    Case("no line of names at all", inter("\n".join(ROWS)), ["line 1", "is the line of names missing?", "name:type"]),
    Case("commas", inter(GOOD.replace("\t", ",")), ["line 1", "separated by ','", "set field_separator: ','"]),
    Case("semicolons", inter(GOOD.replace("\t", ";")), ["line 1", "set field_separator: ';'"]),
    Case("spaces", inter(GOOD.replace("\t", " ")), ["line 1", "set field_separator: ' '"]),
    Case("tabs where commas are said", inter(GOOD), ['set field_separator: "\\t"'], keys={"field_separator": ","}),
    Case(
        "commas and no types",
        inter(lines(*ROWS, head=BARE).replace("\t", ",")),
        ["no types", "set field_separator: ','"],
    ),
    Case(
        "type int", inter(GOOD.replace("user_id:token", "user_id:int")), ["'user_id'", "'int'", "write token for ids"]
    ),
    Case("type Float", inter(GOOD.replace("g:float", "g:Float")), ["line 1", "'rating'", "'Float'", "write float"]),
    Case("type flaot", inter(GOOD.replace("g:float", "g:flaot")), ["line 1", "'rating'", "write float"]),
    Case("spaces around a name", inter(GOOD.replace("\titem_id", "\t item_id")), ["line 1", "column 2 of 4", "spaces"]),
    Case("a space behind a type", inter(GOOD.replace("g:float", "g:float ")), ["line 1", "column 3 of 4", "spaces"]),
    Case("two colons", inter(GOOD.replace("rating:", "my:rating:")), ["line 1", "column 3 of 4", "name:type"]),
    Case("a column twice", inter(GOOD.replace("rating:float", "item_id:token")), ["line 1", "'item_id' 2 times"]),
    Case(
        "users are sessions",
        inter(GOOD.replace("user_id", "session_id")),
        ["'user_id'", "set USER_ID_FIELD", "session_id"],
    ),
    Case(
        "users are sessions, said",
        inter(GOOD.replace("user_id", "session_id")),
        rows=READ,
        keys={"USER_ID_FIELD": "session_id", "load_col": {"inter": ["rating"]}},
    ),
    Case("items are movies", inter(GOOD.replace("item_id", "movie")), ["d.inter", "'item_id'", "set ITEM_ID_FIELD"]),
    Case("users and items in one column", inter(GOOD), ["both 'item_id'"], keys={"USER_ID_FIELD": "item_id"}),
    Case("users of type float", inter(GOOD.replace("user_id:token", "user_id:float")), ["'user_id'", "user_id:token"]),
    Case("items of type token_seq", inter(GOOD.replace("item_id:token", "item_id:token_seq")), ["item_id:token"]),
    Case(
        "load_col names a column that is not there",
        inter(GOOD),
        ["d.inter", "'ratings'", "load_col.inter", "did you mean rating?"],
        keys={"load_col": {"inter": ["user_id", "item_id", "ratings"]}},
    ),
    Case(
        "unload_col names a column that is not there",
        inter(GOOD),
        ["d.inter", "'time'", "unload_col.inter", "timestamp"],
        keys={"unload_col": {"inter": ["time"]}},
    ),
    Case("unload_col names the items", inter(GOOD), ["ITEM_ID_FIELD"], keys={"unload_col": {"inter": ["item_id"]}}),
    Case("load_col is a text", inter(GOOD), ["load_col.inter='user_id'"], keys={"load_col": {"inter": "user_id"}}),
    Case("all columns by a star", inter(GOOD), rows=READ, keys={"load_col": {"inter": "*"}}),
    Case(
        "unload_col", inter(GOOD), rows=[(u, i, t) for u, i, _, t in READ], keys={"unload_col": {"inter": ["rating"]}}
    ),
]
NAMES = [
    Case(
        "names that mean missing elsewhere",
        ids("NA", "null", "None", "nan", "N/A", "NaN", "#N/A", "True"),
        rows=named("NA", "null", "None", "nan", "N/A", "NaN", "#N/A", "True"),
        keys=RO,
    ),
    Case("leading zeros", ids("007", "08"), rows=named("007", "08"), keys=RO),
    Case(
        "the same number in three spellings",
        ids("1", "1.0", "01", "2"),
        rows=named("1", "1.0", "01", "2"),
        notes=["look alike and count as different: '01', '1', '1.0'"],
        keys=RO,
    ),
    Case(
        "numbers of twenty digits",
        ids("12345678901234567890", "12345678901234567891"),
        keys=RO,
        rows=named("12345678901234567890", "12345678901234567891"),
    ),
    Case("a number in powers of ten", ids("1e5", "100000"), rows=named("1e5", "100000"), keys=RO),
    Case(
        "spaces around an item's name",
        ids(" a", "a"),
        rows=named(" a", "a"),
        notes=["1 name of column 'item_id' in d.inter is with spaces around, e.g. ' a'", "look alike"],
        keys=RO,
    ),
    Case(
        "one accent in two codings",
        ids("\u00e9", "e\u0301"),
        rows=named("\u00e9", "e\u0301"),
        notes=["look alike"],
        keys=RO,
    ),
    Case("a space of no width", ids("ab", "a\u200bb"), rows=named("ab", "a\u200bb"), notes=["look alike"], keys=RO),
    Case(
        "names of other scripts", ids("\u6771\u4eac", "\U0001f600"), rows=named("\u6771\u4eac", "\U0001f600"), keys=RO
    ),
    Case("a line separator of Unicode in a name", ids("a\u2028b", "c\x0cd"), rows=named("a\u2028b", "c\x0cd"), keys=RO),
    Case("RecBole's name for padding", ids("a", "[PAD]"), ["d.inter", "line 3", "'item_id'", "'[PAD]'"], keys=RO),
    Case("a name of 5000 characters", ids("a", "b" * 5000), ["d.inter", "line 3", "5000 characters"], keys=RO),
    Case(
        "a user without a name",
        inter(line(4, "\ti3\t3\t102")),
        rows=[*READ[:2], *READ[3:]],
        notes=["1 row was dropped: no user_id in d.inter (first: line 4)"],
    ),
    Case(
        "two items without a name",
        inter(lines(ROWS[0], "u1\t\t4\t101", ROWS[2], "u2\t\t2\t103", *ROWS[4:])),
        rows=[READ[0], READ[2], *READ[4:]],
        notes=["2 rows were dropped: no item_id in d.inter (first: line 3)"],
    ),
    Case("no item has a name", ids("", ""), ["d.inter", "no row is left", "item_id"], keys=RO),
    Case(
        "a row of nothing but separators",
        inter(line(4, "\t\t\t")),
        rows=[*READ[:2], *READ[3:]],
        notes=["no user_id in d.inter (first: line 4)", "1 of 6 values of column 'rating'"],
    ),
    Case(
        "a row twice",
        inter(GOOD + ROWS[1] + "\n"),
        rows=[*READ[:2], READ[1], *READ[2:]],
        notes=["1 row of d.inter repeats an earlier row in every loaded column (first: line 8)"],
    ),
    Case("a pair twice at two times", inter(GOOD + "u2\ti3\t1\t200\n"), rows=[*READ, ("u2", "i3", 1, 200)]),
    Case("a row twice, one wanted", inter(GOOD + ROWS[1] + "\n"), rows=READ, keys={"rm_dup_inter": "first"}),
]
TIMES = [
    Case(
        "times of type token, numbers",
        timed("9", "10", "11", kind="token"),
        rows=at(9, 10, 11),
        notes=["the times of d.inter (column 'timestamp', type token) are read as numbers"],
    ),
    Case(
        "times of type token, decimals", timed("9.5", "10.25", kind="token"), rows=at(9.5, 10.25), notes=["as numbers"]
    ),
    Case(
        "ISO dates",
        timed("2024-01-31", "2024-02-01", kind="token"),
        rows=at(UNIX[0], UNIX[2]),
        notes=["read as ISO dates, in seconds since 1970 (UTC)"],
    ),
    Case(
        "ISO dates of several lengths",
        timed("2024-01-31", "2024-01-31T12:00", "2024-02-01 00:00:00.5", kind="token"),
        rows=at(UNIX[0], UNIX[1], UNIX[2] + 0.5),
        notes=["ISO dates"],
    ),
    Case(
        "ISO dates with zones",
        timed("2024-01-31T02:00:00+02:00", "2024-01-31T12:00:00Z", "2024-01-31 19:00:00-0500", kind="token"),
        rows=at(*UNIX),
        notes=["ISO dates"],
    ),
    Case("ISO dates of type float", timed("2024-01-31", "2024-02-01"), rows=at(UNIX[0], UNIX[2]), notes=["ISO dates"]),
    Case(
        "some dates with a zone, some without",
        timed("2024-01-31T02:00Z", "2024-01-31T03:00"),
        ["d.inter", "line 3", "'timestamp'", "line 2", "has a time zone", "write all alike"],
    ),
    Case(
        "some dates, some numbers",
        timed("2024-01-31", "1706659200", kind="token"),
        ["d.inter", "line 3", "'1706659200'", "of line 2, which is a date"],
    ),
    Case(
        "day before month",
        timed("31/01/2024", "01/02/2024", kind="token"),
        ["d.inter", "line 2", "'timestamp'", "'31/01/2024' is no time", "ISO 8601"],
    ),
    Case("months by name", timed("Jan 31 2024", kind="token"), ["line 2", "'Jan 31 2024' is no time", "ISO 8601"]),
    Case("a day that is none", timed("2024-02-28", "2024-02-30", kind="token"), ["line 3", "'2024-02-30' is no date"]),
    Case("the year 1", timed("2024-02-28", "0001-01-01", kind="token"), ["line 3", "'0001-01-01'", "1678 to 2261"]),
    Case("words", timed("100", "late", kind="token"), ["line 3", "'timestamp'", "'late' is no time"]),
    Case("words of type float", timed("100", "late"), ["d.inter", "line 3", "'timestamp'", "'late' is no time"]),
    Case(
        "words where no time is needed",
        timed("early", "late", kind="token"),
        keys=RO,
        rows=[("u", "i1", "early"), ("u", "i2", "late")],
        notes=[
            "'early' is no time",
        ],
    ),
    Case(
        "words where repeated pairs are removed in order of time",
        timed("early", "late", kind="token"),
        ["'early'"],
        keys={**RO, "rm_dup_inter": "last"},
    ),
    Case("times of type token_seq", timed("1", kind="token_seq"), ["'timestamp'", "token_seq", "timestamp:float"]),
    Case(
        "rows without a time",
        timed("100", "", "102", "nan", "NA", "inf"),
        rows=[("u", "i1", 100), ("u", "i3", 102)],
        notes=["4 rows were dropped: no time (timestamp) in d.inter (first: line 3)"],
    ),
    Case(
        "rows without a time, type token",
        timed("2024-01-31", "", "null", "2024-02-01", kind="token"),
        rows=[("u", "i1", UNIX[0]), ("u", "i4", UNIX[2])],
        notes=["2 rows were dropped: no time (timestamp) in d.inter (first: line 3)", "ISO dates"],
    ),
    Case("no row has a time", timed("", "nan"), ["d.inter", "no row is left", "no time (timestamp)"]),
    Case("a time too large", timed("1", "1e400"), rows=at(1), notes=["1 row was dropped: no time"]),
    Case(
        "a row without a time where none is needed",
        timed("100", "", "104"),
        rows=at(100, 102, 104),
        notes=["1 of 3 values of column 'timestamp' in d.inter is missing (first: line 3); RecBole fills in the mean"],
        keys=RO,
    ),
    Case(
        "no column of times",
        inter(lines("u\ti", head=PAIRS)),
        ["'timestamp'", "d.inter has user_id, item_id", "TIME_FIELD", "order: RO"],
    ),
    Case(
        "no column of times, sequential",
        inter(lines("u\ti", head=PAIRS)),
        ["'timestamp'", "TIME_FIELD", "general model"],
        model="SASRec",
    ),
    Case(
        "no column of times, not loaded",
        inter(GOOD),
        ["unload_col.inter", "'timestamp'", "order='TO'"],
        keys={"unload_col": {"inter": ["timestamp"]}},
    ),
    Case(
        "nanoseconds",
        timed("1706659200000000000", "1706659200000001024"),
        rows=at(1706659200000000000, 1706659200000001024),
    ),
    Case(
        "nanoseconds that float64 cannot tell apart",
        timed("1706659200000000002", "1706659200000000001"),
        rows=[("u", "i2", 0), ("u", "i1", 1)],
        notes=["their ranks take their place"],
    ),
    Case(
        "nanoseconds where no time is needed",
        timed("1706659200000000002", "1706659200000000001"),
        keys=RO,
        rows=at(1706659200000000000, 1706659200000000000),
    ),
    Case(
        "nanoseconds and val_interval",
        timed("1706659200000000002", "1706659200000000001"),
        ["d.inter", "'timestamp'", "val_interval", "milliseconds"],
        keys={"val_interval": {"timestamp": "[0,inf)"}},
    ),
    Case(
        "nanoseconds and an empty field",
        timed("1706659200000000002", "", "1706659200000000001"),
        rows=[("u", "i3", 0), ("u", "i1", 1)],
        notes=["their ranks", "1 row was dropped: no time"],
    ),
    Case(
        "nanoseconds in a date",
        timed("2024-01-31 00:00:00.000000002", "2024-01-31 00:00:00.000000001"),
        rows=[("u", "i2", 0), ("u", "i1", 1)],
        notes=["ISO dates", "their ranks take their place"],
    ),
    Case("more than 64 bits", timed("99999999999999999999", "1"), rows=[("u", "i2", 1), ("u", "i1", 1e20)]),
    Case(
        "more than 64 bits that float64 cannot tell apart",
        timed("99999999999999999999", "99999999999999999998"),
        rows=[("u", "i2", 0), ("u", "i1", 1)],
        notes=["their ranks take their place"],
    ),
    Case("times before 1970", timed("-5", "3"), rows=at(-5, 3)),
]


def rated(value: str) -> dict[str, Content]:
    """A rating of 1 and this one."""
    return inter(lines("u\ti1\t1", f"u\ti2\t{value}", head=RATED))


def no_number(value: str, *more: str) -> Case:
    return Case(f"a rating of {value!r}", rated(value), ["d.inter", "line 3", "'rating'", *more], keys=RO)


def number(value: str, read: float) -> Case:
    return Case(f"a rating of {value!r}", rated(value), rows=[("u", "i1", 1), ("u", "i2", read)], keys=RO)


NUMBERS = [
    no_number("five", "'five' is no number", "rating:token"),
    no_number("1,000", "thousands"),
    no_number("3,5", "decimal point"),
    no_number("1_000", "'1_000' is no number"),
    no_number("0x1F", "'0x1F' is no number"),
    no_number("true", "write 1 and 0"),
    no_number("True", "write 1 and 0"),
    no_number("5 stars", "'5 stars' is no number"),
    no_number('"5"', "quotes"),
    no_number("2024-01-31", "TIME_FIELD: rating"),
    no_number("inf", "not finite"),
    no_number("-Infinity", "not finite"),
    no_number("1e400", "not finite"),
    no_number("1e39", "float32"),
    no_number("\uff15", "is no number"),
    no_number("1.2.3", "is no number"),
    number("-2", -2),
    number("+2", 2),
    number(" 2 ", 2),
    number("2e-1", 0.2),
    number(".5", 0.5),
    number("1e-400", 0),
    Case(
        "ratings all True and False",
        inter(lines("u\ti1\tTrue", "u\ti2\tFalse", head=RATED)),
        ["d.inter", "line 2", "'rating'", "write 1 and 0"],
        keys=RO,
    ),
    *(
        Case(
            f"a rating of {value!r}, missing",
            rated(value),
            rows=[("u", "i1", 1), ("u", "i2", 1)],
            notes=["1 of 2 values of column 'rating' in d.inter is missing (first: line 3); RecBole fills in the mean"],
            keys=RO,
        )
        for value in ("", "NA", "nan", "NAN", "null")
    ),
    Case(
        "no rating at all",
        inter(lines("u\ti1\t", "u\ti2\t", head=RATED)),
        ["'rating'", "no value", "unload_col"],
        keys=RO,
    ),
    Case(
        "sequences",
        inter(lines("u\ti1\ta b\t1 2", "u\ti2\t\t", "u\ti3\tb  c\t .5", head=LISTS)),
        rows=[("u", "i1", ["a", "b"], [1, 2]), ("u", "i2", [], []), ("u", "i3", ["b", "c"], [0.5])],
        keys=RO,
    ),
    Case(
        "words in a sequence of numbers",
        inter(lines("u\ti1\ta\t1", "u\ti2\tb\t1 x", head=LISTS)),
        ["d.inter", "line 3", "'sizes'", "'x' in a sequence"],
        keys=RO,
    ),
    Case(
        "nan in a sequence of numbers",
        inter(lines("u\ti1\ta\t1 nan", head=LISTS)),
        ["line 2", "'sizes'", "'nan' in a sequence is no finite number"],
        keys=RO,
    ),
    Case(
        "numbers with another separator",
        inter(lines("u\ti1\ta\t1,2", head=LISTS)),
        ["line 2", "'sizes'", "set seq_separator: ','"],
        keys=RO,
    ),
    Case(
        "tokens with another separator",
        inter(lines("u\ti1\ta,b\t1", "u\ti2\tc,d,e\t1", head=LISTS)),
        rows=[("u", "i1", ["a,b"], [1]), ("u", "i2", ["c,d,e"], [1])],
        notes=["no sequence of column 'tags' in d.inter holds seq_separator=' ', most hold ','"],
        keys=RO,
    ),
    Case(
        "padding's name in a sequence",
        inter(lines("u\ti1\ta [PAD]\t1", head=LISTS)),
        ["line 2", "'tags'", "[PAD]"],
        keys=RO,
    ),
]
PRICED = "item_id:token\tprice:float"


def item(*rows: str, head: str = PRICED) -> dict[str, Content]:
    """Three items of one user, and an .item file of these lines."""
    return {**ids("i1", "i2", "i3"), ".item": lines(*rows, head=head)}


def priced(*prices: float) -> list[tuple[Any, ...]]:
    return [(f"i{place}", price) for place, price in enumerate(prices, 1)]


GOOD_ITEMS = ("i1\t1", "i2\t2", "i3\t3")
FILES = [
    Case("a folder named d.inter", {".inter": None}, ["d.inter", "is a folder"]),
    Case(
        "only the parts of a split",
        parts(),
        ["d.inter", "is not there", "set benchmark_filename: [train, valid, test]"],
    ),
    Case("only a packed file", {".inter.gz": gzip.compress(GOOD.encode())}, ["d.inter", "there: d.inter.gz", "unpack"]),
    Case("a file of another name", {"ata.inter": GOOD}, ["d.inter", "there: data.inter", "rename data.inter"]),
    Case("parts of a split", parts(), rows=[*READ, *READ, *READ], keys=PARTS),
    Case(
        "a part that is not there",
        {".train.inter": GOOD, ".test.inter": GOOD},
        ["d.valid.inter", "is not there", "benchmark_filename"],
        keys=PARTS,
    ),
    Case(
        "benchmark_filename is a text",
        parts(),
        ["benchmark_filename='train'", "list of 3 str"],
        keys={**PARTS, "benchmark_filename": "train"},
    ),
    Case(
        "a part with a damaged line",
        parts(test=line(4, "u1\ti3\tx\t1")),
        ["d.test.inter", "line 4", "'rating'", "'x'"],
        keys=PARTS,
    ),
    Case(
        "a part with a short line", parts(valid=line(4, "u1\ti3")), ["d.valid.inter", "line 4", "2 fields"], keys=PARTS
    ),
    Case(
        "a part without rows",
        parts(valid=HEAD + "\n"),
        rows=[*READ, *READ],
        notes=["d.valid.inter has no rows"],
        keys=PARTS,
    ),
    Case(
        "the first part without rows", parts(train=HEAD + "\n"), ["d.train.inter", "no rows below line 1"], keys=PARTS
    ),
    Case(
        "parts whose columns are in another order",
        parts(test=lines("i1\t1\tu1\t9", head="item_id:token\trating:float\tuser_id:token\ttimestamp:float")),
        rows=[*READ, *READ, ("u1", "i1", 1, 9)],
        keys=PARTS,
    ),
    Case(
        "a part that lacks a column",
        parts(test=lines("u\ti\t1", head=RATED)),
        ["d.test.inter", "lacks the column 'timestamp'", "the same columns"],
        keys=PARTS,
    ),
    Case(
        "a part with a column more",
        parts(train=lines("u\ti\t1", head=RATED)),
        ["d.valid.inter", "has the column 'timestamp'", "the same columns"],
        keys=PARTS,
    ),
    Case(
        "a part with a column of another type",
        parts(test=GOOD.replace("rating:float", "rating:token")),
        ["d.test.inter", "'rating'", "type token, in another file of type float"],
        keys=PARTS,
    ),
    Case(
        "a part with a row without an item",
        parts(test=line(3, "u1\t\t4\t101")),
        rows=[*READ, *READ, READ[0], *READ[2:]],
        notes=["1 row was dropped: no item_id in d.test.inter (first: line 3)"],
        keys=PARTS,
    ),
    Case(
        "names that mean missing elsewhere, in a part",
        parts(test=line(3, "NA\tnull\t4\t101")),
        keys=PARTS,
        rows=[*READ, *READ, READ[0], ("NA", "null", 4, 101), *READ[2:]],
    ),
    Case("a good .item", item(*GOOD_ITEMS), item=priced(1, 2, 3), keys=RO),
    Case(
        "an .item with an item twice",
        item(*GOOD_ITEMS, "i1\t9"),
        item=priced(1, 2, 3),
        keys=RO,
        notes=["1 row was dropped: the item_id of an earlier row in d.item (first: line 5)"],
    ),
    Case(
        "an .item with a line without an item",
        item("\t5", *GOOD_ITEMS),
        item=priced(1, 2, 3),
        keys=RO,
        notes=["1 row was dropped: no item_id in d.item (first: line 2)"],
    ),
    Case(
        "an .item with a hole",
        item("i1\t1", "i2\t", "i3\t3"),
        item=priced(1, 2, 3),
        keys=RO,
        notes=["1 of 3 values of column 'price' in d.item is missing (first: line 3); RecBole fills in the mean"],
    ),
    Case("an .item called NA", {**ids("NA"), ".item": lines("NA\t4", head=PRICED)}, item=[("NA", 4)], keys=RO),
    Case("an .item with a word for a price", item("i1\tcheap"), ["d.item", "line 2", "'price'", "'cheap'"], keys=RO),
    Case("an .item with commas", item("i1,1", head="item_id:token,price:float"), ["d.item", "line 1", "','"], keys=RO),
    Case(
        "an .item without item_id",
        item("i1\t1", head="id:token\tprice:float"),
        ["d.item", "'item_id'", "ITEM_ID_FIELD", "id, price"],
        keys=RO,
    ),
    Case(
        "an .item with items of type float",
        item("1\t1", head="item_id:float\tprice:float"),
        ["d.item", "'item_id'", "item_id:token"],
        keys=RO,
    ),
    Case("an .item without lines", item(), ["d.item", "no rows below line 1"], keys=RO),
    Case(
        "an .item that is packed", {**ids("a"), ".item": gzip.compress(b"item_id:token")}, ["d.item", "gzip"], keys=RO
    ),
    Case("a short line in .item", item("i1\t1", "i2"), ["d.item", "line 3", "1 field where line 1 names 2"], keys=RO),
    Case(
        "a quote that opens in .item",
        item('"i1\t1', "i2\t2", "i3\t3"),
        rows=None,
        notes=["1 row is kept whose item_id has no line in d.item", "1 of 4 items have no interaction"],
        keys={**RO, "filter_inter_by_user_or_item": False},
    ),
    Case(
        "load_col asks for an .item that is not there",
        ids("a"),
        ["d.item", "is not there", "load_col"],
        keys={**RO, "load_col": {"inter": "*", "item": ["item_id"]}},
    ),
    Case(
        "another file that load_col does not name",
        {**ids("a"), ".vec": lines("a\t1 2", head="item_id:token\tv:float_seq")},
        rows=named("a"),
        notes=["d.vec is not read: load_col has no columns of 'vec'"],
        keys={**RO, "additional_feat_suffix": ["vec"], "load_col": {"inter": "*"}},
    ),
    Case(
        "another file with a word in a vector",
        {**ids("a"), ".vec": lines("a\t1 x", head="vid:token\tv:float_seq")},
        ["d.vec", "line 2", "'v'", "'x' in a sequence"],
        keys={**RO, "additional_feat_suffix": ["vec"]},
    ),
    Case(
        "another file that is not there",
        ids("a"),
        ["d.vec", "is not there", "additional_feat_suffix"],
        keys={**RO, "additional_feat_suffix": ["vec"]},
    ),
    Case(
        "a rating in .item too",
        {**rated("2"), ".item": lines("i1\t7", "i2\t8", head="item_id:token\trating:float")},
        rows=[("u", "i1", 1), ("u", "i2", 2)],
        notes=["'rating' is in another file too"],
        keys=RO,
    ),
    Case(
        "a rating of another type in .item",
        {**rated("2"), ".item": lines("i1\tA", head="item_id:token\trating:token")},
        ["d.item", "'rating'", "type token, in another file of type float"],
        keys=RO,
    ),
    Case(
        "a .user with a user twice",
        {**ids("a"), ".user": lines("u\t1", "u\t2", head="user_id:token\tage:token")},
        rows=named("a"),
        keys=RO,
        notes=["1 row was dropped: the user_id of an earlier row"],
    ),
    Case(
        "a .user with a long line",
        {**ids("a"), ".user": lines("u\t1\t2", head="user_id:token\tage:token")},
        ["d.user", "line 2", "3 fields where line 1 names 2"],
        keys=RO,
    ),
    Case(
        "a .user in Latin-1",
        {**ids("a"), ".user": lines("\u00fc\t1", head="user_id:token\tage:token").encode("latin-1")},
        ["d.user", "line 2", "0xfc", "encoding"],
        keys=RO,
    ),
]


def graph(kg: str = "e1\tr\te2", link: str = "i1\te1\ni2\te2", **heads: str) -> dict[str, Content]:
    """Two items of one user, with a knowledge graph."""
    return {
        **ids("i1", "i2"),
        ".kg": lines(kg, head=heads.get("kg_head", "head_id:token\trelation_id:token\ttail_id:token")),
        ".link": lines(link, head="item_id:token\tentity_id:token"),
    }


GRAPHS = [
    Case("a good graph", graph(), rows=named("i1", "i2"), keys=RO, model="CKE"),
    Case(
        "relations and entities called NA",
        graph("NA\tnull\te2", "i1\tNA\ni2\te2"),
        rows=named("i1", "i2"),
        keys=RO,
        model="CKE",
    ),
    Case(
        "a triple without an end",
        graph("e1\tr\te2\ne1\tr\t"),
        rows=named("i1", "i2"),
        keys=RO,
        model="CKE",
        notes=["1 row was dropped: no tail_id in d.kg (first: line 3)"],
    ),
    Case(
        "a short line in .kg",
        graph("e1\tr\te2\ne1\te2"),
        ["d.kg", "line 3", "2 fields where line 1 names 3"],
        keys=RO,
        model="CKE",
    ),
    Case(
        "a .kg without relations",
        graph(kg_head="head_id:token\trelation:token\ttail_id:token"),
        ["d.kg", "'relation_id'", "set RELATION_ID_FIELD"],
        keys=RO,
        model="CKE",
    ),
    Case(
        "an item linked twice",
        graph(link="i1\te1\ni2\te2\ni2\te1"),
        rows=None,
        keys={**RO, "load_col": {"inter": "*"}},
        notes=["1 of 3 rows of d.link link an item or an entity of an earlier row"],
        model="CKE",
    ),
    Case("no .link", {**ids("i1"), ".kg": "head_id:token"}, ["d.link", "is not there"], keys=RO, model="CKE"),
]
GROUPS = {
    "Structure": STRUCTURE,
    "Encoding": ENCODING,
    "The first line, and the settings that name columns": TYPES,
    "Names": NAMES,
    "Times": TIMES,
    "Numbers and sequences": NUMBERS,
    "Knowledge graphs": GRAPHS,
    "Files: parts of a split, .item, .user": FILES,
}
CASES = [case for group in GROUPS.values() for case in group]


def said(case: Case) -> str:
    """What is said about a case, for the table."""
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            dataset, notes = load(case)
        except ValueError as error:
            return f"refused: {error}"
        finally:
            os.chdir(here)
    read = f"read, {len(dataset.inter_feat)} rows"
    return "; ".join([read, *notes])


def main() -> None:
    """Print docs/results/damaged-files.md."""
    warnings.simplefilter("ignore")
    refused = sum(case.refused is not None for case in CASES)
    print(INTRODUCTION.format(cases=len(CASES), refused=refused, pandas=pd.__version__))
    for title, cases in GROUPS.items():
        print(f"\n## {title}\n\n| file | what is said |\n| --- | --- |")
        for case in cases:
            answer = said(case).replace("|", "\\|").replace("\n", " ")
            print(f"| {case.what.translate(_VISIBLE)} | {answer} |")


INTRODUCTION = """# Damaged and unusual files

What our reader says about {cases} small data sets named `d`, each with one thing that is wrong or unusual. {refused} of
them are refused, in one line with exit code 2. The others are read, and what was left out or replaced is in the run's
warnings. `run`, `compare` and `tune` use this reader; under `enable()` RecBole's own one stays.

Made by `python tests/damaged_files.py` (pandas {pandas}) from the cases that `tests/test_damaged_files.py` tests, where
the rows that must be read are stated too. The settings are BPR with leave-one-out in time and `load_col: null`, unless
the case is about others."""

_VISIBLE = {ord("|"): "\\|"}

if __name__ == "__main__":
    main()
