"""The tables of a split that kept lists refer to, made from RecBole's data set and loaders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recbole_diffusion.data import pipeline
from recbole_diffusion.evaluation.ranked_lists import SplitTables


def tables_of(dataset: Any, loaders: Sequence[Any]) -> SplitTables:
    """Return names, train counts and test pairs.

    All training interactions count, including the first one of each sequence, which is no target.

    Args:
        dataset: the whole data set.
        loaders: of train, valid and test.
    """
    names = [np.asarray(dataset.field2id_token[field], dtype=str) for field in (dataset.uid_field, dataset.iid_field)]
    train = pipeline.interactions(loaders[0])
    n_users, n_items = dataset.user_num, dataset.item_num
    return SplitTables(
        *names,
        np.bincount(train[:, 0], minlength=n_users),
        np.bincount(train[:, 1], minlength=n_items),
        np.bincount(np.unique(train, axis=0)[:, 1], minlength=n_items),
        np.unique(pipeline.pairs(loaders[2]), axis=0),
    )
