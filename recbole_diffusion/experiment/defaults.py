"""Default metrics, splits and choice of epochs of comparisons and tunings."""

from __future__ import annotations

from typing import Any

METRICS = ["Recall", "NDCG", "MRR", "Hit", "Precision"]
BEYOND = ["ItemCoverage", "AveragePopularity", "GiniIndex", "TailPercentage", "Novelty"]
#: How epochs and trials are chosen. Four digits, RecBole's default, make ties, which can stop a training early.
CHOICE: dict[str, Any] = {"valid_metric": "NDCG@10", "metric_decimal_place": 6}
#: The defaults of a comparison: metrics, cut-offs, choice of epochs, and one split for all seeds.
DEFAULTS: dict[str, Any] = {"metrics": [*METRICS, *BEYOND], "topk": [10, 20], **CHOICE, "split_seed": 2020}
#: Length of the recommended lists of the test that the runs of a comparison keep.
LIST_LENGTH = 100
#: The split with sequential models, and the split without them.
LEAVE_ONE_OUT = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"}
RANDOM = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "group_by": "user", "mode": "full"}
