"""Laws of continuous times: densities against quantiles, symmetry, published figures, and the sampler."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbole_diffusion.diffusion import LawTimes, time_laws

LAWS = {
    "uniform": time_laws.uniform(),
    "mode": time_laws.mode(1.0),
    "flat mode": time_laws.mode(-0.5),
    "cosmap": time_laws.cosmap(),
    "logit_normal": time_laws.logit_normal(-1.0, 0.6),
}
EACH = pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)


@EACH
def test_the_density_is_the_inverse_slope_of_the_quantiles(law):
    u, step = torch.linspace(0.01, 0.99, 99, dtype=torch.float64), 1e-6
    slope = (law.time(u + step) - law.time(u - step)) / (2 * step)
    assert (slope < 0).all()
    torch.testing.assert_close(law.density(u), -1 / slope, rtol=1e-6, atol=0)


@EACH
def test_the_times_fill_the_interval_and_the_density_integrates_to_one(law):
    u = torch.linspace(1e-9, 1 - 1e-9, 200_001, dtype=torch.float64)
    t = law.time(u).flip(0)
    assert 0 <= float(t[0]) < 0.03
    assert 0.9 < float(t[-1]) <= 1
    assert float(torch.trapezoid(law.density(u).flip(0), t)) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("law", [time_laws.mode(1.0), time_laws.cosmap()], ids=["mode", "cosmap"])
def test_a_law_of_t_is_that_of_1_minus_t(law):
    u = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    torch.testing.assert_close(law.time(1 - u), 1 - law.time(u))


def test_mode_has_the_published_quantiles():
    t = time_laws.mode(1.0).time(1 - torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95], dtype=torch.float64))
    np.testing.assert_allclose(t.numpy(), [0.09, 0.35, 0.5, 0.65, 0.91], atol=0.006)


@EACH
def test_the_sampler_draws_by_the_law_up_to_its_end(law):
    sampler = LawTimes(law, end=0.9)
    t, ratio = sampler.sample(40_000, torch.Generator().manual_seed(3))
    assert t.dtype == ratio.dtype == torch.float64
    assert float(t.min()) >= 0
    assert float(t.max()) <= 0.9
    quantiles = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64)
    torch.testing.assert_close(t.quantile(quantiles), 0.9 * law.time(1 - quantiles), rtol=0, atol=0.012)
    inside = (t > 0.18) & (t < 0.54)  # of which uniform times have two fifths
    assert float((inside / ratio).mean()) == pytest.approx(0.4, abs=0.02)
    assert not sampler.state_dict()


def test_a_uniform_number_of_zero_has_a_finite_density(monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda *shape, **kind: torch.zeros(*shape, dtype=torch.float64))
    for law in LAWS.values():
        assert torch.isfinite(torch.stack([*LawTimes(law).sample(2)])).all()
