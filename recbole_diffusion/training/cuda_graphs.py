"""Training steps as CUDA graphs: one launch in place of some hundred.

A step of a small model is over on the GPU before the host has launched it. A graph holds all kernels of a step, from
the forward pass to the update, and is launched at once. What is captured is what the kernels read and write: memory
addresses. The step must therefore depend on the batch, on parameters and buffers that stay where they are, and on
torch's generator of the device alone; a model says so by the hook ``step_is_capturable``. The values are those of
plain steps.
"""

from __future__ import annotations

from typing import Any, Callable, NamedTuple, Optional

import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_diffusion.model import hooks

#: Plain steps with batches of a shape before its graph is recorded: in these, kernels are chosen and the optimiser's
#: state is made.
WARM_UP = 3
#: Most graphs that are kept: of full batches, and of an epoch's smaller last batch.
MAX_GRAPHS = 4
#: One training step: from the batch to the losses, (n,) float64 on the device.
Step = Callable[[Interaction], Tensor]


class Recorded(NamedTuple):
    """A recorded step: what it reads, what it writes, and the function that does it again."""

    replay: Callable[[], object]
    batch: dict[str, Tensor]
    losses: Tensor


class GraphedSteps:
    """Training steps that are recorded once per shape of a batch and then launched as graphs.

    Args:
        step: a plain step, which waits for nothing.
        optimizer: what it updates with; see :func:`reason_against`.
        recorder: records steps; None: one of CUDA's.
    """

    def __init__(self, step: Step, optimizer: torch.optim.Optimizer, recorder: Any = None) -> None:
        self.step, self.optimizer = step, optimizer
        self.recorder = _Recorder() if recorder is None else recorder
        self.seen: dict[Any, int] = {}
        self.graphs: dict[Any, Recorded] = {}
        self.settings = settings_of(optimizer)

    def __call__(self, batch: Interaction) -> Tensor:
        """Do one step; returns its losses."""
        if settings_of(self.optimizer) != self.settings:  # graphs hold the learning rate as a number
            self.settings = settings_of(self.optimizer)
            self.graphs.clear()
        columns = batch.interaction
        shape = tuple((name, column.shape, column.dtype) for name, column in columns.items())
        if shape not in self.graphs:
            self.seen[shape] = self.seen.get(shape, 0) + 1
            if self.seen[shape] <= WARM_UP or len(self.graphs) >= MAX_GRAPHS:
                return self.recorder.run(self.step, batch)
            self.optimizer.zero_grad(set_to_none=True)  # the gradients then lie in the graphs' memory
            self.graphs[shape] = self.recorder.record(self.step, columns)
        graph = self.graphs[shape]
        for name, column in columns.items():
            graph.batch[name].copy_(column)
        graph.replay()
        return graph.losses.clone()  # the next graph may write to the same place


class _Recorder:
    """CUDA's graphs, on a stream of their own, with one pool of memory."""

    def __init__(self) -> None:
        self.stream, self.pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()

    def run(self, step: Step, batch: Interaction) -> Tensor:
        """Do a step without a graph, on the stream of the graphs."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            losses = step(batch)
        torch.cuda.current_stream().wait_stream(self.stream)
        return losses

    def record(self, step: Step, columns: dict[str, Tensor]) -> Recorded:
        """Record a step. Nothing is computed yet."""
        static = {name: column.clone() for name, column in columns.items()}
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
            losses = step(Interaction(static))
        return Recorded(graph.replay, static, losses)


def mark_as_changed(model: torch.nn.Module) -> None:
    """Tell torch that parameters and buffers have changed: a graph writes to their memory behind its back."""
    torch.autograd.graph.increment_version([*model.parameters(), *model.buffers()])


def settings_of(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """The settings of each parameter group."""
    return [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]


def prepare(optimizer: torch.optim.Optimizer, graphed: bool) -> None:
    """Say to an optimiser whether its steps are captured. A resumed one may have it from a run on another device."""
    for group in optimizer.param_groups:
        if "capturable" in group:
            group["capturable"] = graphed


def reason_against(trainer: Any) -> Optional[str]:
    """Why the trainer's steps cannot be graphs; None if they can, from now on or later."""
    if trainer.device.type != "cuda":
        return f"the device is {trainer.device.type}"
    if trainer.is_distributed:
        return "several ranks train"
    if trainer.enable_amp or trainer.enable_scaler or trainer.clip_grad_norm:
        return "enable_amp, enable_scaler or clip_grad_norm is set"
    optimizer = trainer.optimizer
    if type(optimizer) not in (torch.optim.Adam, torch.optim.AdamW) or not optimizer.defaults.get("fused"):
        return f"the optimizer is {type(optimizer).__name__}, not the fused Adam or AdamW"
    if not hasattr(torch.autograd.graph, "increment_version"):
        return f"torch {torch.__version__} is too old"
    if hooks.of(trainer.model).step_is_capturable(trainer.config["train_batch_size"]) is None:
        return f"a training step of {trainer.config['model']} needs the host"
    return None
