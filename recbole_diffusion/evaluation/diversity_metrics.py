r"""Diversity of each list (ILD), and calibration of its categories to the user's history.

With :math:`R_u` the first K items recommended to user u.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from recbole_diffusion.evaluation.collect import NO_ITEM
from recbole_diffusion.evaluation.list_metrics import UserListMetric
from recbole_diffusion.evaluation.split_data import SplitData

CATEGORY, COOCCURRENCE = "category", "cooccurrence"
#: Weight of the history's distribution in the smoothed distribution of the list.
ALPHA = 0.01
#: Largest number of elements of a dense block of users, 64 MiB.
_BLOCK_ELEMENTS = 2**23


class ILD(UserListMetric):
    r"""Intra-list diversity: the mean distance of two items of the list, from 0 to 1.

    .. math:: \frac{2}{|R_u| (|R_u| - 1)} \sum_{i < j} \left(1 - \frac{v_i \cdot v_j}{|v_i| |v_j|}\right)

    ``ild_distance: category``: :math:`v_i` has a 1 for each category of item i, e.g. its genres. ``cooccurrence``: a 1
    for each user with item i in training. None: ``category`` if the data set has categories. Items without a category,
    or without a training interaction, are left out of the pairs. Users with fewer than two items in the list are left
    out.

    Sources: Ziegler et al., "Improving Recommendation Lists Through Topic Diversification", WWW 2005 (intra-list
    similarity, over genres); Vargas and Castells, "Rank and Relevance in Novelty and Diversity Metrics for Recommender
    Systems", RecSys 2011 (mean distance, complement of the cosine). No discount by rank.
    """

    metric_need = ["rec.items", "data.split", "data.categories"]

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.distance = config["ild_distance"]

    def calculate_metric(self, dataobject: Any) -> dict[str, float]:
        """The value of each ``topk``."""
        items = dataobject.get("rec.items").numpy()
        vectors = _unit_rows(self.vectors(dataobject.get("data.split")))
        values = np.full(items.shape, np.nan)
        for users, k, total, n_items in _list_sums(items, vectors, self.topk):
            pairs = n_items * (n_items - 1)
            similarity = np.divide(
                (total**2).sum(axis=1) - n_items, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0
            )
            values[users, k - 1] = np.clip(1 - similarity, 0, 1)
        return self.topk_result(self.name, values)

    def vectors(self, data: SplitData) -> Any:
        """The vector of each item, csr_matrix, (n_items, n_dimensions).

        Raises:
            ValueError: categories were requested, and the data set has none.
        """
        if _is_by_category(self.distance, data):
            return _categories(data, "ild_distance: category", "; or take ild_distance: cooccurrence")
        return data.history_matrix().T.tocsr()


class Calibration(UserListMetric):
    r"""The divergence of the list's categories from those of the user's training history; 0 is calibrated.

    .. math:: \sum_g p(g|u) \ln \frac{p(g|u)}{(1 - \alpha)\, q(g|u) + \alpha\, p(g|u)}, \quad \alpha = 0.01

    :math:`p(g|u)` is the mean of :math:`p(g|i)` over the different items that u had in training, :math:`q(g|u)` the
    mean over the list. :math:`p(g|i)` is equal for all categories of item i. Items without a category are left out.
    Users without an item with a category, in history or list, are left out.

    Source: Steck, "Calibrated Recommendations", RecSys 2018, section 3, with equal weights.
    """

    smaller = True
    metric_need = ["rec.items", "rec.users", "data.split", "data.categories"]

    def calculate_metric(self, dataobject: Any) -> dict[str, float]:
        """The value of each ``topk``.

        Raises:
            ValueError: the data set has no categories.
        """
        data, items = dataobject.get("data.split"), dataobject.get("rec.items").numpy()
        users = dataobject.get("rec.users").numpy()
        shares = _shares_of_items(_categories(data, "metric Calibration"))
        histories = data.history_matrix()
        values = np.full(items.shape, np.nan)
        for block, k, total, n_items in _list_sums(items, shares, self.topk):
            p = np.asarray((histories[users[block]] @ shares).todense())
            values[block, k - 1] = _divergence(p, total, n_items)
        return self.topk_result(self.name, values)


def describe(config: Any, data: SplitData) -> list[str]:
    """Sentences about the distance of ILD and about the categories; an empty list without these metrics.

    Args:
        config: of the run.
        data: of the split, with the categories that the data set has.
    """
    metrics = [config["metrics"]] if isinstance(config["metrics"], str) else config["metrics"]
    names = {metric.lower() for metric in metrics} & {"ild", "calibration"}
    lines = []
    if "ild" in names:
        by_category = _is_by_category(config["ild_distance"], data)
        lines.append(f"ILD: distance by {'categories' if by_category else 'co-occurrence in the training split'}.")
    if names and data.categories is not None:
        lines.append(f"{data.categories.describe(data.n_items).capitalize()}.")
    return lines


def _is_by_category(distance: Any, data: SplitData) -> bool:
    return bool(distance == CATEGORY or (distance is None and data.categories is not None))


def _divergence(p: np.ndarray, q: np.ndarray, n_items: np.ndarray) -> np.ndarray:
    """The smoothed Kullback-Leibler divergence of each row, (n,); nan where a row has no mass.

    Args:
        p, q: masses of history and list, not normalised, (n, n_categories).
        n_items: the mass of each row of q, (n,).
    """
    mass = p.sum(axis=1)
    valid = (mass > 0) & (n_items > 0)
    p, q = p[valid] / mass[valid, None], q[valid] / n_items[valid, None]
    ratio = np.divide(p, (1 - ALPHA) * q + ALPHA * p, out=np.ones_like(p), where=p > 0)
    values = np.full(len(mass), np.nan)
    values[valid] = np.maximum((p * np.log(ratio)).sum(axis=1), 0)
    return values


def _categories(data: SplitData, what: str, way_out: str = "") -> Any:
    """The matrix of categories.

    Raises:
        ValueError: there are none.
    """
    if data.categories is None:
        raise ValueError(
            f"{what} needs categories of the items: a column of the .item file, such as genre:token_seq; "
            f"item_category_field names it{way_out}"
        )
    return data.categories.matrix(data.n_items)


def _unit_rows(matrix: Any) -> Any:
    """The rows of a csr_matrix divided by their Euclidean norm; rows of 0 stay."""
    return _scaled_rows(matrix, np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel()))


def _shares_of_items(matrix: Any) -> Any:
    """The rows of a csr_matrix divided by their sum; rows of 0 stay."""
    return _scaled_rows(matrix, np.asarray(matrix.sum(axis=1)).ravel())


def _scaled_rows(matrix: Any, divisors: np.ndarray) -> Any:
    from scipy import sparse

    factors = np.divide(1.0, divisors, out=np.zeros(len(divisors)), where=divisors > 0)
    return sparse.diags(factors).dot(matrix).tocsr()


def _list_sums(items: np.ndarray, vectors: Any, topk: list[int]) -> Iterator[tuple[slice, int, np.ndarray, np.ndarray]]:
    """Sum the vectors of the first k items of each list, for blocks of users and each cut-off.

    Args:
        items: (n_users, largest k), filled up with NO_ITEM.
        vectors: of each item, csr_matrix, (n_items, n_dimensions); rows of 0 are items without a vector.
        topk: the cut-offs.

    Yields:
        The block of users, k, the sums (n_block, n_dimensions), and the number of items with a vector (n_block,).
    """
    from scipy import sparse

    has_vector = np.diff(vectors.indptr) > 0
    size = max(1, _BLOCK_ELEMENTS // vectors.shape[1])
    for start in range(0, len(items), size):
        block = items[start : start + size]
        counted = has_vector[block] & (block != NO_ITEM)
        total, n_items, done = np.zeros((len(block), vectors.shape[1])), np.zeros(len(block), dtype=np.int64), 0
        for k in sorted({*topk}):
            rows, places = counted[:, done:k].nonzero()
            entries = (np.ones(len(rows)), (rows, block[:, done:k][rows, places]))
            segment = sparse.csr_matrix(entries, shape=(len(block), vectors.shape[0]))
            total += (segment @ vectors).toarray()
            n_items = n_items + counted[:, done:k].sum(axis=1)
            done = k
            yield slice(start, start + len(block)), k, total, n_items


ALL = (ILD, Calibration)
