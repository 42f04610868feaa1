"""What a training run leaves in files, and how it continues from them bit for bit (on the CPU).

:class:`Resumable` is the part of :class:`recbole_diffusion.training.trainer.Training` that writes and reads
checkpoints; the format is that of :mod:`recbole_diffusion.training.checkpoint`.
"""

from __future__ import annotations

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
        epochs_done: one dict per epoch, kept by the loop.
        after_save: called when this process has written a checkpoint.
    """

    cur_step: int
    epochs_done: list[dict[str, Any]]
    optimizer: torch.optim.Optimizer
    lr_scheduler: Optional[torch.optim.lr_scheduler.StepLR]

    def __init__(self, config: Any, model: Any) -> None:
        super().__init__(config, model)
        self._train_data: Any = None
        self._resumed: Optional[dict[str, Any]] = None
        self._own: dict[str, Any] = {}  # this process's part of it
        self._resumed_file = ""
        self.after_save: Callable[[], None] = _nothing
        self._record: Optional[dict[str, Any]] = None
        self._unchanged = _attribute_marks(model)

    def _build_scheduler(self) -> Optional[torch.optim.lr_scheduler.StepLR]:
        """The learning rate's decay, stepped after each epoch; None without ``lr_decay_step``."""
        every = self.config["lr_decay_step"]
        if every is None:
            return None
        return torch.optim.lr_scheduler.StepLR(self.optimizer, every, self.config["lr_decay_gamma"])

    def _changed_attributes(self) -> dict[str, Any]:
        """The model's numbers and tensors outside its state dict that training has changed.

        RecBole's MultiVAE counts its annealing so, its DiffRec keeps the losses of each step so.
        """
        marks = _attribute_marks(self.model)
        changed = [name for name, mark in marks.items() if self._unchanged.get(name) != mark]
        return {name: getattr(self.model, name) for name in changed}

    def _parts(self) -> dict[str, str]:
        """Names of the optimisers and schedulers among the attributes, each with the name that its state is kept under.

        Some trainers have several and point ``optimizer`` at one of them in turn; two names of one object share it.
        """
        names = sorted(vars(self), key=lambda name: (name == "optimizer", name))
        owner: dict[int, str] = {}
        kinds = (torch.optim.Optimizer, *_SCHEDULERS)
        return {
            name: owner.setdefault(id(vars(self)[name]), name) for name in names if isinstance(vars(self)[name], kinds)
        }

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
        """Everything that the rest of the training depends on; see :mod:`recbole_diffusion.training.checkpoint`."""
        file = kwargs.pop("saved_model_file", self.saved_model_file)
        processes = self.gather_rank_states(self._changed_attributes())
        if self.is_writer:
            checkpoint.write({**self._state(epoch), "processes": processes}, Path(file))
            self.after_save()
            if verbose:
                self.logger.info(set_color("Saving current", "blue") + f": {file}")
        self._written(file)

    def _written(self, file: str) -> None:
        """Until the file is there for all processes, which may read it as the one that wrote it may."""
        self.barrier()
        if not self.is_writer and os.path.exists(file):
            trusted_files.trust_file(file)

    def _state(self, epoch: int) -> dict[str, Any]:
        generator = getattr(self._train_data, "generator", None)
        if self._record is None:
            self._record = provenance.record(self._train_data)
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
            "parts": {name: getattr(self, name).state_dict() for name in set(self._parts().values())},
            "part_names": self._parts(),
            "random": random_state(),
            "loader": None if generator is None else generator.get_state(),
            "best_file": os.path.basename(self.saved_model_file),
            **self._record,
        }

    def resume_checkpoint(self, resume_file: Any, trust: bool = False) -> None:
        """Continue a run from its file. The file stays as it is: the continued run writes to a new one.

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
        held = {id(one) for group in self.optimizer.param_groups for one in group["params"]}
        if any(id(one) not in held for one in self.model.parameters() if one.requires_grad):
            self.optimizer = self._build_optimizer()  # the weights came with layers of other shapes
            self.lr_scheduler = self._build_scheduler()
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
        self._own = self.rank_state(state)
        for name, value in self._own["attributes"].items():
            setattr(self.model, name, value)
        self.best_valid_result = state["best_valid_result"]
        self.train_loss_dict = dict(state["train_loss_dict"])
        self.epochs_done = list(state["epochs_done"])
        for name, value in state["parts"].items():
            part = getattr(self, name)
            if isinstance(part, torch.optim.lr_scheduler.StepLR):  # a schedule given for the rest of the run holds
                value = {**value, "step_size": part.step_size, "gamma": part.gamma}
            if part is not None:
                part.load_state_dict(value)
        for name, owner in state["part_names"].items():
            setattr(self, name, getattr(self, owner))
        if self.lr_scheduler is not None:
            self.lr_scheduler.last_epoch = self.start_epoch
        self.logger.info(f"Resume after epoch {self.start_epoch} of {resume_file}")

    def _restore_run(self) -> None:
        """The generators of the interrupted run, put back when everything else has been set up.

        Raises:
            ValueError: the training data are not those of the interrupted run.
        """
        if self._resumed is not None:
            part = self._train_data._dataset
            source, described = f"checkpoint {self._resumed_file!r}", getattr(part, "described", None)
            provenance.check_resumed(self._resumed, source, self.config, part, described)
        if self._resumed is not None and self._resumed.get("format") == checkpoint.FORMAT:
            restore_random_state(self._own["random"])
            if self._resumed["loader"] is not None:
                self._train_data.generator.set_state(self._resumed["loader"].cpu())
        self._resumed = None

    def _load_weights(self, state: dict[str, Any], file: Any) -> None:
        checkpoint.load_weights(self.model, state, f"checkpoint {str(file)!r} does not fit the model")


def _nothing() -> None:
    """What happens after a save unless a run links its files."""


def _best_file(file: Path, state: dict[str, Any]) -> Optional[Path]:
    """The file of the best weights that belongs to a checkpoint: itself, the one beside it, or none yet."""
    epochs = state.get("epochs_done")
    if epochs is None:  # RecBole's, which are written at the best epochs only
        return file
    best = [row["epoch"] for row in epochs if row.get("best")]
    if not best or best[-1] == state["epoch"] + 1:  # epochs_done counts from 1, RecBole's key from 0
        return file if best else None
    beside = file.resolve().with_name(state["best_file"])  # file may be a link in the run's folder
    if not beside.is_file():
        raise ValueError(f"checkpoint {str(file)!r} needs its best weights beside it: {beside.name}")
    return beside


def _copy(source: Path, target: str) -> None:
    with open(source, "rb") as content:
        atomic_write(target, lambda file: shutil.copyfileobj(content, file))


def _attribute_marks(model: Any) -> dict[str, Any]:
    """What tells whether a number or tensor among the model's plain attributes has changed since."""
    marks: dict[str, Any] = {}
    for name, value in vars(model).items():
        if name == "training" or name.startswith("_"):
            continue
        if isinstance(value, torch.Tensor):
            marks[name] = (id(value), value._version)
        elif isinstance(value, (int, float)):
            marks[name] = value
    return marks


def _plain_numbers(metrics: Result) -> Result:
    return None if metrics is None else {key: float(value) for key, value in metrics.items()}
