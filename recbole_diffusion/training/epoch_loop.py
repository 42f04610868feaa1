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

from recbole_diffusion.training import mixed_precision

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
    loss_function = loss_function or trainer.model.calculate_loss
    scaler = mixed_precision.gradient_scaler(trainer)
    look_every = _look_every(trainer.device)
    sums, is_tuple = None, False
    for number, interaction in enumerate(_with_bar(trainer, train_data, epoch, bar), 1):
        trainer.optimizer.zero_grad()
        reduced = 0  # with several ranks, a zero whose backward pass averages the gradients
        if trainer.is_distributed:
            trainer.set_reduce_hook()
            reduced = trainer.sync_grad_loss()
        with mixed_precision.autocast(trainer):
            losses = loss_function(to_device(interaction, trainer.device))
        is_tuple = isinstance(losses, tuple)
        loss = sum(losses) if is_tuple else losses
        values = torch.stack([part.detach().double().reshape(()) for part in (losses if is_tuple else (losses,))])
        sums = values if sums is None else sums + values
        if number % look_every == 0:
            trainer._check_nan(loss if look_every == 1 else sums.sum())
        _update(trainer, loss + reduced, scaler)
    if sums is None:
        return None
    trainer._check_nan(sums.sum())
    return tuple(sums.tolist()) if is_tuple else sums.tolist()[0]


def _look_every(device: torch.device) -> int:
    """Batches between two looks for nan."""
    return 1 if device.type == "cpu" else LOOK_EVERY


def _update(trainer: Any, loss: Tensor, scaler: Any) -> None:
    """Backward pass and update of the parameters."""
    scaler.scale(loss).backward()
    if trainer.clip_grad_norm:
        clip_grad_norm_(trainer.model.parameters(), **trainer.clip_grad_norm)
    scaler.step(trainer.optimizer)
    scaler.update()


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
