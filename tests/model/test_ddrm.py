"""DDRM's and HDRM's own: what may lie underneath, where a user's vector comes from, and the keys that say so."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction

from recbole_diffusion import load, quick_start, registry, run
from recbole_diffusion.model.embeddings.base_model import TrainableBaseModel
from recbole_diffusion.model.geometry.space import Lorentz
from recbole_diffusion.pretraining import bases, cache
from recbole_diffusion.settings import schema
from recbole_diffusion.support import yaml_files
from recbole_diffusion.training import checkpoint
from recbole_diffusion.training.trainer import trainer_class

QUICK = {"dims": [8], "steps": 5, "time_emb_size": 4, "eval_step": 1, "epochs": 2, "inference_steps": 3}
BPR = {"base_model": "BPR", "base_config": {"epochs": 2, "embedding_size": 4}}
STRONG = {"noise_scale": 1.0, "noise_min": 0.1, "noise_max": 0.5, "beta_fixed": False}
_MORE = {"DGCF": {"n_factors": 2, "train_batch_size": 256}, "NCL": {"num_clusters": 4}}
SPLIT = {"eval_args": {"split": {"RS": [8, 1, 1]}, "order": "TO"}}


@pytest.fixture
def built(built, shared_bases):
    """The same base is trained once for all tests that only build on it."""
    return lambda model, **more: built(model, **{"pretrain_dir": shared_bases, **more})


def users(model, n=8):
    return Interaction({model.USER_ID: torch.arange(1, n + 1)})


@pytest.mark.parametrize("name", ["LightGCN", "BPR", "NGCF", "SGL", "NCL", "DGCF", "SpectralCF", "HGCF"])
def test_any_base_with_embeddings_from_one_command(name, settings):
    """NGCF's and SpectralCF's tables are wider than embedding_size; HGCF's score is not an inner product."""
    if name == "NCL":
        pytest.importorskip("faiss", reason="NCL needs it, and RecBole does not name it among its dependencies")
    base = {"epochs": 1, "embedding_size": 8, **_MORE.get(name, {})}
    result = run("DDRM", "board", config_dict={**settings, **QUICK, "base_model": name, "base_config": base})
    (file,) = Path("saved/pretrain").glob(f"{name}-board-*.npz")
    model = load(result["checkpoint"]).model.eval()
    with np.load(file) as kept:
        np.testing.assert_array_equal(model.base.user.numpy(), kept["user"])
    assert model.space.curvature == (1.0 if name == "HGCF" else 0.0)


