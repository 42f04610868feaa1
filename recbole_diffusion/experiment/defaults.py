"""What comparisons and tunings measure and choose by unless told otherwise."""

from __future__ import annotations

from typing import Any

METRICS = ["Recall", "NDCG", "MRR", "Hit", "Precision"]
BEYOND = ["ItemCoverage", "AveragePopularity", "GiniIndex", "TailPercentage", "Novelty"]
#: What chooses epochs and trials. Four digits, RecBole's default, make ties, which stop a training by chance.
CHOICE: dict[str, Any] = {"valid_metric": "NDCG@10", "metric_decimal_place": 6}
#: Of a comparison: metrics and cut-offs too, and one split for all seeds.
DEFAULTS: dict[str, Any] = {"metrics": [*METRICS, *BEYOND], "topk": [10, 20], **CHOICE, "split_seed": 2020}
LEAVE_ONE_OUT = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"}
RANDOM = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "group_by": "user", "mode": "full"}
