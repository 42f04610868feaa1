"""Embeddings and recommenders in files, put in the ids of a data set: a .npy, a .npz, a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import numpy as np
from torch import Tensor

from recbole_diffusion.compat import repairs
from recbole_diffusion.data import convert, provenance
from recbole_diffusion.model.embeddings.tables import Embeddings, embeddings_of
from recbole_diffusion.settings.config import Config, settings_of
from recbole_diffusion.settings.precedence import Source
from recbole_diffusion.support import trusted_files
from recbole_diffusion.support.random_state import random_state, restore_random_state
from recbole_diffusion.training import checkpoint

#: What RecBole's graph models keep of their last evaluation: the embeddings over the graph of the file's own split.
_OF_A_GRAPH = frozenset({"restore_user_e", "restore_item_e", "restore_entity_e"})
#: What LightGCN-PyTorch calls its tables, as DDRM's authors ship them; their rows count from 0.
OFFICIAL = {"user": "embedding_user.weight", "item": "embedding_item.weight"}


def embeddings(config: Any, file: Path, dataset: Any) -> Embeddings:
    """What the key ``pretrain`` names; the user table may be missing, and is empty then.

    Raises:
        ValueError: no such file, or what it holds does not fit the data set.
    """
    if not file.is_file():
        raise ValueError(
            f"pretrain={str(file)!r} does not exist; allowed: a .npy, .npz or .pth file, or {{model: NAME}}"
        )
    if file.suffix not in {".npy", ".npz"}:
        return embeddings_of(model(config, file, dataset, "pretrain"), dataset)
    content = arrays(file)
    if "item" not in content:
        raise ValueError(f"pretrain={str(file)!r} holds {', '.join(content)}; allowed: item, user, item_token")
    user = np.zeros((dataset.user_num, 0), np.float32)
    what = f"pretrain={str(file)!r}"
    if "user" in content:
        user = _table(content, "user", what, dataset)
    _note_rows_without_names(config, content, what)
    return Embeddings(user, _table(content, "item", what, dataset))


def tables(config: Any, file: Path, dataset: Any) -> Optional[Embeddings]:
    """What the key ``base_checkpoint`` names, if it is a file of two tables; None for a checkpoint of a run.

    Raises:
        ValueError: no such file, or what it holds does not fit the data set.
    """
    what = f"base_checkpoint={str(file)!r}"
    if not file.is_file():
        raise ValueError(f"{what} does not exist; allowed: a .npz with two tables, a checkpoint, or null to train")
    if file.suffix == ".npz":
        content = arrays(file)
    else:
        state = checkpoint.read(file, trust=trusted_files.trusts_all())
        if not isinstance(state, dict) or not all(isinstance(state.get(key), Tensor) for key in OFFICIAL.values()):
            return None
        content = _named({key: state[key].numpy() for key in OFFICIAL.values()})
    if not {"user", "item"} <= {*content}:
        raise ValueError(f"{what} holds {', '.join(content)}; needed: user, item (user_token, item_token)")
    user, item = (_table(content, kind, what, dataset) for kind in ("user", "item"))
    if user.shape[1] != item.shape[1]:
        raise ValueError(f"{what}: user and item differ in width: {user.shape[1]} and {item.shape[1]}")
    _note_rows_without_names(config, content, what)
    return Embeddings(user, item)


def model(config: Any, file: Path, dataset: Any, key: str) -> Any:
    """A recommender that was saved by RecBole or by us, on the same users and items; its settings as ``own_config``.

    Our runner has put the data set into the id order of the file, where it has names.

    Raises:
        ValueError: not a checkpoint, or of other users or items, or of another id order; the line names ``key``.
    """
    what = f"{key}={str(file)!r}"
    state = checkpoint.read(file, trust=trusted_files.trusts_all(), map_location=config["device"])
    settings = settings_of(state, what)
    name = settings.pop("model")
    settings.pop("dataset")
    provenance.check_names(state, what, config, dataset)
    _compare_splits(config, state, settings, what, dataset)
    base = config_of(config, {"model": name, **settings})
    random = random_state()
    try:
        repairs.repair_model(base.model_class)
        net = base.model_class(base, dataset).to(base["device"])
    finally:
        restore_random_state(random)
    checkpoint.load_weights(net, state, provenance.mismatch(config, what, dataset))
    for name in _OF_A_GRAPH & {*vars(net)}:
        setattr(net, name, None)
    net.own_config = base
    return net


def config_of(config: Any, settings: dict[str, Any]) -> Config:
    """The Config of a saved recommender, on this run's data set and device.

    Raises:
        ValueError: a setting that is not allowed.
    """
    kept = {key: value for key, value in settings.items() if key not in {"dataset", "data_path"}}
    here = {"use_gpu": config["use_gpu"], "gpu_id": config["gpu_id"]}
    return Config(None, config["dataset"], stored=Source("checkpoint", {**kept, **here}))


def _compare_splits(config: Any, state: Any, settings: dict[str, Any], what: str, dataset: Any) -> None:
    """Note where a recommender may have been trained on rows of this test split, by the hash where there is one."""
    now = (getattr(dataset, "described", None) or {}).get("split_sha256")
    if provenance.split_hash_of(state) is not None and now is not None:
        if provenance.split_hash_of(state) != now:
            provenance.warn(config, f"{what} was trained on another split; it may have seen rows of this test split")
        return
    for key in ("seed", "eval_args", "benchmark_filename"):
        if settings.get(key) != config[key]:
            seen = f"it may have seen rows of this test split (now {config[key]!r})"
            provenance.warn(config, f"{what} was trained with {key}={settings.get(key)!r}: {seen}")


def _note_rows_without_names(config: Any, content: dict[str, np.ndarray], what: str) -> None:
    for kind in ("user", "item"):
        if kind in content and f"{kind}_token" not in content:
            text = f"{what} has no {kind}_token: the {kind}s of its rows are taken in RecBole's id order, unchecked"
            provenance.warn(config, text)


def arrays(file: Path) -> dict[str, np.ndarray]:
    """The arrays of a .npz; a .npy is called ``item``."""
    return _named(convert.load_arrays(file)) if file.suffix == ".npz" else {"item": convert.load_arrays(file)[""]}


def _named(content: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Tables under the official names get ours, with the names of their rows: 0, 1, ..."""
    for kind, name in OFFICIAL.items():
        if name in content:
            table = content.pop(name)
            content.update({kind: table, f"{kind}_token": np.arange(len(table)).astype(str)})
    return content


