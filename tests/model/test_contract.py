"""What every model must do, run over the registry: a new model adds its quick settings to ``QUICK``."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from recbole.data.interaction import Interaction

from recbole_diffusion import quick_start, registry
from recbole_diffusion.settings import schema
from recbole_diffusion.settings.config import Config
from recbole_diffusion.support import yaml_files
from recbole_diffusion.training import checkpoint
from recbole_diffusion.training.trainer import trainer_class

MODELS = sorted(spec.name for spec in registry._OURS)
QUICK: dict[str, dict[str, Any]] = {
    "DiffRec": {"steps": 5, "dims": [16], "epochs": 60, "learning_rate": 0.01, "noise_max": 0.02},
    "TDiffRec": {"steps": 5, "dims": [16], "epochs": 60, "learning_rate": 0.01, "noise_max": 0.02},
}
_BPR = {"model": "BPR", "config": {"epochs": 2, "embedding_size": 8}}
_LATENT = {"steps": 5, "dims": [16], "in_dims": [16], "epochs": 80, "learning_rate": 0.01, "lamda": 0.005}
QUICK["LDiffRec"] = QUICK["LTDiffRec"] = {**_LATENT, "pretrain": _BPR}
_SEQUENCE = {"hidden_size": 16, "n_heads": 2, "MAX_ITEM_LIST_LENGTH": 12, "train_batch_size": 128, "eval_step": 1}
QUICK["DiffuRec"] = {
    **_SEQUENCE,
    "n_layers": 2,
    "diffusion_steps": 8,
    "noise_schedule": "sqrt",
    "epochs": 20,
    "learning_rate": 0.01,
}
QUICK["CDDRec"] = {
    **_SEQUENCE,
    "inner_size": 32,
    "diffusion_steps": 3,
    "epochs": 60,
    "train_batch_size": 16,
    "learning_rate": 0.01,
}
_PAIRS = {"dims": [16], "steps": 5, "time_emb_size": 4, "eval_step": 1, "learning_rate": 0.01}
QUICK["DDRM"] = {
    **_PAIRS,
    "infer_steps": 6,
    "base_model": "BPR",
    "base_config": {"epochs": 15, "embedding_size": 8, "learning_rate": 0.05},
    "epochs": 30,
}
QUICK["HGCF"] = {"embedding_size": 8, "n_layers": 2, "epochs": 30, "learning_rate": 0.01, "train_batch_size": 128}
QUICK["HDRM"] = {
    **_PAIRS,
    "base_config": {**QUICK["HGCF"], "epochs": 15},
    "epochs": 40,
    "mix": 0.5,
    "recon_weight": 0.5,
    "train_batch_size": 128,
}
#: Settings under which the scores must not depend on the batch either: those with noise at inference.
NOISY: dict[str, list[dict[str, Any]]] = {
    "DiffuRec": [{"lambda_uncertainty": 0.5}, {"mask_mode": "official"}, {"inference_steps": 3, "lambda_std": 0.4}],
    "DDRM": [
        {"sampling_noise": True},
        {"sampling_steps": 0},
        {"denoise_users": True},
        {"start": "item_mean", "noise_scale": 1.0, "noise_max": 0.5},
        {"freeze_base": False},
        {"base_model": "HGCF", "base_config": {"embedding_size": 8, "epochs": 2}},
    ],
    "HGCF": [{"precision": "float64", "curvature": 0.5}],
    "HDRM": [
        {"sampling_noise": True},
        {"restrict": "both", "noise_scale": 1.0, "noise_max": 0.5},
        {"restrict": "directional", "noise_order": "signed", "mix": 1.0},
        {"freeze_base": False},
        {"base_model": "BPR", "base_config": {"embedding_size": 8, "epochs": 2}},
    ],
    "CDDRec": [{"eval_noise": True}, {"decoder_attention": "skip"}],
}
SPLIT = {
    spec.name: {"RS": [8, 1, 1]} if spec.task == "general" else {"LS": "valid_and_test"} for spec in registry._OURS
}
CASES = [
    (name, more)
    for name in MODELS
    for more in [{}, *NOISY.get(name, [{"sampling_noise": True}, {"sampling_steps": 3}])]
]


def trained(built, name, **more):
    config, model, dataset, loaders = built(name, **{**QUICK[name], "stopping_step": 60, **more})
    trainer = trainer_class(registry.get_trainer(config["MODEL_TYPE"], name, name))(config, model)
    trainer.fit(*loaders[:2], saved=False, verbose=False)
    return config, model, dataset, loaders, trainer


def users_of(loaders, n=8):
    """What is asked of a model: users 1 to n, or with a sequential one the first n rows of the test split."""
    part = loaders[2]._dataset
    if loaders[2].is_sequential:
        return part.inter_feat[:n]
    return Interaction({part.uid_field: torch.arange(1, n + 1)})


def taken(interaction, rows):
    """Some rows of it, in another order."""
    return Interaction({field: interaction[field][rows] for field in interaction.columns})


@pytest.mark.parametrize("name", MODELS)
def test_model_has_all_of_its_parts(name):
    spec = registry.specs()[name]
    assert spec.paper is not None
    assert spec.code is not None
    assert spec.abilities
    assert name in QUICK
    keys = schema.read_keys(yaml_files.properties() / "model" / f"{name}.yaml")
    assert all(key.rule and key.meaning for key in keys.values())
    space = yaml_files.load_yaml(yaml_files.properties() / "hyper" / f"{name}.yaml")
    assert set(space) <= {*keys, "learning_rate"}
    for key, entry in space.items():
        for value in entry.get("choice", []):
            if key in keys:
                schema.check_key(key, value, keys[key].rule, keys[key].default)


@pytest.mark.parametrize("name", MODELS)
def test_defaults_keep_their_own_rules(name):
    for key, entry in schema.read_keys(yaml_files.properties() / "model" / f"{name}.yaml").items():
        assert schema.check_key(key, entry.default, entry.rule, entry.default) == entry.default


@pytest.mark.parametrize("name", MODELS)
def test_every_key_of_the_yaml_is_read(name, built, monkeypatch):
    read = set()
    get = Config.__getitem__
    monkeypatch.setattr(Config, "__getitem__", lambda self, key: read.add(key) or get(self, key))
    config, model, *_ = built(name, **QUICK[name])
    trainer_class(registry.get_trainer(config["MODEL_TYPE"], name, name))(config, model)
    if "time-aware" in config:
        built(name, **QUICK[name], **{"time-aware": True})
    keys = schema.read_keys(yaml_files.properties() / "model" / f"{name}.yaml")
    assert set(keys) - read <= {"loss_type"}  # read by the Config itself, which then wants no negatives


@pytest.mark.parametrize("name", MODELS)
def test_config_round_trip(name, settings):
    config = quick_start.configure(name, "board", config_dict={**settings, **QUICK[name]})
    again = quick_start.configure(config_dict=config.plain())
    assert again.plain() == config.plain()
    assert {key: again[key] for key in QUICK[name]} == {key: config[key] for key in QUICK[name]}


@pytest.mark.parametrize("name", MODELS)
def test_loss_is_finite_and_falls(name, built):
    *_, trainer = trained(built, name, timestep_sampling="uniform", reweight=False)
    losses = [row["train_loss"] for row in trainer.epochs_done]
    assert losses[-1] < 0.8 * losses[0]
    assert all(loss == loss for loss in losses)


@pytest.mark.parametrize("name", MODELS)
def test_checkerboard(name, built):
    """Users like the items of their parity: of a user's unseen items the own parity must come first."""
    _, model, dataset, loaders, _ = trained(built, name)
    model.eval()
    asked = users_of(loaders, 64)
    scores = model.full_sort_predict(asked)
    users = [int(token[1:]) for token in dataset.field2id_token["user_id"][asked["user_id"]]]
    items = [int(token[1:]) for token in dataset.field2id_token["item_id"][1:]]
    if loaders[2].is_sequential:
        seen = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, asked[model.ITEM_SEQ], True)[:, 1:]
    else:
        seen = model.history.rows(asked["user_id"]) > 0
    right = 0
    for row, user in enumerate(users):
        unseen = scores[row, 1:].masked_fill(seen[row], -torch.inf)
        right += items[int(unseen.argmax())] % 2 == user % 2
    assert right >= 62


