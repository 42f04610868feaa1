"""Embeddings of users and items from another recommender, trained on the same train split or read from a file.

The key ``pretrain`` says which: ``{model: LightGCN, config: {embedding_size: 64}}``, or the path of a ``.npy`` or
``.npz`` file or of a checkpoint. What was trained is kept under ``checkpoint_dir/pretrain`` by a hash of the split, the
model and its settings; two processes that want the same wait for one of them to train it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import tempfile
from logging import getLogger
from pathlib import Path
from typing import Any, Optional

import numpy as np
from filelock import FileLock, Timeout
from recbole.data.utils import create_samplers
from recbole.utils import ModelType, init_seed
from tqdm import tqdm

from recbole_diffusion import checkpoint, compat, convert, data, registry, schema
from recbole_diffusion.config import Config, plain_settings, settings_of
from recbole_diffusion.model.embeddings import Embeddings, embeddings_of
from recbole_diffusion.trainer import trainer_class

#: Raised when what is stored for the same settings would no longer be the same.
CACHE_FORMAT = 1
#: Settings that change neither the weights nor which epoch is the best.
_NO_MATTER = frozenset(
    {"data_path", "checkpoint_dir", "output_dir", "show_progress", "state", "gpu_id", "use_gpu", "log_wandb"}
    | {"wandb_project", "eval_users_per_batch", "eval_memory", "eval_batch_size", "save_dataset", "save_dataloaders"}
    | {"dataset_save_path", "dataloaders_save_path", "save_last_every", "worker", "load_col"}
)


def attach(config: Any, loaders: Any) -> None:
    """Give the train data set ``embeddings()``, which trains or reads them when a model first asks."""
    train, valid = loaders[0], loaders[1]
    dataset = getattr(train, "_dataset", None)
    if dataset is not None:
        dataset.embeddings = functools.partial(embeddings, config, train, valid)


def embeddings(config: Any, train_data: Any, valid_data: Any) -> Embeddings:
    """The embeddings that the key ``pretrain`` names, in the ids of the train data set.

    Leaves the random state as it was, so that a run with a cached file equals one without.

    Raises:
        ValueError: no such file or model, shapes that do not fit the data set, a model without embeddings.
    """
    source = config["pretrain"]
    if isinstance(source, str):
        return _from_file(config, Path(source), train_data._dataset)
    if not isinstance(source, dict) or "model" not in source:
        raise ValueError(
            f"pretrain={source!r} is not allowed; allowed: {{model: NAME, config: {{…}}}}, or the path of a .npy, .npz "
            "or .pth file"
        )
    unknown = sorted({*source} - {"model", "config"})
    if unknown:
        raise ValueError(f"pretrain.{unknown[0]} is not allowed; allowed: model, config")
    base = base_config(config, source["model"], source.get("config") or {})
    folder = Path(config["checkpoint_dir"] or "saved") / "pretrain"
    return _cached(folder, base, train_data, valid_data, show_progress=bool(config["show_progress"]))


def base_config(config: Any, model: str, own: dict[str, Any]) -> Config:
    """Settings of the model to train first: data, evaluation, device of ``config``; training keys RecBole's or ``own``.

    Raises:
        ValueError: see :class:`Config`.
    """
    if not isinstance(own, dict):
        raise ValueError(f"pretrain.config={own!r} is not allowed; allowed: {{key: value, …}}")
    if getattr(registry.get_model(model), "type", None) is not ModelType.GENERAL:
        raise ValueError(f"pretrain.model={model!r} is not allowed; allowed: a general recommender, e.g. LightGCN, BPR")
    plain = config.plain() if isinstance(config, Config) else plain_settings(config)
    shared = {*schema.read_keys(schema.properties() / "overall.yaml")}
    for category in ("General", "Evaluation", "Dataset"):
        shared.update(config.parameters.get(category, ()))
    inherited = {key: plain[key] for key in shared if key in plain and plain[key] is not None}
    for key in ("train_neg_sample_args", "model", "dataset", "save_dataset", "save_dataloaders"):
        inherited.pop(key, None)
    of_the_run = {"dataset", "eval_args", "benchmark_filename", *config.parameters.get("Dataset", ())}
    for key in own:
        if key in of_the_run:
            raise ValueError(f"pretrain.config.{key} is not allowed: the data and its split are the run's own")
    base = Config(model, config["dataset"], config_dict={**inherited, **own})
    if "pretrain" in base.keys:
        raise ValueError(f"pretrain.model={model!r} is not allowed: it needs pretrained embeddings itself")
    for note in base.notes:
        getLogger().warning(f"pretrain.config: {note}")
    return base


def _cached(folder: Path, base: Config, train_data: Any, valid_data: Any, show_progress: bool) -> Embeddings:
    key = {
        "format": CACHE_FORMAT,
        "split": data.describe(train_data._dataset, (train_data, valid_data))["split_sha256"],
        "settings": {key: value for key, value in base.plain().items() if key not in _NO_MATTER},
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()[:16]
    file = folder / f"{base['model']}-{base['dataset']}-{digest}.npz"
    found = _read_cache(file)
    if found is not None:  # also in a folder that one may only read
        getLogger().info(f"embeddings of {base['model']} read from {file}")
        return found
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(str(file) + ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        getLogger().info(f"waiting for another process that trains {base['model']} for {file}")
        lock.acquire()
    try:
        found = _read_cache(file)
        if found is None:
            found = _train(base, train_data, valid_data, show_progress)
            _write_cache(file, found)
            getLogger().info(f"embeddings of {base['model']} kept in {file}")
        else:
            getLogger().info(f"embeddings of {base['model']} read from {file}")
    finally:
        lock.release()
    return found


def _read_cache(file: Path) -> Optional[Embeddings]:
    """None where there is none, or a damaged one, which is made anew."""
    try:
        with np.load(file) as content:
            return Embeddings(content["user"], content["item"])
    except FileNotFoundError:
        return None
    except Exception as error:  # whatever numpy and zipfile make of half a file
        getLogger().warning(f"{file} cannot be read ({error}) and is made anew")
        return None


def _write_cache(file: Path, found: Embeddings) -> None:
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.", suffix=".npz")
    os.close(handle)
    try:
        np.savez(temporary, user=found.user, item=found.item)
        os.chmod(temporary, 0o644)  # mkstemp's files are for their owner only
        os.replace(temporary, file)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def _train(base: Config, train_data: Any, valid_data: Any, show_progress: bool) -> Embeddings:
    """Train to the early stop on the validation split and take the embeddings of the best epoch."""
    state = checkpoint.random_state()
    try:
        init_seed(base["seed"], base["reproducibility"])
        loaders = _loaders(base, train_data, valid_data)
        net = _build(base, loaders[0])
        embeddings_of(net, loaders[0]._dataset)  # refuse before, not after, the training
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
        return embeddings_of(net, loaders[0]._dataset)
    finally:
        checkpoint.restore_random_state(state)


def _build(base: Config, loader: Any) -> Any:
    compat.repair_model(base.model_class)
    init_seed(base["seed"], base["reproducibility"])
    return base.model_class(base, loader._dataset).to(base["device"])


def _loaders(base: Config, train_data: Any, valid_data: Any) -> tuple[Any, Any]:
    """The base model's own kind of loaders over the same split."""
    parts = [train_data._dataset, valid_data._dataset]
    train_sampler, valid_sampler, _ = create_samplers(base, parts[0], [*parts, parts[1]])
    train = data.get_dataloader(base, "train")(base, parts[0], train_sampler, shuffle=True)
    valid = data.get_dataloader(base, "valid")(base, parts[1], valid_sampler, shuffle=False)
    return train, valid