@pytest.mark.parametrize("name", ["SimpleX", "NeuMF", "MultiVAE", "DiffRec"])
def test_a_base_without_embeddings_is_refused_by_name_before_its_training(name, built):
    with pytest.raises(ValueError, match=f"model {name} does not score by the inner product"):
        built("DDRM", **QUICK, base_model=name, base_config={"epochs": 100_000})


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"base_model": "LightGNC"}, "model 'LightGNC' is neither ours.*did you mean LightGCN"),
        ({"base_model": "SASRec"}, "base_model='SASRec' is not allowed; allowed: a general recommender"),
        ({"base_model": "EASE"}, "base_model='EASE' is not allowed; allowed: a general recommender"),
        ({"base_model": "LDiffRec"}, "base_model='LDiffRec' is not allowed: it needs pretrained embeddings itself"),
        ({"base_model": "HDRM"}, "base_model='HDRM' is not allowed: it needs pretrained embeddings itself"),
        ({"base_config": {"eval_args": {}}}, "base_config.eval_args is not allowed: the data and its split"),
        ({"base_config": {"epochs": "many"}}, "epochs='many' is not allowed"),
        ({"base_config": [1]}, r"base_config=\[1\] is not allowed"),
        ({"base_checkpoint": "none.npz"}, "base_checkpoint='none.npz' does not exist"),
        ({"base_checkpoint": "one.npz"}, "base_checkpoint='one.npz' holds item; needed: user, item"),
        ({"base_checkpoint": "few.npz"}, "base_checkpoint='few.npz' has 7 users, the data set 64"),
        ({"base_checkpoint": "uneven.npz"}, "user and item differ in width: 4 and 3"),
        ({"base_checkpoint": "good.npz", "base_config": {"embedding_size": 9}}, "embedding_size=9 is not the width"),
        ({"base_checkpoint": "good.npz", "base_model": "HGCF"}, "base_model='HGCF' has no tables of layer-0"),
        ({"base_checkpoint": "text.pth"}, "cannot be read: it is no checkpoint"),
        ({"sampling_steps": 6}, "sampling_steps=6 is more than steps=5"),
        ({"freeze_base": False, "base_model": "NCL"}, "base_loss_weight=1.0 is not allowed with NCL as base"),
        ({"base_config": {"epochs": 0}}, "base_config.epochs=0 would leave BPR untrained"),
        ({"base_config": {"learning_rate": "x"}}, "base_config: learning_rate='x' is not allowed"),
        ({"base_checkpoint": "huge.npz"}, "user holds numbers that are not finite"),
        ({"base_checkpoint": "lists.tar"}, "holds no settings; it is not a checkpoint of a run"),
        ({"base_checkpoint": "number.pth"}, "holds no settings; it is not a checkpoint of a run"),
        ({"triple_sampling": "interaction", "train_neg_sample_args": None}, "'interaction' needs negatives in RecBole"),
        ({"freeze_base": False, "train_neg_sample_args": None}, "freeze_base: False needs negatives in RecBole"),
        ({"start": "mean"}, "start='mean' is not allowed; allowed: history_mean"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(keys, message, built):
    np.savez("one.npz", item=np.ones((40, 3)))
    np.savez("few.npz", user=np.ones((7, 3)), item=np.ones((40, 3)))
    np.savez("uneven.npz", user=np.ones((64, 4)), item=np.ones((40, 3)))
    np.savez("good.npz", user=np.ones((64, 4)), item=np.ones((40, 4)))
    np.savez("huge.npz", user=np.full((64, 4), 1e300), item=np.ones((40, 4)))
    torch.save({"embedding_user.weight": [1.0], "embedding_item.weight": [1.0]}, "lists.tar")
    torch.save({"config": 3, "state_dict": {}}, "number.pth")
    Path("text.pth").write_text("not a file of torch")
    with pytest.raises(ValueError, match=message):
        built("DDRM", **{**QUICK, **BPR, **keys})


def test_tables_of_a_file_are_layer_0_of_the_base(built):
    """As DDRM's authors ship them: rows by the tokens 0, 1, ...; at depth 0 they are what is ranked with."""
    draw = np.random.default_rng(0)
    user, item = draw.normal(size=(64, 4)).astype(np.float32), draw.normal(size=(40, 4)).astype(np.float32)
    np.savez("named.npz", user=user, item=item, user_token=[f"u{n}" for n in range(64)],
             item_token=[f"i{n}" for n in range(40)])  # fmt: skip
    flat, deep = (
        built("DDRM", **QUICK, base_model=model, base_config=own, base_checkpoint="named.npz")
        for model, own in (("BPR", {}), ("LightGCN", {"n_layers": 2}))
    )
    dataset = flat[2]
    rows = [int(token[1:]) for token in dataset.field2id_token["item_id"][1:]]
    np.testing.assert_array_equal(flat[1].base.item[1:].numpy(), item[rows])
    rows = [int(token[1:]) for token in dataset.field2id_token["user_id"][1:]]
    np.testing.assert_array_equal(flat[1].base.user[1:].numpy(), user[rows])
    _, net, *_ = built("LightGCN", embedding_size=4, n_layers=2)
    net.user_embedding.weight.data[1:] = flat[1].base.user[1:]
    net.item_embedding.weight.data[1:] = flat[1].base.item[1:]
    torch.testing.assert_close(deep[1].base.item[1:], net()[1][1:].detach())
    assert not list(Path("saved").glob("pretrain/*"))


def test_official_names_count_from_0(settings, tmp_path):
    """A data set whose tokens are the official numbers, in another order than RecBole's."""
    from conftest import HEADER, write_inter

    order = np.random.default_rng(1).permutation(64)
    rows = [(user, (user + k) % 40, 5.0, 1000 + k) for user in order for k in range(12)]
    write_inter(tmp_path / "dataset", "numbers", rows, HEADER)
    tables = {"embedding_user.weight": np.arange(64.0)[:, None] + [[0, 0.5]],
              "embedding_item.weight": np.arange(40.0)[:, None] + [[0, 0.5]]}  # fmt: skip
    np.savez("official.npz", **tables)
    torch.save({key: torch.from_numpy(value) for key, value in tables.items()}, "official.tar")
    for file in ("official.npz", "official.tar"):
        own = {"base_model": "BPR", "base_checkpoint": file}
        result = run("DDRM", "numbers", config_dict={**settings, **QUICK, **own})
        loaded = load(result["checkpoint"])
        tokens = loaded.dataset.field2id_token["user_id"][1:]
        assert loaded.model.base.user[1:, 0].tolist() == [float(token) for token in tokens]


def test_a_checkpoint_as_base_brings_its_own_settings(settings):
    trained = run(
        "LightGCN", "board", config_dict={**settings, **SPLIT, "epochs": 1, "embedding_size": 8, "n_layers": 1}
    )
    for frozen in (True, False):
        keys = {**settings, **SPLIT, **QUICK, "base_checkpoint": trained["checkpoint"], "freeze_base": frozen}
        result = run("DDRM", "board", config_dict=keys)
        stored = checkpoint.read(result["checkpoint"])["config"]
        assert stored["base_model"] == "LightGCN"
        assert (stored["base_config"]["n_layers"], stored["base_config"]["embedding_size"]) == (1, 8)
        copy_of_base = Path(trained["checkpoint"]).read_bytes()
        Path(trained["checkpoint"]).unlink()  # not needed any more
        model = load(result["checkpoint"]).model
        assert model.base()[0].shape[1] == 8
        assert isinstance(model.base, TrainableBaseModel) != frozen
        Path(trained["checkpoint"]).write_bytes(copy_of_base)


def test_the_base_is_frozen_or_learns_at_its_own_rate(built):
    _, model, _, loaders = built("DDRM", **QUICK, **BPR)
    assert not any(parameter.shape[0] in (64, 65, 41) for parameter in model.parameters())
    assert {"base.user", "base.item"} <= {*model.state_dict()}
    _, model, _, loaders = built("DDRM", **QUICK, **BPR, freeze_base=False, base_learning_rate=0.1)
    networks, base = model.parameter_groups()
    assert "lr" not in networks
    assert base["lr"] == 0.1
    assert {id(each) for each in base["params"]} == {id(each) for each in model.base.net.parameters()}
    losses = model.calculate_loss(next(iter(loaders[0])))
    assert len(losses) == 3
    sum(losses[:2]).backward()  # without its own loss the base still learns from the diffusion's
    assert model.base.net.item_embedding.weight.grad.abs().sum() > 0
    model.zero_grad()
    losses = model.calculate_loss(next(iter(loaders[0])))
    losses[2].backward()
    assert model.base.net.user_embedding.weight.grad.abs().sum() > 0


def test_a_learning_base_is_ranked_with_as_it_is_now(built):
    """Kept tables must not outlive a change of the weights, nor a copy share them with its original."""
    _, model, *_ = built("DDRM", **QUICK, **BPR, freeze_base=False, sampling_steps=0)
    model.eval()
    first = model.full_sort_predict(users(model))
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.base.net.item_embedding.weight.mul_(2)
    second = twin.full_sort_predict(users(model))
    assert not torch.allclose(second[:, 1:], first[:, 1:])
    torch.testing.assert_close(model.full_sort_predict(users(model)), first)


def test_starts(built):
    _, model, _, _ = built("DDRM", **QUICK, **BPR)
    user, item = model.base()
    rows = model.history.rows(torch.arange(1, 5))
    means = rows @ item[1:] / rows.sum(1, keepdim=True)
    torch.testing.assert_close(model._starts(user, item)[1:5], means)
    model.start = "user"
    assert model._starts(user, item) is user
    model.start = "item_mean"
    torch.testing.assert_close(model._starts(user, item)[3], item[1:].mean(0))
    assert not model._starts(user, item).isnan().any()


def test_chains_by_hand(built):
    """One call without noise; the condition without guidance; users denoised first."""
    one = {**QUICK, **BPR, "inference_steps": 1, "sampling_steps": 0}
    _, model, *_ = built("DDRM", **one)
    model.eval()
    asked = torch.arange(1, 9)
    user, item = model.base()
    start = model._starts(user, item)[asked]
    zero = torch.zeros(8, dtype=torch.int64)
    with torch.no_grad():
        expected = model.diffusion.item_denoiser(start, zero, user[asked])
        torch.testing.assert_close(model.represent(asked), expected)
        model.denoise_users = True
        condition = model.diffusion.user_denoiser(user[asked], zero, start)
        expected = model.diffusion.item_denoiser(start, zero, condition)
        torch.testing.assert_close(model.represent(asked), expected)
    assert model.nfe == model.denoiser_calls == 2
    _, model, *_ = built("DDRM", **one, guidance=False)
    model.eval()
    with torch.no_grad():
        expected = model.diffusion.item_denoiser(start, zero)
        torch.testing.assert_close(model.represent(asked), expected)


def test_triples_of_the_loader_or_of_our_own(built, monkeypatch):
    _, model, _, loaders = built("DDRM", **QUICK, **BPR, triple_sampling="interaction")
    batch = next(iter(loaders[0]))
    users, positives, negatives = model._triples(batch)
    assert users is batch["user_id"]
    assert positives is batch["item_id"]
    assert negatives is batch["neg_item_id"]
    _, model, *_ = built("DDRM", **QUICK, **BPR)
    assert all(len(each) == len(batch) for each in model._triples(batch))


def test_a_restricted_noise_takes_its_statistics_from_the_tables(built):
    hgcf = {"embedding_size": 8, "epochs": 1}
    for order in ("official", "signed"):
        _, model, *_ = built("HDRM", **QUICK, **STRONG, base_config=hgcf, restrict="directional", noise_order=order)
        user, item = model.tables()
        model.diffusion.noise.prepare(user, item)
        noise, t = torch.randn(65, 8), torch.full((65,), 4)
        mean, deviation = user[1:].mean(0), user[1:].std(0)
        expected = mean + deviation * user.sign() * noise.abs()
        if order == "signed":
            expected = user.sign() * (mean + deviation * noise).abs()
        process = model.diffusion.noise.process
        torch.testing.assert_close(model.diffusion.noise(user, t, noise, True), process.q_sample(user, t, expected))
        assert not model.diffusion.noise(user, t, noise, True)[:, 0].any()  # of the time coordinate


def test_the_radial_push(built):
    keys = {**QUICK, **STRONG, "radial_push": 0.5, "radial_steps": 10.0}
    own = {"base_config": {"embedding_size": 8, "epochs": 1, "curvature": 4.0}}
    noise, t = torch.randn(65, 8), torch.full((65,), 4)
    found = {}
    for restrict in ("directional", "radial", "both"):
        _, model, *_ = built("HDRM", **keys, **own, restrict=restrict)
        user, item = model.tables()
        model.diffusion.noise.prepare(user, item)
        found[restrict] = model.diffusion.noise(user, t, noise, True)
    pushed = 0.5 * np.tanh(2 * 4 / 10) * user  # the root of the curvature is 2
    plain = model.diffusion.noise.process.q_sample(user, t, noise)
    torch.testing.assert_close(found["radial"], plain + pushed)
    torch.testing.assert_close(found["both"], found["directional"] + pushed)


def test_hdrm_mixes_and_scores_on_the_hyperboloid(built):
    hgcf = {"embedding_size": 8, "epochs": 1}
    _, model, *_ = built("HDRM", **QUICK, base_config=hgcf)
    model.eval()
    asked = torch.arange(1, 9)
    user, item = model.base()
    model.mix = 1e-9
    torch.testing.assert_close(model.represent(asked), user[asked])
    scores = model.full_sort_predict(users(model))
    space = Lorentz(1.0)
    points = [space.exp0(each) for each in (user[asked], item)]
    distances = space.sqdist(points[0][:, None].expand(-1, 41, -1), points[1][None].expand(8, -1, -1))
    assert torch.equal(scores[:, 1:].argsort(1, descending=True), distances[:, 1:].argsort(1))


def test_a_flat_base_under_hdrm_gets_a_time_coordinate(built):
    _, model, *_ = built("HDRM", **QUICK, **BPR)
    user, _ = model.tables()
    assert user.shape[1] == 5
    assert not user[:, 0].any()
    assert model.space.curvature == 1.0


def test_the_first_stage_is_trained_once_and_not_at_load(settings, monkeypatch):
    first = run("DDRM", "board", config_dict={**settings, **QUICK, **BPR})
    monkeypatch.setattr(cache, "_train", None)
    again = run("DDRM", "board", config_dict={**settings, **QUICK, **BPR})
    assert first["test_result"] == again["test_result"]
    for file in Path("saved/pretrain").glob("*"):
        file.unlink()
    assert load(first["checkpoint"]).model.base.user.shape == (65, 4)


def test_a_checkpoint_of_other_users_or_of_another_model_is_refused(settings):
    result = run("DDRM", "board", config_dict={**settings, **QUICK, **BPR})
    other = {"item_inter_num_interval": "[25,inf)"}
    assert any("items of checkpoint" in note for note in load(result["checkpoint"], config_dict=other).config.notes)
    state = checkpoint.read(result["checkpoint"])
    torch.save({key: value for key, value in state.items() if key != "names"}, "nameless.pth")
    with pytest.raises(
        ValueError, match="not fit the data: it is of 64 users and 40 items, the data set has 64 and 19;"
    ):
        load("nameless.pth", config_dict=other)
    del state["state_dict"]["base.user"]
    torch.save(state, "broken.pth")
    with pytest.raises(ValueError, match="they hold no embeddings of a base"):
        load("broken.pth")


def test_enable_trains_the_base_in_recboles_quick_start_too(settings, numpy_restored):
    import recbole_diffusion

    recbole_diffusion.enable()
    from recbole.quick_start import run_recbole

    result = run_recbole(model="DDRM", dataset="board", config_dict={**settings, **QUICK, **BPR})
    assert list(Path("saved/pretrain").glob("BPR-board-*.npz"))
    assert result["test_result"] == run("DDRM", "board", config_dict={**settings, **QUICK, **BPR})["test_result"]


def test_a_data_set_that_was_not_prepared_by_us_is_named(built):
    config, _, _, loaders = built("DDRM", **QUICK, **BPR)
    del loaders[0]._dataset.pretrained
    with pytest.raises(ValueError, match="base_model needs another recommender, which recbole_diffusion"):
        config.model_class(config, loaders[0]._dataset)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_hgcf_in_both_precisions(precision, built):
    _, model, _, loaders = built("HGCF", embedding_size=8, precision=precision)
    assert model.points.dtype == getattr(torch, precision)
    model.calculate_loss(next(iter(loaders[0]))).backward()
    assert torch.isfinite(model.points.grad).all()
    assert model.full_sort_predict(users(model)).dtype == torch.float32


def test_hgcf_without_negatives_in_the_batches_is_refused(built):
    with pytest.raises(ValueError, match="triple_sampling='interaction' needs negatives in RecBole's batches"):
        built("HGCF", embedding_size=8, triple_sampling="interaction", train_neg_sample_args=None)


def test_hgcf_triples_learner_and_depth(built):
    _, model, _, loaders = built("HGCF", embedding_size=8, triple_sampling="interaction", n_layers=0)
    user, item = model()
    torch.testing.assert_close(torch.cat([user, item]), model.space.log0(model.points))
    assert model.triples is None
    model.calculate_loss(next(iter(loaders[0])))
    with pytest.raises(ValueError, match="learner='adam' is not allowed; allowed: rsgd"):
        built("HGCF", learner="adam")


@pytest.mark.parametrize(("name", "more"), [("DDRM", {"reweight_gamma": 1.0}), ("HDRM", {"reduction": "mean"}),
                                            ("HDRM", {"restrict": "both"})])  # fmt: skip
def test_blocks_of_rows_change_nothing(name, more, built, monkeypatch):
    """Loss and gradients of a batch in blocks of 5 and at once; without dropout, whose draws follow the blocks."""
    base = {} if name == "HDRM" else {"base_model": "BPR"}
    base |= {"base_config": {"epochs": 1, "embedding_size": 8}}
    _, model, _, loaders = built(name, **QUICK, **base, **more, dropout_prob=0.0)
    batch = next(iter(loaders[0]))
    found = []
    for block in (5, 10_000):
        monkeypatch.setattr("recbole_diffusion.model.embeddings.embedding_recommender.BLOCK", block)
        torch.manual_seed(1)
        model.zero_grad()
        losses = model.calculate_loss(batch)
        sum(losses).backward()
        found.append(([float(each) for each in losses], [each.grad.clone() for each in model.diffusion.parameters()]))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-4, abs=1e-6)
    for one, two in zip(found[0][1], found[1][1]):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)
    assert found[0][0][1] > 0


