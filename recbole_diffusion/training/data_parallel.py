"""What the processes of one training tell each other: gradients, buffers, rows of an evaluation, random states.

RecBole wraps the model in DistributedDataParallel, calls the wrapper with a dummy input before each batch and adds zero
times the sum of all parameters to the loss, so that gradients of a forward pass that it never saw are averaged. Here
they are averaged when the backward pass is over, on any device; one that no process has stays None. With one process
nothing of this happens.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable

import torch
import torch.distributed as dist
from recbole.trainer.trainer import AbstractTrainer
from recbole.utils import init_seed
from torch import Tensor, nn

from recbole_diffusion.data import sharding
from recbole_diffusion.model import hooks
from recbole_diffusion.support.random_state import random_state


def all_gather_rows(own: Tensor, total: int) -> Tensor:
    """The rows of all processes, (total, ...), in the order of one process; ``own``: (ceil(total / n), ...).

    Of n processes the r-th has rows r, r + n, r + 2 n, ..., and where they do not divide one row too many.
    """
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, own.contiguous())
    return torch.stack(parts, dim=1).flatten(0, 1)[:total]


class DataParallelMixin(AbstractTrainer):
    """RecBole's base of all trainers, with our way to train one model in several processes.

    The gradients of a model with ``loss_reduction = "sum"`` (:mod:`recbole_diffusion.model.hooks`) are added up.
    """

    def __init__(self, config: Any, model: Any) -> None:
        self.config, self.model = config, model
        self.is_distributed = not config["single_spec"]
        self._averaged = 0
        if self.is_distributed:
            self._join()

    @property
    def is_writer(self) -> bool:
        """Whether files are this process's to write: the first one of each machine."""
        return not self.is_distributed or self.config["local_rank"] == 0

    def _join(self) -> None:
        """The same weights for all, and random numbers of its own for each but the first."""
        Path(self.config["checkpoint_dir"]).mkdir(parents=True, exist_ok=True)  # RecBole looks, and then makes it
        if self.config["device"].type == "cuda":  # there is none for the CPU
            self.model = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
        _take_from_first(self._differing())
        for module in self.model.modules():
            if hasattr(module, "gather") and hasattr(module, "update"):  # a law of the times that learns from losses
                module.gather = _of_all_ranks
        if dist.get_rank() > 0:
            init_seed(self.config["seed"] + dist.get_rank(), self.config["reproducibility"])

    def set_reduce_hook(self) -> None:
        """Called by RecBole's trainers before each batch; nothing is to be done here."""

    def sync_grad_loss(self) -> Tensor:
        """Zero, which RecBole's trainers add to the loss: when its backward pass is over, gradients are averaged."""
        zero = torch.zeros((), device=self.config["device"], requires_grad=True)
        result: Tensor = _AfterBackward.apply(zero, self._average)
        return result

    @torch.no_grad()
    def _average(self) -> None:
        """Replace each gradient by the mean over the processes (by the sum, for a loss that is a sum)."""
        self._averaged += 1
        parameters = [each for each in self.model.parameters() if each.requires_grad]
        count = dist.get_world_size() if hooks.averages(self.model) else 1
        for dtype in dict.fromkeys(each.dtype for each in parameters):
            _add_up([each for each in parameters if each.dtype == dtype], count)

    def sync_buffers(self) -> None:
        """Give all processes the buffers of the first, e.g. BatchNorm's statistics.

        Raises:
            ValueError: the weights differ since nothing averaged the gradients.
        """
        differing = self._differing()
        if not self._averaged and any(isinstance(each, nn.Parameter) for each in differing):
            raise ValueError(
                f"the training loop of {self.config['model']} does not average the gradients of several processes; "
                "leave nproc out"
            )
        _take_from_first(differing)
        self._averaged = 0

    def _differing(self) -> list[Tensor]:
        """Parameters and buffers that are not the same in all processes, by the bits of their sums."""
        tensors = [each for each in (*self.model.parameters(), *self.model.buffers()) if each.layout is torch.strided]
        sums = torch.stack([each.detach().double().sum() for each in tensors])
        found = all_gather_rows(sums.view(torch.int64)[None], dist.get_world_size())
        return [tensors[place] for place in (found != found[0]).any(dim=0).nonzero().flatten().tolist()]

    def mean(self, losses: Any) -> Any:
        """The mean over the processes of a number or a tuple of numbers; the sum, for a loss that is a sum."""
        if not self.is_distributed:
            return losses
        values = torch.tensor(losses, dtype=torch.float64, device=self.config["device"])
        dist.all_reduce(values)
        if hooks.averages(self.model):
            values /= dist.get_world_size()
        found = values.tolist()
        return tuple(found) if isinstance(losses, tuple) else found

    def gather(self, struct: Any, users: Tensor, loader: Any) -> Tensor:
        """Put the rows of all processes into what RecBole's collector has; the users of these rows."""
        if not self.is_distributed or not sharding.is_sharded(loader):
            return users
        device, total = self.config["device"], loader.sample_size
        for key, value in struct._data_dict.items():
            if isinstance(value, Tensor):
                struct.set(key, all_gather_rows(value.to(device), total).cpu())
        return all_gather_rows(users.to(device), total).cpu()

    def broadcast_from_rank0(self, value: Any) -> Any:
        """What the first process has, so that all decide alike."""
        box = [value]
        if self.is_distributed:
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def barrier(self) -> None:
        """Until all are here."""
        if self.is_distributed:
            dist.barrier()

    def gather_rank_states(self, attributes: dict[str, Any]) -> list[dict[str, Any]]:
        """Of each process what a resumed run needs beside the weights; empty for one process."""
        if not self.is_distributed:
            return []
        found: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(found, {"random": random_state(), "attributes": attributes})
        return found

    def rank_state(self, state: dict[str, Any]) -> dict[str, Any]:
        """This process's part of :meth:`gather_rank_states` in a checkpoint.

        Of a checkpoint of another number of processes the first one goes on with the first's random numbers.
        """
        parts = state.get("processes") or [{"random": state["random"], "attributes": state["attributes"]}]
        processes, rank = (dist.get_world_size(), dist.get_rank()) if self.is_distributed else (1, 0)
        if len(parts) == processes:
            return parts[rank]
        self.logger.warning(
            f"the checkpoint is of {len(parts)} processes, this run of {processes}: it will not be the same as without "
            "the interruption"
        )
        return parts[0] if rank == 0 else {**parts[0], "random": random_state()}


