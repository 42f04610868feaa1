"""Embeddings and recommenders from files (.npy, .npz, checkpoints), in the ids of a data set."""

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

#: Attributes in which RecBole's graph models cache the propagated embeddings of the split that they were trained on.
_PROPAGATED = frozenset({"restore_user_e", "restore_item_e", "restore_entity_e"})
#: Names of the tables of LightGCN-PyTorch, as DDRM's authors ship them; their rows count from 0.
OFFICIAL = {"user": "embedding_user.weight", "item": "embedding_item.weight"}


def embeddings(config: Any, file: Path, dataset: Any) -> Embeddings:
    """Read the embeddings in the file of the key ``pretrain``.

    Args:
        config: of the run.
        file: a .npy, a .npz or a checkpoint.
        dataset: whose ids the rows take.

    Returns:
        The tables; that of the users has width 0 where the file has none.

    Raises:
        ValueError: the file does not exist, or its content does not fit the data set.
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
    """Read the two tables in the file of the key ``base_checkpoint``; None for a checkpoint of a run.

    Args:
        config: of the run.
        file: a .npz, or a checkpoint.
        dataset: whose ids the rows take.

    Raises:
        ValueError: the file does not exist, or its content does not fit the data set.
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
        content = _with_our_names({key: state[key].numpy() for key in OFFICIAL.values()})
    if not {"user", "item"} <= {*content}:
        raise ValueError(f"{what} holds {', '.join(content)}; needed: user, item (user_token, item_token)")
    user, item = (_table(content, kind, what, dataset) for kind in ("user", "item"))
    if user.shape[1] != item.shape[1]:
        raise ValueError(f"{what}: user and item differ in width: {user.shape[1]} and {item.shape[1]}")
    _note_rows_without_names(config, content, what)
    return Embeddings(user, item)


def model(config: Any, file: Path, dataset: Any, key: str) -> Any:
    """Load a recommender that RecBole or this package has saved; its settings are the attribute ``own_config``.

    Our runner has numbered the data set as in the file, where the file has names.

    Args:
        config: of the run.
        file: the checkpoint.
        dataset: with the same users and items.
        key: the setting with the path, for error messages.

    Raises:
        ValueError: not a checkpoint, or one of other users, items or id order.
    """
    what = f"{key}={str(file)!r}"
    state = checkpoint.read(file, trust=trusted_files.trusts_all(), map_location=config["device"])
    settings = settings_of(state, what)
    name = settings.pop("model")
    settings.pop("dataset")
    provenance.check_names(state, what, config, dataset)
    _compare_splits(config, state, settings, what, dataset)
    base = config_of(config, {"model": name, **settings})
    random_state_before = random_state()
    try:
        repairs.repair_model(base.model_class)
        net = base.model_class(base, dataset).to(base["device"])
    finally:
        restore_random_state(random_state_before)
    checkpoint.load_weights(net, state, provenance.mismatch(config, what, dataset))
    for attribute in _PROPAGATED & {*vars(net)}:  # to be computed anew over the graph of this split
        setattr(net, attribute, None)
    net.own_config = base
    return net


def config_of(config: Any, settings: dict[str, Any]) -> Config:
    """The Config of a saved recommender, on this run's data set and device.

    Args:
        config: of the run.
        settings: in the checkpoint.

    Raises:
        ValueError: a setting that is not allowed.
    """
    stored = {key: value for key, value in settings.items() if key not in {"dataset", "data_path"}}
    device = {"use_gpu": config["use_gpu"], "gpu_id": config["gpu_id"]}
    return Config(None, config["dataset"], stored=Source("checkpoint", {**stored, **device}))


def _compare_splits(config: Any, state: Any, settings: dict[str, Any], what: str, dataset: Any) -> None:
    """Warn where a recommender may have been trained on rows of this test split.

    The hashes of the splits are compared; where one is missing, the settings that determine the split.
    """
    split_hash = (getattr(dataset, "described", None) or {}).get("split_sha256")
    if provenance.split_hash_of(state) is not None and split_hash is not None:
        if provenance.split_hash_of(state) != split_hash:
            provenance.warn(config, f"{what} was trained on another split; it may have seen rows of this test split")
        return
    for key in ("seed", "eval_args", "benchmark_filename"):
        if settings.get(key) != config[key]:
            warning = f"it may have seen rows of this test split (now {config[key]!r})"
            provenance.warn(config, f"{what} was trained with {key}={settings.get(key)!r}: {warning}")


def _note_rows_without_names(config: Any, content: dict[str, np.ndarray], what: str) -> None:
    for kind in ("user", "item"):
        if kind in content and f"{kind}_token" not in content:
            text = f"{what} has no {kind}_token: the {kind}s of its rows are taken in RecBole's id order, unchecked"
            provenance.warn(config, text)


def arrays(file: Path) -> dict[str, np.ndarray]:
    """Read the arrays of a file by name; the array of a .npy is named ``item``."""
    return (
        _with_our_names(convert.load_arrays(file)) if file.suffix == ".npz" else {"item": convert.load_arrays(file)[""]}
    )


def _with_our_names(content: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rename tables with :data:`OFFICIAL` names to ``user`` and ``item``, and name their rows 0, 1, ..."""
    for kind, name in OFFICIAL.items():
        if name in content:
            table = content.pop(name)
            content.update({kind: table, f"{kind}_token": np.arange(len(table)).astype(str)})
    return content


def _table(content: dict[str, np.ndarray], kind: str, what: str, dataset: Any) -> np.ndarray:
    """Put a table into the ids of the data set.

    Rows with names (``item_token``) are found by name. Rows without names are taken in RecBole's id order, with the
    padding row or without it.

    Args:
        content: the arrays of the file.
        kind: ``user`` or ``item``.
        what: setting and path, for error messages.
        dataset: whose ids the rows take.

    Returns:
        The table, float32, (``item_num`` or ``user_num``, width); row 0 is the padding row.

    Raises:
        ValueError: not a table of finite numbers, missing names, or another number of rows.
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
        names = [str(token) for token in dataset.field2id_token[field][1:]]
        table = _rows_by_name(table, tokens, names, kind, what)
    if len(table) == count - 1:
        table = np.concatenate([np.zeros((1, table.shape[1]), table.dtype), table])
    if len(table) != count:
        raise ValueError(
            f"{what} has {len(table)} {kind}s, the data set {count - 1}; allowed: {count - 1} rows in "
            f"RecBole's internal order, or a .npz with {kind}_token, their names"
        )
    return table


def _rows_by_name(table: np.ndarray, tokens: np.ndarray, names: list[str], kind: str, what: str) -> np.ndarray:
    """The rows of a table in the order of ``names``.

    Args:
        table: (rows, width).
        tokens: the name of each row.
        names: of the data set, without the padding.
        kind, what: for error messages.

    Raises:
        ValueError: a name without a row, or another number of names than rows.
    """
    row_of = {str(token): row for row, token in enumerate(np.atleast_1d(tokens))}
    missing = [name for name in names if name not in row_of]
    if missing or np.size(tokens) != len(table):
        lacks = f"{len(missing)} {kind}s of the data set, e.g. {missing[0]}" if missing else f"{len(table)} names"
        raise ValueError(f"{what} lacks {lacks}; a row per name in {kind}_token is needed")
    return table[[row_of[name] for name in names]]
