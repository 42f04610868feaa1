"""DiffRec: a diffusion over users' rows of interactions.

Reference:
    Wenjie Wang et al. "Diffusion Recommender Model." SIGIR 2023. https://doi.org/10.1145/3539618.3591663

Reference code:
    https://github.com/YiyanXu/DiffRec (commit d35a6c6), compared by numbers in tests/test_parity_diffrec.py
"""

from __future__ import annotations

from typing import Any, Callable, Optional

import numpy as np
import torch
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType
from torch import Tensor
from torch.nn import functional as F

from recbole_diffusion.diffusion import (
    GaussianDiffusion,
    Step,
    make_betas,
    make_sampler,
    randn,
    row_generators,
    sample,
)
from recbole_diffusion.diffusion.sampler import Generators, StepCallback
from recbole_diffusion.model.denoiser import ItemMLP
from recbole_diffusion.model.history import History, rank_weights


class DiffRec(GeneralRecommender):
    """Noise a user's row a little, predict the clean row, rank by it.

    Keys and what they mean: properties/model/DiffRec.yaml. Quirks of the official code and which key governs
    each: docs/models/diffrec.md.
    """

    input_type = InputType.LISTWISE

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.history = _history(config, dataset)
        self.test_input = config["test_input"]
        self._test_history: Optional[History] = None

        self.steps = config["steps"]
        self.process = _process(config)
        self.reweight = config["reweight"]
        self.first_step_weight = config["first_step_weight"]
        self.timesteps = make_sampler(
            config["timestep_sampling"], self.steps, config["history_num_per_term"], config["uniform_prob"]
        )

        hidden = config["dims_dnn"] or [*reversed(config["dims"]), *config["dims"][1:]]
        columns = self.history.n_columns
        self.denoiser = ItemMLP(
            [columns, *hidden, columns],
            time_size=config["embedding_size"],
            dropout=config["dropout_prob"],
            normalize=config["norm"],
            activation=config["mlp_act_func"],
        )

        self.sampling_steps = config["sampling_steps"]
        self.eval_seed = config["eval_seed"]
        self.reverse = self._reverse_steps(config["infer_steps"] or self.steps, config["sampling_noise"])

    def _reverse_steps(self, last: int, noise: bool) -> list[Step]:
        if last > self.steps or self.sampling_steps > self.steps:
            name, value = ("infer_steps", last) if last > self.steps else ("sampling_steps", self.sampling_steps)
            raise ValueError(f"{name}={value} is more than steps={self.steps}; allowed: at most steps")
        if self.process is None:
            return [Step(t, 0.0, 1.0, 0.0) for t in reversed(range(last))]
        return self.process.ancestral_steps(last, noise)

    @property
    def denoiser_calls(self) -> int:
        """Calls of the network per user and ranking."""
        return len(self.reverse)

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Mean over the batch's users of the weighted squared error (paper, eq. 9 to 12); scalar."""
        x0 = self.history.rows(interaction[self.USER_ID])
        t, ratio = self.timesteps.sample(len(x0))
        loss = self.row_loss(x0, t, torch.randn_like(x0))
        self.timesteps.update(t, loss)
        return (loss / ratio).mean()

    def row_loss(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Weighted error of each row, float64 (B,). x0, noise: (B, n_items - 1); t: (B,)."""
        if self.process is None:
            return _row_mse(self.denoiser(x0, t), x0).double()
        x_t = self.process.q_sample(x0, t, noise)
        out = self.denoiser(x_t, t)
        error = _row_mse(out, self.process.target(x0, t, noise))
        if self.process.prediction == "eps" and self.reweight:
            # The bound's first term is the likelihood of x0, not an error of eps.
            likelihood = _row_mse(self.process.predict_x0(x_t, t, out), x0) / 2
            error = torch.where(t == 0, likelihood, error)
        weights = self.process.loss_weights(self.first_step_weight)[t] if self.reweight else 1.0
        return weights * error.double()

    def begin_evaluation(self, phase: Optional[str], valid_pairs: Callable[[], Optional[np.ndarray]]) -> None:
        """Told by the trainer before each evaluation; ``valid_pairs()``: (user, item) of the validation split.

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
        history = self._test_history or self.history
        noisy = self.sampling_steps > 0 or any(step.r for step in self.reverse)
        generator = row_generators(users.tolist(), self.eval_seed, users.device) if noisy else None
        scores = self.denoise(history.rows(users), generator)
        return F.pad(scores, (1, 0), value=-torch.inf)

    def predict(self, interaction: Any) -> Tensor:
        """Scores of (user, item) pairs, shape (B,): each user's chain runs once."""
        users, row = torch.unique(interaction[self.USER_ID], return_inverse=True)
        return self.full_sort_predict({self.USER_ID: users})[row, interaction[self.ITEM_ID]]

    def denoise(self, rows: Tensor, generator: Generators = None, callback: Optional[StepCallback] = None) -> Tensor:
        """The reverse chain from rows of interactions (B, n_items - 1), of known users or new ones.

        A callback, noise or gradients make the chain visit the items at every step; otherwise it is folded (see
        :meth:`ItemMLP.chain`), the same up to rounding.
        """
        if self.sampling_steps and self.process is not None:
            t = torch.full((len(rows),), self.sampling_steps - 1, device=rows.device)
            rows = self.process.q_sample(rows, t, randn(rows, generator))
        plain = callback is not None or self.denoiser.normalize or any(step.r for step in self.reverse)
        if plain or self.denoiser.training or torch.is_grad_enabled():
            return sample(self.denoiser, rows, self.reverse, generator, callback)
        return self.denoiser.chain(rows, self.reverse)


def _row_mse(out: Tensor, target: Tensor) -> Tensor:
    return F.mse_loss(out, target, reduction="none").mean(dim=1)


def _process(config: Any) -> Optional[GaussianDiffusion]:
    if config["noise_scale"] == 0:
        return None
    betas = make_betas(
        config["noise_schedule"],
        config["steps"],
        noise_scale=config["noise_scale"],
        noise_min=config["noise_min"],
        noise_max=config["noise_max"],
        beta_fixed=config["beta_fixed"],
    )
    return GaussianDiffusion(betas, config["mean_type"])


def _history(config: Any, dataset: Any) -> History:
    users, items = (dataset.inter_feat[field].numpy() for field in (dataset.uid_field, dataset.iid_field))
    shape = (dataset.user_num, dataset.item_num)
    if not config["time-aware"]:
        return History.of(users, items, shape)
    if dataset.time_field not in dataset.inter_feat:
        raise ValueError(
            f"time-aware=True needs the field {dataset.time_field!r}: add it to load_col.inter, or to the data set"
        )
    times = dataset.inter_feat[dataset.time_field].numpy()
    order = np.argsort(times, kind="stable")  # so that the last of a repeated pair is the latest
    users, items, times = users[order], items[order], times[order]
    return History.of(users, items, shape, rank_weights(users, times, config["w_min"], config["w_max"]))
