"""The time column of an interaction file: chosen, and converted to exact float64 times or ranks."""

from __future__ import annotations

from typing import Optional

import numpy as np
import pandas as pd
from recbole.utils import ModelType

from recbole_diffusion.data.reading import times as atomic_times
from recbole_diffusion.data.reading import values as atomic_values
from recbole_diffusion.data.reading.header import Column
from recbole_diffusion.data.reading.opened_file import OpenedFile


def find(file: OpenedFile) -> Optional[Column]:
    """The time column, if it is loaded from ``.inter`` and is not just a feature of a context model."""
    if file.kind != "inter":
        return None
    time = next((column for column in file.columns if column.name == file.config["TIME_FIELD"]), None)
    is_feature = file.config["MODEL_TYPE"] in (ModelType.CONTEXT, ModelType.DECISIONTREE) and not file.needs_times
    if time is None or time.type.endswith("seq") or (time.type == "token" and is_feature):
        return None
    return time


def convert(file: OpenedFile, frame: pd.DataFrame, time: Column) -> None:
    """Replace the values of the time column by float64 times: from text, from dates, or from numbers.

    Where float64 cannot tell the times apart and their order matters, their ranks take their place.

    Raises:
        ValueError: a value is no time. It is a note instead if nothing needs the times of a token column.
    """
    values = frame[time.name].to_numpy()
    if values.dtype == np.float64:
        if not atomic_times.may_tie(values, file.text.body):
            frame[time.name] = np.where(np.isinf(values), np.nan, values)
            return
        as_text = atomic_values.read(file.text, file.separator, [Column(time.name, "token", time.place)])
        values = as_text[time.name].to_numpy()
    try:
        times = atomic_times.parse(file.text, time, values)
    except ValueError as error:
        if file.needs_times or time.type == "float":
            raise
        file.account.note(f"{error}; the column stays a token, since nothing here needs the times")
        return
    _note_conversion(file, time, times)
    frame[time.name] = times.ranks if times.ranks is not None and file.needs_times else times.values
    file.types[time.name] = "float"


def _note_conversion(file: OpenedFile, time: Column, times: atomic_times.Times) -> None:
    """Note times that were not plain numbers, and times that are replaced by their ranks.

    Raises:
        ValueError: ranks are needed where they would not compare: between pre-split files, or with ``val_interval``.
    """
    if times.read_as != "numbers" or time.type == "token":
        unit = ", in seconds since 1970 (UTC)" if times.read_as != "numbers" else ""
        file.account.note(
            f"the times of {file.name} (column {time.name!r}, type {time.type}) are read as {times.read_as}{unit}"
        )
    if times.ranks is None or not file.needs_times:
        return
    if file.is_part or time.name in (file.config["val_interval"] or {}):
        raise file.text.fault(
            "times that float64 cannot tell apart, which neither files that are split nor val_interval allow; "
            "write them in seconds or milliseconds",
            None,
            time.name,
        )
    file.account.note(
        f"float64 cannot tell the times of {file.name} (column {time.name!r}) apart; their ranks take their place"
    )