@pytest.mark.parametrize("name", MODELS)
def test_scores_have_the_right_shape_and_predict_is_their_gather(name, built):
    _, model, dataset, loaders = built(name, **QUICK[name])
    model.eval()
    asked = users_of(loaders)
    full = model.full_sort_predict(asked).view(-1, dataset.item_num)
    assert full.shape == (8, dataset.item_num)
    rows, items = torch.tensor([2, 2, 0, 7, 2]), torch.tensor([1, 2, 5, 7, 1])
    pairs = taken(asked, rows)
    pairs.update(Interaction({model.ITEM_ID: items}))
    torch.testing.assert_close(model.predict(pairs), full[rows, items])


@pytest.mark.parametrize(("name", "more"), CASES, ids=str)
def test_scores_do_not_depend_on_the_batch_nor_on_the_call(name, more, built):
    _, model, _, loaders = built(name, **{**QUICK[name], **more})
    model.eval()
    asked = users_of(loaders)
    whole = model.full_sort_predict(asked).clone()
    again = model.full_sort_predict(asked)
    assert torch.equal(whole, again)
    again[:] = 0  # RecBole writes -inf into what we return
    some = taken(asked, torch.tensor([4, 1]))
    torch.testing.assert_close(model.full_sort_predict(some), whole[[4, 1]], rtol=1e-4, atol=1e-5)


