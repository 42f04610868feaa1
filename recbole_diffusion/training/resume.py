"""Checkpoints of a training, and the exact resume from them: bit for bit on the CPU.

:class:`Resumable` is the part of :class:`recbole_diffusion.training.trainer.Training` that writes and reads
checkpoints. Their format is that of :mod:`recbole_diffusion.training.checkpoint`.
"""

from __future__ import annotations

import functools
import math
import os
import shutil
from pathlib import Path
from typing import Any, Callable, Optional

import torch
from recbole.trainer import Trainer
from recbole.utils import set_color

from recbole_diffusion import __version__
from recbole_diffusion.data import provenance
from recbole_diffusion.settings.config import Config, plain_settings
from recbole_diffusion.support import trusted_files
from recbole_diffusion.support.atomic_write import atomic_write
from recbole_diffusion.support.random_state import random_state, restore_random_state
from recbole_diffusion.training import checkpoint
from recbole_diffusion.training.data_parallel import DataParallelMixin

Result = Optional[dict[str, Any]]

_SCHEDULERS: Any = (
    getattr(torch.optim.lr_scheduler, "LRScheduler", torch.optim.lr_scheduler._LRScheduler),
    torch.optim.lr_scheduler.ReduceLROnPlateau,
)


class Resumable(Trainer, DataParallelMixin):
    """RecBole's trainer with our checkpoints.

    Attributes:
        epochs_done: one dict per finished epoch; the training loop appends them.
        after_save: called when this rank has written a checkpoint.
    """

    cur_step: int
    epochs_done: list[dict[str, Any]]
    optimizer: torch.optim.Optimizer
    lr_scheduler: Any

    def __init__(self, config: Any, model: Any) -> None:
        super().__init__(config, model)
        self._train_data: Any = None
        self._resumed: Optional[dict[str, Any]] = None
        self._resumed_rank_state: dict[str, Any] = {}
        self._resumed_file = ""
        self.after_save: Callable[[], None] = _do_nothing
        self._provenance: Optional[dict[str, Any]] = None
        self._initial_fingerprints = _attribute_fingerprints(model)

    def _build_scheduler(self) -> Any:
        """The schedule of the learning rate, stepped after each epoch; None without a key of one."""
        step_size, gamma, horizon = (
            self.config[key] for key in ("lr_decay_step", "lr_decay_gamma", "lr_cosine_epochs")
        )
        if horizon is not None:
            factor = functools.partial(_cosine_factor, horizon, step_size, gamma)
            return torch.optim.lr_scheduler.LambdaLR(self.optimizer, factor)
        if step_size is None:
            return None
        return torch.optim.lr_scheduler.StepLR(self.optimizer, step_size, gamma)

    def _changed_attributes(self) -> dict[str, Any]:
        """The model's numbers and tensors outside its state dict that training has changed.

        Examples are the annealing counter of RecBole's MultiVAE and the losses per step of its DiffRec.
        """
        fingerprints = _attribute_fingerprints(self.model)
        changed = [name for name, value in fingerprints.items() if self._initial_fingerprints.get(name) != value]
        return {name: getattr(self.model, name) for name in changed}

    def _optimizers_and_schedulers(self) -> dict[str, str]:
        """Attribute names of optimisers and schedulers, each with the name under which its state is stored.

        Some trainers have several and point ``optimizer`` at one of them in turn. Two names of one object share one
        stored state.
        """
        names = sorted(vars(self), key=lambda name: (name == "optimizer", name))
        stored_names: dict[int, str] = {}
        kinds = (torch.optim.Optimizer, *_SCHEDULERS)
        return {
            name: stored_names.setdefault(id(vars(self)[name]), name)
            for name in names
            if isinstance(vars(self)[name], kinds)
        }

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
        """Write everything that the rest of the training depends on, and wait until the file exists for all ranks."""
        file = kwargs.pop("saved_model_file", self.saved_model_file)
        rank_states = self.gather_rank_states(self._changed_attributes())
        if self.is_writer:
            checkpoint.write({**self._training_state(epoch), "processes": rank_states}, Path(file))
            self.after_save()
            if verbose:
                self.logger.info(set_color("Saving current", "blue") + f": {file}")
        self._wait_for_file(file)

    def _wait_for_file(self, file: str) -> None:
        """Wait until the writer has written ``file``, then mark it as trusted in the other ranks too."""
        self.barrier()
        if not self.is_writer and os.path.exists(file):
            trusted_files.trust_file(file)

    def _training_state(self, epoch: int) -> dict[str, Any]:
        """The content of a checkpoint, except for the states of the ranks."""
        generator = getattr(self._train_data, "generator", None)
        optimizers = self._optimizers_and_schedulers()
        if self._provenance is None:
            self._provenance = provenance.record(self._train_data)
        config = self.config.plain() if isinstance(self.config, Config) else plain_settings(self.config)
        return {
            "version": __version__,
            "model": self.config["model"],
            "config": config,
            "epoch": epoch,
            "cur_step": self.cur_step,
            "best_valid_score": float(self.best_valid_score),
            "best_valid_result": _plain_numbers(self.best_valid_result),
            "train_loss_dict": dict(self.train_loss_dict),
            "epochs_done": [{**row, "metrics": _plain_numbers(row.get("metrics"))} for row in self.epochs_done],
            "state_dict": self.model.state_dict(),
            "other_parameter": self.model.other_parameter(),
            "attributes": self._changed_attributes(),
            "optimizer": self.optimizer.state_dict(),
            "parts": {name: getattr(self, name).state_dict() for name in set(optimizers.values())},
            "part_names": optimizers,
            "random": random_state(),
            "loader": None if generator is None else generator.get_state(),
            "best_file": os.path.basename(self.saved_model_file),
            **self._provenance,
        }

    def resume_checkpoint(self, resume_file: Any, trust: bool = False) -> None:
        """Load the state of an interrupted run. The file stays unchanged: the resumed run writes to a new one.

        Args:
            resume_file: a checkpoint of ours or RecBole's.
            trust: unpickle any object in it; see :func:`checkpoint.read`.

        Raises:
            ValueError: not a checkpoint, of another model, of other shapes, or its best weights are missing.
            UntrustedFile: see :func:`checkpoint.read`.
        """
        state = checkpoint.read(resume_file, trust, map_location=self.device)
        if not isinstance(state, dict) or "state_dict" not in state or "epoch" not in state:
            raise ValueError(f"checkpoint {str(resume_file)!r} is not one of a training run")
        model = state.get("model") or state["config"]["model"]
        if model.lower() != self.config["model"].lower():
            raise ValueError(f"checkpoint {str(resume_file)!r} is of model {model}, not of {self.config['model']}")
        best = _best_file(Path(resume_file), state)
        self._load_weights(state, resume_file)
        self._rebuild_optimizer_if_stale()
        if best is not None:
            if self.is_writer:
                _copy(best, self.saved_model_file)
            self.barrier()
            if trust or trusted_files.is_trusted(best):
                trusted_files.trust_file(self.saved_model_file)
        self.start_epoch, self.cur_step = state["epoch"] + 1, state["cur_step"]
        self.best_valid_score = state["best_valid_score"]
        self._resumed, self._resumed_file = state, str(resume_file)
        if state.get("format") != checkpoint.FORMAT:
            self.optimizer.load_state_dict(state["optimizer"])
            self.logger.warning("a RecBole checkpoint has no random state: the resumed run will not be the same")
            return
        self._resumed_rank_state = self.rank_state(state)
        for name, value in self._resumed_rank_state["attributes"].items():
            setattr(self.model, name, value)
        self.best_valid_result = state["best_valid_result"]
        self.train_loss_dict = dict(state["train_loss_dict"])
        self.epochs_done = list(state["epochs_done"])
        self._load_optimizers_and_schedulers(state)
        self.logger.info(f"Resume after epoch {self.start_epoch} of {resume_file}")

    def _rebuild_optimizer_if_stale(self) -> None:
        """Build the optimiser again where loading the weights has replaced layers by those of other shapes."""
        optimized = {id(parameter) for group in self.optimizer.param_groups for parameter in group["params"]}
        trainable = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        if any(id(parameter) not in optimized for parameter in trainable):
            self.optimizer = self._build_optimizer()
            self.lr_scheduler = self._build_scheduler()

    def _load_optimizers_and_schedulers(self, state: dict[str, Any]) -> None:
        """Load the state of every optimiser and scheduler of a checkpoint of ours."""
        for name, value in state["parts"].items():
            target = getattr(self, name)
            if isinstance(target, torch.optim.lr_scheduler.StepLR):  # new settings of the schedule hold from here on
                value = {**value, "step_size": target.step_size, "gamma": target.gamma}
            if target is not None:
                target.load_state_dict(value)
        for name, stored_name in state["part_names"].items():
            setattr(self, name, getattr(self, stored_name))
        if self.lr_scheduler is not None:
            self.lr_scheduler.last_epoch = self.start_epoch

    def _restore_generators(self) -> None:
        """Restore the random generators of the interrupted run, as the last step of the set-up.

        Raises:
            ValueError: the training data are not those of the interrupted run.
        """
        if self._resumed is not None:
            dataset = self._train_data._dataset
            source, described = f"checkpoint {self._resumed_file!r}", getattr(dataset, "described", None)
            provenance.check_resumed(self._resumed, source, self.config, dataset, described)
        if self._resumed is not None and self._resumed.get("format") == checkpoint.FORMAT:
            restore_random_state(self._resumed_rank_state["random"])
            if self._resumed["loader"] is not None:
                self._train_data.generator.set_state(self._resumed["loader"].cpu())
        self._resumed = None

    def _load_weights(self, state: dict[str, Any], file: Any) -> None:
        checkpoint.load_weights(self.model, state, f"checkpoint {str(file)!r} does not fit the model")


