"""The training loop for all models: exact resume, safe checkpoints, the best epoch's weights, measured cost.

:class:`Training` is mixed into the trainer that RecBole chooses for the model, so that baselines and our models take
the same path. It overrides four methods:

- ``fit``: the loop. Trainers with another training loop (NCL) keep theirs.
- ``evaluate`` (:mod:`recbole_diffusion.training.evaluation_loop`): our files, users per second, finite scores.
- ``_save_checkpoint`` and ``resume_checkpoint`` (:mod:`recbole_diffusion.training.resume`).
"""

from __future__ import annotations

import copy
import functools
import os
import uuid
from time import perf_counter
from typing import Any, Callable, Optional

import numpy as np
import torch
from packaging.version import Version
from recbole.trainer import Trainer
from recbole.utils import calculate_valid_score, dict2str, get_local_time, set_color

from recbole_diffusion.model import hooks
from recbole_diffusion.support import terminal
from recbole_diffusion.training import checkpoint, cuda_graphs, epoch_loop, epochs, mixed_precision, numerics
from recbole_diffusion.training.evaluation_loop import EvaluationLoop
from recbole_diffusion.training.resume import Result


class Training(EvaluationLoop):
    """Mixin for RecBole's trainers; see :func:`trainer_class`.

    Attributes:
        epochs_done: one dict per epoch: epoch (from 1), train_loss, train_s; after a validation also score, valid_s,
            metrics.
    """

    def __init__(self, config: Any, model: Any) -> None:
        hooks.check(type(model))  # also where RecBole's own runner has built the model
        super().__init__(config, model)
        self.gpu_available = self.device.type == "cuda"  # RecBole reads use_gpu, which may differ
        name = f"{config['model']}-{config['dataset']}-{get_local_time()}-{uuid.uuid4().hex[:6]}.pth"
        self.saved_model_file = os.path.join(self.checkpoint_dir, name)
        self.epochs_done: list[dict[str, Any]] = []
        self._uses_graphs = False
        self._graphs: Optional[cuda_graphs.GraphedSteps] = None
        mixed_precision.check(config)
        self.enable_scaler = mixed_precision.scales(config)
        for note in mixed_precision.notes(config):
            self._note(note)
        self.lr_scheduler = self._build_scheduler()
        self.name_checkpoint(name[: -len(".pth")])

    def name_checkpoint(self, name: str) -> None:
        """Set the checkpoint file to ``<checkpoint_dir>/<name>.pth``, with the name that rank 0 has."""
        self.saved_model_file = self.broadcast_from_rank0(os.path.join(self.checkpoint_dir, f"{name}.pth"))

    def _build_optimizer(self, **kwargs: Any) -> Any:
        """Build the optimiser: by the hook ``make_optimizer``, else by ``learner`` over ``parameter_groups``.

        Models that are not RecBole's get Adam's fused kernel, since the plain one takes a quarter of a training step.
        RecBole's models keep the plain kernel and so RecBole's exact numbers.
        """
        made_by_hook = hooks.of(self.model).make_optimizer(self.learning_rate, self.weight_decay)
        if made_by_hook is not None:
            return made_by_hook
        groups = hooks.of(self.model).parameter_groups()
        if groups is not None:
            kwargs.setdefault("params", groups)
        optimizer = super()._build_optimizer(**kwargs)
        is_recboles = type(self.model).__module__.startswith("recbole.")
        if is_recboles or type(optimizer) not in (torch.optim.Adam, torch.optim.AdamW):
            return optimizer
        since = {"cpu": (2, 4), "cuda": (2, 0)}.get(self.device.type)
        if since is None or Version(torch.__version__).release < since:
            return optimizer
        return type(optimizer)([{**group, "fused": True} for group in optimizer.param_groups], fused=True)

    @numerics.applied
    def fit(
        self,
        train_data: Any,
        valid_data: Any = None,
        verbose: bool = True,
        saved: bool = True,
        show_progress: Optional[bool] = False,
        callback_fn: Optional[Callable[[int, float], Any]] = None,
    ) -> tuple[float, Result]:
        """Train the model.

        Differences from RecBole's loop:

        - A tie with the best score is no gain (``tie_is_better``).
        - With ``saved=False`` the model ends with its best weights, not with its last.
        - A resumed run continues the interrupted one exactly.

        Args:
            train_data: loader of the training split.
            valid_data: loader of the validation split; None: no validation.
            verbose: log each epoch.
            saved: write checkpoints.
            show_progress: show bars; None: in a terminal only.
            callback_fn: called after each validation with RecBole's epoch index, from 0, and the score.

        Returns:
            The best validation score, and the metrics of that validation.

        Raises:
            ValueError: a validation score that is nan, or no compiler for ``compile``; see also :meth:`evaluate`.
        """
        show_progress = terminal.shows_progress(show_progress)
        for note in numerics.compile_networks(self.config, self.model):
            self._note(note)
        self._train_data, self._collected = train_data, None
        self._restore_generators()
        self._allow_graphs()
        if not saved:
            self._move_best_weights_to_memory()
        if self.keeps_in_files:
            if self.lr_scheduler is not None:
                self.logger.warning(f"lr_decay_step has no effect: {self.config['model']} has its own training loop")
            with epochs.logged_from_one(self):
                return super().fit(train_data, valid_data, verbose, saved, show_progress, callback_fn)
        if self.config["train_neg_sample_args"].get("dynamic", False) and hasattr(train_data, "get_model"):
            train_data.get_model(self.model)  # loaders of users draw no negatives
        for epoch in range(self.start_epoch, self.epochs):
            if self.cur_step > self.stopping_step:
                break
            row = self._timed_epoch(train_data, epoch, show_progress, verbose)
            is_validated = bool(valid_data) and self._validates_after(epoch)
            if is_validated:
                self._validate(valid_data, row, show_progress, verbose)
            self.epochs_done.append(row)
            if (is_validated and row["best"]) or not (valid_data and self.eval_step > 0):
                self._keep_best_weights(epoch, saved, verbose)
            if saved and self.config["save_last_every"] and (epoch + 1) % self.config["save_last_every"] == 0:
                self._save_checkpoint(epoch, verbose=False, saved_model_file=self.last_file)
            if is_validated and callback_fn:
                callback_fn(epoch, row["score"])
        if verbose and self.best_epoch is not None:
            self.logger.info(f"Finished training, best eval result in epoch {self.best_epoch}")
        if self._best is not None:
            self.model.load_state_dict(self._best[0])
            self.model.load_other_parameter(self._best[1])
        self._add_hparam_to_tensorboard(self.best_valid_score)
        return self.best_valid_score, self.best_valid_result

    def _move_best_weights_to_memory(self) -> None:
        """Read the best weights of an interrupted run into memory and delete their file; for ``saved=False``."""
        if os.path.exists(self.saved_model_file):
            state = checkpoint.read(self.saved_model_file)
            self._best = (state["state_dict"], state.get("other_parameter"))
            self.barrier()
            if self.is_writer:
                os.unlink(self.saved_model_file)

    def _train_epoch(
        self, train_data: Any, epoch_idx: int, loss_func: Any = None, show_progress: Optional[bool] = False
    ) -> Any:
        """Train one epoch: RecBole's, without its waits for the device; a trainer's own where it has one."""
        own_epoch = super()._train_epoch
        with mixed_precision.explained(self.config):
            if own_epoch.__func__ is Trainer._train_epoch:
                return epoch_loop.train(self, train_data, epoch_idx, loss_func, bool(show_progress))
            return own_epoch(train_data, epoch_idx, loss_func, show_progress)

    def _allow_graphs(self) -> None:
        """Have training steps launched as CUDA graphs where ``cuda_graphs`` asks for it and the model allows it."""
        self._graphs = None
        asked = bool(self.config["cuda_graphs"])
        self.model.train()  # a model may decide by its mode
        reason = cuda_graphs.reason_against(self)
        self._uses_graphs = asked and reason is None
        if asked and reason is not None:
            self._note(f"cuda_graphs has no effect: {reason}")
        elif reason is None and not asked:
            self.logger.info("cuda_graphs: True may train several times as fast here, with the same values")
        cuda_graphs.prepare(self.optimizer, self._uses_graphs)

    def graphed_steps(self, step: cuda_graphs.Step) -> Optional[cuda_graphs.GraphedSteps]:
        """The run's steps as graphs, made of its first epoch's step; None without ``cuda_graphs``."""
        if self._uses_graphs and self._graphs is None:
            self._graphs = cuda_graphs.GraphedSteps(step, self.optimizer)
        return self._graphs

    def _validates_after(self, epoch: int) -> bool:
        """Whether a validation follows this epoch: every ``eval_step`` epochs.

        A training that is shorter than ``eval_step`` is validated after its last epoch (EASE has only one epoch).
        """
        if self.eval_step <= 0:
            return False
        never_validated = not any("score" in row for row in self.epochs_done)
        return (epoch + 1) % self.eval_step == 0 or (never_validated and epoch + 1 == self.epochs)

    @property
    def keeps_in_files(self) -> bool:
        """Whether RecBole's trainer has its own training loop (NCL), which keeps the best weights in a file only."""
        return super().fit.__func__ is not Trainer.fit

    @property
    def best_epoch(self) -> Optional[int]:
        """The epoch whose weights are tested, from 1; None without validation."""
        best_epochs = [row["epoch"] for row in self.epochs_done if row.get("best")]
        return best_epochs[-1] if best_epochs else None

    @property
    def last_file(self) -> str:
        """The checkpoint that ``save_last_every`` writes."""
        return self.saved_model_file[: -len(".pth")] + "-last.pth"

    def _timed_epoch(self, train_data: Any, epoch: int, show_progress: bool, verbose: bool) -> dict[str, Any]:
        """Train one epoch, log it, and return its row for ``epochs_done``."""
        start = perf_counter()
        losses = self.reduce_losses(self._train_epoch(train_data, epochs.Index(epoch), show_progress=show_progress))
        seconds = perf_counter() - start
        learning_rate = self.optimizer.param_groups[0]["lr"]
        hooks.of(self.model).end_epoch()
        if self.lr_scheduler is not None:
            self.lr_scheduler.step()
        total = float(sum(losses) if isinstance(losses, tuple) else losses)
        self.train_loss_dict[epoch] = total
        if verbose:
            self.logger.info(self._generate_train_loss_output(epoch + 1, 0.0, seconds, losses))
        self._add_train_loss_to_tensorboard(epoch + 1, losses)
        self.wandblogger.log_metrics({"epoch": epoch + 1, "train_loss": losses, "train_step": epoch + 1}, head="train")
        return {"epoch": epoch + 1, "train_loss": total, "train_s": seconds, "learning_rate": learning_rate}

    def _validate(self, valid_data: Any, row: dict[str, Any], show_progress: bool, verbose: bool) -> None:
        """Evaluate, decide whether this epoch is the best, and add score, metrics and seconds to ``row``.

        Raises:
            ValueError: the score is nan.
        """
        start = perf_counter()
        metrics = self.evaluate(valid_data, load_best_model=False, show_progress=show_progress)
        score = float(calculate_valid_score(metrics, self.valid_metric))
        if np.isnan(score):
            raise ValueError(
                f"valid_metric={self.config['valid_metric']!r} is nan on the validation split, so that no epoch is the "
                "best one; take another valid_metric, or a validation split that has rows for it"
            )
        is_best = self._improves(score)
        if is_best:
            self.best_valid_score, self.best_valid_result = score, metrics
        self.cur_step = 0 if is_best else self.cur_step + 1
        row.update(valid_s=perf_counter() - start, score=score, best=is_best, metrics=dict(metrics or {}))
        if verbose:
            self._log_validation(row, metrics)
        self.tensorboard.add_scalar("Valid_score", score, row["epoch"])
        self.wandblogger.log_metrics({**(metrics or {}), "valid_step": row["epoch"]}, head="valid")

    def _log_validation(self, row: dict[str, Any], metrics: Result) -> None:
        text = set_color("epoch %d evaluating", "green") + " [" + set_color("time", "blue") + ": %.2fs, "
        text += set_color("%d users/s", "blue") + ", " + set_color("valid_score", "blue") + ": %f]"
        speed = self.evaluation["users"] / max(self.evaluation["seconds"], 1e-9)
        self.logger.info(text % (row["epoch"], row["valid_s"], speed, row["score"]))
        self.logger.info(set_color("valid result", "blue") + ": \n" + dict2str(metrics))

    def _improves(self, score: float) -> bool:
        """Whether a validation score is better than the best one so far; a tie is not, unless ``tie_is_better``."""
        if score == self.best_valid_score:
            return bool(self.config["tie_is_better"])
        return score > self.best_valid_score if self.valid_metric_bigger else score < self.best_valid_score

    def _keep_best_weights(self, epoch: int, saved: bool, verbose: bool) -> None:
        """Store the current weights as the best ones, in the checkpoint or in memory."""
        if saved:
            self._save_checkpoint(epoch, verbose=verbose)
        else:
            state = {key: value.detach().clone() for key, value in self.model.state_dict().items()}
            self._best = (state, copy.deepcopy(self.model.other_parameter()))


@functools.cache
def trainer_class(base: type) -> type:
    """Mix :class:`Training` into a trainer class.

    Args:
        base: a trainer of RecBole or of a model. Trainers of decision trees are returned unchanged.
    """
    if not issubclass(base, Trainer) or issubclass(base, Training):
        return base
    return type(base.__name__, (Training, base), {"__module__": __name__, "__doc__": base.__doc__})