def test_the_chain_has_gradients_where_they_are_asked_for(built):
    _, model, _, _ = built("DiffRec", **QUICK["DiffRec"])
    diffusion = model.eval().diffusion
    rows = model.history.rows(torch.arange(1, 5)).requires_grad_()
    scores = diffusion.denoise(rows)
    (gradient,) = torch.autograd.grad(scores.sum(), rows)
    assert gradient.abs().sum() > 0
    with torch.no_grad():
        torch.testing.assert_close(diffusion.denoise(rows), scores.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_the_padding_item_is_never_recommended_and_no_user_is_padding(name, built):
    _, model, _, loaders = built(name, **QUICK[name])
    model.eval()
    assert (model.full_sort_predict(users_of(loaders)).view(8, -1).argmax(1) > 0).all()
    spec = registry.specs()[name]
    if spec.loader == "user" or spec.dataset == "recbole_diffusion.data.sequences:UserSequenceDataset":
        rows = torch.cat([batch[model.USER_ID] for batch in loaders[0]])
        assert rows.min() > 0
        assert len(rows) == len(rows.unique()) == len(loaders[0]._dataset.inter_feat["user_id"].unique())


@pytest.mark.parametrize("name", MODELS)
def test_two_evaluations_agree_and_leave_the_random_state(name, built):
    *_, loaders, trainer = trained(built, name, epochs=2)
    before = torch.get_rng_state()
    first = trainer.evaluate(loaders[2], load_best_model=False)
    assert torch.equal(before, torch.get_rng_state())
    assert trainer.evaluate(loaders[2], load_best_model=False) == first


@pytest.mark.parametrize("name", MODELS)
def test_model_can_be_copied_and_its_state_saved(name, built):
    _, model, *_ = built(name, **QUICK[name])
    twin = copy.deepcopy(model)  # RecBole's FLOPs counting does
    assert twin.state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize("name", MODELS)
def test_resume_is_bit_for_bit(name, settings):
    """2 + 2 epochs = 4: every weight, buffer, optimiser moment, loss and metric; also from the last epoch's file."""
    quick = {
        **settings,
        **QUICK[name],
        "lr_decay_step": 1,
        "lr_decay_gamma": 0.5,
        "save_last_every": 1,
        "stopping_step": 99,
    }
    whole = quick_start.run(name, "board", config_dict={**quick, "epochs": 4})
    half = quick_start.run(name, "board", config_dict={**quick, "epochs": 2})
    for file in (half["checkpoint"], half["checkpoint"].replace(".pth", "-last.pth")):
        torch.rand(17)
        rest = quick_start.run(name, "board", config_dict={**quick, "epochs": 4}, resume=file)
        assert rest["test_result"] == whole["test_result"]
        assert rest["best_valid_result"] == whole["best_valid_result"]
        one, two = (checkpoint.read(r["checkpoint"].replace(".pth", "-last.pth")) for r in (whole, rest))
        same(one["state_dict"], two["state_dict"])
        same(one["optimizer"], two["optimizer"])
        same(one["random"], two["random"])
        assert one["train_loss_dict"] == two["train_loss_dict"]


def same(one, two):
    if isinstance(one, dict):
        assert one.keys() == two.keys()
        for key in one:
            same(one[key], two[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(two)
        for a, b in zip(one, two):
            same(a, b)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, two)
    else:
        assert one == two


@pytest.mark.parametrize("name", MODELS)
def test_saved_and_loaded_model_scores_the_same(name, settings):
    result = quick_start.run(name, "board", config_dict={**settings, **QUICK[name], "epochs": 2})
    plain = torch.load(result["checkpoint"], weights_only=True)
    assert plain["format"] == checkpoint.FORMAT
    one, two = (quick_start.load(result["checkpoint"]) for _ in range(2))
    scores = [each.model.full_sort_predict(users_of(each[3:])) for each in (one, two)]
    assert torch.equal(*scores)
    trainer = trainer_class(registry.get_trainer(one.config["MODEL_TYPE"], name, name))(one.config, one.model)
    trainer.eval_collector.data_collect(one.train_data)
    assert trainer.evaluate(one.test_data, load_best_model=False) == result["test_result"]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("mode", ["uni20", "pop20"])
def test_sampled_evaluation(name, mode, settings):
    more = {**settings, **QUICK[name], "epochs": 2, "eval_args": {"split": SPLIT[name], "order": "TO", "mode": mode}}
    result = quick_start.run(name, "board", config_dict=more)
    assert 0 <= result["test_result"]["recall@10"] <= 1
