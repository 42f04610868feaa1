"""L- and LT-DiffRec: their keys, their clusters, their counters, what is in the checkpoint."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from recbole.utils import init_seed
from sklearn import cluster

from recbole_diffusion import quick_start, registry
from recbole_diffusion.model.embeddings.clusters import kmeans
from recbole_diffusion.model.rows.latent_diffusion import Annealing
from recbole_diffusion.pretraining import bases
from recbole_diffusion.training import checkpoint
from recbole_diffusion.training.trainer import trainer_class

FILE = "items.npz"
QUICK = {"steps": 4, "dims": [8], "in_dims": [12], "pretrain": FILE}
LATENT = pytest.mark.parametrize("name", ["LDiffRec", "LTDiffRec"])


@pytest.fixture(autouse=True)
def table():
    """Item embeddings in a file, with the items' names: nothing is trained first."""
    np.savez(FILE, item=np.random.default_rng(0).normal(size=(40, 4)), item_token=[f"i{each}" for each in range(40)])


def scores(model):
    model.eval()
    return model.full_sort_predict(Interaction({model.USER_ID: torch.arange(1, 9)}))


def batch(model, n=8):
    return Interaction({model.USER_ID: torch.arange(1, n + 1)})


def trainer_of(config, model):
    return trainer_class(registry.get_trainer(config["MODEL_TYPE"], config["model"], config["model"]))(config, model)


@LATENT
@pytest.mark.parametrize("n_cate", [1, 2, 3, 40])
def test_every_number_of_clusters_trains_and_ranks(name, n_cate, built):
    """40 clusters of one item each."""
    _, model, _, _ = built(name, **QUICK, n_cate=n_cate)
    assert len(model.diffusion.autoencoder.counts) == n_cate
    parts = model.train().calculate_loss(batch(model))
    sum(parts).backward()
    assert all(bool(part.isfinite()) for part in parts)
    assert all(each.grad is not None for each in model.parameters())
    assert scores(model)[:, 1:].isfinite().all()


def test_more_clusters_than_items_are_refused(built):
    with pytest.raises(ValueError, match="n_cate=41 is more than the 40 items"):
        built("LDiffRec", **QUICK, n_cate=41)


def test_equal_embeddings_make_fewer_clusters(built):
    np.savez(FILE, item=np.repeat([[0.0, 1.0], [5.0, 5.0]], [39, 1], axis=0), item_token=[f"i{n}" for n in range(40)])
    _, model, _, _ = built("LDiffRec", **QUICK, n_cate=3)
    assert sorted(model.diffusion.autoencoder.counts) == [1, 39]
    assert scores(model)[:, 1:].isfinite().all()


def test_clusters_are_those_of_k_means_by_the_items_names(built):
    _, model, dataset, _ = built("LDiffRec", **QUICK, n_cate=2)
    table = np.load(FILE)["item"].astype(np.float32)
    rows = [int(token[1:]) for token in dataset.field2id_token["item_id"][1:]]
    assert rows != sorted(rows)
    expected = kmeans(table[rows], 2, 2020)
    assert np.array_equal(model.diffusion.autoencoder.labels.numpy(), np.unique(expected, return_inverse=True)[1])


def test_k_means_is_drawn_with_the_seed(monkeypatch):
    points = np.random.default_rng(3).normal(size=(60, 5))
    assert np.array_equal(kmeans(points, 4, 1), kmeans(points, 4, 1))
    asked = []
    original = cluster.KMeans
    monkeypatch.setattr(cluster, "KMeans", lambda **keys: asked.append(keys) or original(**keys))
    kmeans(points, 4, 17)
    assert asked == [{"n_clusters": 4, "n_init": 10, "random_state": 17}]


@LATENT
def test_the_latents_network_starts_with_biases_of_zero(name, built):
    """As in the official code; DiffRec's start as small random numbers there."""
    _, model, _, _ = built(name, **QUICK)
    assert not any(each.any() for key, each in model.named_parameters() if key.endswith("bias"))
    _, model, _, _ = built("DiffRec", steps=3, dims=[8])
    assert all(each.any() for key, each in model.named_parameters() if key.endswith("bias"))


def test_nothing_is_built_that_is_thrown_away(built, monkeypatch):
    """RecBole's LDiffRec builds DiffRec's network over all items first: here every layer made is in the model."""
    made = []
    init = torch.nn.Module.register_parameter
    monkeypatch.setattr(torch.nn.Module, "register_parameter", lambda self, n, p: made.append(p) or init(self, n, p))
    _, model, _, _ = built("LDiffRec", **QUICK)
    in_the_model = {id(each) for each in model.parameters()}
    assert {id(each) for each in made if each is not None} == in_the_model


