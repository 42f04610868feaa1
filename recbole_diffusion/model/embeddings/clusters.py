"""Clusters of items by their embeddings."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbole_diffusion.model.embeddings.pretrained import pretrained


def item_clusters(config: Any, dataset: Any) -> Tensor:
    """The cluster of each item without the padding item, int64 (n_items - 1,), by scikit-learn's k-means.

    Drawn with the run's ``seed``. The embeddings are those that the key ``pretrain`` names; with ``n_cate: 1`` none
    are needed.

    Raises:
        ValueError: more clusters than items, or nothing that gives the embeddings.
    """
    n_items, n_clusters = dataset.item_num - 1, config["n_cate"]
    if n_clusters == 1:
        return torch.zeros(n_items, dtype=torch.int64)
    if n_clusters > n_items:
        raise ValueError(f"n_cate={n_clusters} is more than the {n_items} items; allowed: at most one per item")
    embeddings = pretrained(dataset, f"n_cate={n_clusters} needs item embeddings (n_cate: 1 needs none)").embeddings()
    return torch.from_numpy(kmeans(embeddings.item[1:], n_clusters, config["seed"]))


def clusters_of_state(state: dict[str, Tensor], key: str, dataset: Any) -> Tensor:
    """The clusters that a checkpoint's weights belong to.

    Raises:
        ValueError: the weights hold none, or those of another number of items.
    """
    labels = state.get(key)
    if labels is None:
        raise ValueError("the checkpoint's weights are of another model: they hold no clusters of items")
    count = dataset.item_num - 1
    if len(labels) != count:
        raise ValueError(
            f"the checkpoint does not fit the data: it is of {len(labels)} items, the data set has {count}"
        )
    return labels


def kmeans(points: np.ndarray, n_clusters: int, seed: int) -> np.ndarray:
    """Labels int64 (n,) of ``points`` (n, d), ten restarts, at most ``n_clusters`` of them (fewer for equal points)."""
    from sklearn.cluster import KMeans  # takes a second to import
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different points than clusters: then fewer clusters
        model = KMeans(n_clusters=n_clusters, n_init=10, random_state=seed).fit(points)
    labels: np.ndarray = model.labels_.astype(np.int64)
    return labels
