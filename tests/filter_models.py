"""Models in closed form on a matrix, without a data set on disk."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from recbole_diffusion import registry
from recbole_diffusion.support import yaml_files

FIELDS = {"USER_ID_FIELD": "u", "ITEM_ID_FIELD": "i", "NEG_PREFIX": "neg_", "device": torch.device("cpu")}


def config_of(name: str, **settings: Any) -> Any:
    """The defaults of a model with some settings, as RecBole's configuration gives them: None for what is not set."""
    spec = registry.find_spec(name)
    assert spec is not None
    return defaultdict(lambda: None, {**FIELDS, **yaml_files.load_yaml(spec.defaults), **settings})


def dataset_of(matrix: np.ndarray) -> Any:
    """What the models ask of RecBole's data set; user u is row u - 1 and time runs along each row."""
    users, items = matrix.nonzero()
    columns = {"u": torch.tensor(users + 1), "i": torch.tensor(items + 1), "t": torch.arange(len(users)).float()}
    sizes = {"u": matrix.shape[0] + 1, "i": matrix.shape[1] + 1}
    names = {"uid_field": "u", "iid_field": "i", "time_field": "t", "user_num": sizes["u"], "item_num": sizes["i"]}
    return SimpleNamespace(inter_feat=columns, num=sizes.__getitem__, **names)


def filter_model(model_class: type, matrix: np.ndarray, **settings: Any) -> Any:
    """The fitted model."""
    return model_class(config_of(model_class.__name__, **settings), dataset_of(matrix)).eval()
