"""RecBole's Config and its tables of metrics, imported without scikit-learn.

``recbole.evaluator.metrics`` imports three functions of ``sklearn.metrics`` for AUC, MAE and RMSE. They import
``scipy.stats``, which takes 1.2 s, a quarter of a run's import time. Here they are imported at their first call.
"""

from __future__ import annotations

from recbole_diffusion.support.deferred_import import deferred

with deferred("sklearn.metrics", "auc", "mean_absolute_error", "mean_squared_error"):
    from recbole.config import Config as RecBoleConfig
    from recbole.evaluator import DataStruct, Evaluator, metric_types, metrics_dict
    from recbole.evaluator.base_metric import AbstractMetric, TopkMetric

__all__ = ["AbstractMetric", "DataStruct", "Evaluator", "RecBoleConfig", "TopkMetric", "metric_types", "metrics_dict"]
