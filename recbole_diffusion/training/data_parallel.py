"""Collectives of data-parallel training: gradients, buffers, rows of an evaluation, random states.

RecBole wraps the model in DistributedDataParallel and works around it: it calls the wrapper with a dummy input before
each batch and adds zero times the sum of all parameters to the loss, so that gradients of a forward pass outside the
wrapper are averaged. Here an all-reduce averages the gradients when the backward pass is over, on any device. A
gradient that is None on all ranks stays None. On one rank no collective is called.
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


def all_gather_rows(rows: Tensor, total: int) -> Tensor:
    """All-gather the interleaved rows of a sharded loader.

    Rank r of n has the rows r, r + n, r + 2 n, ... of the unsharded order. Where n does not divide ``total``, the last
    ranks have one repeated row at the end, which is cut off.

    Args:
        rows: of this rank, (ceil(total / n), ...).
        total: number of rows on all ranks together.

    Returns:
        The rows in the unsharded order, (total, ...).
    """
    shards = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(shards, rows.contiguous())
    return torch.stack(shards, dim=1).flatten(0, 1)[:total]


class DataParallelMixin(AbstractTrainer):
    """Base of all trainers of RecBole, with the collectives for training one model on several ranks.

    The gradients of a model with ``loss_reduction = "sum"`` (:mod:`recbole_diffusion.model.hooks`) are summed over the
    ranks, those of all others averaged.
    """

    def __init__(self, config: Any, model: Any) -> None:
        self.config, self.model = config, model
        self.is_distributed = not config["single_spec"]
        self._gradient_reductions = 0
        if self.is_distributed:
            self._synchronize_ranks()

    @property
    def is_writer(self) -> bool:
        """Whether this rank writes the files of its machine: local rank 0 does."""
        return not self.is_distributed or self.config["local_rank"] == 0

    def _synchronize_ranks(self) -> None:
        """Broadcast the weights of rank 0, and seed every other rank differently."""
        Path(self.config["checkpoint_dir"]).mkdir(parents=True, exist_ok=True)  # RecBole's check and mkdir would race
        if self.config["device"].type == "cuda":  # SyncBatchNorm does not exist on the CPU
            self.model = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
        _broadcast_from_rank0(self._tensors_that_differ())
        for module in self.model.modules():
            if hasattr(module, "gather") and hasattr(module, "update"):  # a timestep sampler that learns from losses
                module.gather = _all_gather_values
        if dist.get_rank() > 0:
            init_seed(self.config["seed"] + dist.get_rank(), self.config["reproducibility"])

    def set_reduce_hook(self) -> None:
        """Do nothing: RecBole's trainers call this before each batch for DistributedDataParallel."""

    def sync_grad_loss(self) -> Tensor:
        """A zero that RecBole's trainers add to the loss; its backward pass triggers the all-reduce of gradients."""
        zero = torch.zeros((), device=self.config["device"], requires_grad=True)
        result: Tensor = _AfterBackward.apply(zero, self._reduce_gradients)
        return result

    @torch.no_grad()
    def _reduce_gradients(self) -> None:
        """All-reduce the gradients: the mean over the ranks, or the sum for a loss that is a sum."""
        self._gradient_reductions += 1
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        divisor = dist.get_world_size() if hooks.averages(self.model) else 1
        for dtype in dict.fromkeys(parameter.dtype for parameter in parameters):
            _all_reduce_gradients([parameter for parameter in parameters if parameter.dtype == dtype], divisor)

    def sync_buffers(self) -> None:
        """Broadcast the buffers of rank 0, e.g. BatchNorm's running statistics.

        Raises:
            ValueError: the weights differ because the training loop never reduced the gradients.
        """
        tensors = self._tensors_that_differ()
        if not self._gradient_reductions and any(isinstance(tensor, nn.Parameter) for tensor in tensors):
            raise ValueError(
                f"the training loop of {self.config['model']} does not average the gradients of several ranks; "
                "leave nproc out"
            )
        _broadcast_from_rank0(tensors)
        self._gradient_reductions = 0

    def _tensors_that_differ(self) -> list[Tensor]:
        """Parameters and buffers that are not equal on all ranks, found by the bits of their sums."""
        tensors = [
            tensor for tensor in (*self.model.parameters(), *self.model.buffers()) if tensor.layout is torch.strided
        ]
        sums = torch.stack([tensor.detach().double().sum() for tensor in tensors])
        bits = all_gather_rows(sums.view(torch.int64)[None], dist.get_world_size())
        return [tensors[index] for index in (bits != bits[0]).any(dim=0).nonzero().flatten().tolist()]

    def reduce_losses(self, losses: Any) -> Any:
        """All-reduce a number or a tuple of numbers: the mean over the ranks, or the sum for a loss that is a sum."""
        if not self.is_distributed:
            return losses
        values = torch.tensor(losses, dtype=torch.float64, device=self.config["device"])
        dist.all_reduce(values)
        if hooks.averages(self.model):
            values /= dist.get_world_size()
        reduced = values.tolist()
        return tuple(reduced) if isinstance(losses, tuple) else reduced

    def gather_evaluation(self, struct: Any, users: Tensor, loader: Any) -> Tensor:
        """All-gather the rows of an evaluation.

        Args:
            struct: data of RecBole's collector; its tensors are replaced by those of all ranks.
            users: of this rank's rows, (rows,).
            loader: of the evaluation. Nothing is gathered where it is not sharded.

        Returns:
            The users of all rows, (``loader.sample_size``,) where the loader is sharded.
        """
        if not self.is_distributed or not sharding.is_sharded(loader):
            return users
        device, total = self.config["device"], loader.sample_size
        for key, value in struct._data_dict.items():
            if isinstance(value, Tensor):
                struct.set(key, all_gather_rows(value.to(device), total).cpu())
        return all_gather_rows(users.to(device), total).cpu()

    def broadcast_from_rank0(self, value: Any) -> Any:
        """Broadcast a value that can be pickled from rank 0, so that all ranks decide alike."""
        values = [value]
        if self.is_distributed:
            dist.broadcast_object_list(values, src=0)
        return values[0]

    def barrier(self) -> None:
        """Wait until all ranks have called this."""
        if self.is_distributed:
            dist.barrier()

    def gather_rank_states(self, attributes: dict[str, Any]) -> list[dict[str, Any]]:
        """All-gather the state of each rank that a checkpoint needs beside the weights.

        Args:
            attributes: the model's changed attributes on this rank.

        Returns:
            Random state and attributes of each rank; an empty list where the training has one process.
        """
        if not self.is_distributed:
            return []
        states: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(states, {"random": random_state(), "attributes": attributes})
        return states

    def rank_state(self, state: dict[str, Any]) -> dict[str, Any]:
        """The state of this rank in a checkpoint, from :meth:`gather_rank_states`.

        Where the checkpoint has another number of ranks, rank 0 takes the random state of its rank 0; the others keep
        their own.

        Args:
            state: content of the checkpoint.
        """
        rank_states = state.get("processes") or [{"random": state["random"], "attributes": state["attributes"]}]
        world_size, rank = (dist.get_world_size(), dist.get_rank()) if self.is_distributed else (1, 0)
        if len(rank_states) == world_size:
            return rank_states[rank]
        self.logger.warning(
            f"the checkpoint was written by {len(rank_states)} ranks, this run has {world_size}: its numbers will "
            "differ from those of a run without the interruption"
        )
        return rank_states[0] if rank == 0 else {**rank_states[0], "random": random_state()}


