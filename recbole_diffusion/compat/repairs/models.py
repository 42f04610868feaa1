"""Repairs of single models of RecBole."""

from __future__ import annotations

from typing import Any

import torch

from recbole_diffusion.compat.repairs.registration import apply_once
from recbole_diffusion.support.patch import Undo, replace


def repair_model(model_class: type) -> None:
    """Apply the repairs of one model. Call it when the model is looked up: importing all of RecBole's takes seconds."""
    if model_class.__module__ == "recbole.model.general_recommender.pop":
        apply_once("pop_counts", lambda: pop_counts(model_class))


def pop_counts(pop: type) -> Undo:
    """Pop counts an item once per batch, however often it occurs there, and counts sampled negatives too."""
    original = vars(pop)["__init__"]

    def __init__(self: Any, config: Any, dataset: Any) -> None:
        original(self, config, dataset)
        self.LABEL = config["LABEL_FIELD"]

    def calculate_loss(self: Any, interaction: Any) -> Any:
        items = interaction[self.ITEM_ID]
        if self.LABEL in interaction:
            items = items[interaction[self.LABEL] > 0]
        self.item_cnt.index_add_(0, items, torch.ones_like(items)[:, None])
        self.max_cnt = torch.max(self.item_cnt, dim=0)[0]
        return torch.nn.Parameter(torch.zeros(1)).to(self.device)

    return replace((pop, "__init__", __init__), (pop, "calculate_loss", calculate_loss))
