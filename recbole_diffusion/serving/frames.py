"""Recommendations as a pandas frame."""

from __future__ import annotations

from collections.abc import Mapping
from logging import getLogger
from typing import Any

import pandas as pd

from recbole_diffusion.serving import output
from recbole_diffusion.serving.diversity import Diversity
from recbole_diffusion.serving.recommendation import Recommender


def frame(recommender: Recommender) -> pd.DataFrame:
    """Compute the recommendations; see :func:`recbole_diffusion.recommend`."""
    for note in recommender.notes:
        getLogger().info(note)
    diversity = Diversity(recommender.k, recommender.samples)
    parts = [pd.DataFrame(output.columns_of(batch)) for batch in diversity.watch(recommender.batches())]
    columns = ["user", "item", "rank", "score", *(["score_sd"] if recommender.samples > 1 else [])]
    joined = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
    joined = joined.astype({"user": object, "item": object})
    joined.attrs["notes"] = list(recommender.notes)
    if recommender.samples > 1:
        joined.attrs["jaccard"] = diversity.jaccard.tolist()
    return joined


def checkpoint_of(result: Mapping[str, Any]) -> str:
    """The checkpoint of a run's result.

    Raises:
        ValueError: it has none.
    """
    file = result.get("checkpoint")
    if file is None:
        raise ValueError("the run has written no checkpoint (saved=False); run it with saved=True")
    return str(file)
