"""GiffCF's diffusion on users' rows: smoothing over the graph of items, and a network that sees the row itself too."""

from __future__ import annotations

import functools
from typing import Any, Optional, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_diffusion.diffusion import GraphSmoothing, GraphSolver, StepCallback
from recbole_diffusion.model.networks.mixing import Condition, MixingNetwork
from recbole_diffusion.model.process import graph_parts
from recbole_diffusion.model.reverse import ReverseProcess
from recbole_diffusion.model.rows.history import SparseRows


class RowSmoother(Protocol):
    """A linear operator on rows of n_items entries; implementations are modules."""

    n_items: int

    def __call__(self, rows: Tensor) -> Tensor:
        """Smooth dense rows, (B, n_items)."""
        ...

    def sparse_forward(self, rows: SparseRows) -> Tensor:
        """Smooth sparse rows; dense, (B, n_items)."""
        ...


class GraphDiffusion(ReverseProcess, nn.Module):
    """Process, solver, timestep sampler and network.

    Args:
        config: the settings; keys of properties/model/GiffCF.yaml.
        graph: the smoothing operator.

    Raises:
        ValueError: ``inference_steps`` is more than ``steps``.
    """

    process: GraphSmoothing
    solver: GraphSolver

    def __init__(self, config: Any, graph: RowSmoother) -> None:
        super().__init__()
        self.graph = graph
        self.process, self.solver, self.timesteps = graph_parts(config, graph)
        self.sampling_steps = 0
        self.dropout, self.rescale, self.norm_ord = (
            config[key] for key in ("dropout_prob", "dropout_rescale", "norm_ord")
        )
        self.denoiser = MixingNetwork(graph.n_items, config["embedding_size"], config["ablation"])

    def loss(self, rows: SparseRows, smoothed: Optional[Tensor] = None) -> Tensor:
        """Compute the mean over the rows (B, n_items) of the squared error summed over the items; scalar.

        Dropout affects the condition only: the noised rows come from the rows themselves.

        Args:
            rows: the rows.
            smoothed: the smoothed rows (B, n_items), if the caller has them.
        """
        x0, smoothed = rows.dense(), self.graph.sparse_forward(rows) if smoothed is None else smoothed
        t, ratio = self.timesteps.sample(len(x0))
        source = self.process.source(x0, torch.randn_like)
        point = self.process.sample_smoothed(x0, smoothed, t, source)
        out = self.denoiser(point.x_t, t, self.condition(self._dropped(rows)))
        loss = self.process.loss(out, self.process.x0_from_output(out, point.x_t, t), point, t)
        self.timesteps.update(t, loss)
        return (loss / ratio).mean()

    def _dropped(self, rows: SparseRows) -> SparseRows:
        """Drop interactions from the rows; in training only."""
        values = F.dropout(rows.values, self.dropout, self.training)
        if self.training and not self.rescale:
            values = values * (1 - self.dropout)
        rows = rows._replace(values=values)
        if self.training and self.dropout and values.device.type == "cpu":  # a GPU would wait for their number
            return rows.select(values != 0)
        return rows

    def condition(self, rows: SparseRows) -> Condition:
        """Compute what the network needs of the rows (B, n_items) that it is conditioned on."""
        dense = rows.dense()
        embedded = rows.times(self.denoiser.items)
        if self.norm_ord is not None:
            embedded = embedded / row_norms(rows, self.norm_ord)[:, None].clamp_min(1)
        return Condition(dense, self.graph.sparse_forward(rows), embedded)

    def denoise(self, rows: SparseRows, callback: Optional[StepCallback] = None) -> Tensor:
        """Run the reverse process from the smoothed rows, conditioned on the rows; (B, n_items)."""
        condition = self.condition(rows)
        denoise = functools.partial(self.denoiser, condition=condition)
        return self.solver.solve(denoise, self.solver.start(condition.rows, condition.smoothed), None, callback)


def row_norms(rows: SparseRows, order: int) -> Tensor:
    """Norms of sparse rows (B, n), of order 1 or 2; (B,)."""
    powers = rows.values.abs() ** order
    sums = powers.new_zeros(len(rows.offsets) - 1).index_add_(0, rows.row_index(), powers)
    return sums ** (1 / order)
