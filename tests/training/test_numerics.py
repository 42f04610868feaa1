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
    ("model", "count"),
    [("DiffRec", 1), ("LDiffRec", 1), ("DDRM", 2), ("DiffuRec", 1), ("FMRec", 1), ("ADRec", 2), ("CDDRec", 1)],
)
def test_compile_compiles_the_networks_that_a_model_names(model, count, settings, monkeypatch):
    from recbole_diffusion.testing.building import build, quick, trainer_of

    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module, *_: compiled.append(module), raising=False)
    monkeypatch.setattr(numerics, "_check_compiler", lambda device: None)
    built = build(model, {**settings, **quick(model), "compile": True})
    trainer_of(built.config, built.model)
    assert not compiled  # an evaluation needs no compiler
    assert numerics.compile_networks(built.config, built.model) == []
    assert len(compiled) == count
    assert all(any(network is module for module in built.model.modules()) for network in compiled)


def test_compile_without_networks_is_a_warning(settings):
    result = run("BPR", "board", config_dict={**settings, "epochs": 1, "compile": True}, saved=False)
    assert "compile has no effect on BPR, which names no networks" in result["warnings"]


def test_without_a_compiler_the_run_ends_with_one_line(settings, monkeypatch):
    def compile(*_):
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found in ('g++',)\n\nSet TORCHDYNAMO_VERBOSE=1")

    monkeypatch.setattr(torch, "compile", compile, raising=False)
    monkeypatch.setattr(torch.nn.Module, "compile", compile, raising=False)
    numerics._check_compiler.cache_clear()
    with pytest.raises(
        ValueError, match=r"^compile=True does not work here: InvalidCxxCompiler: No working C\+\+ .*"
    ) as error:
        run("DiffRec", "board", config_dict={**settings, **QUICK, "compile": True}, saved=False)
    assert "\n" not in str(error.value)
    assert "set compile: False" in str(error.value)


@pytest.mark.processes  # the compiler's, and a minute where there is one
def test_a_compiled_run_equals_a_plain_one_and_exchanges_checkpoints_with_it(settings):
    """Compiled by Inductor: losses, scores, names of the weights; resumed by the other one each."""
    if not hasattr(torch.nn.Module, "compile"):
        pytest.skip("torch is older than 2.2")
    try:
        numerics._check_compiler(torch.device("cpu"))
    except ValueError as error:
        pytest.skip(f"{error}")
    keys = {**settings, **QUICK, "epochs": 2, "eval_step": 1, "stopping_step": 9}
    results = {
        compiled: run("DiffRec", "board", config_dict={**keys, "compile": compiled}) for compiled in (False, True)
    }
    losses = {compiled: [row["train_loss"] for row in result["epochs"]] for compiled, result in results.items()}
    assert losses[True] == pytest.approx(losses[False], rel=1e-5)
    assert results[True]["test_result"] == results[False]["test_result"]
    files = {compiled: result["checkpoint"] for compiled, result in results.items()}
    states = {compiled: torch.load(file, weights_only=True)["state_dict"] for compiled, file in files.items()}
    assert [*states[True]] == [*states[False]]
    for name, value in states[True].items():
        torch.testing.assert_close(value, states[False][name], rtol=1e-4, atol=1e-5)
    resumed = {
        compiled: run(resume=file, config_dict={"epochs": 4, "compile": not compiled})["epochs"][-1]["train_loss"]
        for compiled, file in files.items()
    }
    assert resumed[True] == pytest.approx(resumed[False], rel=1e-5)


@pytest.mark.parametrize(
    ("model", "keys", "graphs"),
    [
        pytest.param("DiffRec", {}, 1, marks=pytest.mark.processes),
        pytest.param("DiffuRec", {}, 3, marks=pytest.mark.slow),
        pytest.param("DDRM", {}, 2, marks=pytest.mark.slow),
    ],
)
def test_a_compiled_network_is_one_graph_for_each_size_of_batch(model, keys, graphs, settings, monkeypatch):
    """With torch's own dropout, as on a GPU: no break. DiffuRec's last batch is smaller; its evaluation is compiled."""
    dynamo = pytest.importorskip("torch._dynamo")
    if not hasattr(torch.nn.Module, "compile"):
        pytest.skip("torch is older than 2.2")
    from torch.nn import functional as F

    from recbole_diffusion.model.networks import conditional_mlp, denoiser
    from recbole_diffusion.model.sequences import transformer
    from recbole_diffusion.testing.building import build, quick, train

    for module in (denoiser, conditional_mlp, transformer):
        monkeypatch.setattr(module, "dropout", F.dropout)
    plain = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda network: plain(network, backend="eager"))
    monkeypatch.setattr(numerics, "_check_compiler", lambda device: None)
    dynamo.reset()
    counters = dynamo.utils.counters
    counters.clear()
    train(build(model, {**settings, **quick(model), **keys, "epochs": 2, "compile": True}))
    assert not counters["graph_break"]
    assert counters["stats"]["unique_graphs"] <= graphs


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