class _AfterBackward(torch.autograd.Function):
    """Identity that calls ``callback()`` when the whole backward pass is over, as torch's FSDP does."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, callback: Callable[[], None]) -> Tensor:
        ctx.callback = callback
        return tensor.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None]:
        engine: Any = torch.autograd.Variable._execution_engine
        engine.queue_callback(ctx.callback)
        return None, None


def _all_reduce_gradients(parameters: Sequence[nn.Parameter], divisor: int) -> None:
    """Sum each gradient over the ranks and divide by ``divisor``, with one all-reduce for all of them.

    A gradient that is None on all ranks stays None. One that is None on this rank only counts as 0.

    Args:
        parameters: of one dtype.
        divisor: number of ranks for a mean, 1 for a sum.
    """
    grads = [torch.zeros_like(param) if param.grad is None else param.grad for param in parameters]
    has_grad = [param.grad is not None for param in parameters]
    counts = torch.tensor(has_grad, dtype=grads[0].dtype, device=grads[0].device)
    flat = torch.cat([*(grad.reshape(-1) for grad in grads), counts])
    dist.all_reduce(flat)
    *sums, counts = flat.split([*map(torch.numel, grads), len(grads)])
    for parameter, gradient_sum, count in zip(parameters, sums, counts.tolist()):
        if count:
            parameter.grad = (gradient_sum / divisor).view_as(parameter)


def _broadcast_from_rank0(tensors: Sequence[Tensor]) -> None:
    for tensor in tensors:
        value = tensor.detach().contiguous()
        dist.broadcast(value, src=0)
        tensor.detach().copy_(value)


def _all_gather_values(values: Tensor) -> Tensor:
    """All-gather one value per row, (n,), in the order of one rank: the ``gather`` of a timestep sampler."""
    return all_gather_rows(values, len(values) * dist.get_world_size())
