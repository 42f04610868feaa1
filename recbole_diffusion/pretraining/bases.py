"""Another recommender, trained on the same train split or read from a file: its embeddings, or itself to train on.

The key ``pretrain`` says which: ``{model: LightGCN, config: {embedding_size: 64}}``, or the path of a ``.npy`` or
``.npz`` file or of a checkpoint; for models on top of another one (DDRM, HDRM) ``base_model``, ``base_config`` and
``base_checkpoint`` do. What was trained is kept in the folder that ``pretrain_dir`` names, or under
``checkpoint_dir/pretrain``, by a hash of the split, the model and its settings; two processes that want the same wait
for one of them to train it.
"""

from __future__ import annotations

import hashlib
import json
from logging import getLogger
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple, Optional

import numpy as np
import torch
from filelock import FileLock, Timeout
from recbole.data.utils import create_samplers
from recbole.trainer import Trainer
from recbole.utils import ModelType, init_seed
from tqdm import tqdm

from recbole_diffusion import registry
from recbole_diffusion.cards import own_models
from recbole_diffusion.compat import repairs
from recbole_diffusion.data import names, pipeline
from recbole_diffusion.model.embeddings.pretrained import Pretrained, Trained
from recbole_diffusion.model.embeddings.tables import Embeddings, embeddings_of, tables_of
from recbole_diffusion.pretraining import pretrained_files
from recbole_diffusion.settings import schema, scopes
from recbole_diffusion.settings.config import Config, plain_settings
from recbole_diffusion.support import terminal, yaml_files
from recbole_diffusion.support.atomic_write import atomic_write
from recbole_diffusion.support.random_state import random_state, restore_random_state
from recbole_diffusion.training import run_folder
from recbole_diffusion.training.trainer import trainer_class

#: Raised when what is stored for the same settings would no longer be the same.
CACHE_FORMAT = 4
#: Settings that change neither the weights nor which epoch is the best.
_NO_MATTER = scopes.without_effect() | scopes.keys(scopes.Scope.DEVICE)
#: A base is trained on the data set of the run.
_NO_MATTER |= {"load_col", "dataset_save_path", "dataloaders_save_path"}


class OnSplit(NamedTuple):
    """The :class:`recbole_diffusion.model.embeddings.pretrained.Pretrained` of a run's split."""

    config: Any
    train_data: Any
    valid_data: Any

    def embeddings(self) -> Embeddings:
        return embeddings(*self)

    def base(self) -> Trained:
        return trained_base(*self)

    def untrained_base(self) -> Any:
        return untrained_base(self.config, self.train_data)


def attach(config: Any, loaders: Any) -> None:
    """Give the train data set ``pretrained``, for models that ask for it."""
    dataset = getattr(loaders[0], "_dataset", None)
    if dataset is not None:
        pretrained: Pretrained = OnSplit(config, *loaders[:2])
        dataset.pretrained = pretrained


def embeddings(config: Any, train_data: Any, valid_data: Any) -> Embeddings:
    """The embeddings that the key ``pretrain`` names, in the ids of the train data set.

    Leaves the random state as it was, so that a run with a cached file equals one without.

    Raises:
        ValueError: no such file or model, shapes that do not fit the data set, a model without embeddings.
    """
    source = config["pretrain"]
    if isinstance(source, str):
        return pretrained_files.embeddings(config, Path(source), train_data._dataset)
    if not isinstance(source, dict) or "model" not in source:
        raise ValueError(
            f"pretrain={source!r} is not allowed; allowed: {{model: NAME, config: {{…}}}}, or the path of a .npy, .npz "
            "or .pth file"
        )
    unknown = sorted({*source} - {"model", "config"})
    if unknown:
        raise ValueError(f"pretrain.{unknown[0]} is not allowed; allowed: model, config")
    base = base_config(config, source["model"], source.get("config") or {})
    return _trained(config, base, train_data, valid_data).embeddings


