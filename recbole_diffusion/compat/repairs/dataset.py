"""Repairs of RecBole's Dataset: pandas 3, and the barrier after a download."""

from __future__ import annotations

import contextlib
from typing import Any, Optional

import numpy as np
import torch
from packaging.version import Version

from recbole_diffusion.compat.repairs.registration import Namespace, called_by_recbole, repair
from recbole_diffusion.support.patch import Undo, replace


@repair(drop_when="RecBole assigns what fillna returns and avoids Series.agg on arrays")
def pandas_copy_on_write() -> Optional[Undo]:
    """pandas 3: fillna(inplace=True) on a column writes nothing, Series.agg(np.concatenate) changed its meaning."""
    import pandas as pd

    if Version(pd.__version__).major < 3:
        return None
    from recbole.data.dataset import dataset as module

    original_agg = pd.Series.agg

    def agg(self: Any, func: Any = None, *args: Any, **kwargs: Any) -> Any:
        if called_by_recbole() and func is len:
            return self.map(len)
        if called_by_recbole() and func is np.concatenate:
            return np.concatenate(list(self))
        return original_agg(self, func, *args, **kwargs)

    return replace(
        (pd.Series, "agg", agg),
        (module, "pd", Namespace(pd, read_csv=_read_csv)),
        (module.Dataset, "_fill_nan", _fill_nan),
    )


def _read_csv(*args: Any, **kwargs: Any) -> Any:
    """``pandas.read_csv`` with the column types of pandas 2: str objects and nan."""
    import pandas as pd

    frame = pd.read_csv(*args, **kwargs)
    for column in frame.columns:  # still "name:type" here
        if column.endswith("_seq"):
            frame[column] = frame[column].astype(object).fillna("")
        elif frame[column].dtype != np.float64:
            frame[column] = frame[column].astype(object)
    return frame


def _fill_nan(self: Any) -> None:
    """``Dataset._fill_nan`` with assignments instead of ``fillna(inplace=True)``."""
    import pandas as pd
    from recbole.utils.enum_type import FeatureType

    for name in self.feat_name_list:
        features = getattr(self, name)
        for field in features:
            field_type = self.field2type[field]
            if field_type == FeatureType.TOKEN:
                features[field] = features[field].fillna(0)
            elif field_type == FeatureType.FLOAT:
                features[field] = features[field].fillna(features[field].mean())
            else:
                empty = np.array([], dtype=np.int64 if field_type == FeatureType.TOKEN_SEQ else np.float64)
                filled = [empty if isinstance(value, float) else value for value in features[field]]
                features[field] = pd.Series(filled, index=features.index, dtype=object)


@repair(drop_when="RecBole guards the barrier at the end of Dataset._download")
def download_barrier() -> Optional[Undo]:
    """Dataset._download ends with torch.distributed.barrier(), which fails without a process group."""
    from recbole.data.dataset.dataset import Dataset

    original = Dataset._download

    def _download(self: Any) -> None:
        with contextlib.ExitStack() as stack:
            if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
                stack.callback(replace((torch.distributed, "barrier", lambda *a, **k: None)))
            original(self)

    return replace((Dataset, "_download", _download))
