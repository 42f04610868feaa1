"""RecBole's trainers with exact resume, safe checkpoints, honest best-model handling and measured cost.

:class:`Training` is mixed into whatever trainer RecBole chooses for the model, so that baselines and our models
take the same path. It overrides four methods: ``fit`` (the loop; trainers with a loop of their own keep it),
``evaluate`` (our files, users per second, finite scores), ``_save_checkpoint`` and ``resume_checkpoint``.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import os
import uuid
from collections.abc import Iterator
from time import perf_counter
from typing import Any, Callable, Optional

import numpy as np
import torch
from packaging.version import Version
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.trainer import Trainer
from recbole.utils import EvaluatorType, calculate_valid_score, dict2str, get_local_time, set_color
from tqdm import tqdm

from recbole_diffusion.data import pipeline, provenance
from recbole_diffusion.evaluation import collect, user_metrics, value_metrics
from recbole_diffusion.model import hooks
from recbole_diffusion.support import terminal
from recbole_diffusion.support.random_state import random_state, restore_random_state
from recbole_diffusion.training import checkpoint, epochs, mixed_precision
from recbole_diffusion.training.resume import Result, Resumable


class Training(Resumable):
    """The mixin; see :func:`trainer_class`.

    Attributes:
        epochs_done: one dict per epoch: epoch (from 1), train_loss, train_s; where validated score, valid_s, metrics.
        evaluation: of the last evaluation: users, seconds.
        per_user: of the last evaluation: each user's metrics; None where a metric is not a mean over users.
    """

    item_tensor: Any

    def __init__(self, config: Any, model: Any) -> None:
        hooks.check(type(model))  # also where RecBole's own runner has built the model
        super().__init__(config, model)
        self.gpu_available = self.device.type == "cuda"  # RecBole asks use_gpu, which is what the user said
        name = f"{config['model']}-{config['dataset']}-{get_local_time()}-{uuid.uuid4().hex[:6]}.pth"
        self.saved_model_file = os.path.join(self.checkpoint_dir, name)
        self.epochs_done: list[dict[str, Any]] = []
        self.evaluation: dict[str, float] = {}
        self.per_user: Optional[user_metrics.UserMetrics] = None
        self._best: Optional[tuple[dict[str, Any], Any]] = None  # weights in memory, for saved=False
        self._collected: Any = None  # the training data that the metrics' counts are of
        self.enable_scaler = mixed_precision.scales(config)
        for note in mixed_precision.notes(config):
            self._note(note)
        self.lr_scheduler = self._build_scheduler()
        self.name_checkpoint(name[: -len(".pth")])

    def name_checkpoint(self, name: str) -> None:
        """Write checkpoints to ``<checkpoint_dir>/<name>.pth``; of several processes the first one's name counts."""
        self.saved_model_file = self.broadcast_from_rank0(os.path.join(self.checkpoint_dir, f"{name}.pth"))

    def _build_optimizer(self, **kwargs: Any) -> Any:
        """RecBole's choice; for models that are not RecBole's, Adam's fused kernel where the CPU has one.

        The hooks ``make_optimizer`` and ``parameter_groups`` come first. A quarter of a training step goes into
        an Adam that is not fused. RecBole's models keep its very numbers.
        """
        own = hooks.of(self.model).make_optimizer(self.learning_rate, self.weight_decay)
        if own is not None:
            return own
        groups = hooks.of(self.model).parameter_groups()
        if groups is not None:
            kwargs.setdefault("params", groups)
        built = super()._build_optimizer(**kwargs)
        theirs = type(self.model).__module__.startswith("recbole.")
        if theirs or type(built) not in (torch.optim.Adam, torch.optim.AdamW) or self.device.type != "cpu":
            return built
        if Version(torch.__version__).release < (2, 4):
            return built
        return type(built)([{**group, "fused": True} for group in built.param_groups], fused=True)

    def fit(
        self,
        train_data: Any,
        valid_data: Any = None,
        verbose: bool = True,
        saved: bool = True,
        show_progress: Optional[bool] = False,
        callback_fn: Optional[Callable[[int, float], Any]] = None,
    ) -> tuple[float, Result]:
        """Train; returns the best validation score and its metrics.

        Differs from RecBole's loop: a tie with the best score is no gain (``tie_is_better``), without files the
        model ends with its best weights and not with its last, and a resumed run continues the interrupted one.
        ``callback_fn`` is given RecBole's index of the epoch, from 0; what people see counts from 1.
        ``show_progress=None``: bars in a terminal only.
        """
        show_progress = terminal.shows_progress(show_progress)
        self._train_data, self._collected = train_data, None
        self._restore_run()
        if not saved and os.path.exists(self.saved_model_file):  # the best weights so far, of a resumed run
            state = checkpoint.read(self.saved_model_file)
            self._best = (state["state_dict"], state.get("other_parameter"))
            self.barrier()
            if self.is_writer:
                os.unlink(self.saved_model_file)
        if self.keeps_in_files:
            if self.lr_scheduler is not None:
                self.logger.warning(
                    f"lr_decay_step has no effect: {self.config['model']} has a training loop of its own"
                )
            with epochs.logged_from_one(self):
                return super().fit(train_data, valid_data, verbose, saved, show_progress, callback_fn)
        if self.config["train_neg_sample_args"].get("dynamic", False):
            train_data.get_model(self.model)
        for epoch in range(self.start_epoch, self.epochs):
            if self.cur_step > self.stopping_step:
                break
            row = self._timed_epoch(train_data, epoch, show_progress, verbose)
            due = bool(valid_data) and self._validates_after(epoch)
            if due:
                self._validate(valid_data, row, show_progress, verbose)
            self.epochs_done.append(row)
            if (due and row["best"]) or not (valid_data and self.eval_step > 0):
                self._keep(epoch, saved, verbose)
            if saved and self.config["save_last_every"] and (epoch + 1) % self.config["save_last_every"] == 0:
                self._save_checkpoint(epoch, verbose=False, saved_model_file=self.last_file)
            if due and callback_fn:
                callback_fn(epoch, row["score"])
        if verbose and self.best_epoch is not None:
            self.logger.info(f"Finished training, best eval result in epoch {self.best_epoch}")
        if self._best is not None:
            self.model.load_state_dict(self._best[0])
            self.model.load_other_parameter(self._best[1])
        self._add_hparam_to_tensorboard(self.best_valid_score)
        return self.best_valid_score, self.best_valid_result

    def _train_epoch(self, *args: Any, **kwargs: Any) -> Any:
        with mixed_precision.explained(self.config):
            return super()._train_epoch(*args, **kwargs)

    def _validates_after(self, epoch: int) -> bool:
        """Each ``eval_step`` epochs; and after the last where that is never (EASE has one epoch only)."""
        if self.eval_step <= 0:
            return False
        never = not any("score" in row for row in self.epochs_done)
        return (epoch + 1) % self.eval_step == 0 or (never and epoch + 1 == self.epochs)

    def _collect_of(self, train_data: Any) -> None:
        """What the metrics want of the training data. RecBole counts how often an item is a target, which a user's
        first item never is in sequences; here all interactions count, so that models of both kinds compare.
        """
        self.eval_collector.data_collect(train_data)
        collect.counts(self.eval_collector, functools.partial(pipeline.interactions, train_data))
        self._collected = train_data

    @property
    def keeps_in_files(self) -> bool:
        """Whether the training loop is the trainer's own (NCL), which keeps its best weights in a file or nowhere."""
        return super().fit.__func__ is not Trainer.fit

    @property
    def best_epoch(self) -> Optional[int]:
        """The epoch whose weights are tested, from 1; None without validation."""
        best = [row["epoch"] for row in self.epochs_done if row.get("best")]
        return best[-1] if best else None

    @property
    def last_file(self) -> str:
        """Where ``save_last_every`` writes."""
        return self.saved_model_file[: -len(".pth")] + "-last.pth"

    def _timed_epoch(self, train_data: Any, epoch: int, show_progress: bool, verbose: bool) -> dict[str, Any]:
        start = perf_counter()
        losses = self.reduce_losses(self._train_epoch(train_data, epochs.Index(epoch), show_progress=show_progress))
        seconds = perf_counter() - start
        rate = self.optimizer.param_groups[0]["lr"]
        hooks.of(self.model).end_epoch()
        if self.lr_scheduler is not None:
            self.lr_scheduler.step()
        total = float(sum(losses) if isinstance(losses, tuple) else losses)
        self.train_loss_dict[epoch] = total
        if verbose:
            self.logger.info(self._generate_train_loss_output(epoch + 1, 0.0, seconds, losses))
        self._add_train_loss_to_tensorboard(epoch + 1, losses)
        self.wandblogger.log_metrics({"epoch": epoch + 1, "train_loss": losses, "train_step": epoch + 1}, head="train")
        return {"epoch": epoch + 1, "train_loss": total, "train_s": seconds, "learning_rate": rate}

    def _validate(self, valid_data: Any, row: dict[str, Any], show_progress: bool, verbose: bool) -> None:
        """Evaluate, decide whether this epoch is the best, write it all into ``row``."""
        start = perf_counter()
        metrics = self.evaluate(valid_data, load_best_model=False, show_progress=show_progress)
        score = float(calculate_valid_score(metrics, self.valid_metric))
        if np.isnan(score):
            raise ValueError(
                f"valid_metric={self.config['valid_metric']!r} is nan on the validation split, so that no epoch is the "
                "best one; take another valid_metric, or a validation split that has rows for it"
            )
        best = self._improves(score)
        if best:
            self.best_valid_score, self.best_valid_result = score, metrics
        self.cur_step = 0 if best else self.cur_step + 1
        row.update(valid_s=perf_counter() - start, score=score, best=best, metrics=dict(metrics or {}))
        if verbose:
            text = set_color("epoch %d evaluating", "green") + " [" + set_color("time", "blue") + ": %.2fs, "
            text += set_color("%d users/s", "blue") + ", " + set_color("valid_score", "blue") + ": %f]"
            speed = self.evaluation["users"] / max(self.evaluation["seconds"], 1e-9)
            self.logger.info(text % (row["epoch"], row["valid_s"], speed, score))
            self.logger.info(set_color("valid result", "blue") + ": \n" + dict2str(metrics))
        self.tensorboard.add_scalar("Valid_score", score, row["epoch"])
        self.wandblogger.log_metrics({**(metrics or {}), "valid_step": row["epoch"]}, head="valid")

    def _improves(self, score: float) -> bool:
        if score == self.best_valid_score:
            return bool(self.config["tie_is_better"])
        return score > self.best_valid_score if self.valid_metric_bigger else score < self.best_valid_score

    def _keep(self, epoch: int, saved: bool, verbose: bool) -> None:
        """Keep the present weights as the best ones, in the file or in memory."""
        if saved:
            self._save_checkpoint(epoch, verbose=verbose)
        else:
            state = {key: value.detach().clone() for key, value in self.model.state_dict().items()}
            self._best = (state, copy.deepcopy(self.model.other_parameter()))

    @torch.no_grad()
    def evaluate(
        self,
        eval_data: Any,
        load_best_model: bool = True,
        model_file: Optional[str] = None,
        show_progress: Optional[bool] = False,
    ) -> Result:
        """The metrics on a split; None for an empty one. Leaves the random state as it was.

        Raises:
            ValueError: scores that are not finite (RecBole would rank NaN first and report a number).
        """
        if not eval_data:
            return None
        if load_best_model and self._best is None:
            file = model_file or self.saved_model_file
            state = checkpoint.read(file, map_location=self.device)
            if model_file is not None:
                provenance.check_names(state, f"checkpoint {str(file)!r}", self.config, eval_data._dataset)
            self._load_weights(state, file)
            self.logger.info(f"Loading model structure and parameters from {file}")
        if self.is_distributed:
            self.sync_buffers()
        if self._train_data not in (None, self._collected):  # or a loop of the trainer's own has counted in its way
            self._collect_of(self._train_data)
        self.model.eval()
        phase = getattr(getattr(eval_data, "_sampler", None), "phase", None)
        hooks.of(self.model).begin_evaluation(phase, functools.partial(pipeline.valid_pairs, eval_data))
        collect.clear(self.eval_collector)
        start, users = perf_counter(), 0
        who: list[torch.Tensor] = []
        with (
            _kept_random_state(self.config),
            tqdm(
                total=len(eval_data.sampler),
                disable=not terminal.shows_progress(show_progress),
                ncols=100,
                unit=" users",
                desc=set_color("Evaluate   ", "pink"),
            ) as bar,
        ):
            for batch in self._scored(eval_data):
                rows, scores, positive_u, positive_i = batch
                self.eval_collector.eval_batch_collect(scores, rows, positive_u, positive_i)
                count = len(scores) if scores.dim() > 1 else len(rows)
                users += count
                who.append(user_metrics.users_of(rows, self.config["USER_ID_FIELD"], count))
                bar.update(count)
        self.eval_collector.model_collect(self.model)
        struct = self.eval_collector.get_data_struct()
        who = [self.gather_evaluation(struct, torch.cat(who), eval_data)]
        self.evaluation = {"users": max(users, len(who[0])), "seconds": perf_counter() - start}
        if self.config["eval_type"] == EvaluatorType.VALUE:
            self._check_values(struct)
        with user_metrics.recorded(self.evaluator) as metrics:
            result = self.broadcast_from_rank0(self.evaluator.evaluate(struct))
        self.per_user = user_metrics.collect(who, metrics)
        self.wandblogger.log_eval_metrics(result, head="eval")
        return {metric: float(value) for metric, value in result.items()}  # numpy scalars on numpy 2

    def _check_values(self, struct: Any) -> None:
        """Refuse labels that do not suit the metrics; warn of scores that do not."""
        value_metrics.check_labels(struct, self.evaluator.metrics, self.config["LABEL_FIELD"])
        for note in value_metrics.clipped(struct, self.evaluator.metrics, self.config["model"]):
            self._note(note)

    def _note(self, text: str) -> None:
        """Warn, and keep the warning with the run's; once."""
        notes = getattr(self.config, "notes", [])
        if text not in notes:
            notes.append(text)
            self.logger.warning(text)

    def _scored(self, eval_data: Any) -> Iterator[tuple[Any, torch.Tensor, Any, Any]]:
        """Batches with their scores, seen items at -inf, as RecBole's collector takes them."""
        full = isinstance(eval_data, FullSortEvalDataLoader)
        if full and self.item_tensor is None:
            self.item_tensor = eval_data._dataset.get_item_feature().to(self.device)
        ranking = self.config["eval_type"] == EvaluatorType.RANKING
        if ranking:
            self.tot_item_num = eval_data._dataset.item_num
        score = self._full_sort_batch_eval if full else self._neg_sample_batch_eval
        for batch in eval_data:
            result = score(batch)
            if not collect.all_finite(result[1], ranking):
                raise ValueError(
                    f"model {self.config['model']} gives scores that are not finite; "
                    "try a smaller learning_rate, or clip_grad_norm: {max_norm: 1}"
                )
            yield result


@functools.cache
def trainer_class(base: type) -> type:
    """``base`` (a trainer of RecBole's or a model's own) with :class:`Training` in front; trees stay as they are."""
    if not issubclass(base, Trainer) or issubclass(base, Training):
        return base
    return type(base.__name__, (Training, base), {"__module__": __name__, "__doc__": base.__doc__})


@contextlib.contextmanager
def _kept_random_state(config: Any) -> Iterator[None]:
    """Evaluation must not change what training draws next, nor depend on how often it was called."""
    if config["fixed_eval_negatives"] is False:
        yield
        return
    state = random_state()
    np.random.seed(config["seed"])
    try:
        yield
    finally:
        restore_random_state(state)