def trained_base(config: Any, train_data: Any, valid_data: Any) -> Trained:
    """The recommender of ``base_model``, ``base_config`` and ``base_checkpoint``, trained here where no file is given.

    Leaves the random state as it was. What a checkpoint says about its model is written into the other two keys.

    Raises:
        ValueError: as :func:`embeddings`, and where the file's tables do not fit the model.
    """
    dataset, file = train_data._dataset, config["base_checkpoint"]
    _check_joint(config, registry.get_model(config["base_model"]))
    if file is None:
        return _trained(config, _base_of(config), train_data, valid_data)
    tables = pretrained_files.tables(config, Path(file), dataset)
    if tables is not None:
        net = _with_tables(config, tables, train_data)
    else:
        net = pretrained_files.model(config, Path(file), dataset, "base_checkpoint")
        _check_joint(config, type(net))
        take_settings(config, net.own_config)
    return Trained(embeddings_of(net, dataset), lambda: net)


def _check_joint(config: Any, kind: Any) -> None:
    """Whether a base that is trained on (``freeze_base: False``) can be, beside the networks on top of it.

    Raises:
        ValueError: its loss needs a training loop of its own, which the joint training does not run.
    """
    if config["freeze_base"] or not config["base_loss_weight"]:
        return
    loop = registry.get_trainer(kind.type, kind, kind.__name__)
    if any(getattr(loop, part) is not getattr(Trainer, part) for part in ("fit", "_train_epoch")):
        raise ValueError(
            f"base_loss_weight={config['base_loss_weight']} is not allowed with {kind.__name__} as base, whose loss "
            "needs its own training loop; allowed: 0, or freeze_base: True"
        )


def take_settings(config: Any, base: Config) -> None:
    """Put what a checkpoint's model is into ``base_model`` and ``base_config``, where the run's own settings are kept.

    Raises:
        ValueError: they were given, and say something else.
    """
    given = getattr(config, "external_config_dict", {})
    own = {key: value for key, value in base.plain().items() if key in base.keys and key not in _shared(config)}
    for key, value in (config["base_config"] or {}).items():
        if key in own and own[key] != value:
            raise ValueError(f"base_config.{key}={value!r} is not what base_checkpoint was made with, {own[key]!r}")
    if given.get("base_model", base.model_name()) != base.model_name():
        raise ValueError(
            f"base_model={given['base_model']!r} is not what base_checkpoint holds, {base.model_name()}; "
            "allowed: leave it out"
        )
    config["base_model"], config["base_config"] = base.model_name(), own


def _with_tables(config: Any, tables: Embeddings, train_data: Any) -> Any:
    """``base_model`` with the tables of a file as its layer-0 embeddings, untrained otherwise."""
    width = tables.item.shape[1]
    own = {"embedding_size": width, **(config["base_config"] or {})}
    if own["embedding_size"] != width:
        raise ValueError(
            f"base_config.embedding_size={own['embedding_size']} is not the width of base_checkpoint's tables, {width}"
        )
    config["base_config"] = own
    net = untrained_base(config, train_data)
    places: list[Any] = [getattr(net, f"{kind}_embedding", None) for kind in ("user", "item")]
    if not all(isinstance(place, torch.nn.Embedding) for place in places):
        raise ValueError(
            f"base_model={config['base_model']!r} has no tables of layer-0 embeddings to put base_checkpoint's in; "
            "allowed with tables: BPR (as they are), LightGCN, NGCF, SGL, NCL, DGCF, or null for base_checkpoint"
        )
    for place, table in zip(places, (tables.user, tables.item)):
        place.weight.data.copy_(torch.from_numpy(table))
    return net


def untrained_base(config: Any, train_data: Any) -> Any:
    """The recommender of ``base_model`` and ``base_config`` with weights that something else is about to fill."""
    return _untrained(_base_of(config), train_data)


def _base_of(config: Any) -> Config:
    return base_config(config, config["base_model"], config["base_config"] or {}, "base_model", "base_config")