@LATENT
def test_two_learning_rates_and_weight_decays(name, built):
    config, model, _, _ = built(name, **QUICK, learning_rate=0.01, mlp_learning_rate=0.003, mlp_weight_decay=0.2)
    groups = trainer_of(config, model).optimizer.param_groups
    assert [group["lr"] for group in groups] == [0.01, 0.003]
    assert [group["weight_decay"] for group in groups] == [0.0, 0.2]
    sizes = [sum(each.numel() for each in group["params"]) for group in groups]
    parts = model.diffusion.autoencoder, model.diffusion.latent
    assert sizes == [sum(each.numel() for each in part.parameters()) for part in parts]
    config, model, _, _ = built(name, **QUICK, weight_decay=0.1, mlp_weight_decay=0.0)
    assert [group["weight_decay"] for group in trainer_of(config, model).optimizer.param_groups] == [0.1, 0.0]
    config, model, _, _ = built(name, **QUICK, learning_rate=0.02, mlp_learning_rate=None)
    assert [group["lr"] for group in trainer_of(config, model).optimizer.param_groups] == [0.02, 0.02]


@LATENT
def test_lambda_counts_epochs_and_gamma_batches(name, built, settings):
    config, model, _, loaders = built(name, **QUICK, epochs=3, train_batch_size=16)
    trainer_of(config, model).fit(loaders[0], None, saved=False, verbose=False)  # validated, the best epoch's come back
    assert int(model.diffusion.annealing.epochs) == 3
    assert int(model.diffusion.annealing.batches) == 3 * 4  # 64 users by 16
    result = quick_start.run(
        name, "board", config_dict={**settings, **QUICK, "epochs": 2, "save_last_every": 1, "train_batch_size": 16}
    )
    state = checkpoint.read(result["checkpoint"].replace(".pth", "-last.pth"))["state_dict"]
    assert int(state["diffusion.annealing.epochs"]) == 2
    assert int(state["diffusion.annealing.batches"]) == 8


def test_annealing_of_no_steps_is_constant():
    annealing = Annealing(0.03, 0, 0.005, 0, 0.3)
    annealing.batches += 7
    annealing.epochs += 7
    assert [float(weight) for weight in annealing.weights()] == [0.03, 0.3]


def test_reweight_false_puts_lambda_on_the_autoencoder(built):
    _, model, _, _ = built("LDiffRec", **QUICK, ae_dropout_prob=0.0, dropout_prob=0.0, reparam=False, lamda=0.25)
    diffusion = model.train().diffusion
    diffusion.annealing.batches += 20  # gamma = .1
    rows = model.history.sparse(torch.arange(1, 9))

    def parts(reweight):
        torch.manual_seed(5)
        diffusion.reweight = reweight
        diffusion.annealing.batches.fill_(20)
        return diffusion.loss(rows)

    one, two = parts(True), parts(False)
    torch.testing.assert_close(one.diffusion, 0.25 * two.diffusion)
    torch.testing.assert_close(two.reconstruction, 0.25 * one.reconstruction, check_dtype=False)
    torch.testing.assert_close(two.kl, 0.25 * one.kl)


@pytest.mark.parametrize("reparam", [True, False])
def test_reparam_draws_in_training_only(reparam, built):
    quiet = {"ae_dropout_prob": 0.0, "dropout_prob": 0.0, "noise_scale": 0}
    _, model, _, _ = built("LDiffRec", **{**QUICK, **quiet, "steps": 1}, reparam=reparam)
    model.train()
    rows = model.history.sparse(torch.arange(1, 9))
    once, again = (float(model.diffusion.loss(rows).reconstruction.detach()) for _ in range(2))
    assert (once != again) is reparam
    assert torch.equal(scores(model), scores(model))


