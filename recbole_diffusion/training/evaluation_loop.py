"""The evaluation of a trained model on a split: full ranking, sampled ranking or labels, on one rank or several.

:class:`EvaluationLoop` is the part of :class:`recbole_diffusion.training.trainer.Training` that scores a split, hands
the scores to RecBole's collector and evaluator, and measures the speed.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from time import perf_counter
from typing import Any, Optional

import numpy as np
import torch
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.utils import EvaluatorType, set_color
from tqdm import tqdm

from recbole_diffusion.data import pipeline, provenance
from recbole_diffusion.evaluation import collect, diversity_metrics, user_metrics, value_metrics
from recbole_diffusion.evaluation.list_evaluation import RankedLists
from recbole_diffusion.model import hooks
from recbole_diffusion.support import terminal
from recbole_diffusion.support.random_state import random_state, restore_random_state
from recbole_diffusion.training import checkpoint, numerics
from recbole_diffusion.training.resume import Result, Resumable


class EvaluationLoop(Resumable):
    """RecBole's trainer with our evaluation.

    Attributes:
        evaluation: users and seconds of the last evaluation.
        per_user: each user's metrics of the last evaluation; None where a metric is not a mean over users.
        list_length: length of the recommended lists that the next evaluation keeps; 0: none.
        lists: the recommended lists of the last evaluation, with ids; None if none were kept.
    """

    item_tensor: Any

    def __init__(self, config: Any, model: Any) -> None:
        super().__init__(config, model)
        self.evaluation: dict[str, float] = {}
        self.per_user: Optional[user_metrics.UserMetrics] = None
        self.list_length = 0
        self.lists: Optional[RankedLists] = None
        self._best: Optional[tuple[dict[str, Any], Any]] = None  # the best weights in memory, for saved=False
        self._collected: Any = None  # the training data that the collector has counted

    @numerics.applied
    @torch.no_grad()
    def evaluate(
        self,
        eval_data: Any,
        load_best_model: bool = True,
        model_file: Optional[str] = None,
        show_progress: Optional[bool] = False,
    ) -> Result:
        """Compute the metrics on a split. The random state is restored afterwards.

        Args:
            eval_data: loader of the split.
            load_best_model: load the best weights first, from ``model_file`` or from the run's own file.
            model_file: a checkpoint; None: the run's own.
            show_progress: show a bar; None: in a terminal only.

        Returns:
            Each metric's value; None for an empty split.

        Raises:
            ValueError: scores that are not finite. RecBole ranks NaN first and reports a number.
        """
        if not eval_data:
            return None
        if load_best_model and self._best is None:
            self._load_best_weights(model_file, eval_data)
        if self.is_distributed:
            self.sync_buffers()
        if self._train_data not in (None, self._collected):  # RecBole's own training loops count in another way
            self._collect_of(self._train_data)
        self._begin_evaluation(eval_data)
        start = perf_counter()
        with _kept_random_state(self.config), self._progress_bar(eval_data, show_progress) as bar:
            n_users, users = self._score_and_collect(eval_data, bar)
        self.eval_collector.model_collect(self.model)
        struct = self.eval_collector.get_data_struct()
        users = self.gather_evaluation(struct, users, eval_data)
        seconds = perf_counter() - start - self.eval_collector.list_seconds  # the kept lists are no part of the test
        self.evaluation = {"users": max(n_users, len(users)), "seconds": seconds}
        if self.config["eval_type"] == EvaluatorType.VALUE:
            self._check_values(struct)
        with user_metrics.recorded(self.evaluator) as metrics:
            result = self.broadcast_from_rank0(self.evaluator.evaluate(struct))
        self.per_user = user_metrics.collect([users], metrics)
        self.lists = _kept_lists(struct, users)
        self.wandblogger.log_eval_metrics(result, head="eval")
        return {metric: float(value) for metric, value in result.items()}  # numpy scalars on numpy 2

    def _load_best_weights(self, model_file: Optional[str], eval_data: Any) -> None:
        """Load the weights of ``model_file``, or of the run's own file.

        Raises:
            ValueError: ``model_file`` has the names of other data.
        """
        file = model_file or self.saved_model_file
        state = checkpoint.read(file, map_location=self.device)
        if model_file is not None:
            provenance.check_names(state, f"checkpoint {str(file)!r}", self.config, eval_data._dataset)
        self._load_weights(state, file)
        self.logger.info(f"Loading model structure and parameters from {file}")

    def _begin_evaluation(self, eval_data: Any) -> None:
        """Set the model to evaluation mode, call its hook, and clear the collector."""
        self.model.eval()
        phase = getattr(getattr(eval_data, "_sampler", None), "phase", None)
        hooks.of(self.model).begin_evaluation(phase, functools.partial(pipeline.valid_pairs, eval_data))
        collect.clear(self.eval_collector)
        self.eval_collector.list_length, self.eval_collector.list_seconds = self.list_length, 0.0

    def _progress_bar(self, eval_data: Any, show_progress: Optional[bool]) -> tqdm:
        return tqdm(
            total=len(eval_data.sampler),
            disable=not terminal.shows_progress(show_progress),
            ncols=100,
            unit=" users",
            desc=set_color("Evaluate   ", "pink"),
        )

    def _score_and_collect(self, eval_data: Any, bar: tqdm) -> tuple[int, torch.Tensor]:
        """Score all batches and add them to the collector.

        Returns:
            The number of scored rows, and the user of each row, (rows,).
        """
        n_rows = 0
        users: list[torch.Tensor] = []
        for rows, scores, positive_u, positive_i in self._scored(eval_data):
            self.eval_collector.eval_batch_collect(scores, rows, positive_u, positive_i)
            count = len(scores) if scores.dim() > 1 else len(rows)
            n_rows += count
            users.append(user_metrics.users_of(rows, self.config["USER_ID_FIELD"], count))
            bar.update(count)
        return n_rows, torch.cat(users)

    def _scored(self, eval_data: Any) -> Iterator[tuple[Any, torch.Tensor, Any, Any]]:
        """Yield batches for RecBole's collector: rows, scores with seen items at -inf, row and item of each positive.

        Raises:
            ValueError: scores that are not finite.
        """
        is_full_ranking = isinstance(eval_data, FullSortEvalDataLoader)
        if is_full_ranking and self.item_tensor is None:
            self.item_tensor = eval_data._dataset.get_item_feature().to(self.device)
        is_ranking = self.config["eval_type"] == EvaluatorType.RANKING
        if is_ranking:
            self.tot_item_num = eval_data._dataset.item_num
        score_batch = self._full_sort_batch_eval if is_full_ranking else self._neg_sample_batch_eval
        for batch in eval_data:
            scored = score_batch(batch)
            if not collect.all_finite(scored[1], is_ranking):
                raise ValueError(
                    f"model {self.config['model']} gives scores that are not finite; "
                    "try a smaller learning_rate, or clip_grad_norm: {max_norm: 1}"
                )
            yield scored

    def _collect_of(self, train_data: Any) -> None:
        """Collect the counts of the training data that metrics need.

        RecBole counts how often an item is a target. In sequences a user's first item never is one. Here all
        interactions count, so that general and sequential models compare.
        """
        self.eval_collector.data_collect(train_data)
        pairs = functools.partial(pipeline.interactions, train_data)
        collect.collect_counts(self.eval_collector, train_data._dataset, pairs)
        if self.eval_collector.register.need("data.categories"):
            for line in diversity_metrics.describe(self.config, self.eval_collector.data_struct.get("data.split")):
                self.logger.info(line)
        self._collected = train_data

    def _check_values(self, struct: Any) -> None:
        """Raise an error for labels that do not suit the metrics, and warn of such scores."""
        value_metrics.check_labels(struct, self.evaluator.metrics, self.config["LABEL_FIELD"])
        for note in value_metrics.clipping_warnings(struct, self.evaluator.metrics, self.config["model"]):
            self._note(note)

    def _note(self, text: str) -> None:
        """Log a warning and add it to the run's warnings; each text once."""
        notes = getattr(self.config, "notes", [])
        if text not in notes:
            notes.append(text)
            self.logger.warning(text)


def _kept_lists(struct: Any, users: torch.Tensor) -> Optional[RankedLists]:
    """The lists that the collector has kept; None if it has kept none."""
    if collect.KEPT_ITEMS not in struct:
        return None
    items, hits, positives = (struct.get(key).numpy() for key in collect.KEPT)
    return RankedLists(users.cpu().numpy(), items, hits.astype(bool), positives[:, 0])


@contextlib.contextmanager
def _kept_random_state(config: Any) -> Iterator[None]:
    """Seed numpy for the evaluation and restore the random state afterwards.

    So an evaluation does not change what training draws next, and does not depend on earlier evaluations. Without an
    effect where ``fixed_eval_negatives`` is False.
    """
    if config["fixed_eval_negatives"] is False:
        yield
        return
    state = random_state()
    np.random.seed(config["seed"])
    try:
        yield
    finally:
        restore_random_state(state)
