"""A column as codes and distinct values, so that ids, dates and numbers are converted once per distinct value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd


class Coded(NamedTuple):
    """A column of a table.

    Attributes:
        codes: index of each row's value, int64, (rows,); -1 where the value is missing.
        values: the values, object, (n,).
    """

    codes: np.ndarray
    values: np.ndarray

    def convert(self, function: Callable[[Any], Any]) -> Coded:
        """Apply ``function`` to each distinct value. None stands for a missing value; equal results share a code."""
        return self.replace([function(value) for value in self.values])

    def replace(self, values: Sequence[Any]) -> Coded:
        """Put other values in place of the distinct ones; None stands for a missing value, equal ones share a code."""
        array = _object_array(values)
        codes, distinct = pd.factorize(array)
        if not len(array):
            return Coded(self.codes, array)
        return Coded(np.where(self.codes < 0, -1, codes[self.codes]).astype(np.int64), distinct)

    def rows(self, kept: np.ndarray) -> Coded:
        """The column in some rows only, without the values that no longer occur; ``kept`` is a mask, bool (rows,)."""
        codes = self.codes[kept]
        used = np.unique(codes[codes >= 0])
        places = np.full(len(self.values) + 1, -1, dtype=np.int64)  # the last one is for the code -1
        places[used] = np.arange(len(used))
        return Coded(places[codes], self.values[used])

    @property
    def missing(self) -> np.ndarray:
        """The rows without a value, bool (rows,)."""
        return self.codes < 0

    def filled(self, missing: Any = None) -> np.ndarray:
        """The value of each row, object (rows,), with ``missing`` where there is none."""
        return _object_array([*self.values, missing])[self.codes]

    def first_row(self, code: int) -> int:
        """The first row with a code, from 0."""
        return int(np.argmax(self.codes == code))


def code(values: Any) -> Coded:
    """Make a column of a sequence of values. None, nan, NaT and pandas' NA are missing; lists become tuples."""
    array = _object_array(values)
    try:
        codes, distinct = pd.factorize(array)
    except TypeError:  # lists, arrays or dicts, which have no hash
        codes, distinct = pd.factorize(_object_array([_hashable(value) for value in array]))
    return Coded(np.asarray(codes, dtype=np.int64), _object_array(distinct))


def _hashable(value: Any) -> Any:
    if isinstance(value, (list, np.ndarray)):
        return tuple(_hashable(item) for item in value)
    return str(value) if isinstance(value, (dict, set)) else value


def _object_array(values: Any) -> np.ndarray:
    """The values as an array of Python objects; numpy alone would make a matrix of lists of equal length."""
    if isinstance(values, (pd.Series, pd.Index)):
        values = values.astype(object).to_numpy()
    if isinstance(values, np.ndarray) and values.ndim == 1:
        return values.astype(object)
    result = np.empty(len(values), dtype=object)
    for place, value in enumerate(values):
        result[place] = value
    return result