def _from_file(config: Any, file: Path, dataset: Any) -> Embeddings:
    if not file.is_file():
        raise ValueError(
            f"pretrain={str(file)!r} does not exist; allowed: a .npy, .npz or .pth file, or {{model: NAME}}"
        )
    if file.suffix == ".npy":
        return Embeddings(
            np.zeros((dataset.user_num, 0), np.float32), _table(_arrays(file)["item"], "item", file, dataset)
        )
    if file.suffix == ".npz":
        return _from_npz(file, dataset)
    return _from_checkpoint(config, file, dataset)


def _arrays(file: Path) -> dict[str, np.ndarray]:
    """The arrays of a .npz; a .npy is called ``item``."""
    return convert.load_arrays(file) if file.suffix == ".npz" else {"item": convert.load_arrays(file)[""]}


def _from_npz(file: Path, dataset: Any) -> Embeddings:
    """Arrays ``item`` (and ``user``); with ``item_token`` (``user_token``) the rows are found by the names in there."""
    tables = {"user": np.zeros((dataset.user_num, 0), np.float32)}
    content = _arrays(file)
    if "item" not in content:
        raise ValueError(f"pretrain={str(file)!r} holds {', '.join(content)}; allowed: item, user, item_token")
    for kind in [kind for kind in ("user", "item") if kind in content]:
        tables[kind] = _table(content[kind], kind, file, dataset, content.get(f"{kind}_token"))
    return Embeddings(tables["user"], tables["item"])


