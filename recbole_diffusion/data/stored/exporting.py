"""Export of a data set: csv, tsv, json lines or parquet, with the original ids."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import math
from decimal import Decimal
from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np
import pandas as pd

from recbole_diffusion.data.importing import statistics
from recbole_diffusion.data.reading.values import NUMBER
from recbole_diffusion.data.stored import files
from recbole_diffusion.data.stored.files import AtomicTable, StoredSet
from recbole_diffusion.support.atomic_folder import unchanged
from recbole_diffusion.support.atomic_write import atomic_write

_PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": lambda raw: gzip.compress(raw, mtime=0),
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
}
FORMATS = (".csv", ".tsv", ".jsonl", ".parquet")
TIMES = ("numbers", "iso")


def export(stored: StoredSet, out: Path, times: str = "numbers") -> tuple[int, list[str]]:
    """Write the interactions of a data set to a file.

    Pre-split files are written one after the other, with a column ``split``, where there is no file of all rows.

    Args:
        stored: the data set.
        out: the file; its suffix is the format, ``.csv``, ``.tsv``, ``.jsonl`` or ``.parquet``; the text formats may
            be packed (``.csv.gz``, ``.xz``, ``.bz2``).
        times: ``numbers`` as they are, or ``iso``: ISO 8601 in UTC.

    Returns:
        The number of rows and the columns.

    Raises:
        ValueError: another format, or times that are no dates.
    """
    packed = out.suffix in _PACK
    kind = Path(out.stem).suffix if packed else out.suffix
    if kind not in FORMATS or (packed and kind == ".parquet"):
        raise ValueError(f"--out={out}: the name must end with {', '.join(FORMATS)} (text also with .gz, .xz, .bz2)")
    with unchanged(stored.folder, files.SUFFIXES):
        frame, number_columns = _frame(stored, times)
    raw = _ENCODE[kind](frame, number_columns)
    atomic_write(out, lambda file: file.write(_PACK[out.suffix](raw) if packed else raw))
    return len(frame), list(frame)


def _frame(stored: StoredSet, times: str) -> tuple[pd.DataFrame, list[str]]:
    """The rows as text, None where a value is missing, and the columns of numbers."""
    if stored.inter.is_file():
        table = files.read(stored.inter)
        return _columns(stored, table, times), _number_columns(table, times)
    parts = {part: files.read(stored.folder / f"{stored.name}.{part}.inter") for part in stored.parts()}
    if not parts:
        raise ValueError(f"{stored.folder} holds no interactions of {stored.name!r}")
    frames = [_columns(stored, table, times).assign(split=part) for part, table in parts.items()]
    return pd.concat(frames, ignore_index=True), _number_columns(next(iter(parts.values())), times)


def _number_columns(table: AtomicTable, times: str) -> list[str]:
    iso = table.fields.get("time") if times == "iso" else None
    return [entry.name for entry in table.entries if entry.type == "float" and entry.name != iso]


def _columns(stored: StoredSet, table: AtomicTable, times: str) -> pd.DataFrame:
    renamed = (stored.card or {}).get("renamed", {})
    columns: dict[str, Any] = {}
    for entry in table.entries:
        column = table.table.columns[entry.name]
        values = list(column.values)
        if entry.name in renamed:
            originals = renamed[entry.name]
            values = [originals.get(value, value) for value in values]
        if times == "iso" and entry.name == table.fields.get("time"):
            values = [_iso(table, value) for value in values]
        columns[entry.name] = np.array([*values, None], dtype=object)[column.codes]
    return pd.DataFrame(columns)


def _iso(table: AtomicTable, text: str) -> str:
    """Seconds since 1970 as an ISO date, with all decimals of the text."""
    if not NUMBER.fullmatch(text):
        return text  # a date already
    seconds = Decimal(text)
    whole = math.floor(seconds)  # Decimal's // rounds towards 0, also before 1970
    fraction = format(seconds - whole, "f").partition(".")[2].rstrip("0")
    if not -(10**10) < whole < 10**10 or len(fraction) > 9:
        raise ValueError(
            f"{table.path}: the time {text} is no number of seconds since 1970; --times=numbers exports it as it is"
        )
    date = statistics.iso(whole)
    return f"{date[:-1]}.{fraction}Z" if fraction else date


def _delimited(separator: str) -> Callable[[pd.DataFrame, list[str]], bytes]:
    def encode(frame: pd.DataFrame, _: list[str]) -> bytes:
        return frame.to_csv(sep=separator, index=False).encode("utf-8")

    return encode


def _json_lines(frame: pd.DataFrame, number_columns: list[str]) -> bytes:
    columns = {name: [_number(value) if name in number_columns else value for value in frame[name]] for name in frame}
    rows = zip(*columns.values())
    names = list(columns)
    return "".join(json.dumps(dict(zip(names, row)), ensure_ascii=False) + "\n" for row in rows).encode("utf-8")


def _parquet(frame: pd.DataFrame, number_columns: list[str]) -> bytes:
    for name in number_columns:
        frame[name] = _typed([_number(value) for value in frame[name]])
    buffer = io.BytesIO()
    try:
        frame.to_parquet(buffer, index=False, engine="pyarrow")
    except ImportError:
        raise ValueError("parquet needs pyarrow: pip install pyarrow") from None
    return buffer.getvalue()


def _typed(numbers: list[Any]) -> pd.Series:
    """Integers as int64 where no value is missing, others as float64."""
    whole = all(isinstance(number, int) for number in numbers)
    return pd.Series(numbers, dtype="int64" if whole else "float64")


def _number(text: Optional[str]) -> Any:
    """The number of a text, without loss.

    Raises:
        ValueError: a float would lose digits.
    """
    if text is None or not NUMBER.fullmatch(text):
        return text if text is not None and text else None
    exact = Decimal(text.strip())
    if exact == exact.to_integral_value() and abs(exact) < 2**63:
        return int(exact)
    if Decimal(repr(float(exact))) != exact:
        raise ValueError(f"{text} would lose digits as a number of this format; export it as csv")
    return float(exact)


_ENCODE: dict[str, Callable[[pd.DataFrame, list[str]], bytes]] = {
    ".csv": _delimited(","),
    ".tsv": _delimited("\t"),
    ".jsonl": _json_lines,
    ".parquet": _parquet,
}
