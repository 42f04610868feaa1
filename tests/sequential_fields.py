"""What a sequential model reads of RecBole's own settings, for models built without a Config."""

from __future__ import annotations

from typing import Any

import torch

SEQUENTIAL_FIELDS: dict[str, Any] = {
    "USER_ID_FIELD": "user_id",
    "ITEM_ID_FIELD": "item_id",
    "LIST_SUFFIX": "_list",
    "ITEM_LIST_LENGTH_FIELD": "item_length",
    "NEG_PREFIX": "neg_",
    "device": torch.device("cpu"),
    "eval_seed": 1,
}
