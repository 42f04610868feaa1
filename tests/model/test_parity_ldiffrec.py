"""Numbers of the official L-, T- and LT-DiffRec, frozen in tests/data/ldiffrec_official.npz (commit d35a6c6).

Four settings: A two clusters; B no clusters, hidden layers; C three clusters with decoders of their own; D three
clusters, one of a single item. B and D have rows weighted by rank in time, as LT-DiffRec feeds them. The file holds
inputs, injected noise, weights and outputs only; docs/models/diffrec.md says how it was made.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import FROZEN_DATA

from recbole_diffusion.diffusion import Timesteps
from recbole_diffusion.model.rows.autoencoder import encoder_sizes, multinomial_loss
from recbole_diffusion.model.rows.history import InteractionMatrix, SparseRows, rank_weights
from recbole_diffusion.model.rows.latent_diffusion import Annealing, LatentDiffusion

FROZEN = np.load(FROZEN_DATA / "ldiffrec_official.npz")
SETTINGS = {  # in_dims and out_dims as on the official command line
    "A": {"in_dims": [6], "out_dims": [], "dims": [6]},
    "B": {"in_dims": [5, 8], "out_dims": [7], "dims": [5]},
    "C": {"in_dims": [6, 9], "out_dims": [7], "dims": [8]},
    "D": {"in_dims": [7, 10], "out_dims": [], "dims": [6, 8]},
}
GROUPS = pytest.mark.parametrize("group", SETTINGS)


def frozen(key):
    return torch.from_numpy(np.asarray(FROZEN[key]))


def settings(group):
    process = {"noise_schedule": "linear-var", "noise_scale": 0.1, "noise_min": 0.001, "noise_max": 0.02, "steps": 7}
    process |= {"beta_fixed": False, "prediction_type": "x0", "reweight": True, "first_step_weight": 1.0}
    law = {"timestep_sampling": "importance", "history_num_per_term": 10, "uniform_prob": 0.001}
    network = {"dims_dnn": None, "embedding_size": 4, "dropout_prob": 0.0, "norm": False, "mlp_act_func": "tanh"}
    inference = {"sampling_steps": 0, "sampling_noise": False, "inference_steps": None, "eval_seed": 1}
    auto = {"ae_act_func": "tanh", "ae_dropout_prob": 0.0, "reparam": True}
    weights = {"lamda": 0.03, "anneal_steps": 500, "anneal_cap": 0.005, "vae_anneal_steps": 200, "vae_anneal_cap": 0.3}
    rates = {"mlp_learning_rate": 5e-4, "mlp_weight_decay": None}
    return {**process, **law, **network, **inference, **auto, **weights, **rates, **SETTINGS[group]}


def renamed(group, suffix=""):
    """The official names and shapes as ours: first layers of the encoders transposed, the network's split."""
    several = group != "B"
    state = {}
    for key in [key for key in FROZEN.files if key.startswith(f"{group}/ae{suffix}/")]:
        value, parts = frozen(key), key.split("/")[-1].split(".")
        cluster = parts.pop(1) if several and (parts[0] == "encoder" or group == "C") else "0"
        kind, layer, name = parts[0], int(parts[1]) // 2, parts[2]
        if kind == "encoder" and layer == 0:
            state[f"autoencoder.encoders.{cluster}.{name}"] = value.t() if name == "weight" else value
        elif kind == "encoder":
            state[f"autoencoder.encoders.{cluster}.layers.{layer - 1}.{name}"] = value
        else:
            state[f"autoencoder.decoders.{cluster}.layers.{layer}.{name}"] = value
    theirs = {key.split("/")[-1]: frozen(key) for key in FROZEN.files if key.startswith(f"{group}/dnn{suffix}/")}
    first, latent = theirs.pop("in_layers.0.weight"), frozen(f"{group}/z").shape[1]
    state |= {f"latent.denoiser.time.{name}": theirs.pop(f"emb_layer.{name}") for name in ("weight", "bias")}
    state["latent.denoiser.input.weight"], state["latent.denoiser.time_input.weight"] = (
        first[:, :latent],
        first[:, latent:],
    )
    state["latent.denoiser.input.bias"] = theirs.pop("in_layers.0.bias")
    layers = sorted({key.rsplit(".", 1)[0] for key in theirs})  # in_layers before out_layers
    for place, layer in enumerate(layers):
        name = "output" if place == len(layers) - 1 else f"hidden.{place}"
        state |= {f"latent.denoiser.{name}.{part}": theirs[f"{layer}.{part}"] for part in ("weight", "bias")}
    return state


def built(group):
    model = LatentDiffusion(settings(group), frozen(f"{group}/labels"))
    weights = renamed(group)
    assert weights.keys() == dict(model.named_parameters()).keys()
    model.load_state_dict(weights, strict=False)
    model.annealing.batches += 30
    model.annealing.epochs += 3
    return model


def injected(group, model, monkeypatch):
    """The reparametrisation's noise, the steps with their ratios, the diffusion's noise: in the official order."""
    noises = iter([frozen(f"{group}/eps"), frozen(f"{group}/noise")])
    monkeypatch.setattr(torch, "randn_like", lambda like: next(noises))
    ts, ratio = frozen(f"{group}/ts"), frozen(f"{group}/pt")
    monkeypatch.setattr(model.latent.timesteps, "sample", lambda n: Timesteps(ts, ratio))


def close(found, key, rtol=1e-5, atol=2e-6):
    torch.testing.assert_close(found.detach(), frozen(key).to(found.dtype), rtol=rtol, atol=atol)


def by_position(group, rows):
    return rows[:, frozen(f"{group}/order")]