def base_config(
    config: Any,
    model: str,
    own: dict[str, Any],
    model_key: str = "pretrain.model",
    own_key: str = "pretrain.config",
) -> Config:
    """Settings of the model to train first: data, evaluation, device of ``config``; training keys RecBole's or ``own``.

    Raises:
        ValueError: see :class:`Config`.
    """
    if not isinstance(own, dict):
        raise ValueError(f"{own_key}={own!r} is not allowed; allowed: {{key: value, …}}")
    if getattr(registry.get_model(model), "type", None) is not ModelType.GENERAL:
        raise ValueError(f"{model_key}={model!r} is not allowed; allowed: a general recommender, e.g. LightGCN, BPR")
    plain = config.plain() if isinstance(config, Config) else plain_settings(config)
    inherited = {key: plain[key] for key in _shared(config) if key in plain and plain[key] is not None}
    for key in ("train_neg_sample_args", "model", "dataset", "save_dataset", "save_dataloaders"):
        inherited.pop(key, None)
    for key in own:
        if key in _of_the_run(config):
            raise ValueError(f"{own_key}.{key} is not allowed: the data and its split are the run's own")
    try:
        base = Config(model, config["dataset"], config_dict={**inherited, **own})
        own_models.check_keys(base)
    except ValueError as error:
        raise ValueError(f"{own_key}: {error}") from error
    if base["epochs"] < 1:
        raise ValueError(f"{own_key}.epochs={base['epochs']} would leave {model} untrained; allowed: int >= 1")
    if {"pretrain", "base_model"} & {*base.keys}:
        raise ValueError(f"{model_key}={model!r} is not allowed: it needs pretrained embeddings itself")
    for note in base.notes:
        if note not in getattr(config, "notes", ()):  # of what both have in common
            getLogger().warning(f"{own_key}: {note}")
    return base


def _shared(config: Any) -> set[str]:
    """Keys that both models of a run have in common: what is evaluated and how, where things run and are kept."""
    shared = {*schema.read_keys(yaml_files.properties() / "overall.yaml")} - {
        "preset",
        "lr_decay_step",
        "lr_decay_gamma",
    }
    for category in ("General", "Evaluation", "Dataset"):
        shared.update(config.parameters.get(category, ()))
    return shared


def _of_the_run(config: Any) -> set[str]:
    """Keys of the data and its split."""
    return {"dataset", "eval_args", "benchmark_filename", *config.parameters.get("Dataset", ())}


def _trained(config: Any, base: Config, train_data: Any, valid_data: Any) -> Trained:
    folder, start = run_folder.pretrain_folder(config), perf_counter()
    kept = _cached(folder, base, train_data, valid_data, show_progress=terminal.shows_progress(config["show_progress"]))
    config.pretraining = Spent(kept.seconds, perf_counter() - start)

    def rebuild() -> Any:
        net = _untrained(base, train_data)
        net.load_state_dict({key: torch.from_numpy(value) for key, value in kept.weights.items()})
        return net

    return Trained(kept.embeddings, rebuild)


class Spent(NamedTuple):
    """Seconds of a pretraining: what it took when it was done, and what this run spent on it (reading, or waiting)."""

    trained: float
    here: float


class _Kept(NamedTuple):
    """``weights``: the model's state dict; ``seconds``: of its training."""

    embeddings: Embeddings
    weights: dict[str, np.ndarray]
    seconds: float

    @classmethod
    def of(cls, net: Any, dataset: Any, seconds: float) -> _Kept:
        weights = {key: value.detach().cpu().numpy() for key, value in net.state_dict().items()}
        return cls(embeddings_of(net, dataset), weights, seconds)


