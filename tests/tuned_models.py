"""Models that misbehave as a trial can; named by ``tuned_models:Class``."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

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


class Noted(BPR):
    """BPR whose training takes seconds and leaves a file with its learning rate, which names its Ray node.

    The file is there in the second epoch, after the trial's first report.
    """

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.note = Path(os.environ["NOTED_TRIALS"]) / str(config["learning_rate"])
        self.calls = 0

    def calculate_loss(self, interaction):
        self.calls += 1
        if self.calls > 20:
            self.note.write_text(os.environ["RAY_RAYLET_PID"])
        time.sleep(0.1)
        return super().calculate_loss(interaction)
