"""Yaml output of a run's effective settings, in groups, with the source of each value as a comment."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from recbole_diffusion import registry
from recbole_diffusion.settings import precedence, schema
from recbole_diffusion.settings.config import Config
from recbole_diffusion.support import yaml_files

#: RecBole's categories of keys in the order of the output, with their titles.
_CATEGORIES = {"Training": "training", "Evaluation": "evaluation", "General": "machine and files", "Dataset": "data"}


def as_yaml(config: Config) -> str:
    """Format :meth:`Config.plain` as yaml for ``--config_files``; each line ends with the value's source.

    The sources are ``default``, ``model``, ``data set``, ``preset``, a checkpoint, a file's name, ``command line`` and
    ``derived`` (from other settings or from the machine).
    """
    settings = config.plain()
    lines: list[str] = []
    for title, keys in _groups(config, settings).items():
        lines += [f"# {title}", *(_line(key, settings[key], config.source(key)) for key in keys), ""]
    return "\n".join(lines)


def _groups(config: Config, settings: Collection[str]) -> dict[str, list[str]]:
    """The keys by the title of their group; each key is in one group."""
    package_keys = schema.read_keys(yaml_files.properties() / "overall.yaml")
    candidates: list[tuple[str, Collection[str]]] = [("run", ("model", "dataset"))]
    candidates += [(title, config.parameters[category]) for category, title in _CATEGORIES.items()]
    candidates += [("this package", package_keys), (config.model, _model_keys(config)), ("other keys", settings)]
    title_of = {key: title for title, keys in reversed(candidates) for key in keys}  # the first group wins
    order = ["run", config.model, *_CATEGORIES.values(), "this package", "other keys"]
    groups = {title: [key for key in settings if title_of[key] == title] for title in order}
    return {title: keys for title, keys in groups.items() if keys}


def _model_keys(config: Config) -> Collection[str]:
    """The keys in the model's file of defaults."""
    recbole_file = registry.recbole_folder() / "properties" / "model" / f"{config.model}.yaml"
    file = config.spec.defaults if config.spec is not None else recbole_file
    return schema.read_keys(file) if file.is_file() else ()


def _line(key: str, value: Any, source: str) -> str:
    """One key with its value in yaml's flow style and its source."""
    text = yaml_files.dump_yaml(value, default_flow_style=True, width=10**9).strip()
    text = text[: -len("...")].strip() if text.endswith("\n...") else text
    name = "command line" if source == precedence.GIVEN else source
    return f"{f'{key}: {text}':<46} # {name}"
