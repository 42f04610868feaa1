r"""GiffCF's network: one item matrix in and out, and two perceptrons that mix element by element."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from recbole_diffusion.model.networks.denoiser import timestep_embedding

#: Strengths of the eigenvectors at the start: of the first, and of the second and the last of the others.
STRENGTHS = (12.0, 10.0, 4.0)
#: Inputs of the network, by the value of ``ablation`` that removes them (names of the official code).
ABLATIONS = ("none", "wo_latent", "wo_precond", "wo_postcond")
TIME_SIZE = 20


class Condition(NamedTuple):
    """What the network knows of the users beside the noised rows.

    ``rows`` c and ``smoothed`` S c: (B, n_items). ``embedded``: c, divided by its norm, times the item matrix, (B, d).
    """

    rows: Tensor
    smoothed: Tensor
    embedded: Tensor


class Mixer(nn.Module):
    r"""Perceptron :math:`w_2^\top \mathrm{silu}(W_1 [x_1, .., x_n] + b_1) + b_2` on n numbers, with two hidden units.

    The same perceptron for every element of tensors of one shape. It is computed as sums of scaled tensors, since a
    linear layer over a stacked last axis takes three times as long. There are no second derivatives.

    Args:
        n_inputs: n.
    """

    def __init__(self, n_inputs: int) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(n_inputs, 2), nn.Linear(2, 1)
        _glorot(self)

    @torch.no_grad()
    def start_linear(self, weights: tuple[float, ...]) -> None:
        """Make the mixer the linear map with these weights, exactly: silu(u) - silu(-u) = u."""
        row = torch.tensor(weights)
        self.hidden.weight.copy_(torch.stack([row, -row]))
        self.out.weight.copy_(torch.tensor([[1.0, -1.0]]))

    def forward(self, per_row: Tensor, *inputs: Tensor) -> Tensor:
        """Mix the tensors x_1 .. x_(n-1), (B, m), and x_n, (B, 1), which is ``per_row``; (B, m)."""
        weight = self.hidden.weight
        inputs = tuple(x.to(weight.dtype) for x in (per_row, *inputs))  # autocast's products are of half precision
        mixed: Tensor = _Mix.apply(weight, self.hidden.bias, self.out.weight, self.out.bias, *inputs)
        return mixed


class _Mix(torch.autograd.Function):
    """The perceptron of :class:`Mixer` with its gradient: half of the passes over the data that autograd makes."""

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, bias: Tensor, scales: Tensor, offset: Tensor, per_row: Tensor, *inputs: Tensor
    ) -> Tensor:
        out, hidden = None, []
        for factors, shift, scale in zip(weight, bias, scales[0]):
            before = torch.addcmul(factors[-1] * per_row + shift, inputs[0], factors[0])
            for x, factor in zip(inputs[1:], factors[1:]):
                before.addcmul_(x, factor)
            after = F.silu(before)
            out = torch.addcmul(offset, after, scale) if out is None else out.addcmul_(after, scale)
            hidden += [before, after]
        assert out is not None
        ctx.save_for_backward(weight, scales, per_row, *hidden, *inputs)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        weight, scales, per_row, *tensors = ctx.saved_tensors
        hidden, inputs = tensors[:4], tensors[4:]
        of_inputs: list[Optional[Tensor]] = [None] * len(inputs)
        gradient = gradient.contiguous()
        of_weight, of_bias, of_scales, of_row = [], [], [], torch.zeros_like(per_row)
        for factors, scale, before, after in zip(weight, scales[0], hidden[::2], hidden[1::2]):
            inner = torch.ops.aten.silu_backward(gradient, before)
            row_sums = inner.sum(dim=1, keepdim=True)
            products = [_dot(inner, x) for x in inputs]
            of_weight.append(scale * torch.stack([*products, _dot(row_sums, per_row)]))
            of_bias.append(scale * row_sums.sum())
            of_scales.append(_dot(gradient, after))
            of_row = of_row + scale * factors[-1] * row_sums
            for place, needed in enumerate(ctx.needs_input_grad[5:]):
                total = of_inputs[place]
                if needed:
                    factor = scale * factors[place]
                    of_inputs[place] = inner * factor if total is None else total.addcmul_(inner, factor)
        of_layers = (torch.stack(of_weight), torch.stack(of_bias), torch.stack(of_scales)[None], gradient.sum()[None])
        return (*of_layers, of_row, *of_inputs)


def _dot(x: Tensor, y: Tensor) -> Tensor:
    """Sum of the products of two tensors of one shape; scalar."""
    return torch.dot(x.reshape(-1), y.reshape(-1))


class TimeNet(nn.Module):
    """A number for each step: a perceptron on its sinusoidal embedding. Steps are embedded as 1 .. T."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(TIME_SIZE, TIME_SIZE), nn.Linear(TIME_SIZE, 1)
        _glorot(self)

    def forward(self, t: Tensor) -> Tensor:
        """Map steps t (B,), counted from 0, to (B, 1)."""
        embedding = timestep_embedding(t + 1, TIME_SIZE).to(self.hidden.weight.dtype)
        number: Tensor = self.out(F.silu(self.hidden(embedding)))
        return number