def _cosine_factor(horizon: int, step_size: Optional[int], gamma: float, epoch: int) -> float:
    """Factor of the learning rate after ``epoch`` epochs: half a cosine (SGDR, eq. 5) times the steps."""
    steps = 0 if step_size is None else epoch // step_size
    return (1 + math.cos(math.pi * min(epoch / horizon, 1.0))) / 2 * gamma**steps


def _do_nothing() -> None:
    """Default of ``after_save``."""


def _best_file(file: Path, state: dict[str, Any]) -> Optional[Path]:
    """The file with the best weights of a checkpoint's run; None before the first validation.

    Raises:
        ValueError: the file is missing.
    """
    epochs = state.get("epochs_done")
    if epochs is None:  # RecBole's checkpoints are written at the best epochs only
        return file
    best = [row["epoch"] for row in epochs if row.get("best")]
    if not best or best[-1] == state["epoch"] + 1:  # epochs_done counts from 1, RecBole's key from 0
        return file if best else None
    best_file = file.resolve().with_name(state["best_file"])  # file may be a link in the run's folder
    if not best_file.is_file():
        raise ValueError(f"checkpoint {str(file)!r} needs its best weights beside it: {best_file.name}")
    return best_file


def _copy(source: Path, target: str) -> None:
    with open(source, "rb") as content:
        atomic_write(target, lambda file: shutil.copyfileobj(content, file))


def _attribute_fingerprints(model: Any) -> dict[str, Any]:
    """A fingerprint of each number and tensor among the model's plain attributes, to detect changes."""
    fingerprints: dict[str, Any] = {}
    for name, value in vars(model).items():
        if name == "training" or name.startswith("_"):
            continue
        if isinstance(value, torch.Tensor):
            fingerprints[name] = (id(value), value._version)
        elif isinstance(value, (int, float)):
            fingerprints[name] = value
    return fingerprints


def _plain_numbers(metrics: Result) -> Result:
    return None if metrics is None else {key: float(value) for key, value in metrics.items()}