def test_a_rebuilt_base_has_the_trained_weights(built):
    """Joint training starts from what was trained, not from new weights."""
    _, frozen, *_ = built("DDRM", **QUICK, **BPR)
    _, learning, *_ = built("DDRM", **QUICK, **BPR, freeze_base=False)
    for one, two in zip(frozen.base(), learning.base()):
        assert torch.equal(one, two)
    assert {key for key in learning.state_dict() if key.startswith("base.")} == {
        "base.curvature", "base.net.user_embedding.weight", "base.net.item_embedding.weight"
    }  # fmt: skip


def test_a_step_between_two_validations_changes_the_scores(built):
    """Of a base that learns, also with an optimiser that does not count its changes."""
    keys = {**QUICK, **BPR, "freeze_base": False, "sampling_steps": 0, "inference_steps": 0}
    config, model, _, loaders = built("DDRM", **keys)
    trainer = trainer_class(registry.get_trainer(config["MODEL_TYPE"], "DDRM", "DDRM"))(config, model)
    model.eval()
    before = model.full_sort_predict(users(model))
    trainer._train_epoch(loaders[0], 0)
    model.eval()
    after = model.full_sort_predict(users(model))
    _, items = model.base._compute_tables()
    torch.testing.assert_close(after[:, 1:], (model.means(items[1:])[1:9] @ items.t())[:, 1:])
    assert not torch.allclose(after[:, 1:], before[:, 1:], atol=1e-6)


