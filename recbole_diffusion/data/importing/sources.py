"""Sources of tables: files of several formats, and data frames of several libraries."""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

import pandas as pd

from recbole_diffusion.data.importing import delimited
from recbole_diffusion.data.importing.coded import code
from recbole_diffusion.data.importing.table import Table
from recbole_diffusion.data.reading.text import shown
from recbole_diffusion.support.bounded_read import TooLarge, most_unpacked, read_bounded, unpack

#: Formats that are not read: their first bytes, their name, and what to do.
_REFUSED = (
    (b"\x28\xb5\x2f\xfd", "zstd", "unpack it (unzstd)"),
    (b"7z\xbc\xaf\x27\x1c", "7z", "unpack it"),
    (b"\x89HDF", "HDF5", "write it as csv or parquet"),
    (b"\x93NUMPY", "numpy", "see recbole-diffusion convert"),
    (b"\xd0\xcf\x11\xe0", "an .xls sheet", "save it as csv"),
    (b"SQLite format 3", "SQLite", "write the table as csv"),
    (b"version https://git-lfs", "a Git LFS pointer", "fetch the file itself (git lfs pull)"),
    (b"<", "HTML or XML", "download the file itself, not a page about it"),
)


class Form(NamedTuple):
    """What the caller says about a text file; None: it is recognised. See :func:`delimited.read`."""

    delimiter: Optional[str] = None
    header: Optional[bool] = None
    quotes: Optional[bool] = None
    encoding: Optional[str] = None


#: Everything about a text file is recognised.
RECOGNISED = Form()


def read_file(
    path: Union[str, Path], form: Form = RECOGNISED, names: Sequence[str] = ()
) -> tuple[Table, dict[str, Any]]:
    """Read a file: delimited text, parquet, json lines or a json list; packed by gzip, xz, bzip2 or zip (one file).

    Args:
        path: the file.
        form: what the caller says about a text file.
        names: columns that the caller asks for.

    Returns:
        The table, and the source's ``name``, ``sha256`` and ``bytes``.

    Raises:
        ValueError: the file is missing, of another format, or damaged.
    """
    file = Path(path)
    try:
        packed = file.read_bytes()
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from error
    raw = _unpack(file, packed)
    facts = {"name": file.name, "sha256": hashlib.sha256(packed).hexdigest(), "bytes": len(packed)}
    return _parse(str(file), raw, form, names), facts


def _unpack(file: Path, raw: bytes) -> bytes:
    """Unpack the content; the first bytes tell the format, not the name."""
    try:
        return _unpack_zip(file, raw) if raw.startswith(b"PK\x03\x04") else unpack(raw)
    except TooLarge as error:
        raise ValueError(f"{file}: its {len(raw)} bytes {error}; unpack it yourself if it is right") from None
    except (OSError, EOFError, lzma.LZMAError, zipfile.BadZipFile, zlib.error, RuntimeError, ValueError) as error:
        if isinstance(error, ValueError) and str(file) in str(error):  # one of the messages of this module
            raise
        raise ValueError(f"{file} cannot be unpacked: {error}; download it again") from error


