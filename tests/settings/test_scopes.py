"""The table of scopes: its keys exist, its queries are what the caches rely on, and what has no effect has none."""

from __future__ import annotations

from recbole_diffusion import run
from recbole_diffusion.data.cache_key import DATA_KEYS
from recbole_diffusion.experiment.jobs.run_spec import RunSpec
from recbole_diffusion.pretraining import cache
from recbole_diffusion.quick_start import configure
from recbole_diffusion.settings import known_keys, scopes
from recbole_diffusion.settings.scopes import Scope

OTHER_VALUES = {
    "show_progress": True,
    "state": "ERROR",
    "loss_decimal_place": 2,
    "save_per_user": True,
    "keep_lists": 30,
    "save_last_every": 1,
    "save_dataset": True,
    "save_dataloaders": True,
    "eval_memory": 0.001,
    "eval_users_per_batch": 7,
    "checkpoint_dir": "elsewhere",
    "output_dir": "away",
    "carbon_intensity": 400.0,
    "carbon_country": "FRA",
    "prepared_data": "kept",
    "pretrain_dir": "bases",
}


def test_every_key_of_the_table_is_one(settings):
    known = {*known_keys.keys_in_recbole(), *configure("DiffRec", "board", config_dict=settings).final_config_dict}
    known |= {*configure("DDRM", "board", config_dict=settings).final_config_dict, *configure("LDiffRec", "board").keys}
    known |= {"config_files", "world_size", "mlp_pretrain_path", "mf_pretrain_path", "pre_model_path"}
    assert {*scopes.TABLE} <= known


def test_what_changes_the_training_is_in_no_scope_without_effect():
    training = {"epochs", "learning_rate", "train_batch_size", "worker", "eval_batch_size", "stopping_step", "seed"}
    assert not training & scopes.without_effect()
    assert not {*DATA_KEYS} & scopes.without_effect()
    assert not scopes.keys(Scope.CONTENT) & scopes.without_effect()


def test_caches_and_comparisons_agree_on_what_has_no_effect():
    assert scopes.without_effect() == RunSpec.NO_EFFECT
    assert scopes.without_effect() < cache.IGNORED_SETTINGS
    assert {"worker", "eval_batch_size"}.isdisjoint(cache.IGNORED_SETTINGS)


def numbers(settings, **more):
    """Of a run with a folder of checkpoints of its own: what one saves, another does not read."""
    own = {"epochs": 2, "dims": [8], "steps": 3, "checkpoint_dir": "-".join(["saved", *more])}
    result = run("DiffRec", "board", config_dict={**settings, **own, **more})
    return {name: result[name] for name in ("best_valid_result", "test_result")}


def test_a_setting_without_effect_changes_no_number(settings):
    expected = numbers(settings)
    for key, value in OTHER_VALUES.items():
        assert numbers(settings, **{key: value}) == expected, key


def test_every_key_without_effect_is_tried():
    left_out = {"data_path", "log_wandb", "wandb_project"}  # where the data are; a service on the network
    assert scopes.without_effect() - left_out == {*OTHER_VALUES}