def test_joint_hgcf_stays_on_the_manifold(settings):
    keys = {**settings, **QUICK, "base_config": {"epochs": 1, "embedding_size": 8, "curvature": 2.0}}
    result = run("HDRM", "board", config_dict={**keys, "freeze_base": False, "base_learning_rate": 0.01})
    model = load(result["checkpoint"]).model
    points = model.base.net.points.detach()
    torch.testing.assert_close(Lorentz(2.0).inner(points, points), torch.full((len(points), 1), -0.5))


def test_hdrm_scores_in_its_bases_curvature(built):
    _, model, *_ = built("HDRM", **QUICK, base_config={"epochs": 1, "embedding_size": 8, "curvature": 2.0})
    model.eval()
    asked = torch.arange(1, 9)
    space = Lorentz(2.0)
    assert model.space.curvature == 2.0
    expected = space.user_factor(model.represent(asked)) @ space.item_factor(model.base()[1]).t()
    torch.testing.assert_close(model.full_sort_predict(users(model))[:, 1:], expected[:, 1:])


@pytest.mark.parametrize("name", ["DDRM", "HDRM"])
@pytest.mark.parametrize("freeze", [True, False])
def test_hgcf_in_float64_as_base(name, freeze, built):
    own = {"epochs": 1, "embedding_size": 8, "precision": "float64"}
    _, model, _, loaders = built(name, **QUICK, base_model="HGCF", base_config=own, freeze_base=freeze)
    sum(model.calculate_loss(next(iter(loaders[0])))).backward()
    model.eval()
    assert torch.isfinite(model.full_sort_predict(users(model))[:, 1:]).all()


