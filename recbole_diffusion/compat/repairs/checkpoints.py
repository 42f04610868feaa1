"""Repairs of RecBole's checkpoints: loading them on torch 2.6, and the names behind their ids."""

from __future__ import annotations

import os
from typing import Any, Optional

import torch

from recbole_diffusion.compat.repairs.registration import called_by_recbole, repair
from recbole_diffusion.support import trusted_files
from recbole_diffusion.support.atomic_write import atomic_write
from recbole_diffusion.support.patch import Undo, replace
from recbole_diffusion.training import checkpoint


@repair(drop_when="RecBole passes weights_only itself or stops pickling its Config")
def torch_load() -> Optional[Undo]:
    """torch 2.6 loads weights only by default, but RecBole's checkpoints hold a pickled Config."""
    original_load, original_save = torch.load, torch.save

    def load(f: Any, *args: Any, **kwargs: Any) -> Any:
        if "weights_only" in kwargs or not called_by_recbole():
            return original_load(f, *args, **kwargs)
        trust = trusted_files.trusts_all()
        return _with_config_object(checkpoint.read(f, trust=trust, map_location=kwargs.get("map_location")))

    def save(obj: Any, f: Any, *args: Any, **kwargs: Any) -> None:
        if not called_by_recbole() or not isinstance(f, (str, os.PathLike)):
            original_save(obj, f, *args, **kwargs)
            return
        atomic_write(f, lambda file: original_save(obj, file, *args, **kwargs))
        trusted_files.trust_file(str(f))

    return replace((torch, "load", load), (torch, "save", save))


def _with_config_object(content: Any) -> Any:
    """Replace the plain settings in a checkpoint of ours by a Config object, which RecBole's readers expect."""
    if not isinstance(content, dict) or content.get("format") != checkpoint.FORMAT:
        return content
    from recbole_diffusion.data import numbering
    from recbole_diffusion.settings.config import Config
    from recbole_diffusion.settings.precedence import Source

    config = Config(stored=Source("checkpoint", content["config"]))
    numbering.use_vocabulary(config, content, "the checkpoint")
    return {**content, "config": config}


@repair(drop_when="RecBole keeps names in its checkpoints and finds rows by them")
def ids_of_a_checkpoint() -> Optional[Undo]:
    """RecBole numbers names in order of appearance: in another order of lines a checkpoint's rows get other names."""
    from recbole.data.dataset import Dataset

    from recbole_diffusion.data.numbering import renumbering

    method_name = "_user_item_feat_preparation"  # unchanged where the Config has no vocabulary
    return replace((Dataset, method_name, renumbering(vars(Dataset)[method_name])))
