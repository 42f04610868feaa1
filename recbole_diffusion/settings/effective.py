"""The effective settings of a run as yaml, in groups, with the source of each value as a comment."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import yaml

from recbole_diffusion import registry
from recbole_diffusion.settings import precedence, schema
from recbole_diffusion.settings.config import Config
from recbole_diffusion.support import yaml_files

#: RecBole's categories of keys in the order in which they are shown, with their titles.
_CATEGORIES = {"Training": "training", "Evaluation": "evaluation", "General": "machine and files", "Dataset": "data"}


def as_yaml(config: Config) -> str:
    """:meth:`Config.plain` as yaml that ``--config_files`` takes; each line ends with the value's source.

    The sources are ``default``, ``model``, ``data set``, ``preset``, a checkpoint, a file's name, ``command line`` and
    ``derived`` (of other settings or of the machine).
    """
    settings = config.plain()
    text: list[str] = []
    for title, keys in _groups(config, settings).items():
        text += [f"# {title}", *(_line(key, settings[key], config.source(key)) for key in keys), ""]
    return "\n".join(text)


def _groups(config: Config, settings: Collection[str]) -> dict[str, list[str]]:
    """The keys by group; each key is in one."""
    ours = schema.read_keys(yaml_files.properties() / "overall.yaml")
    wanted: list[tuple[str, Collection[str]]] = [("run", ("model", "dataset"))]
    wanted += [(title, config.parameters[category]) for category, title in _CATEGORIES.items()]
    wanted += [("this package", ours), (config.model, _of_model(config)), ("other keys", settings)]
    place = {key: title for title, keys in reversed(wanted) for key in keys}
    order = ["run", config.model, *_CATEGORIES.values(), "this package", "other keys"]
    groups = {title: [key for key in settings if place[key] == title] for title in order}
    return {title: keys for title, keys in groups.items() if keys}


def _of_model(config: Config) -> Collection[str]:
    theirs = registry.recbole_folder() / "properties" / "model" / f"{config.model}.yaml"
    file = config.spec.defaults if config.spec is not None else theirs
    return schema.read_keys(file) if file.is_file() else ()


def _line(key: str, value: Any, source: str) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**9).strip()
    text = text[: -len("...")].strip() if text.endswith("\n...") else text
    name = "command line" if source == precedence.GIVEN else source
    return f"{f'{key}: {text}':<46} # {name}"
