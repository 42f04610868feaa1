"""Embeddings of another recommender, or the recommender itself: trained on the same train split, or from a file.

The key ``pretrain`` selects embeddings: ``{model: LightGCN, config: {embedding_size: 64}}``, or the path of a ``.npy``
or ``.npz`` file or of a checkpoint. Models on top of a base model (DDRM, HDRM) have the keys ``base_model``,
``base_config`` and ``base_checkpoint``. Trained base models are cached, see :mod:`recbole_diffusion.pretraining.cache`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from recbole.trainer import Trainer

from recbole_diffusion import registry
from recbole_diffusion.model.embeddings.pretrained import Pretrained, TrainedModel
from recbole_diffusion.model.embeddings.tables import Embeddings, embeddings_of
from recbole_diffusion.pretraining import cache, pretrained_files
from recbole_diffusion.pretraining.base_config import base_config, take_settings
from recbole_diffusion.settings.config import Config


class OnSplit(NamedTuple):
    """The :class:`recbole_diffusion.model.embeddings.pretrained.Pretrained` of a run's split.

    Attributes:
        config: of the run.
        train_data, valid_data: loaders of the split.
    """

    config: Any
    train_data: Any
    valid_data: Any

    def embeddings(self) -> Embeddings:
        return embeddings(*self)

    def base(self) -> TrainedModel:
        return trained_base(*self)

    def untrained_base(self) -> Any:
        return untrained_base(self.config, self.train_data)


def attach(config: Any, loaders: Any) -> None:
    """Set ``pretrained`` on the train data set, where models find it.

    Args:
        config: of the run.
        loaders: of the train, validation and test split.
    """
    dataset = getattr(loaders[0], "_dataset", None)
    if dataset is not None:
        pretrained: Pretrained = OnSplit(config, *loaders[:2])
        dataset.pretrained = pretrained


def embeddings(config: Any, train_data: Any, valid_data: Any) -> Embeddings:
    """The embeddings that the key ``pretrain`` selects, in the ids of the train data set.

    The random state is restored afterwards, so that a run with a cached file equals one without.

    Raises:
        ValueError: the file or model does not exist, its shapes do not fit the data set, or it has no embeddings.
    """
    source = config["pretrain"]
    if isinstance(source, str):
        return pretrained_files.embeddings(config, Path(source), train_data._dataset)
    if not isinstance(source, dict) or "model" not in source:
        raise ValueError(
            f"pretrain={source!r} is not allowed; allowed: {{model: NAME, config: {{…}}}}, or the path of a .npy, .npz "
            "or .pth file"
        )
    unknown_keys = sorted({*source} - {"model", "config"})
    if unknown_keys:
        raise ValueError(f"pretrain.{unknown_keys[0]} is not allowed; allowed: model, config")
    base = base_config(config, source["model"], source.get("config") or {})
    return cache.trained(config, base, train_data, valid_data).embeddings


def trained_base(config: Any, train_data: Any, valid_data: Any) -> TrainedModel:
    """The base model of ``base_model``, ``base_config`` and ``base_checkpoint``; trained where no checkpoint is given.

    The random state is restored afterwards. The settings of a checkpoint's model are written into ``base_model`` and
    ``base_config``.

    Raises:
        ValueError: as :func:`embeddings`, and where the file's tables do not fit the model.
    """
    dataset, file = train_data._dataset, config["base_checkpoint"]
    _check_joint_training(config, _class_of_base(config))
    if file is None:
        return cache.trained(config, _config_of_base(config), train_data, valid_data)
    tables = pretrained_files.tables(config, Path(file), dataset)
    if tables is not None:
        net = _with_tables(config, tables, train_data)
    else:
        net = pretrained_files.model(config, Path(file), dataset, "base_checkpoint")
        _check_joint_training(config, type(net))
        take_settings(config, net.own_config)
    return TrainedModel(embeddings_of(net, dataset), lambda: net)


def _class_of_base(config: Any) -> type:
    """The class of ``base_model``.

    Raises:
        ValueError: there is no such model.
    """
    try:
        return registry.get_model(config["base_model"])
    except ValueError as error:
        raise ValueError(f"base_model={config['base_model']!r} is not allowed: {error}") from error


def _check_joint_training(config: Any, model_class: Any) -> None:
    """Check that a base with ``freeze_base: False`` can be trained beside the networks on top of it.

    Raises:
        ValueError: its loss needs its own training loop, which the joint training does not run.
    """
    if config["freeze_base"] or not config["base_loss_weight"]:
        return
    trainer = registry.get_trainer(model_class.type, model_class, model_class.__name__)
    if any(getattr(trainer, method) is not getattr(Trainer, method) for method in ("fit", "_train_epoch")):
        raise ValueError(
            f"base_loss_weight={config['base_loss_weight']} is not allowed with {model_class.__name__} as base, whose "
            "loss needs its own training loop; allowed: 0, or freeze_base: True"
        )


def _with_tables(config: Any, tables: Embeddings, train_data: Any) -> Any:
    """Build ``base_model`` with the tables of a file as its layer-0 embeddings; its other weights are new.

    Raises:
        ValueError: another ``embedding_size``, or a model without such tables.
    """
    width = tables.item.shape[1]
    own_settings = {"embedding_size": width, **(config["base_config"] or {})}
    size = own_settings["embedding_size"]
    if size != width:
        raise ValueError(f"base_config.embedding_size={size} is not the width of base_checkpoint's tables, {width}")
    config["base_config"] = own_settings
    net = untrained_base(config, train_data)
    layers: list[Any] = [getattr(net, f"{kind}_embedding", None) for kind in ("user", "item")]
    if not all(isinstance(layer, torch.nn.Embedding) for layer in layers):
        raise ValueError(
            f"base_model={config['base_model']!r} has no tables of layer-0 embeddings to put base_checkpoint's in; "
            "allowed with tables: BPR (as they are), LightGCN, NGCF, SGL, NCL, DGCF, or null for base_checkpoint"
        )
    for layer, table in zip(layers, (tables.user, tables.item)):
        layer.weight.data.copy_(torch.from_numpy(table))
    return net


def untrained_base(config: Any, train_data: Any) -> Any:
    """Build the base model of ``base_model`` and ``base_config`` with new weights, for a caller that loads others."""
    return cache.untrained(_config_of_base(config), train_data)


def _config_of_base(config: Any) -> Config:
    return base_config(config, config["base_model"], config["base_config"] or {}, "base_model", "base_config")