def test_made_by_the_commit_that_is_named():
    assert str(FROZEN["meta/commit"]).startswith("d35a6c6")


@GROUPS
def test_widths_of_the_encoders(group):
    counts = torch.bincount(frozen(f"{group}/labels")).tolist()
    found = encoder_sizes(counts, [*reversed(SETTINGS[group]["in_dims"])])
    assert found == frozen(f"{group}/sizes_in").tolist()


@GROUPS
def test_encoder_and_kl(group):
    model = built(group).train()
    encoded = model.autoencoder.encode(SparseRows.of(frozen(f"{group}/x")))
    close(encoded.mu, f"{group}/mu")
    close(encoded.logvar, f"{group}/logvar")
    close(encoded.kl(), f"{group}/kl")
    close(encoded.target.dense(), f"{group}/target")


@GROUPS
def test_decoder_and_reconstruction(group):
    model = built(group)
    logits = model.autoencoder.decode(frozen(f"{group}/z0_hat"))
    close(logits, f"{group}/decoded")
    close(multinomial_loss(logits, SparseRows.of(frozen(f"{group}/target"))), f"{group}/recon")
    by_item = model.autoencoder.by_item(logits)
    torch.testing.assert_close(by_position(group, by_item), logits)


@GROUPS
def test_annealing_weights(group):
    lamda, gamma = built(group).annealing.weights()
    close(lamda, f"{group}/lam", rtol=1e-12, atol=0)
    close(gamma, f"{group}/gamma", rtol=1e-12, atol=0)


@GROUPS
def test_losses_and_gradients_of_a_batch(group, monkeypatch):
    """Each part, their sum, and every gradient: through the encoder's target too, which is not detached."""
    model = built(group).train()
    injected(group, model, monkeypatch)
    parts = model.loss(SparseRows.of(frozen(f"{group}/x")))
    lamda, gamma = frozen(f"{group}/lam"), frozen(f"{group}/gamma")
    torch.testing.assert_close(parts.diffusion.detach(), lamda * frozen(f"{group}/elbo"), rtol=1e-5, atol=0)
    torch.testing.assert_close(parts.reconstruction.detach(), frozen(f"{group}/recon"), rtol=1e-5, atol=0)
    torch.testing.assert_close(parts.kl.detach(), gamma * frozen(f"{group}/kl"), rtol=1e-5, atol=0)
    close(sum(parts), f"{group}/loss", rtol=1e-5, atol=0)
    sum(parts).backward()
    expected = renamed(group, "_grad")
    for name, parameter in model.named_parameters():
        size = float(expected[name].abs().max())
        torch.testing.assert_close(parameter.grad, expected[name], rtol=0, atol=2e-5 * size, msg=name)
    assert model.annealing.batches == 31
    assert model.annealing.epochs == 3


@GROUPS
def test_one_step_of_the_two_optimisers(group, monkeypatch):
    """One AdamW with two groups against the official two: 1e-3 for the auto-encoder, 5e-4 for the network."""
    model = built(group).train()
    injected(group, model, monkeypatch)
    optimizer = torch.optim.AdamW(model.parameter_groups(), lr=1e-3, weight_decay=0.0)
    sum(model.loss(SparseRows.of(frozen(f"{group}/x")))).backward()
    optimizer.step()
    before, expected = renamed(group), renamed(group, "_after")
    for name, parameter in model.named_parameters():
        moved = float((expected[name] - before[name]).abs().max())
        assert moved == pytest.approx(5e-4 if name.startswith("latent") else 1e-3, rel=1e-2)
        torch.testing.assert_close(parameter.detach(), expected[name], rtol=0, atol=1e-6, msg=name)


@GROUPS
def test_full_inference(group):
    """The folded chain (as the model scores) and the plain one (as a callback makes it), scores by item."""
    model = built(group).eval()
    rows = SparseRows.of(frozen(f"{group}/x"))
    with torch.no_grad():
        for callback in (None, lambda t, out, x: None):
            close(model.denoise(rows, callback=callback), f"{group}/scores")


def test_annealing_over_a_training():
    """gamma counts batches, lambda counts epochs."""
    annealing = Annealing(0.03, 500, 0.005, 200, 0.3)
    for expected in frozen("anneal/gamma"):
        torch.testing.assert_close(annealing.weights()[1], expected, rtol=1e-12, atol=0)
        annealing.batches += 1
    for expected in frozen("anneal/lam"):
        torch.testing.assert_close(annealing.weights()[0], expected, rtol=1e-12, atol=0)
        annealing.epochs += 1


@pytest.mark.parametrize("group", ["t", "t2"])
def test_weights_by_rank_in_time(group):
    users, items = frozen(f"{group}/train_list").numpy().T
    w_min, w_max = (float(FROZEN[f"{group}/{key}"]) for key in ("w_min", "w_max"))
    weights = rank_weights(users, np.arange(len(users)), w_min, w_max)
    history = InteractionMatrix.of(users, items + 1, (6, 14), weights)
    close(history.rows(torch.arange(6)), f"{group}/matrix", rtol=1e-6, atol=0)


def test_parameter_count_at_the_official_settings_of_ml_1m():
    labels = torch.cat([torch.zeros(1850), torch.ones(960)]).long()
    config = {**settings("A"), "in_dims": [300], "dims": [300], "embedding_size": 10}
    model = LatentDiffusion(config, labels)
    assert model.autoencoder.latents == [197, 103]
    counts = [sum(each.numel() for each in part.parameters()) for part in (model.autoencoder, model.latent)]
    assert counts == [1_773_070, 183_710]