def _table(table: np.ndarray, kind: str, file: Path, dataset: Any, tokens: Optional[np.ndarray] = None) -> np.ndarray:
    """A table in RecBole's ids. Without names its rows are taken in that order, with the padding row or without it."""
    count = dataset.item_num if kind == "item" else dataset.user_num
    field = dataset.iid_field if kind == "item" else dataset.uid_field
    if table.ndim != 2 or not table.shape[1] or not np.issubdtype(table.dtype, np.floating):
        raise ValueError(f"pretrain={str(file)!r}: {kind} must be a table of numbers, got {table.dtype} {table.shape}")
    if not np.isfinite(table).all():
        raise ValueError(f"pretrain={str(file)!r}: {kind} holds numbers that are not finite")
    if tokens is not None:
        place = {str(token): row for row, token in enumerate(np.atleast_1d(tokens))}
        names = [str(token) for token in dataset.field2id_token[field][1:]]
        missing = [name for name in names if name not in place]
        if missing or np.size(tokens) != len(table):
            what = f"{len(missing)} {kind}s of the data set, e.g. {missing[0]}" if missing else f"{len(table)} names"
            raise ValueError(f"pretrain={str(file)!r} lacks {what}; a row per name in {kind}_token is needed")
        table = table[[place[name] for name in names]]
    if len(table) == count - 1:
        table = np.concatenate([np.zeros((1, table.shape[1]), table.dtype), table])
    if len(table) != count:
        raise ValueError(
            f"pretrain={str(file)!r} has {len(table)} {kind}s, the data set {count - 1}; allowed: {count - 1} rows in "
            f"RecBole's internal order, or a .npz with {kind}_token, their names"
        )
    return table.astype(np.float32)


def _from_checkpoint(config: Any, file: Path, dataset: Any) -> Embeddings:
    """Of a model that was saved by RecBole or by us, on the same users and items."""
    state = checkpoint.read(file, trust=compat.trusts_all(), map_location=config["device"])
    settings = settings_of(state, f"pretrain={str(file)!r}")
    model = settings.pop("model")
    if settings.pop("dataset") != config["dataset"]:
        getLogger().warning(f"{file} was trained on another data set; its rows are taken by their ids")
    for key in ("seed", "eval_args", "benchmark_filename"):
        if settings.get(key) != config[key]:
            getLogger().warning(
                f"{file} was trained with {key}={settings.get(key)!r}: it may have seen rows of our test"
            )
    kept = {key: value for key, value in settings.items() if key not in {"data_path", "gpu_id", "use_gpu"}}
    device = {"use_gpu": config["use_gpu"], "gpu_id": config["gpu_id"]}
    base = Config(model, config["dataset"], config_dict={**kept, **device})
    random = checkpoint.random_state()
    try:
        compat.repair_model(base.model_class)
        net = base.model_class(base, dataset).to(base["device"])
    finally:
        checkpoint.restore_random_state(random)
    checkpoint.load_weights(net, state, f"pretrain={str(file)!r} does not fit the data set")
    return embeddings_of(net, dataset)