class MixingNetwork(nn.Module):
    r"""Predict users' rows from noised rows, the rows themselves, the smoothed rows and the step (GiffCF, section 3.4).

    With the item matrix E: :math:`h = \mathrm{mix}(z E / |I|, c E / \lVert c \rVert, a_t)` per latent coordinate,
    :math:`\hat x = \mathrm{mix}'(h E^\top, c, S c, b_t)` per item.

    Args:
        n_items: number of items.
        size: d, the width of the latents.
        ablation: input that the network does without, one of :data:`ABLATIONS`.
    """

    def __init__(self, n_items: int, size: int, ablation: str = "none") -> None:
        super().__init__()
        self.ablation = ablation
        self.items = nn.Parameter(torch.empty(n_items, size))
        nn.init.xavier_uniform_(self.items)
        self.latent_time, self.item_time = TimeNet(), TimeNet()
        self.latent_mixer, self.item_mixer = Mixer(3), Mixer(4)

    @torch.no_grad()
    def start_spectral(self, vectors: Tensor, noise: float = 0.0) -> None:
        r"""Start from the graph: columns of E are scaled eigenvectors, both mixers are linear but for noise.

        Without noise the prediction is :math:`\tfrac12 (z E / |I| + c E / \lVert c \rVert) E^\top + S c`. If there are
        fewer eigenvectors than columns, the other columns keep their Glorot values.

        Args:
            vectors: (n_items, k), k <= d, of the largest eigenvalues first.
            noise: standard deviation of what is added to each weight and bias of the mixers.
        """
        first, second, last = STRENGTHS
        count = vectors.shape[1]
        strengths = torch.cat([vectors.new_tensor([first]), torch.linspace(second, last, count - 1).to(vectors)])
        self.items[:, :count] = (vectors * strengths).to(self.items.dtype)
        self.latent_mixer.start_linear((1.0, 1.0, 0.0))
        self.item_mixer.start_linear((0.5, 0.0, 1.0, 0.0))
        if noise:
            for parameter in (*self.item_mixer.parameters(), *self.latent_mixer.parameters()):
                parameter.add_(noise * torch.randn_like(parameter))

    def forward(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Predict the rows (B, n_items) from noised rows x (B, n_items), steps t (B,) and the condition."""
        latent, embedded = (x @ self.items) / len(self.items), condition.embedded
        if self.ablation == "wo_latent":
            latent = torch.zeros_like(latent)
        elif self.ablation == "wo_precond":
            embedded = torch.zeros_like(embedded)
        scores = self.latent_mixer(self.latent_time(t), latent, embedded) @ self.items.t()
        rows, smoothed = condition.rows, condition.smoothed
        if self.ablation == "wo_postcond":
            rows, smoothed = torch.zeros_like(rows), torch.zeros_like(smoothed)
        predicted: Tensor = self.item_mixer(self.item_time(t), scores, rows, smoothed)
        return predicted


def _glorot(module: nn.Module) -> None:
    """Draw the weights of a module's linear layers from Glorot's uniform distribution; biases are 0."""
    for layer in module.children():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