class _AfterBackward(torch.autograd.Function):
    """Calls ``then()`` when the backward pass through its result is over, as torch's own FSDP does."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, then: Callable[[], None]) -> Tensor:
        ctx.then = then
        return tensor.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None]:
        engine: Any = torch.autograd.Variable._execution_engine
        engine.queue_callback(ctx.then)
        return None, None


def _add_up(parameters: Sequence[nn.Parameter], count: int) -> None:
    """Make each gradient the sum over the processes, divided by ``count``. One that no process has stays None."""
    grads = [torch.zeros_like(each) if each.grad is None else each.grad for each in parameters]
    there = torch.tensor([each.grad is not None for each in parameters], dtype=grads[0].dtype, device=grads[0].device)
    flat = torch.cat([*(each.reshape(-1) for each in grads), there])
    dist.all_reduce(flat)
    *found, there = flat.split([*map(torch.numel, grads), len(grads)])
    for parameter, grad, wanted in zip(parameters, found, there.tolist()):
        if wanted:
            parameter.grad = (grad / count).view_as(parameter)


def _take_from_first(tensors: Sequence[Tensor]) -> None:
    for each in tensors:
        value = each.detach().contiguous()
        dist.broadcast(value, src=0)
        each.detach().copy_(value)


def _of_all_ranks(values: Tensor) -> Tensor:
    """The values (n,) of the rows of all ranks, in the order of one process: see ``gather`` of a law of the times."""
    return all_gather_rows(values, len(values) * dist.get_world_size())