def test_a_sum_is_the_mean_times_the_batch_and_the_bases_loss_has_its_weight(built):
    losses = {}
    for reduction in ("sum", "mean"):
        own = {"base_config": {"epochs": 1, "embedding_size": 8}, "freeze_base": False, "dropout_prob": 0.0}
        weight = {"base_loss_weight": 3.0 if reduction == "sum" else 1.0}
        _, model, _, loaders = built("HDRM", **QUICK, **own, **weight, reduction=reduction)
        torch.manual_seed(0)
        batch = next(iter(loaders[0]))
        torch.manual_seed(0)
        losses[reduction] = [float(each) for each in model.calculate_loss(batch)]
    size = len(batch)
    assert losses["sum"][:2] == pytest.approx([each * size for each in losses["mean"][:2]], rel=1e-4)
    assert losses["sum"][2] == pytest.approx(3 * losses["mean"][2], rel=1e-5)


@pytest.mark.parametrize("more", [
    {}, {"prediction_type": "eps"}, {"prediction_type": "v"}, {"norm": True}, {"noise_scale": 0}, {"guidance": False},
    {"infer_factor": 1.5}, {"dims": [8, 6]}, {"mlp_act_func": "sigmoid"},
], ids=str)  # fmt: skip
def test_the_quick_chain_is_the_plain_one(more, built, monkeypatch):
    monkeypatch.setattr("recbole_diffusion.model.networks.conditional_mlp.BLOCK", 5)
    keys = {**STRONG, "inference_steps": None, "infer_factor": 1.0, **more}
    _, model, *_ = built("DDRM", **{**QUICK, **BPR, **keys})
    model.eval()
    user, item = model.base()
    seen = []
    with torch.no_grad():
        quick = model.diffusion.generate(item[1:33], user[1:33], torch.Generator().manual_seed(0))
        plain = model.diffusion.generate(
            item[1:33], user[1:33], torch.Generator().manual_seed(0), callback=lambda t, out, x: seen.append(t)
        )
    torch.testing.assert_close(quick, plain, rtol=1e-4, atol=1e-6)
    assert seen == list(reversed(range(7 if more.get("infer_factor") else 5)))
    assert not torch.allclose(quick, item[1:33], atol=1e-3)


