"""The keys of how torch computes: deterministic kernels, precision of products, compilation, dtype of autocast."""

from __future__ import annotations

import pytest
import torch

from recbole_diffusion import run
from recbole_diffusion.training import numerics

QUICK = {"steps": 3, "dims": [16], "epochs": 1}


def state():
    return torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision()


@pytest.mark.parametrize("keys", [{}, {"deterministic": True}, {"matmul_precision": "high"}])
def test_a_training_has_what_the_keys_ask_for_and_torchs_own_afterwards(keys, settings, monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before, seen = state(), []
    run(
        "DiffRec",
        "board",
        config_dict={**settings, **QUICK, **keys},
        saved=False,
        callback=lambda *_: seen.append(state()),
    )
    assert before == state() == (False, "highest")
    assert seen == [(keys.get("deterministic", False), keys.get("matmul_precision", "highest"))]


def fails():
    assert state() == (True, "medium")
    raise KeyError


def test_an_error_restores_torchs_own(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before, keys = state(), {"deterministic": True, "matmul_precision": "medium"}
    with pytest.raises(KeyError), numerics.settings(keys):
        fails()
    assert state() == before


@pytest.mark.parametrize(
    ("model", "count"), [("DiffRec", 1), ("LDiffRec", 1), ("DDRM", 2), ("DiffuRec", 1), ("CDDRec", 1)]
)
def test_compile_compiles_the_networks_that_a_model_names(model, count, settings, monkeypatch):
    from recbole_diffusion.testing.building import build, quick, trainer_of

    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module, *_: compiled.append(module), raising=False)
    built = build(model, {**settings, **quick(model), "compile": True})
    compiled.clear()  # a base model's
    trainer_of(built.config, built.model)
    assert len(compiled) == count
    assert all(any(network is module for module in built.model.modules()) for network in compiled)


def test_compile_without_networks_is_a_warning(settings):
    result = run("BPR", "board", config_dict={**settings, "epochs": 1, "compile": True}, saved=False)
    assert "compile has no effect on BPR, which names no networks" in result["warnings"]


@pytest.mark.parametrize(("keys", "expected"), [({}, torch.float32), ({"enable_amp": True}, torch.bfloat16)])
def test_autocast_has_the_dtype_of_the_key(keys, expected, built, monkeypatch):
    from recbole_diffusion.testing.building import trainer_of

    config, net, _, loaders = built("DiffRec", **QUICK, amp_dtype="bfloat16", **keys)
    seen, plain = [], torch.nn.Linear.forward

    def forward(layer, x):
        out = plain(layer, x)
        seen.append(out.dtype)
        return out

    monkeypatch.setattr(torch.nn.Linear, "forward", forward)
    trainer_of(config, net)._train_epoch(loaders[0], 0)
    assert set(seen) == {expected}


def test_float16_is_refused_on_the_cpu_and_a_dtype_without_autocast_is_a_warning(settings):
    keys = {**settings, **QUICK, "amp_dtype": "float16"}
    with pytest.raises(ValueError, match="amp_dtype='float16' is not allowed on the CPU"):
        run("DiffRec", "board", config_dict={**keys, "enable_amp": True}, saved=False)
    result = run("DiffRec", "board", config_dict=keys, saved=False)
    assert "amp_dtype has no effect without enable_amp: True" in result["warnings"]