@LATENT
def test_a_checkpoint_keeps_its_clusters(name, settings, monkeypatch):
    """Loaded where k-means gives other clusters, or where nothing can be pretrained at all: the same scores."""
    result = quick_start.run(name, "board", config_dict={**settings, **QUICK, "epochs": 2})
    expected = scores(quick_start.load(result["checkpoint"]).model)
    np.savez(FILE, item=np.random.default_rng(9).normal(size=(40, 4)), item_token=[f"i{each}" for each in range(40)])
    config = quick_start.configure(resume=result["checkpoint"])
    init_seed(config["seed"], True)
    other = quick_start.build_model(config, quick_start.prepare(config)[1])
    state = checkpoint.read(result["checkpoint"])["state_dict"]
    assert not torch.equal(other.diffusion.autoencoder.labels, state["diffusion.autoencoder.labels"])
    other.load_state_dict(state)
    assert torch.equal(scores(other), expected)

    def fail(*args):
        raise AssertionError("nothing is to be pretrained for weights that are there")

    monkeypatch.setattr(bases, "embeddings", fail)
    assert torch.equal(scores(quick_start.load(result["checkpoint"]).model), expected)
    more = quick_start.run(resume=result["checkpoint"], config_dict={"epochs": 3})
    assert more["timing"]["epochs"] == 3


def test_a_trainer_that_resumes_into_another_clustering_trains_the_new_layers(settings):
    result = quick_start.run("LDiffRec", "board", config_dict={**settings, **QUICK, "epochs": 2})
    np.savez(FILE, item=np.random.default_rng(9).normal(size=(40, 4)), item_token=[f"i{each}" for each in range(40)])
    config = quick_start.configure(resume=result["checkpoint"], config_dict={"epochs": 3})
    _, loaders = quick_start.prepare(config)
    model = quick_start.build_model(config, loaders)
    trainer = trainer_of(config, model)
    trainer.resume_checkpoint(result["checkpoint"])
    held = {id(one) for group in trainer.optimizer.param_groups for one in group["params"]}
    assert held == {id(one) for one in model.parameters()}
    before = model.diffusion.autoencoder.encoders[0].weight.detach().clone()
    trainer.fit(loaders[0], None, saved=False, verbose=False)
    assert not torch.equal(before, model.diffusion.autoencoder.encoders[0].weight)


@LATENT
def test_a_checkpoint_of_other_items_or_another_model_is_refused(name, settings, tmp_path):
    result = quick_start.run(name, "board", config_dict={**settings, **QUICK, "epochs": 1})
    other = quick_start.run("DiffRec", "board", config_dict={**settings, "steps": 2, "dims": [4], "epochs": 1})
    with pytest.raises(ValueError, match="of another model"):
        quick_start.run(name, "board", config_dict={**settings, **QUICK}, resume=other["checkpoint"])
    file = tmp_path / "dataset" / "board" / "board.inter"
    file.write_text("".join(line for line in file.read_text().splitlines(True) if "\ti3\t" not in line))
    assert any("1 items of checkpoint" in note for note in quick_start.load(result["checkpoint"]).config.notes)
    state = checkpoint.read(result["checkpoint"])
    del state["names"]  # as in files of before
    torch.save(state, "nameless.pth")
    with pytest.raises(ValueError, match="does not fit the data: it is of 40 items, the data set has 39"):
        quick_start.load("nameless.pth")


def test_without_embeddings_at_hand_the_error_names_the_way_out(built):
    from recbole_diffusion.model.general_recommender.ldiffrec import LDiffRec

    config, _, _, loaders = built("LDiffRec", **QUICK)
    dataset = loaders[0]._dataset
    del dataset.pretrained
    with pytest.raises(ValueError, match=r"n_cate=2 needs item embeddings.*n_cate: 1 needs none"):
        LDiffRec(config, dataset)


def test_recboles_own_ldiffrec_file_keeps_working(settings):
    file = registry.recbole_folder() / "properties" / "model" / "LDiffRec.yaml"
    config = quick_start.configure("LDiffRec", "board", config_file_list=[file], config_dict=settings)
    assert config.notes == []
    assert (config["n_cate"], config["beta_fixed"], config["dims_dnn"]) == (1, True, [300])
    result = quick_start.run("LDiffRec", "board", config_file_list=[file], config_dict={**settings, "epochs": 1})
    denoiser = quick_start.load(result["checkpoint"]).model.diffusion.latent.denoiser
    assert (denoiser.input.out_features, denoiser.output.in_features, len(denoiser.hidden)) == (300, 300, 0)


def test_new_users_need_no_training(built):
    from recbole_diffusion.model.rows.history import SparseRows

    _, model, _, _ = built("LDiffRec", **QUICK)
    known = model.history.rows(torch.arange(1, 9))
    with torch.no_grad():
        torch.testing.assert_close(model.eval().denoise(SparseRows.of(known)), scores(model)[:, 1:])
