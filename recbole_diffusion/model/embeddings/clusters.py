"""Clustering of items by their embeddings, for L-DiffRec."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbole_diffusion.model.embeddings.pretrained import pretrained


def item_clusters(config: Any, dataset: Any) -> Tensor:
    """Cluster the items by k-means on the embeddings of the key ``pretrain``, with the run's ``seed``.

    With ``n_cate: 1`` no embeddings are needed.

    Returns:
        The cluster of each item without the padding item, int64 (n_items - 1,).

    Raises:
        ValueError: more clusters than items, or no embeddings.
    """
    n_items, n_clusters = dataset.item_num - 1, config["n_cate"]
    if n_clusters == 1:
        return torch.zeros(n_items, dtype=torch.int64)
    if n_clusters > n_items:
        raise ValueError(f"n_cate={n_clusters} is more than the {n_items} items; allowed: at most one per item")
    embeddings = pretrained(dataset, f"n_cate={n_clusters} needs item embeddings (n_cate: 1 needs none)").embeddings()
    return torch.from_numpy(kmeans(embeddings.item[1:], n_clusters, config["seed"]))


def clusters_of_state(state: dict[str, Tensor], key: str, dataset: Any) -> Tensor:
    """Read the clusters of items from a checkpoint's weights.

    Args:
        state: the weights.
        key: name of the clusters in ``state``.
        dataset: the train data set.

    Returns:
        The cluster of each item without the padding item, int64 (n_items - 1,).

    Raises:
        ValueError: ``state`` holds no clusters, or clusters of another number of items.
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
    """Cluster ``points`` (n, d) by scikit-learn's k-means, the best of ten restarts.

    Returns:
        Labels, int64 (n,). Fewer than ``n_clusters`` are used if fewer points are different.
    """
    from sklearn.cluster import KMeans  # takes a second to import
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # raised if fewer points are different than clusters
        model = KMeans(n_clusters=n_clusters, n_init=10, random_state=seed).fit(points)
    labels: np.ndarray = model.labels_.astype(np.int64)
    return labels
