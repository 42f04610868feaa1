"""A model that keeps more than its state dict, in RecBole's way."""

from __future__ import annotations

from recbole_diffusion import registry


class Counting(registry.load_object("recbole_diffusion.model.general_recommender.diffrec:DiffRec")):
    """RecBole's way to keep more than the state dict."""

    other_parameter_name = ("batches",)

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.batches = {"seen": 0}

    def calculate_loss(self, interaction):
        self.batches = {"seen": self.batches["seen"] + 1}
        return super().calculate_loss(interaction)