@pytest.mark.parametrize("prediction_type", ["eps", "v"])
def test_what_is_predicted_becomes_the_clean_embedding(prediction_type, built):
    """A network that is right about the noise gives the embedding back."""
    _, model, *_ = built("DDRM", **QUICK, **BPR, **STRONG, prediction_type=prediction_type)
    x0, noise, t = torch.randn(6, 4), torch.randn(6, 4), torch.arange(6) % 5
    process = model.diffusion.noise.process
    x, target = process.q_sample(x0, t, noise), process.target(x0, t, noise)
    torch.testing.assert_close(model.diffusion.predict(lambda *_: target, x, t, None), x0, rtol=1e-4, atol=1e-5)


def test_the_start_is_noised_to_the_step_that_is_asked_for(built):
    keys = {**QUICK, **BPR, **STRONG, "inference_steps": 0}
    spreads = []
    for steps in (0, 1, 5, None):
        _, model, *_ = built("DDRM", **keys, sampling_steps=steps)
        model.eval()
        asked = torch.arange(1, 65)
        start = model._starts(*model.base())[asked]
        process = model.diffusion.noise.process
        last = {None: 4, 0: None}.get(steps, (steps or 1) - 1)
        signal = 1.0 if last is None else float(process.sqrt_alpha_bar[last])
        spreads.append(float((model.represent(asked) - signal * start).std()))
        expected = 0.0 if last is None else float(process.sqrt_one_minus_alpha_bar[last])
        assert spreads[-1] == pytest.approx(expected, rel=0.15, abs=1e-7)
    assert spreads[2] == spreads[3]