def _unpack_zip(file: Path, raw: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        if "[Content_Types].xml" in names:
            raise ValueError(f"{file} is a sheet (.xlsx); save it as csv")
        if len(names) != 1:
            raise ValueError(f"{file} holds {len(names)} files ({', '.join(names[:5])}, …); unpack it and give one")
        with archive.open(names[0]) as stream:
            return read_bounded(stream, most_unpacked(len(raw)))


def _parse(source: str, raw: bytes, form: Form, names: Sequence[str]) -> Table:
    start = raw[:64].lstrip(b"\xef\xbb\xbf \r\n\t")
    for magic, what, way_out in _REFUSED:
        if start.startswith(magic):
            raise ValueError(f"{source} is {what}; {way_out}")
    if raw.startswith(b"PAR1"):
        return _read_parquet(source, raw)
    if start.startswith((b"{", b"[")):
        return _read_json(source, raw, is_list=start.startswith(b"["))
    return delimited.read(source, raw, *form, names=names)


def _read_parquet(source: str, raw: bytes) -> Table:
    try:
        import pyarrow.parquet
    except ImportError:
        raise ValueError(f"{source} is parquet, which needs pyarrow: pip install pyarrow, or take csv") from None
    try:
        frame = _from_arrow(pyarrow.parquet.read_table(io.BytesIO(raw)))
    except (OSError, ValueError, TypeError, OverflowError, pyarrow.ArrowException) as error:
        text = "".join(character if character.isprintable() else " " for character in str(error))
        raise ValueError(f"{source} cannot be read as parquet: {' '.join(text.split())[:200]}") from error
    return _from_pandas(frame, source, "parquet")


def _from_arrow(table: Any) -> pd.DataFrame:
    """Convert pyarrow's table. Integers beside missing values stay integers, which floats may not hold exactly."""
    return table.to_pandas(integer_object_nulls=True, ignore_metadata=True)


def _read_json(source: str, raw: bytes, is_list: bool) -> Table:
    """Read one object a line, or a list of objects.

    Numbers stay the text that the file holds; objects inside become json text.
    """
    try:
        text = raw.decode("utf-8-sig", "surrogatepass")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{source}: line {line}: byte 0x{raw[error.start]:02x} is not utf-8, which json is in"
        ) from None
    rows = _objects_of_list(source, text) if is_list else _objects_of_lines(source, text)
    if not rows:
        raise ValueError(f"{source}: holds no object")
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: code([_scalar(row.get(name)) for row in rows]) for name in names}
    return Table(source, "a json list" if is_list else "json lines", columns, rows=len(rows))


def _loaded(text: str) -> Any:
    return json.loads(text, parse_int=str, parse_float=str, parse_constant=str)


def _objects_of_list(source: str, text: str) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = _loaded(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source} is no json ({error})") from None
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise ValueError(f"{source}: entry {number} of its list is no json object")
    return rows


def _objects_of_lines(source: str, text: str) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = _loaded(line)
        except (ValueError, RecursionError) as error:
            hint = "; it is text of Python, not json" if line.lstrip().startswith("{'") else ""
            raise ValueError(f"{source}: line {number} is no json object ({error}){hint}: {shown(line)}") from None
        if not isinstance(row, dict):
            raise ValueError(f"{source}: line {number} is no json object: {shown(line)}")
        rows.append(row)
    return rows


def _scalar(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value


def from_frame(frame: Any, source: str = "the data frame") -> Table:
    """Read a data frame of pandas, polars, pyarrow, or another library with an interchange protocol.

    Raises:
        ValueError: it is none, has no rows, or has columns of the same name.
    """
    library = type(frame).__module__.partition(".")[0]
    return _from_pandas(_to_pandas(frame), source, f"a data frame of {library}")


def _to_pandas(frame: Any) -> pd.DataFrame:
    """Convert a data frame by the first way that it offers and that keeps integers beside missing values exact."""
    if isinstance(frame, pd.DataFrame):
        return frame
    try:
        import pyarrow

        if isinstance(frame, pyarrow.Table):
            return _from_arrow(frame)
        if hasattr(frame, "to_arrow"):
            table = frame.to_arrow()
            return _from_arrow(table if isinstance(table, pyarrow.Table) else table.read_all())
        if hasattr(frame, "__arrow_c_stream__"):
            return _from_arrow(pyarrow.table(frame))
    except ImportError:
        pass  # the ways below do without
    if hasattr(frame, "to_dict") and type(frame).__module__.startswith("polars"):
        return pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in _lists_of(frame).items()})
    if hasattr(frame, "__dataframe__"):
        from pandas.api.interchange import from_dataframe  # pandas 1.5 and later

        return from_dataframe(frame)
    if hasattr(frame, "to_pandas"):
        return frame.to_pandas()
    raise ValueError(
        f"a {type(frame).__module__}.{type(frame).__qualname__} is no data frame; give one of pandas, polars or pyarrow"
    )


def _lists_of(frame: Any) -> dict[str, list[Any]]:
    lists: dict[str, list[Any]] = frame.to_dict(as_series=False)
    return lists


def _from_pandas(frame: pd.DataFrame, source: str, described: str) -> Table:
    names = [str(name) for name in frame.columns]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{source}: has {names.count(name)} columns {name!r}; give each its own name")
    if not len(frame):
        raise ValueError(f"{source}: has no rows")
    columns = {name: code(frame.iloc[:, place]) for place, name in enumerate(names)}
    return Table(source, described, columns, rows=len(frame))
