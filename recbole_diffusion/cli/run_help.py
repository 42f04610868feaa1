"""The keys in ``run --help``: RecBole's daily ones, this package's, a model's; each as its yaml file has it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any, Optional

from recbole_diffusion import registry
from recbole_diffusion.settings import schema
from recbole_diffusion.settings.schema import Key
from recbole_diffusion.support import yaml_files

#: RecBole's keys that people set every day, by what they are for.
DAILY: dict[str, str] = {
    "training": "epochs stopping_step eval_step learning_rate train_batch_size learner weight_decay clip_grad_norm "
    "train_neg_sample_args",
    "evaluation": "eval_args metrics topk valid_metric repeatable eval_batch_size",
    "data": "data_path load_col val_interval threshold rm_dup_inter user_inter_num_interval item_inter_num_interval "
    "MAX_ITEM_LIST_LENGTH benchmark_filename",
    "machine and files": "seed reproducibility use_gpu gpu_id enable_amp checkpoint_dir state",
}
_ALL = "all of RecBole's keys: https://recbole.io/docs/user_guide/config_settings.html"


def keys(model: Optional[str] = None) -> str:
    """The groups of keys, a line each with default, rule and meaning.

    Args:
        model: whose keys and defaults are shown too.

    Raises:
        ValueError: there is no such model.
    """
    own = _keys_of(model) if model else {}
    text = _daily(own, model)
    text += _group("this package's keys", schema.read_keys(yaml_files.properties() / "overall.yaml"))
    text += _group(f"keys of {model}", own) if own else []
    return "\n".join([*text, _ALL])


def _daily(own: Mapping[str, Key], model: Optional[str]) -> list[str]:
    """RecBole's daily keys; the model's default where its file has another."""
    try:
        folder = registry.recbole_folder() / "properties"
    except ModuleNotFoundError as error:
        return [f"RecBole's keys: {error}", ""]
    rules = yaml_files.load_yaml(yaml_files.properties() / "recbole.yaml")
    known: dict[str, Key] = {}
    for file in ("dataset/sample.yaml", "overall.yaml"):
        known.update(schema.read_keys(folder / file))
    text = []
    for title, names in DAILY.items():
        group = {}
        for name in names.split():
            rule, key = rules.get(name), known[name]
            key = key._replace(rule=rule["allowed"] if isinstance(rule, dict) else rule)
            other = f" ({model}'s default)" if name in own else ""
            group[name] = (
                key._replace(default=own[name].default, meaning=key.meaning.rstrip(" .") + other) if other else key
            )
        text += _group(f"RecBole's keys, {title}", group)
    return text


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
