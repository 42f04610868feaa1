"""Training with ``enable_amp``: near to full precision for our models and RecBole's on graphs; others say why not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from recbole_frames import call_from_recbole
from scipy.sparse import random as random_matrix

from recbole_diffusion import registry, run
from recbole_diffusion.compat import repairs
from recbole_diffusion.model.interactions.propagation import SparseProduct
from recbole_diffusion.testing import quick, train, users_of
from recbole_diffusion.training import mixed_precision

SHORT: dict[str, Any] = {"epochs": 2}
#: Smaller rates than in the quick settings: Adam's steps depend on signs, so that large ones make of rounding errors
#: other weights.
RATES = {"HDRM": 0.01, "PreferDiff": 0.003}
_BASE = {"base_config": {"embedding_size": 8, "epochs": 1}}
_LEARNING = {**_BASE, "freeze_base": False}
CASES: list[tuple[str, dict[str, Any]]] = [
    *((spec.name, _BASE if "base_model" in spec.needs else {}) for spec in registry.ours()),
    ("DDRM", {**_LEARNING, "base_model": "LightGCN", "base_loss_weight": 1.0}),
    ("HGCF", {"precision": "float64"}),
    ("HDRM", {**_BASE, "mix": 1.0, "restrict": "both", "noise_scale": 1.0, "noise_max": 0.5}),
    ("HDRM", _LEARNING),
]


@pytest.mark.parametrize(("name", "more"), CASES)
def test_scores_in_mixed_precision_are_near_those_in_full(name, more, built):
    """After two epochs of the same random numbers. The scores themselves are float32."""
    scores = []
    for amp in (False, True):
        keys = {**quick(name), **SHORT}
        keys["learning_rate"] = RATES.get(name, keys.get("learning_rate", 0.001))
        ready = built(name, **{**keys, **more, "enable_amp": amp})
        _, model, _, loaders = ready
        trainer = train(ready)
        assert all(np.isfinite(row["train_loss"]) for row in trainer.epochs_done)
        scores.append(model.full_sort_predict(users_of(loaders)).view(8, -1)[:, 1:])
        assert scores[-1].dtype == torch.float32
        assert scores[-1].isfinite().all()
    full, mixed = scores
    error = float((full - mixed).norm() / (full - full.mean(1, keepdim=True)).norm())
    assert error < 0.05


@pytest.mark.parametrize("name", ["LightGCN", "NGCF", "SGL", "GCMC", "SpectralCF"])
def test_recboles_graph_models_train_in_mixed_precision(name, settings):
    small = {**settings, "epochs": 1, "embedding_size": 8, "train_batch_size": 512}
    full, mixed = (run(name, "board", config_dict={**small, "enable_amp": amp}, saved=False) for amp in (False, True))
    assert mixed["epochs"][0]["train_loss"] == pytest.approx(full["epochs"][0]["train_loss"], rel=0.01)
    assert 0 < mixed["test_result"]["ndcg@10"] <= 1


def test_a_model_that_cannot_is_one_line(settings):
    """RepeatNet scatters half precision into full precision."""
    more = {"epochs": 1, "enable_amp": True, "train_neg_sample_args": None, "hidden_size": 8, "embedding_size": 8}
    more["eval_args"] = {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"}
    message = r"enable_amp=True is not possible with model='RepeatNet' on cpu.* \(scatter.*set enable_amp: False"
    with pytest.raises(ValueError, match=message):
        run("RepeatNet", "board", config_dict={**settings, **more}, saved=False)


@pytest.mark.parametrize(
    ("amp", "text"), [(False, "expected scalar type Float but found BFloat16"), (True, "out of memory")]
)
def test_other_errors_stay_as_they_are(amp, text):
    with pytest.raises(RuntimeError, match=text) as caught, mixed_precision.explained({"enable_amp": amp}):
        raise RuntimeError(text)
    assert type(caught.value) is RuntimeError


def test_a_sparse_product_is_taken_in_the_matrix_own_precision():
    matrix = random_matrix(5, 4, 0.6, format="csr", random_state=0)
    product = SparseProduct(matrix)
    table = torch.randn(4, 3, requires_grad=True)
    with torch.autocast("cpu"):
        half = table @ torch.eye(3)  # in bfloat16
        out = product(half)
    assert half.dtype == torch.bfloat16
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, torch.from_numpy(matrix.toarray()).float() @ half.float())
    out.sum().backward()
    assert table.grad is not None
    wanted = torch.from_numpy(matrix.toarray()).float().sum(0)[:, None].expand(4, 3)
    torch.testing.assert_close(table.grad, wanted, rtol=0.02, atol=0.02)


def test_sparse_products_of_others_are_left_alone():
    repairs.apply()
    matrix, table = torch.eye(3).to_sparse(), torch.ones(3, 2)
    with torch.autocast("cpu"):
        half = table @ torch.eye(2)
        assert torch.sparse.mm(matrix, half).dtype == torch.bfloat16
        assert call_from_recbole(torch.sparse.mm, matrix, half).dtype == torch.float32
    repairs.undo()
    with torch.autocast("cpu"):
        assert call_from_recbole(torch.sparse.mm, matrix, half).dtype == torch.bfloat16


def _scaler(device: str, **more: Any) -> dict[str, Any]:
    base = {"enable_scaler": True, "enable_amp": False, "clip_grad_norm": None, "model": "BPR", "amp_dtype": None}
    return {**base, "device": torch.device(device), **more}


def test_gradients_are_scaled_on_a_gpu_only():
    assert mixed_precision.scales(_scaler("cuda"))
    assert not mixed_precision.scales(_scaler("cuda", enable_scaler=False))
    assert not mixed_precision.scales(_scaler("cpu", clip_grad_norm={"max_norm": 1}))
    with pytest.raises(ValueError, match="enable_scaler=True is not allowed with clip_grad_norm"):
        mixed_precision.scales(_scaler("cuda", clip_grad_norm={"max_norm": 1}))


def test_what_has_no_effect_on_the_cpu_is_said(settings):
    result = run("BPR", "board", config_dict={**settings, "epochs": 1, "enable_scaler": True}, saved=False)
    assert "enable_scaler has no effect on the CPU" in result["warnings"]
    assert mixed_precision.notes(_scaler("cuda")) == []
    assert mixed_precision.notes(_scaler("cpu", enable_scaler=False, enable_amp=True)) == []
    found = mixed_precision.notes(_scaler("cpu", enable_scaler=False, enable_amp=True, model="NCL"))
    assert found == ["enable_amp has no effect on the CPU for NCL"]
