"""The keys in ``run --help``: common keys of RecBole, this package's keys, a model's keys, read from the yaml files."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any, Optional

from recbole_diffusion import registry
from recbole_diffusion.settings import schema
from recbole_diffusion.settings.schema import Key
from recbole_diffusion.support import yaml_files

#: RecBole's most common keys, by subject.
COMMON: dict[str, str] = {
    "training": "epochs stopping_step eval_step learning_rate train_batch_size learner weight_decay clip_grad_norm "
    "train_neg_sample_args",
    "evaluation": "eval_args metrics topk valid_metric repeatable eval_batch_size",
    "data": "data_path load_col val_interval threshold rm_dup_inter user_inter_num_interval item_inter_num_interval "
    "MAX_ITEM_LIST_LENGTH benchmark_filename",
    "machine and files": "seed reproducibility use_gpu gpu_id enable_amp checkpoint_dir state",
}
_ALL = "all of RecBole's keys: https://recbole.io/docs/user_guide/config_settings.html"


def keys(model: Optional[str] = None) -> str:
    """Return the groups of keys, a line each with default, allowed values and meaning.

    Args:
        model: model whose keys and defaults are included; None for none.

    Raises:
        ValueError: no such model.
    """
    own = _keys_of(model) if model else {}
    lines = _common(own, model)
    lines += _group("this package's keys", schema.read_keys(yaml_files.properties() / "overall.yaml"))
    lines += _group(f"keys of {model}", own) if own else []
    return "\n".join([*lines, _ALL])


def _common(own: Mapping[str, Key], model: Optional[str]) -> list[str]:
    """The lines of RecBole's common keys; with the model's default where its file has one."""
    try:
        folder = registry.recbole_folder() / "properties"
    except ModuleNotFoundError as error:
        return [f"RecBole's keys: {error}", ""]
    rules = yaml_files.load_yaml(yaml_files.properties() / "recbole.yaml")
    known: dict[str, Key] = {}
    for file in ("dataset/sample.yaml", "overall.yaml"):
        known.update(schema.read_keys(folder / file))
    lines = []
    for title, names in COMMON.items():
        group = {}
        for name in names.split():
            rule, key = rules.get(name), known[name]
            key = key._replace(rule=rule["allowed"] if isinstance(rule, dict) else rule)
            if name in own:
                meaning = f"{key.meaning.rstrip(' .')} ({model}'s default)"
                key = key._replace(default=own[name].default, meaning=meaning)
            group[name] = key
        lines += _group(f"RecBole's keys, {title}", group)
    return lines


def _keys_of(model: str) -> dict[str, Key]:
    spec = registry.find_spec(model)
    if spec is not None:
        return schema.read_keys(spec.defaults)
    name = registry.get_model(model).__name__
    file = registry.recbole_folder() / "properties" / "model" / f"{name}.yaml"
    return schema.read_keys(file) if file.is_file() else {}


def _group(title: str, group: Mapping[str, Key]) -> list[str]:
    return [f"{title}:", *(_line(key, *entry) for key, entry in group.items()), ""]


def _line(key: str, default: Any, rule: Optional[str], meaning: str) -> str:
    value = "" if default is None else default
    text = (
        f"  --{key}={value}"
        + (f"   ({schema.expand_rule(rule)})" if rule else "")
        + (f" {meaning.rstrip(' .')}" if meaning else "")
    )
    return textwrap.fill(text, 118, subsequent_indent=" " * 6, break_long_words=False, break_on_hyphens=False)
