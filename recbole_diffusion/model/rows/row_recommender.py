"""Base class of recommenders that score the items from a user's row of the interaction matrix."""

from __future__ import annotations

from typing import Any, Optional, Protocol

import torch
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_diffusion.diffusion import Generators, StepCallback
from recbole_diffusion.model.histories import Histories
from recbole_diffusion.model.hooks import Hooks, ValidPairs
from recbole_diffusion.model.reverse import ReportsNfe
from recbole_diffusion.model.rows.history import InteractionMatrix, SparseRows
from recbole_diffusion.model.rows.vector_diffusion import VectorDiffusion, row_mlp


class RowDiffusion(Protocol):
    """The interface of ``RowRecommender.diffusion`` that the base class uses."""

    @property
    def nfe(self) -> Optional[int]:
        """Number of function evaluations: network calls per user."""
        ...

    @property
    def draws_noise(self) -> bool:
        """Whether inference draws noise."""
        ...

    def seed_inference(self, seed: int) -> None:
        """Set the seed of the noise at inference."""
        ...

    def generators(self, users: Tensor) -> Generators:
        """Make one noise generator per user, (B,); None if inference draws no noise."""
        ...


class RowRecommender(ReportsNfe, Hooks, GeneralRecommender):
    """Base class. A subclass implements ``calculate_loss`` and :meth:`denoise`, and may override :meth:`make_denoiser`.

    Attributes:
        history: interaction matrix of the train split.
        diffusion: the diffusion on the rows or on their latents.
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
        """Score all items from rows of interactions.

        Args:
            rows: (B, n_items - 1), of training users or of new ones (``SparseRows.of(matrix)``).
            generator: source of the noise at inference, if the settings have any.
            callback: called after each reverse step.

        Returns:
            (B, n_items - 1); column j is RecBole's item id j + 1.
        """
        raise NotImplementedError

    def make_denoiser(self, config: Any, width: int, time_scale: float) -> nn.Module:
        """Make the network, which maps x (B, width) and times t (B,) to (B, width).

        Override it to use another network. The reverse steps of a network without ``folds`` and ``chain`` (see
        :class:`~recbole_diffusion.diffusion.ChainDenoiser`) are applied one after another.

        Args:
            config: the settings.
            width: width of the noised vectors.
            time_scale: factor by which the network multiplies t before embedding it.
        """
        return row_mlp(config, width, time_scale, self.bias_std)

    def networks(self) -> list[nn.Module]:
        """Return the denoising network, for ``compile``."""
        return [module.denoiser for module in self.modules() if isinstance(module, VectorDiffusion)]

    @property
    def nfe(self) -> Optional[int]:
        """Number of function evaluations: network calls per user and ranking."""
        return self.diffusion.nfe

    def begin_evaluation(self, phase: Optional[str], valid_pairs: ValidPairs) -> None:
        """Add the interactions of the validation split to the rows of the test phase, with weight 1.

        Only with ``test_input: train+valid``.

        Raises:
            ValueError: the evaluation mode does not know the validation split.
        """
        self._test_history = None
        if self.test_input != "train+valid" or phase != "test":
            return
        pairs = valid_pairs()
        if pairs is None:
            raise ValueError("test_input='train+valid' needs repeatable: False and mode full, uniN or popN")
        self._test_history = self.history.with_pairs(*pairs.T).to(self.device)

    @property
    def draws_noise(self) -> bool:
        """Whether the scores depend on noise that is drawn at inference."""
        return self.diffusion.draws_noise

    def seed_inference(self, seed: int) -> None:
        """Set the seed of the noise at inference."""
        self.diffusion.seed_inference(seed)

    def target_state(self, interaction: Any, items: Tensor) -> Optional[Tensor]:
        """Return the clean state of rows that hold the given items only, (B, d); see :class:`Hooks`."""
        rows = torch.zeros(len(items), self.n_items, device=items.device).scatter_(1, items, 1.0)[:, 1:]
        return self.encode_rows(rows)

    def encode_rows(self, rows: Tensor) -> Tensor:
        """Return the clean state of the diffusion for dense rows (B, n_items - 1): the rows themselves, or latents."""
        return rows

    @torch.no_grad()
    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Score all items, (B, n_items); column 0, the padding item, is -inf."""
        users = interaction[self.USER_ID]
        return self._scores((self._test_history or self.history).sparse(users), users)

    @torch.no_grad()
    def score_histories(self, histories: Histories) -> Tensor:
        """Score all items for users who are given by their items, (B, n_items)."""
        return self._scores(self.history.rows_of(histories), histories.seeds.to(self.device))

    def _scores(self, rows: SparseRows, seeds: Tensor) -> Tensor:
        """Scores from rows (B, n_items - 1), with noise by ``seeds`` (B,); (B, n_items)."""
        return F.pad(self.denoise(rows, self.diffusion.generators(seeds)), (1, 0), value=-torch.inf)

    def predict(self, interaction: Any) -> Tensor:
        """Score (user, item) pairs, (B,). The reverse process runs once per user, not once per pair."""
        users, row = torch.unique(interaction[self.USER_ID], return_inverse=True)
        return self.full_sort_predict({self.USER_ID: users})[row, interaction[self.ITEM_ID]]
