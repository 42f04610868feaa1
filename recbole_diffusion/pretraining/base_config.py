"""The settings of a base model that is trained first, derived from those of the run."""

from __future__ import annotations

from logging import getLogger
from typing import Any

from recbole.utils import ModelType

from recbole_diffusion import registry
from recbole_diffusion.cards import own_models
from recbole_diffusion.settings import schema
from recbole_diffusion.settings.config import Config, plain_settings
from recbole_diffusion.support import yaml_files

#: Keys of overall.yaml that are of one training; ``enable_amp``, which ``amp_dtype`` belongs to, is RecBole's.
_OF_TRAINING = {"preset", "lr_decay_step", "lr_decay_gamma", "lr_cosine_epochs", "amp_dtype"}


def base_config(
    config: Any,
    model: str,
    own_settings: dict[str, Any],
    model_key: str = "pretrain.model",
    settings_key: str = "pretrain.config",
) -> Config:
    """Make the Config of the base model.

    Data, evaluation and device are those of the run. Training keys are ``own_settings``, else RecBole's defaults. A
    base of the run's own class has the run's keys where ``own_settings`` has none, except ``epochs``: a first stage of
    the same width and rate.

    Args:
        config: of the run.
        model: name of the base model.
        own_settings: keys of the base model.
        model_key, settings_key: the keys that hold these two, for error messages.

    Raises:
        ValueError: a model or a key that is not allowed; see also :class:`Config`.
    """
    if not isinstance(own_settings, dict):
        raise ValueError(f"{settings_key}={own_settings!r} is not allowed; allowed: {{key: value, …}}")
    if getattr(registry.get_model(model), "type", None) is not ModelType.GENERAL and not _has_our_rows(config, model):
        raise ValueError(f"{model_key}={model!r} is not allowed; allowed: {_allowed(config)}")
    for key in own_settings:
        if key in _data_keys(config):
            raise ValueError(f"{settings_key}.{key} is not allowed: the data and its split are the run's own")
    try:
        inherited = {**_inherited_settings(config), **_settings_of_same_class(config, model)}
        base = Config(model, config["dataset"], config_dict={**inherited, **own_settings})
        own_models.check_keys(base)
    except ValueError as error:
        raise ValueError(f"{settings_key}: {error}") from error
    if base["epochs"] < 1:
        raise ValueError(f"{settings_key}.epochs={base['epochs']} would leave {model} untrained; allowed: int >= 1")
    if "base_model" in base.keys or ("pretrain" in base.keys and base["pretrain"] is not None):
        raise ValueError(f"{model_key}={model!r} is not allowed: it needs pretrained embeddings itself")
    for note in base.notes:
        if note not in getattr(config, "notes", ()):  # the run has warned of settings that both share
            getLogger().warning(f"{settings_key}: {note}")
    return base


def _settings_of_same_class(config: Any, model: str) -> dict[str, Any]:
    """The run's values of the model's keys, for a base of the same class; empty for another one."""
    spec = registry.find_spec(model)
    if model != config["model"] or spec is None:
        return {}
    keys = {*schema.read_keys(spec.defaults)} - {*_data_keys(config), "epochs", "train_neg_sample_args"}
    return {key: config[key] for key in keys}


def _has_our_rows(config: Any, model: str) -> bool:
    """Whether a sequential model trains on the same rows as the run's model, which is sequential too.

    RecBole's sequential models train on a row per prefix. The run's split has none of these where its model trains on a
    row per user.
    """
    if config["MODEL_TYPE"] != ModelType.SEQUENTIAL:
        return False
    specs = [registry.find_spec(name) for name in (model, config["model"])]
    datasets = [None if spec is None else spec.dataset for spec in specs]
    return getattr(registry.get_model(model), "type", None) is ModelType.SEQUENTIAL and datasets[0] == datasets[1]


def _allowed(config: Any) -> str:
    if config["MODEL_TYPE"] != ModelType.SEQUENTIAL:
        return "a general recommender, e.g. LightGCN, BPR"
    own = "a general recommender, or a sequential one that trains on the same rows"
    return f"{own}, e.g. {config['model']}; for others the path of a checkpoint"


def _inherited_settings(config: Any) -> dict[str, Any]:
    """The run's values of the keys that the base model shares."""
    plain = config.plain() if isinstance(config, Config) else plain_settings(config)
    inherited = {key: plain[key] for key in _shared_keys(config) if key in plain and plain[key] is not None}
    # Base models name no networks to compile, and no steps to record.
    not_inherited = ("train_neg_sample_args", "model", "dataset", "save_dataset", "save_dataloaders")
    for key in (*not_inherited, "compile", "cuda_graphs"):
        inherited.pop(key, None)
    return inherited


def take_settings(config: Any, base: Config) -> None:
    """Write the settings of a checkpoint's model into ``base_model`` and ``base_config`` of the run.

    The run's config.yaml then repeats the run.

    Raises:
        ValueError: the two keys were given with other values.
    """
    user_settings = getattr(config, "external_config_dict", {})
    shared = _shared_keys(config)
    own_settings = {key: value for key, value in base.plain().items() if key in base.keys and key not in shared}
    for key, value in (config["base_config"] or {}).items():
        if key in own_settings and own_settings[key] != value:
            raise ValueError(
                f"base_config.{key}={value!r} is not what base_checkpoint was made with, {own_settings[key]!r}"
            )
    if user_settings.get("base_model", base.model_name()) != base.model_name():
        raise ValueError(
            f"base_model={user_settings['base_model']!r} is not what base_checkpoint holds, {base.model_name()}; "
            "allowed: leave it out"
        )
    config["base_model"], config["base_config"] = base.model_name(), own_settings


def _shared_keys(config: Any) -> set[str]:
    """Keys that both models of a run share: data, evaluation, device, folders."""
    shared = {*schema.read_keys(yaml_files.properties() / "overall.yaml")} - _OF_TRAINING
    for category in ("General", "Evaluation", "Dataset"):
        shared.update(config.parameters.get(category, ()))
    return shared


def _data_keys(config: Any) -> set[str]:
    """Keys of the data and its split."""
    return {"dataset", "eval_args", "benchmark_filename", *config.parameters.get("Dataset", ())}
