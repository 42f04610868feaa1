r"""The Gaussian process: forward noising, posterior, and the meaning of a network's output.

:math:`q(x_t \mid x_0) = \mathcal N(\sqrt{\bar\alpha_t}\, x_0,\ (1-\bar\alpha_t) I)` (Ho et al. 2020, eq. 4) and
:math:`q(x_{t-1} \mid x_t, x_0) = \mathcal N(c^1_t x_0 + c^2_t x_t,\ \tilde\beta_t I)` (eq. 6, 7).
Nothing is clipped. The coefficient tables are float64 buffers; a value is cast to the dtype of the data on use.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recbole_diffusion.diffusion.process import Normal, PathSample, broadcast_per_row, row_mse
from recbole_diffusion.diffusion.sampler import Step

PREDICTIONS = ("x0", "eps", "v")


class GaussianDiffusion(nn.Module):
    r"""A discrete Gaussian diffusion with T steps, counted 0..T-1.

    Args:
        betas: (T,), each in (0, 1]; see :mod:`recbole_diffusion.diffusion.schedule`.
        prediction_type: the quantity that the network estimates: ``x0``, ``eps`` (the noise) or ``v``
            (:math:`v = \sqrt{\bar\alpha}\,\epsilon - \sqrt{1-\bar\alpha}\,x_0`, Salimans and Ho 2022).
        reweight: weight the squared error by :meth:`loss_weights`; otherwise every step has weight 1.
        first_step_weight: weight of the squared error at t = 0.
        time_scale: see :class:`~recbole_diffusion.diffusion.process.Process`.

    Buffers (float64, (T,)): ``betas``, ``alpha_bar`` :math:`\bar\alpha_t`, ``alpha_bar_prev``
    :math:`\bar\alpha_{t-1}` with :math:`\bar\alpha_{-1} = 1`, ``sqrt_alpha_bar``, ``sqrt_one_minus_alpha_bar``,
    ``coef_x0`` :math:`c^1_t`, ``coef_xt`` :math:`c^2_t`, ``posterior_variance`` :math:`\tilde\beta_t`. They follow
    from the settings and are not in the state dict.

    Raises:
        ValueError: ``prediction_type`` is not one of ``x0``, ``eps``, ``v``.
    """

    betas: Tensor
    alpha_bar: Tensor
    alpha_bar_prev: Tensor
    sqrt_alpha_bar: Tensor
    sqrt_one_minus_alpha_bar: Tensor
    coef_x0: Tensor
    coef_xt: Tensor
    posterior_variance: Tensor

    def __init__(
        self,
        betas: Tensor,
        prediction_type: str = "x0",
        reweight: bool = True,
        first_step_weight: float = 1.0,
        time_scale: float = 1.0,
    ) -> None:
        super().__init__()
        if prediction_type not in PREDICTIONS:
            raise ValueError(f"prediction_type {prediction_type!r} is not one of {', '.join(PREDICTIONS)}")
        self.prediction_type, self.steps, self.time_scale = prediction_type, len(betas), time_scale
        self.reweight, self.first_step_weight = reweight, first_step_weight
        betas = betas.to(torch.float64)
        alpha_bar = torch.cumprod(1 - betas, dim=0)
        previous = torch.cat([alpha_bar.new_ones(1), alpha_bar[:-1]])
        for name, table in {
            "betas": betas,
            "alpha_bar": alpha_bar,
            "alpha_bar_prev": previous,
            "sqrt_alpha_bar": alpha_bar.sqrt(),
            "sqrt_one_minus_alpha_bar": (1 - alpha_bar).sqrt(),
            "coef_x0": betas * previous.sqrt() / (1 - alpha_bar),
            "coef_xt": (1 - previous) * (1 - betas).sqrt() / (1 - alpha_bar),
            "posterior_variance": betas * (1 - previous) / (1 - alpha_bar),
        }.items():
            self.register_buffer(name, table, persistent=False)

    @staticmethod
    def at(table: Tensor, t: Tensor, like: Tensor) -> Tensor:
        """``table[t]`` in the dtype of ``like`` and shaped (B, 1, ...) to broadcast against it."""
        return broadcast_per_row(table[t], like)

    def source(self, like: Tensor, normal: Normal) -> Tensor:
        r"""Draw the noise :math:`\epsilon`, shape of ``like`` (B, ...)."""
        return normal(like)

    def sample(self, x0: Tensor, t: Tensor, source: Tensor) -> PathSample:
        """Noise ``x0`` to the steps ``t``. x0, source: (B, ...); t: (B,), int64."""
        return PathSample(self.q_sample(x0, t, source), self.target(x0, t, source), x0)

    def time_after(self, count: int) -> int:
        """Step reached after ``count`` forward steps; steps are counted from 0."""
        return count - 1

    def q_sample(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        r""":math:`x_t = \sqrt{\bar\alpha_t} x_0 + \sqrt{1-\bar\alpha_t}\,\epsilon`. x0, noise: (B, ...); t: (B,)."""
        scaled_noise = self.at(self.sqrt_one_minus_alpha_bar, t, x0) * noise
        return torch.addcmul(scaled_noise, self.at(self.sqrt_alpha_bar, t, x0), x0)

    def target(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Training target of the network for ``x_t``: x0, the noise or v; shape of ``x0``."""
        if self.prediction_type == "x0":
            return x0
        if self.prediction_type == "eps":
            return noise
        return self.at(self.sqrt_alpha_bar, t, x0) * noise - self.at(self.sqrt_one_minus_alpha_bar, t, x0) * x0

    def x0_from_output(self, out: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        r"""Estimate :math:`\hat x_0` from the network's output ``out``; shape of ``x_t``."""
        if self.prediction_type == "x0":
            return out
        a, b = (self.at(table, t, x_t) for table in self._x0_tables())
        return a * x_t + b * out

    def posterior_mean(self, x0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        r"""Mean of :math:`q(x_{t-1} \mid x_t, x_0)`: :math:`c^1_t x_0 + c^2_t x_t`; shape of ``x_t``."""
        return self.at(self.coef_x0, t, x_t) * x0 + self.at(self.coef_xt, t, x_t) * x_t

    def loss(self, out: Tensor, x0_hat: Tensor, sample: PathSample, t: Tensor) -> Tensor:
        """Weighted squared error of the network's output (DiffRec, eq. 9 to 12); float64, (B,)."""
        error = row_mse(out, sample.target)
        if not self.reweight:
            return error.double()
        if self.prediction_type == "eps":  # at t = 0 the term of the bound is the likelihood of x0, not an error of eps
            error = torch.where(t == 0, row_mse(x0_hat, sample.x0) / 2, error)
        return self.loss_weights(self.first_step_weight)[t] * error.double()

    def snr(self) -> Tensor:
        r"""Signal-to-noise ratio :math:`\bar\alpha_t / (1 - \bar\alpha_t)`, float64, (T,)."""
        return self.alpha_bar / (1 - self.alpha_bar)

    def loss_weights(self, first: float = 1.0) -> Tensor:
        r"""Weights of the squared error in the variational lower bound, float64, (T,).

        For x0: :math:`\mathrm{SNR}(t-1) - \mathrm{SNR}(t)` (DiffRec, eq. 10, without its factor 1/2, as in the
        official code). For eps: :math:`(1-\bar\alpha_t) / ((1-\bar\alpha_{t-1})^2 (1-\beta_t))`. For v: 1.

        Args:
            first: the weight at t = 0, where the first two formulas are infinite.
        """
        if self.prediction_type == "x0":
            snr = self.snr()
            weights = torch.cat([snr[:1], snr[:-1] - snr[1:]])
        elif self.prediction_type == "eps":
            weights = (1 - self.alpha_bar) / ((1 - self.alpha_bar_prev).square() * (1 - self.betas))
        else:
            weights = torch.ones_like(self.betas)
        return torch.cat([torch.full_like(weights[:1], first), weights[1:]])  # an assignment waits for the device

    def _x0_tables(self) -> tuple[Tensor, Tensor]:
        r"""Tables (a, b) with :math:`\hat x_0 = a x_t + b\,\mathrm{out}`."""
        if self.prediction_type == "x0":
            return torch.zeros_like(self.betas), torch.ones_like(self.betas)
        if self.prediction_type == "eps":
            return 1 / self.sqrt_alpha_bar, -self.sqrt_one_minus_alpha_bar / self.sqrt_alpha_bar
        return self.sqrt_alpha_bar, -self.sqrt_one_minus_alpha_bar

    def ancestral_steps(
        self, last: int, noise: bool = False, large: bool = False, extra_steps: bool = False
    ) -> list[Step]:
        r"""Last reverse steps t = last-1 .. 0 of the ancestral chain (Ho et al. 2020, alg. 2).

        Args:
            last: the number of steps, 1..T.
            noise: step t > 0 adds noise; otherwise each step is the posterior mean.
            large: the noise is :math:`\sqrt{\beta_t} z` rather than :math:`\sqrt{\tilde\beta_t} z` (the two choices
                of Ho et al., section 3.2).
            extra_steps: allow ``last`` > T. A step t >= T has the coefficients of T-1 while the network sees t, as
                in the official DDRM.

        Raises:
            ValueError: ``last`` is out of range.
        """
        if last < 1 or (last > self.steps and not extra_steps):
            raise ValueError(f"inference_steps must be in 1..steps={self.steps}, got {last}")
        a, b = self._x0_tables()
        p, q = self.coef_x0 * a + self.coef_xt, self.coef_x0 * b
        r = (self.betas if large else self.posterior_variance).sqrt() * float(noise)
        steps = []
        for t in reversed(range(last)):
            index = min(t, self.steps - 1)
            steps.append(Step(t, float(p[index]), float(q[index]), float(r[index]) if t else 0.0))
        return steps

    def ddim_steps(self, count: int, eta: float = 0.0) -> list[Step]:
        r"""Evenly spaced steps of DDIM from T-1 to 0 (Song et al. 2021, eq. 12).

        Args:
            count: the number of steps, 1..T.
            eta: 0 is deterministic. With 1 and ``count`` = T each step has the mean and the variance of the
                ancestral one.

        Raises:
            ValueError: ``count`` is out of range.
        """
        if not 1 <= count <= self.steps:
            raise ValueError(f"the number of DDIM steps must be in 1..steps={self.steps}, got {count}")
        times = torch.linspace(0, self.steps - 1, count, dtype=torch.float64).round().long().tolist()
        times = [self.steps - 1] if count == 1 else times
        return self._ddim(times, times, eta)

    def strided_steps(self, count: int) -> list[Step]:
        r"""Deterministic DDIM steps on the grid of the official code of PreferDiff (ICLR 2025).

        With the stride s = T // (count - 1), the network sees the times 0, s, 2 s, ...; the coefficients are those of
        the steps 0, s - 1, 2 s - 1, ... So the network sees one more than the step, and T, which training never draws.

        Args:
            count: the number of steps, 2..T+1.

        Raises:
            ValueError: ``count`` is out of range.
        """
        if not 2 <= count <= self.steps + 1:
            raise ValueError(f"the number of strided steps must be in 2..steps+1={self.steps + 1}, got {count}")
        stride = self.steps // (count - 1)
        times = [number * stride for number in range(count)]
        return self._ddim(times, [max(time - 1, 0) for time in times], 0.0)

    def _ddim(self, times: Sequence[int], indices: Sequence[int], eta: float) -> list[Step]:
        """DDIM's steps in falling order: the network sees ``times``, rising; the coefficients are of ``indices``."""
        a, b = (table.tolist() for table in self._x0_tables())
        steps = []
        for place in reversed(range(len(times))):
            index = indices[place]
            alpha_bar_t = float(self.alpha_bar[index])
            alpha_bar_s = float(self.alpha_bar[indices[place - 1]]) if place else 1.0
            variance = eta**2 * (1 - alpha_bar_s) / (1 - alpha_bar_t) * (1 - alpha_bar_t / alpha_bar_s)
            # x_s = factor_x0 * x0 + factor_xt * x_t + r z
            factor_xt = max(1 - alpha_bar_s - variance, 0.0) ** 0.5 / (1 - alpha_bar_t) ** 0.5
            factor_x0 = alpha_bar_s**0.5 - factor_xt * alpha_bar_t**0.5
            q, p = factor_x0 * b[index], factor_x0 * a[index] + factor_xt
            steps.append(Step(times[place], p, q, variance**0.5))
        return steps
