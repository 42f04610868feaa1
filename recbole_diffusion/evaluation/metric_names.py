"""Names of metrics as papers write them, e.g. ``Coverage@10``, and as results hold them, e.g. ``itemcoverage@10``."""

from __future__ import annotations

#: Names that are not the key with a capital letter.
_PAPER_NAMES = {
    "ndcg": "NDCG",
    "mrr": "MRR",
    "map": "MAP",
    "auc": "AUC",
    "gauc": "GAUC",
    "mae": "MAE",
    "rmse": "RMSE",
    "logloss": "LogLoss",
    "itemcoverage": "Coverage",
    "shannonentropy": "Entropy",
    "giniindex": "Gini",
    "averagepopularity": "Popularity",
    "tailpercentage": "Tail",
    "ild": "ILD",
    "truncatedrecall": "TruncatedRecall",
    "recallhead": "Recall-head",
    "recallmid": "Recall-mid",
    "recalltail": "Recall-tail",
    "recallcold": "Recall-cold",
    "recalllowactivity": "Recall-low-activity",
    "recallmediumactivity": "Recall-medium-activity",
    "recallhighactivity": "Recall-high-activity",
}
_KEYS = {name.lower(): key for key, name in _PAPER_NAMES.items()}


def paper_name(metric: str) -> str:
    """The name as papers write it.

    >>> [paper_name(metric) for metric in ("ndcg@10", "itemcoverage@20", "hit@10", "rmse")]
    ['NDCG@10', 'Coverage@20', 'Hit@10', 'RMSE']
    """
    name, at, k = metric.partition("@")
    key = name.lower()
    return _PAPER_NAMES.get(key, name[:1].upper() + name[1:]) + at + k


def metric_key(name: str) -> str:
    """The name as results hold it, of either name in any case.

    >>> [metric_key(name) for name in ("NDCG@10", "Coverage@20", "ItemCoverage@20", "hit")]
    ['ndcg@10', 'itemcoverage@20', 'itemcoverage@20', 'hit']
    """
    name, at, k = name.strip().lower().partition("@")
    return _KEYS.get(name, name) + at + k
