"""Schedules: closed forms, ranges, the figures that the specifications state."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole_diffusion.diffusion import GaussianDiffusion, make_betas, schedule
from recbole_diffusion.diffusion.schedule import NAMES
from recbole_diffusion.settings import schema


@given(
    st.sampled_from([name for name in NAMES if name != "pw_lin"]),
    st.integers(1, 120),
    st.floats(1e-4, 1.0),
    st.floats(1e-4, 1e-2),
    st.floats(2e-2, 0.3),
    st.booleans(),
)
def test_every_variance_is_in_range(name, steps, scale, low, high, fixed):
    betas = make_betas(name, steps, noise_scale=scale, noise_min=low, noise_max=high, beta_fixed=fixed)
    assert betas.shape == (steps,)
    assert betas.dtype == torch.float64
    assert ((betas > 0) & (betas <= 1)).all()
    assert not fixed or betas[0] == 1e-5


@given(st.integers(2, 100), st.floats(1e-3, 1.0), st.floats(1e-4, 1e-2), st.floats(2e-2, 0.5))
def test_linear_var_makes_the_variance_linear(steps, scale, low, high):
    process = GaussianDiffusion(make_betas("linear-var", steps, noise_scale=scale, noise_min=low, noise_max=high))
    expected = torch.linspace(scale * low, scale * high, steps, dtype=torch.float64)
    torch.testing.assert_close(1 - process.alpha_bar, expected, rtol=1e-9, atol=1e-12)


def test_binomial_runs_from_one_over_t_plus_one_to_a_half():
    betas = make_betas("binomial", 7)
    torch.testing.assert_close(betas, torch.tensor([1 / 8, 1 / 7, 1 / 6, 1 / 5, 1 / 4, 1 / 3, 1 / 2]).double())


def test_cosine_is_nichol_and_dhariwal():
    process = GaussianDiffusion(make_betas("cosine", 50))
    start = math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    for t in (0, 10, 40):
        expected = math.cos(((t + 1) / 50 + 0.008) / 1.008 * math.pi / 2) ** 2 / start
        assert float(process.alpha_bar[t]) == pytest.approx(expected, rel=1e-9)


def test_trunc_lin_has_the_published_figures_of_diffurec():
    betas = make_betas("trunc_lin", 32)
    process = GaussianDiffusion(betas)
    assert float(betas[0]) == pytest.approx(0.013125)
    assert float(betas[-1]) == pytest.approx(0.635)
    assert float(process.alpha_bar[0]) == pytest.approx(0.98688, abs=1e-5)
    assert float(process.alpha_bar[-1]) == pytest.approx(9.9e-7, rel=0.01)


@pytest.mark.parametrize(
    ("name", "last"), [("linear", 1.6e-6), ("trunc_cos", 2e-3)], ids=["linear 1e-4 to .02, rescaled", "trunc_cos"]
)
def test_last_alpha_bar_at_32_steps(name, last):
    scale = 1000 / 32
    betas = make_betas(name, 32, noise_scale=scale, noise_min=1e-4, noise_max=0.02)
    assert float(GaussianDiffusion(betas).alpha_bar[-1]) == pytest.approx(last, rel=0.05)


def test_trunc_lin_changes_its_nature_below_twenty_one_steps():
    assert float(make_betas("trunc_lin", 21)[-1]) > 0.9
    assert float(make_betas("trunc_lin", 20)[-1]) < 0.1


def test_pw_lin_has_two_pieces():
    betas = make_betas("pw_lin", 32)
    scale = 1000 / 32
    assert float(betas[0]) == pytest.approx(1e-4 * scale + 0.01)
    assert float(betas[9]) == pytest.approx(float(betas[10])) == pytest.approx(1e-4 * scale)
    with pytest.raises(ValueError, match="steps > 10"):
        make_betas("pw_lin", 10)


@pytest.mark.parametrize(
    ("name", "steps", "options", "says"),
    [
        ("liner", 5, {}, "liner.*linear"),
        ("linear", 0, {}, "steps must be at least 1"),
        ("linear-var", 5, {"noise_min": 0.02, "noise_max": 0.01}, "noise_min < noise_max"),
        ("linear", 5, {"noise_min": 0.0}, "outside"),
        ("linear", 5, {"noise_scale": 100.0}, "outside"),
    ],
)
def test_wrong_settings_name_themselves(name, steps, options, says):
    with pytest.raises(ValueError, match=says):
        make_betas(name, steps, **options)


# (noise_scale, min, max, steps, std at t=0, std at T-1, smallest and largest weight of t >= 1): spec, table 1.4
PUBLISHED = [
    (1e-4, 5e-4, 5e-3, 5, 0.0032, 0.0032, 1.0e3, 1.1e3),
    (0.01, 1e-3, 0.01, 5, 0.0032, 0.0100, 2.9e3, 6.9e4),
    (0.005, 0.005, 0.01, 40, 0.0032, 0.0059, 533, 6024),
    (0.5, 1e-3, 0.01, 5, 0.0032, 0.0672, 74, 9.9e4),
]


@pytest.mark.parametrize("row", PUBLISHED)
def test_what_the_official_settings_amount_to(row):
    scale, low, high, steps, first, last, smallest, largest = row
    betas = make_betas("linear-var", steps, noise_scale=scale, noise_min=low, noise_max=high, beta_fixed=True)
    process = GaussianDiffusion(betas)
    std, weights = (1 - process.alpha_bar).sqrt(), process.loss_weights()
    assert float(std[0]) == pytest.approx(first, abs=6e-5)
    assert float(std[-1]) == pytest.approx(last, abs=6e-5)
    assert float(weights[1:].min()) == pytest.approx(smallest, rel=0.08)
    assert float(weights[1:].max()) == pytest.approx(largest, rel=0.08)
    assert weights[0] == 1


@pytest.fixture
def own():
    """A schedule that is registered during a test."""

    @schedule.register("own")
    def constant(steps, start, end):
        return torch.full((steps,), (start + end) / 2, dtype=torch.float32)

    yield constant
    schedule.unregister("own")


def test_a_registered_schedule_is_one_of_the_names(own):
    assert "own" in NAMES
    betas = make_betas("own", 3, noise_scale=0.1, noise_min=0.2, noise_max=0.6)
    assert betas.dtype == torch.float64
    torch.testing.assert_close(betas, torch.full((3,), 0.04, dtype=torch.float64), rtol=1e-6, atol=0)
    assert schema.check_key("noise_schedule", "own", "schedule", None) == "own"
    assert "| own" in schema.describe_rule("schedule")


def test_without_it_the_name_is_refused_with_the_others():
    with pytest.raises(ValueError, match=r"noise_schedule='own' is not allowed; allowed: linear \| .* \| pw_lin$"):
        schema.check_key("noise_schedule", "own", "schedule", None)


def test_a_name_belongs_to_one_schedule(own):
    assert schedule.register("own")(own) is own
    with pytest.raises(ValueError, match=r"'cosine' is .* already"):
        schedule.register("cosine")(own)


def test_a_registered_schedule_has_one_variance_per_step():
    schedule.register("short")(lambda steps, start, end: torch.full((2,), 0.1))
    try:
        with pytest.raises(ValueError, match=r"'short' gives \(2,\) variances; needed: \(3,\)"):
            make_betas("short", 3)
    finally:
        schedule.unregister("short")


def test_help_knows_the_names_without_torch():
    assert schema._names_in_source() == [name for name in schedule.NAMES if name != "mine"]