def test_without_a_network_the_start_ranks(built):
    """inference_steps 0: the mean of a user's items, and with mix its middle with their own embedding."""
    keys = {**QUICK, **BPR, "inference_steps": 0, "sampling_steps": 0}
    for mix in (1.0, 0.5):
        _, model, *_ = built("DDRM", **keys, mix=mix)
        model.eval()
        user, item = model.base()
        expected = mix * model.means(item[1:])[1:9] + (1 - mix) * user[1:9]
        torch.testing.assert_close(model.represent(torch.arange(1, 9)), expected)
        assert model.nfe == 0


def test_settings_that_contradict_a_checkpoint_are_named(settings, built):
    own = {"epochs": 1, "embedding_size": 8, "n_layers": 1}
    trained = run("LightGCN", "board", config_dict={**settings, **SPLIT, **own})["checkpoint"]
    keys = {**QUICK, **SPLIT, "base_checkpoint": trained}
    with pytest.raises(ValueError, match="n_layers=3 is not what base_checkpoint was made with, 1"):
        built("DDRM", **keys, base_config={"n_layers": 3})
    with pytest.raises(ValueError, match="base_model='NGCF' is not what base_checkpoint holds, LightGCN"):
        built("DDRM", **keys, base_model="NGCF")
    config, *_ = built("DDRM", **keys, base_model="LightGCN", base_config={"n_layers": 1})
    assert not {"use_gpu", "gpu_id", "data_path", "checkpoint_dir", "seed", "state"} & {*config["base_config"]}
    assert quick_start.configure(config_dict=config.plain())["base_config"] == config["base_config"]


