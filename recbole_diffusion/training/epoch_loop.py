"""RecBole's training epoch without its waits for the device.

RecBole reads the loss of every batch (``.item()``), asks whether it is nan, and copies each batch from pageable memory:
a GPU is idle three times a step while the host catches up. Here the losses are added up on the device in float64, as
RecBole adds them on the host, so that the sums are equal; nan is looked for every :data:`LOOK_EVERY` batches; batches
travel through pinned memory. On the CPU nothing of this matters, and every batch is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Callable, Optional

import torch
from recbole.data.interaction import Interaction
from recbole.utils import get_gpu_usage, set_color
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from recbole_diffusion.model import hooks
from recbole_diffusion.training import cuda_graphs, mixed_precision

#: Batches between two looks for nan on a GPU. Each look waits for the device once.
LOOK_EVERY = 50


def train(trainer: Any, train_data: Any, epoch: int, loss_function: Optional[Callable[..., Any]], bar: bool) -> Any:
    """Train one epoch.

    Args:
        trainer: one of RecBole's whose epoch is ``Trainer._train_epoch``.
        train_data: loader of the training split.
        epoch: RecBole's index.
        loss_function: None: the model's ``calculate_loss``.
        bar: show a progress bar.

    Returns:
        The sum of the batches' losses, or a tuple of sums where a model returns several.

    Raises:
        ValueError: a loss is nan.
    """
    trainer.model.train()
    if trainer.is_distributed and train_data.shuffle:
        train_data.sampler.set_epoch(epoch)
    step = Step(trainer, loss_function or trainer.model.calculate_loss)
    graphs = trainer.graphed_steps(step) if loss_function is None else None
    step = step if graphs is None else graphs.step
    look_every = _look_every(trainer.device)
    sums = None
    for number, interaction in enumerate(_with_bar(trainer, train_data, epoch, bar), 1):
        batch = to_device(interaction, trainer.device)
        if graphs is not None and hooks.of(trainer.model).step_is_capturable(len(interaction)):
            losses = graphs(batch)
        else:
            losses = step(batch, looks_for_nan=look_every == 1)
        sums = losses if sums is None else sums + losses
        if look_every > 1 and number % look_every == 0:
            trainer._check_nan(sums.sum())
    if sums is None:
        return None
    if graphs is not None:
        cuda_graphs.mark_as_changed(trainer.model)
    trainer._check_nan(sums.sum())
    return tuple(sums.tolist()) if step.is_tuple else sums.tolist()[0]


class Step:
    """A training step: loss, backward pass, update.

    Attributes:
        is_tuple: whether the model returns several losses; known after the first step.
    """

    def __init__(self, trainer: Any, loss_function: Callable[..., Any]) -> None:
        self.trainer, self.loss_function, self.is_tuple = trainer, loss_function, False
        self.scaler = mixed_precision.gradient_scaler(trainer)

    def __call__(self, batch: Interaction, looks_for_nan: bool = False) -> Tensor:
        """Train on a batch that is on the device; returns its losses, float64 (n,).

        Raises:
            ValueError: a loss is nan, with ``looks_for_nan``; nothing is updated then.
        """
        trainer = self.trainer
        trainer.optimizer.zero_grad()
        reduced = 0  # with several ranks, a zero whose backward pass averages the gradients
        if trainer.is_distributed:
            trainer.set_reduce_hook()
            reduced = trainer.sync_grad_loss()
        with mixed_precision.autocast(trainer):
            losses = self.loss_function(batch)
        self.is_tuple = isinstance(losses, tuple)
        loss = sum(losses) if self.is_tuple else losses
        if looks_for_nan:
            trainer._check_nan(loss)
        self._update(loss + reduced)
        parts = losses if self.is_tuple else (losses,)
        return torch.stack([part.detach().double().reshape(()) for part in parts])

    def _update(self, loss: Tensor) -> None:
        """Backward pass and update of the parameters."""
        trainer, scaler = self.trainer, self.scaler
        scaler.scale(loss).backward()
        if trainer.clip_grad_norm:
            clip_grad_norm_(trainer.model.parameters(), **trainer.clip_grad_norm)
        scaler.step(trainer.optimizer)
        scaler.update()


def _look_every(device: torch.device) -> int:
    """Batches between two looks for nan."""
    return 1 if device.type == "cpu" else LOOK_EVERY


def to_device(interaction: Interaction, device: torch.device) -> Interaction:
    """Copy a batch to the device; to a GPU through pinned memory, so that the host does not wait for the copy."""
    if device.type != "cuda":
        return interaction.to(device)
    columns = interaction.interaction.items()
    return Interaction({name: column.pin_memory().to(device, non_blocking=True) for name, column in columns})


def _with_bar(trainer: Any, train_data: Any, epoch: int, bar: bool) -> Iterator[Interaction]:
    """The batches; with a bar that also shows a GPU's memory."""
    if not bar:
        yield from train_data
        return
    batches = tqdm(train_data, total=len(train_data), ncols=100, desc=set_color(f"Train {epoch:>5}", "pink"))
    for batch in batches:
        yield batch
        if trainer.gpu_available:
            batches.set_postfix_str(set_color("GPU RAM: " + get_gpu_usage(trainer.device), "yellow"))