def _cached(folder: Path, base: Config, train_data: Any, valid_data: Any, show_progress: bool) -> _Kept:
    ids = names.user_item_fingerprint(train_data._dataset)  # the split's hash is of names, the tables are in id order
    key = {
        "format": CACHE_FORMAT,
        "split": pipeline.describe(train_data._dataset, (train_data, valid_data))["split_sha256"],
        "ids": ids,
        "settings": {key: value for key, value in base.plain().items() if key not in _NO_MATTER},
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()[:16]
    file = folder / f"{base['model']}-{base['dataset']}-{digest}.npz"
    found = _read_cache(file, ids)
    if found is not None:  # also in a folder that one may only read
        getLogger().info(f"{base['model']} read from {file}")
        return found
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(str(file) + ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        getLogger().info(f"waiting for another process that trains {base['model']} for {file}")
        lock.acquire()
    try:
        found = _read_cache(file, ids)
        if found is None:
            found = _train(base, train_data, valid_data, show_progress)
            _write_cache(file, found, ids)
            getLogger().info(f"{base['model']} kept in {file}")
        else:
            getLogger().info(f"{base['model']} read from {file}")
    finally:
        lock.release()
    return found


def _read_cache(file: Path, ids: str) -> Optional[_Kept]:
    """None where there is none, or a damaged one or one in other ids, which is made anew."""
    try:
        with np.load(file) as content:
            if str(content["ids"]) != ids:
                raise ValueError("its rows are those of other users or items")
            found = Embeddings(content["user"], content["item"], float(content["curvature"]))
            prefix = "weights/"
            weights = {key[len(prefix) :]: content[key] for key in content if key.startswith(prefix)}
            return _Kept(found, weights, float(content["seconds"]))
    except FileNotFoundError:
        return None
    except Exception as error:  # whatever numpy and zipfile make of half a file
        getLogger().warning(f"{file} cannot be read ({error}) and is made anew")
        return None


def _write_cache(file: Path, kept: _Kept, ids: str) -> None:
    arrays = {**kept.embeddings._asdict(), **{f"weights/{key}": value for key, value in kept.weights.items()}}
    atomic_write(file, lambda stream: np.savez(stream, seconds=kept.seconds, ids=ids, **arrays))


def _train(base: Config, train_data: Any, valid_data: Any, show_progress: bool) -> _Kept:
    """Train to the early stop on the validation split and take what the best epoch had."""
    state, start = random_state(), perf_counter()
    try:
        init_seed(base["seed"], base["reproducibility"])
        loaders = _loaders(base, train_data, valid_data)
        net = _build(base, loaders[0])
        tables_of(net, loaders[0]._dataset)  # refuse before, not after, the training
        kind = registry.get_trainer(base["MODEL_TYPE"], base.requested_model, base["model"])
        trainer = trainer_class(kind)(base, net)
        name = f"pretrain {base['model']}"
        getLogger().info(f"{name}: at most {base['epochs']} epochs")
        with tqdm(total=base["epochs"], disable=not show_progress, ncols=100, desc=name, unit=" epochs") as bar:

            def tick(epoch: int, score: float) -> None:
                bar.update(epoch + 1 - bar.n)
                bar.set_postfix_str(f"{base['valid_metric']} {score:.4f}")

            score, _ = trainer.fit(*loaders, verbose=False, saved=False, show_progress=False, callback_fn=tick)
        getLogger().info(f"{name}: {base['valid_metric']} {score:.4f} on the validation split")
        return _Kept.of(net, loaders[0]._dataset, perf_counter() - start)
    finally:
        restore_random_state(state)


def _untrained(base: Config, loader: Any) -> Any:
    """:func:`_build`, with the random state left as it was."""
    state = random_state()
    try:
        return _build(base, loader)
    finally:
        restore_random_state(state)


def _build(base: Config, loader: Any) -> Any:
    repairs.repair_model(base.model_class)
    init_seed(base["seed"], base["reproducibility"])
    return base.model_class(base, loader._dataset).to(base["device"])


def _loaders(base: Config, train_data: Any, valid_data: Any) -> tuple[Any, Any]:
    """The base model's own kind of loaders over the same split."""
    parts = [train_data._dataset, valid_data._dataset]
    train_sampler, valid_sampler, _ = create_samplers(base, parts[0], [*parts, parts[1]])
    train = pipeline.get_dataloader(base, "train")(base, parts[0], train_sampler, shuffle=True)
    valid = pipeline.get_dataloader(base, "valid")(base, parts[1], valid_sampler, shuffle=False)
    return train, valid
