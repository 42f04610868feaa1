"""What every recommender does that scores the items from a user's row of interactions."""

from __future__ import annotations

from typing import Any, Optional, Protocol

import torch
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_diffusion.diffusion import Generators, StepCallback
from recbole_diffusion.model.hooks import Hooks, ValidPairs
from recbole_diffusion.model.reverse import ReportsNfe
from recbole_diffusion.model.rows.history import InteractionMatrix, SparseRows
from recbole_diffusion.model.rows.vector_diffusion import row_mlp


class RowDiffusion(Protocol):
    """What is asked of a model's diffusion here: its number of network calls, and the users' noise at inference."""

    @property
    def nfe(self) -> Optional[int]: ...

    def generators(self, users: Tensor) -> Generators: ...


class RowRecommender(ReportsNfe, Hooks, GeneralRecommender):
    """Base class; a subclass writes ``calculate_loss`` and :meth:`denoise`, and may replace :meth:`make_denoiser`.

    Attributes:
        history: the users' rows of the train split.
        diffusion: the diffusion that the rows, or what becomes of them, go through.
        bias_std: standard deviation of the network's initial biases.
    """

    input_type = InputType.LISTWISE
    diffusion: RowDiffusion
    bias_std = 0.001

    def __init__(self, config: Any, dataset: Any, history: InteractionMatrix) -> None:
        super().__init__(config, dataset)
        self.history = history
        self.test_input = config["test_input"]
        self._test_history: Optional[InteractionMatrix] = None

    def denoise(
        self, rows: SparseRows, generator: Generators = None, callback: Optional[StepCallback] = None
    ) -> Tensor:
        """Scores (B, n_items - 1) from rows of interactions, of known users or new ones (``SparseRows.of(matrix)``).

        A generator is needed only where there is noise at inference; a callback watches the reverse steps.
        """
        raise NotImplementedError

    def make_denoiser(self, config: Any, width: int, time_scale: float) -> nn.Module:
        """Make the network that is called with x (B, width) and the times t (B,) and returns (B, width).

        A subclass overrides it to have another network. The reverse steps of one without ``folds`` and ``chain`` (see
        :class:`~recbole_diffusion.diffusion.ChainDenoiser`) are taken one after another.

        Args:
            config: the settings.
            width: of the vectors that are diffused.
            time_scale: by which t is to be multiplied before it is embedded.
        """
        return row_mlp(config, width, time_scale, self.bias_std)

    @property
    def nfe(self) -> Optional[int]:
        """Number of function evaluations: network calls per user and ranking."""
        return self.diffusion.nfe

    def begin_evaluation(self, phase: Optional[str], valid_pairs: ValidPairs) -> None:
        """Take the validation split's (user, item) pairs into the rows before the test split is scored.

        With ``test_input: train+valid`` the rows at test hold those items too, with weight 1.

        Raises:
            ValueError: where the evaluation mode does not know the splits.
        """
        self._test_history = None
        if self.test_input != "train+valid" or phase != "test":
            return
        valid = valid_pairs()
        if valid is None:
            raise ValueError("test_input='train+valid' needs repeatable: False and mode full, uniN or popN")
        self._test_history = self.history.with_pairs(*valid.T).to(self.device)

    @torch.no_grad()
    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Scores of every item, shape (B, n_items); column 0, the padding item, is -inf."""
        users = interaction[self.USER_ID]
        rows = (self._test_history or self.history).sparse(users)
        return F.pad(self.denoise(rows, self.diffusion.generators(users)), (1, 0), value=-torch.inf)

    def predict(self, interaction: Any) -> Tensor:
        """Scores of (user, item) pairs, shape (B,): each user's chain runs once."""
        users, row = torch.unique(interaction[self.USER_ID], return_inverse=True)
        return self.full_sort_predict({self.USER_ID: users})[row, interaction[self.ITEM_ID]]