def test_the_loop_of_a_checkpoints_own_model_is_asked_for(built, monkeypatch):
    """NCL in a file under the default base_model, LightGCN."""
    pytest.importorskip("faiss", reason="NCL needs it, and RecBole does not name it among its dependencies")
    _, ncl, *_ = built("NCL", embedding_size=8, num_clusters=4)
    monkeypatch.setattr("recbole_diffusion.pretraining.pretrained_files.tables", lambda *_: None)
    monkeypatch.setattr("recbole_diffusion.pretraining.pretrained_files.model", lambda *_: ncl)
    with pytest.raises(ValueError, match="is not allowed with NCL as base"):
        built("DDRM", **QUICK, freeze_base=False, base_checkpoint="ncl.pth")


def test_weight_decay_and_init_range_reach_hgcfs_points(built):
    config, model, *_ = built("HGCF", embedding_size=8, weight_decay=0.25, momentum=0.5, learning_rate=0.125)
    optimiser = trainer_class(registry.get_trainer(config["MODEL_TYPE"], "HGCF", "HGCF"))(config, model).optimizer
    (group,) = optimiser.param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.125, 0.5, 0.25)
    _, wide, *_ = built("HGCF", embedding_size=8, init_range=1.0)
    inside, outside = (each.space.log0(each.points)[:, 1:].abs().max() for each in (model, wide))
    assert 0.09 < float(inside) <= 0.1001
    assert 0.9 < float(outside) <= 1.001


def test_the_shared_keys_of_ddrm_and_hdrm_say_the_same():
    one, two = (schema.read_keys(yaml_files.properties() / "model" / f"{name}.yaml") for name in ("DDRM", "HDRM"))
    differ = {key for key in {*one} & {*two} if (one[key].rule, one[key].meaning) != (two[key].rule, two[key].meaning)}
    assert differ == {"mix"}  # the official value is in the text


def test_recboles_own_checkpoint_as_base_when_it_is_trusted(settings, numpy_restored):
    import recbole_diffusion

    recbole_diffusion.enable()
    from recbole.quick_start import run_recbole

    plain = {**settings, "epochs": 1, "embedding_size": 4}
    run_recbole(model="BPR", dataset="board", config_dict=plain)
    (file,) = Path("saved").glob("BPR-*.pth")
    content = torch.load(file, weights_only=False)
    assert not isinstance(content["config"], dict)  # RecBole's pickled Config
    file.rename("theirs.pth")
    recbole_diffusion.disable()
    keys = {**settings, **QUICK, "base_checkpoint": "theirs.pth"}
    with pytest.raises(ValueError, match=r"could run code when loaded.*trust-checkpoint"):
        run("DDRM", "board", config_dict=keys)
    result = run("DDRM", "board", config_dict=keys, trust=True)
    assert load(result["checkpoint"]).model.base.user.shape == (65, 4)


@pytest.mark.parametrize("name", ["DDRM", "HDRM"])
def test_preset_and_decay_are_of_the_model_and_not_of_its_base(name, settings):
    """The presets of DDRM and HDRM, whose bases have none."""
    own = {"epochs": 1, "base_config": {"epochs": 1, "embedding_size": 8}, "preset": "quick", "lr_decay_step": 1}
    result = run(name, "board", config_dict={**settings, **own})
    config = load(result["checkpoint"]).config
    assert (config["dims"], config["epochs"]) == ([100, 300], 1)
    base = bases.base_config(config, config["base_model"], {"embedding_size": 8})
    assert base["preset"] is None
    assert base["lr_decay_step"] is None
