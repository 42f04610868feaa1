"""Recommendations in batches of bounded memory: scores, the items to leave out, the best items, several generations."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Optional, Protocol, Union

import numpy as np
import torch
from torch import Tensor

from recbole_diffusion.data import names, pipeline
from recbole_diffusion.data.loaders import users_per_batch
from recbole_diffusion.evaluation.collect import all_finite
from recbole_diffusion.evaluation.top_lists import TopLists
from recbole_diffusion.model import hooks
from recbole_diffusion.serving import ranking, seen, users
from recbole_diffusion.serving.known_users import KnownUsers
from recbole_diffusion.serving.new_users import HistoriesInput, NewUsers
from recbole_diffusion.serving.trained import Trained
from recbole_diffusion.support.random_state import random_state, restore_random_state
from recbole_diffusion.training import numerics


class Request(NamedTuple):
    """What is asked for; see :func:`recbole_diffusion.recommend`."""

    users: users.Users = None
    k: int = 10
    exclude: Union[str, Sequence[str], None] = seen.DEFAULT
    histories: Optional[HistoriesInput] = None
    items: users.Users = None
    samples: int = 1
    skip_unknown: bool = False


class Batch(NamedTuple):
    """The recommendations of some users.

    Attributes:
        lists: the lists; with several generations the scores are means over them.
        sd: standard deviation of each score over the generations, float32, (n_users, k); None with one generation.
        jaccard: mean similarity of a user's lists over pairs of generations, (n_users,); None with one generation.
    """

    lists: TopLists
    sd: Optional[np.ndarray]
    jaccard: Optional[np.ndarray]


class Scored(Protocol):
    """Users who can be scored: :class:`KnownUsers` or :class:`NewUsers`."""

    names: np.ndarray
    notes: list[str]
    pairwise: bool

    def scores(self, start: int, end: int) -> Tensor:
        """Scores of all items for the users from ``start`` to ``end - 1``, (B, n_items)."""
        ...

    def seen(self, start: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        """The row in the batch and the item of each item to leave out."""
        ...


class Recommender:
    """Recommendations of a trained model.

    Args:
        trained: the model with its data.
        request: what is asked for.

    Attributes:
        samples: the number of generations that are made: 1 where all would be equal.
        notes: sentences about what was left out.

    Raises:
        ValueError: unknown users or items, a k or a number of samples that is not allowed, or a model that cannot score
            new users; one line with the way out.
    """

    def __init__(self, trained: Trained, request: Request) -> None:
        self.trained, self.k, self.samples = trained, request.k, request.samples
        self.n_items: int = trained.dataset.item_num
        _check_numbers(request, self.n_items - 1)
        self.names = np.append("", names.names_of(trained.dataset, trained.dataset.iid_field))
        self.candidates, self.notes = self._candidates(request)
        trained.model.eval()
        with self._inference():
            valid_pairs = functools.partial(pipeline.valid_pairs, trained.test_data)
            hooks.of(trained.model).begin_evaluation("test", valid_pairs)
            self.scored = self._scored(request)
            self.notes += self.scored.notes
            if request.samples > 1 and not self._is_stochastic():
                self.samples = 1
                self.notes.append(
                    f"{trained.config['model']} draws no noise at inference with these settings: all "
                    f"{request.samples} samples would be equal, so one is made"
                )

    def __len__(self) -> int:
        """The number of users."""
        return len(self.scored.names)

    def batches(self) -> Iterator[Batch]:
        """Yield the recommendations, batch by batch, in the order of the users.

        Raises:
            ValueError: scores that are not finite.
        """
        size = self._batch_size()
        for start in range(0, len(self), size):
            yield self._batch(start, min(start + size, len(self)))

    def _scored(self, request: Request) -> Scored:
        """The users. Sets the note about items that are left out."""
        dataset, config = self.trained.dataset, self.trained.config
        phases = seen.phases_of(request.exclude)
        listed = users.requested(request.users, "user", dataset.uid_field)
        if request.histories is not None:
            what = "the items of its history" if phases else "nothing"
            self.notes.append(f"left out of each list: {what}")
            return NewUsers(self.trained, request.histories, listed, bool(phases))
        self.notes.append(seen.note(phases, self.trained))
        ids = np.arange(1, dataset.user_num)
        if listed is not None:
            ids, notes = users.known_ids(listed, dataset, config["USER_ID_FIELD"], "user", request.skip_unknown)
            self.notes += notes
        return KnownUsers(self.trained, ids, seen.seen_items(self.trained, phases), "train" in phases)

    def _candidates(self, request: Request) -> tuple[Optional[Tensor], list[str]]:
        """Whether each item may be recommended, bool, (n_items,), and notes; None for all items."""
        dataset, config = self.trained.dataset, self.trained.config
        listed = users.requested(request.items, "item", dataset.iid_field)
        if listed is None:
            return None, []
        ids, notes = users.known_ids(listed, dataset, dataset.iid_field, "item", request.skip_unknown)
        candidates = torch.zeros(self.n_items, dtype=torch.bool, device=config["device"])
        candidates[torch.from_numpy(ids).to(config["device"])] = True
        return candidates, [*notes, f"candidates: {len(ids)} of {self.n_items - 1} items"]

    def _batch_size(self) -> int:
        """Users per batch: as in the evaluation, half with several generations, which keep mean and variance too."""
        if self.scored.pairwise:
            return max(1, self.trained.config["eval_batch_size"] // self.n_items)
        size = users_per_batch(self.trained.config, self.n_items)
        return max(1, size // 2) if self.samples > 1 else size

    def _batch(self, start: int, end: int) -> Batch:
        with self._inference():
            if self.samples == 1:
                items, scores = ranking.best_items(self._candidate_scores(start, end, 0), self.k)
                sd = jaccard = None
            else:
                items, scores, sd, jaccard = self._several(start, end)
        empty = items == 0
        lists = TopLists(
            self.scored.names[start:end],
            items.to(torch.int32).cpu().numpy(),
            self.names,
            scores.float().masked_fill(empty, torch.nan).cpu().numpy(),
        )
        return Batch(lists, sd, jaccard)

    def _several(self, start: int, end: int) -> tuple[Tensor, Tensor, np.ndarray, np.ndarray]:
        """Rank by the mean score over the generations; Welford's algorithm keeps two matrices instead of all scores.

        Returns:
            Items and mean scores, (B, k); standard deviations, (B, k); mean Jaccard similarities, (B,).
        """
        lists, mean, squares = [], torch.empty(0), torch.empty(0)
        for sample in range(self.samples):
            scores = self._candidate_scores(start, end, sample)
            lists.append(ranking.best_items(scores, self.k)[0])
            scores = scores.masked_fill(scores == -torch.inf, 0)
            if sample == 0:
                mean, squares = scores.clone(), torch.zeros_like(scores)
                continue
            difference = scores - mean
            mean += difference / (sample + 1)
            squares += difference * (scores - mean)
        items, values = ranking.best_items(self._without_seen(mean, start, end), self.k)
        sd = (squares.gather(1, items) / (self.samples - 1)).sqrt().masked_fill(items == 0, torch.nan)
        jaccard = ranking.mean_jaccard(torch.stack(lists))
        return items, values, sd.float().cpu().numpy(), jaccard.cpu().numpy()

    def _candidate_scores(self, start: int, end: int, sample: int) -> Tensor:
        """Scores of one generation, -inf for items that are not candidates, (B, n_items).

        Raises:
            ValueError: scores that are not finite.
        """
        scores = self._generate(start, end, sample)
        if not all_finite(scores[:, 1:], True):
            raise ValueError(
                f"model {self.trained.config['model']} gives scores that are not finite; train it with a smaller "
                "learning_rate, or clip_grad_norm: {max_norm: 1}"
            )
        return self._without_seen(scores, start, end)

    def _without_seen(self, scores: Tensor, start: int, end: int) -> Tensor:
        """Set the scores of the padding item, of seen items and of items that are not asked for to -inf, in place."""
        rows, items = self.scored.seen(start, end)
        scores[:, 0] = -torch.inf
        scores[torch.from_numpy(rows).to(scores.device), torch.from_numpy(items).to(scores.device)] = -torch.inf
        if self.candidates is not None:
            scores[:, ~self.candidates.to(scores.device)] = -torch.inf
        return scores

    def _generate(self, start: int, end: int, sample: int) -> Tensor:
        """Scores of generation ``sample``; generation 0 has the noise of the run's evaluation."""
        model, config = hooks.of(self.trained.model), self.trained.config
        if model.draws_noise:
            model.seed_inference(config["eval_seed"] + sample)
        try:
            torch.manual_seed(config["seed"] + sample)  # models of RecBole draw from torch's generator
            return self.scored.scores(start, end)
        finally:
            if model.draws_noise:
                model.seed_inference(config["eval_seed"])

    def _is_stochastic(self) -> bool:
        """Whether two generations differ: as the model says, or seen in the first user's scores."""
        if isinstance(self.trained.model, hooks.Hooks):
            return self.trained.model.draws_noise
        return len(self) > 0 and not torch.equal(self._generate(0, 1, 0), self._generate(0, 1, 1))

    @contextlib.contextmanager
    def _inference(self) -> Iterator[None]:
        """Compute without gradients and with the settings of the run; the random state is restored afterwards."""
        state = random_state()
        try:
            with torch.no_grad(), numerics.settings(self.trained.config):
                yield
        finally:
            restore_random_state(state)


def _check_numbers(request: Request, n_items: int) -> None:
    """Check k and the number of samples.

    Raises:
        ValueError: one is not allowed.
    """
    numbers: tuple[tuple[str, Any, int], ...] = (("k", request.k, n_items), ("samples", request.samples, 1000))
    for name, value, most in numbers:
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or not 1 <= value <= most:
            items = " (the number of items)" if name == "k" else ""
            raise ValueError(f"{name}={value!r} is not allowed; allowed: 1 to {most}{items}")
