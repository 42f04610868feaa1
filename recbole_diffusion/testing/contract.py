"""The contract suite as one class of tests. Most of them share one training of the model."""

from __future__ import annotations

from recbole_diffusion.testing.contract_ablation import AblationTests
from recbole_diffusion.testing.contract_checkpoint import CheckpointTests
from recbole_diffusion.testing.contract_device import DeviceTests
from recbole_diffusion.testing.contract_evaluation import EvaluationTests
from recbole_diffusion.testing.contract_scores import ScoreTests
from recbole_diffusion.testing.contract_settings import SettingsTests
from recbole_diffusion.testing.model_case import Trained

__all__ = ["ContractTests", "Trained"]


class ContractTests(SettingsTests, ScoreTests, EvaluationTests, CheckpointTests, DeviceTests, AblationTests):
    """The contract of one model. A subclass whose name begins with ``Test`` sets ``model``.

    Attributes:
        model: the model's name, as for ``--model``; registered by an entry point or ``register_model``.
        quick: settings with which the model learns the checkerboard; None: those of its card.
        noisy: additional settings with noise at inference, one case each; None: those of its card.
    """