def _table(content: dict[str, np.ndarray], kind: str, what: str, dataset: Any) -> np.ndarray:
    """A table in RecBole's ids.

    With names (``item_token``) the rows are found by them; without, they are taken in RecBole's order, with the padding
    row or without it.
    """
    table, tokens = content[kind], content.get(f"{kind}_token")
    count = dataset.item_num if kind == "item" else dataset.user_num
    field = dataset.iid_field if kind == "item" else dataset.uid_field
    if table.ndim != 2 or not table.shape[1] or not np.issubdtype(table.dtype, np.number):
        raise ValueError(f"{what}: {kind} must be a table of numbers, got {table.dtype} {table.shape}")
    with np.errstate(over="ignore"):
        table = table.astype(np.float32)
    if not np.isfinite(table).all():
        raise ValueError(f"{what}: {kind} holds numbers that are not finite")
    if tokens is not None:
        place = {str(token): row for row, token in enumerate(np.atleast_1d(tokens))}
        names = [str(token) for token in dataset.field2id_token[field][1:]]
        missing = [name for name in names if name not in place]
        if missing or np.size(tokens) != len(table):
            lacks = f"{len(missing)} {kind}s of the data set, e.g. {missing[0]}" if missing else f"{len(table)} names"
            raise ValueError(f"{what} lacks {lacks}; a row per name in {kind}_token is needed")
        table = table[[place[name] for name in names]]
    if len(table) == count - 1:
        table = np.concatenate([np.zeros((1, table.shape[1]), table.dtype), table])
    if len(table) != count:
        raise ValueError(
            f"{what} has {len(table)} {kind}s, the data set {count - 1}; allowed: {count - 1} rows in "
            f"RecBole's internal order, or a .npz with {kind}_token, their names"
        )
    return table
