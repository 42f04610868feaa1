"""Models that misbehave as a trial can; named by ``tuned_models:Class``."""

from __future__ import annotations

import os
import signal

from recbole.model.general_recommender.bpr import BPR


class Fragile(BPR):
    """BPR whose process is killed where the learning rate is 13."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.dies = config["learning_rate"] == 13

    def calculate_loss(self, interaction):
        if self.dies:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().calculate_loss(interaction)
