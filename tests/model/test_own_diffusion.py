"""The code on docs/own_diffusion.md: it runs as it stands there, and learns."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest
import torch
from test_flow_models import preferred

from recbole_diffusion import registry, run
from recbole_diffusion.diffusion import AffineSolver, schedule
from recbole_diffusion.quick_start import load

PAGE = Path(__file__).parents[2] / "docs" / "own_diffusion.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
QUICK = {"steps": 5, "dims": [16], "epochs": 60, "learning_rate": 0.01, "noise_max": 0.02, "stopping_step": 60}


@pytest.fixture
def module(tmp_path, monkeypatch):
    """``module(number)``: the block of the page, written to the working folder and imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    names = []

    def write(number):
        names.append(f"my_diffrec_{number}")
        Path(f"{names[-1]}.py").write_text(BLOCKS[number], encoding="utf-8")
        return importlib.import_module(names[-1])

    yield write
    for name in names:
        sys.modules.pop(name, None)
    registry.unregister_model("MyDiffRec")
    schedule.unregister("quadratic")


def test_a_network_and_a_schedule_of_ones_own(module, settings, built):
    own = module(0)
    result = run("MyDiffRec", "board", config_dict={**settings, **QUICK, "epochs": 1, "noise_schedule": "quadratic"})
    model = load(result["checkpoint"]).model
    assert type(model) is own.MyDiffRec
    assert type(model.diffusion.denoiser) is own.NormedNetwork
    betas = torch.tensor([0.005**0.5 + (0.02**0.5 - 0.005**0.5) * k / 4 for k in range(5)], dtype=torch.float64) ** 2
    betas = 0.005 * betas
    betas[0] = 1e-5  # beta_fixed
    torch.testing.assert_close(model.diffusion.process.betas, betas)
    assert model.nfe == result["timing"]["denoiser_calls_per_user"] == 5
    assert preferred(built, "MyDiffRec", **QUICK, noise_schedule="quadratic")[0] >= 62
    with pytest.raises(ValueError, match=r"noise_schedule='quadratc' is not allowed; allowed: linear \| .*quadratic"):
        run("MyDiffRec", "board", config_dict={**settings, **QUICK, "noise_schedule": "quadratc"})


def test_a_process_of_ones_own(module, built):
    own = module(1)
    spec = registry.specs()["DiffRec"]
    path = f"{own.__name__}:PopularityDiffRec"
    registry.register_model(
        registry.ModelSpec(name="MyDiffRec", path=path, loader=spec.loader, properties=str(spec.defaults))
    )
    right, model = preferred(built, "MyDiffRec", **QUICK)
    assert right >= 62
    assert isinstance(model.diffusion.solver, AffineSolver)
    flow = model.diffusion.process
    frequency = model.history.rows(torch.arange(1, 65)).mean(dim=0)
    torch.testing.assert_close(flow.source(torch.zeros(2, 40), torch.zeros_like), frequency.expand(2, -1))
