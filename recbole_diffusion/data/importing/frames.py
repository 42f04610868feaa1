"""Tables that users write beside the data, as pandas frames of texts: histories, lists of names, ranked lists.

They are read by the reader of ``data import``, so that the same file has the same rows and names everywhere: a row of
another length is an error, ids stay the texts that they are, and integers of json keep all digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recbole_diffusion.data.importing import sources

#: Quotes enclose cells, also between tabs, as in the files that this package writes.
_FORM = sources.Form(quotes=True)


def read(file: Path, names: Sequence[str] = ()) -> pd.DataFrame:
    """Read a table: delimited text, json or json lines, or parquet; also packed.

    A suffix of RecBole's column names, such as ``:token``, is dropped.

    Args:
        file: the file.
        names: of columns, in any case. A first line that holds one names the columns.

    Returns:
        Texts; other values of parquet as they are, lists of json as tuples, None where a value is missing.

    Raises:
        ValueError: the file does not exist, is empty, damaged or no table.
    """
    if not file.is_file():
        raise ValueError(f"file {str(file)!r} does not exist")
    table, _ = sources.read_file(file, _FORM, names)
    columns = {name.partition(":")[0].strip(): column.filled() for name, column in table.columns.items()}
    frame = pd.DataFrame(columns, dtype=object)
    return frame.where(frame != "", None)


def texts(values: Any) -> np.ndarray:
    """Names as texts, as they stand in the data's files; "" where one is missing; object, (n,).

    Whole numbers have no decimal point, also where a missing value has made floats of them.
    """
    column = values if isinstance(values, pd.Series) else pd.Series(list(values), dtype=object)
    is_missing = column.isna().tolist()
    return np.array(["" if gone else _text(value) for gone, value in zip(is_missing, column.tolist())], dtype=object)


def _text(value: Any) -> str:
    is_whole = isinstance(value, (float, np.floating)) and float(value).is_integer()
    return str(int(value) if is_whole else value)


def need_pyarrow(purpose: str, alternative: str) -> None:
    """Check that pyarrow can be imported.

    Raises:
        ValueError: it cannot; the message names the way out.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise ValueError(f"pyarrow is needed {purpose}: pip install pyarrow, or take {alternative}") from error
