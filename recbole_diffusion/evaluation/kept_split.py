"""The data of a split that kept lists refer to, made from RecBole's data set and loaders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import numpy as np

from recbole_diffusion.data import item_categories, pipeline, provenance
from recbole_diffusion.evaluation.split_data import SplitData, unique_pairs


def split_data_of(config: Any, dataset: Any, loaders: Sequence[Any]) -> SplitData:
    """Return names, training pairs, test pairs and categories.

    All training interactions count, including the first one of each sequence, which is no target. The pairs are sorted,
    so that models with different loaders have the same data.

    Args:
        config: of the run.
        dataset: the whole data set.
        loaders: of train, valid and test.
    """
    names = [np.asarray(dataset.field2id_token[field], dtype=str) for field in (dataset.uid_field, dataset.iid_field)]
    train = pipeline.interactions(loaders[0])
    return SplitData(
        dataset.user_num,
        dataset.item_num,
        train[np.lexsort((train[:, 1], train[:, 0]))],
        unique_pairs(pipeline.pairs(loaders[2]), dataset.item_num),
        _categories(config, dataset),
        *names,
    )


def _categories(config: Any, dataset: Any) -> Optional[item_categories.Categories]:
    """The categories of the items. An error in their file is a warning: the run has ended well without them."""
    try:
        return item_categories.read(config, dataset)
    except Exception as error:  # pandas raises anything on a damaged file
        text = " ".join(str(error).split())
        provenance.warn(config, f"the kept lists have no categories of the items, which cannot be read: {text}")
        return None
