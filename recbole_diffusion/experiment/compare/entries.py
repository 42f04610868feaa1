"""The models of a comparison: words such as ``DDRM:BPR`` or ``DiffRec@best.yaml``, and each one's own settings."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from recbole_diffusion import registry
from recbole_diffusion.cards import own_models
from recbole_diffusion.experiment.jobs.fingerprint import absolute
from recbole_diffusion.settings import precedence, schema, scopes
from recbole_diffusion.settings.precedence import Source
from recbole_diffusion.settings.scopes import Scope
from recbole_diffusion.support import yaml_files

#: Keys that are one for all models of a comparison.
OF_THE_COMPARISON = scopes.keys(Scope.MEASURED, Scope.WHERE, Scope.SHOWN)
#: Those of them that change neither a number nor what is compared.
_NOT_WORTH_A_NOTE = scopes.keys(Scope.WHERE, Scope.SHOWN) - {"data_path"} | {"model", "seed"}


@dataclass(frozen=True)
class Entry:
    """One model of a comparison.

    Attributes:
        label: its name in tables; no two are equal.
        model: what :func:`recbole_diffusion.run` takes.
        own: settings given for it alone; they win over those for all.
        file: settings of its file; they win over config files, and those given for all win over them.
        left_out: keys of its file that are the comparison's to decide.
    """

    label: str
    model: str
    own: dict[str, Any] = field(default_factory=dict)
    file: Source = field(default_factory=lambda: Source("", {}))
    left_out: dict[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """What its file and its own settings say."""
        return {**self.file.values, **self.own}

    def over(self, common: Mapping[str, Any], given: Collection[str] = ()) -> dict[str, Any]:
        """The settings of its runs.

        Args:
            common: for all models.
            given: keys of ``common`` that the command line gave, which win over the model's file.
        """
        file = {key: value for key, value in self.file.values.items() if key not in given}
        return {**common, **file, **self.own}

    def notes(self, sources: Sequence[Source]) -> list[str]:
        """Where sources differ in a key that this model's file or its own settings have.

        Args:
            sources: config files and what was given for all; the last one wins over the model's file.
        """
        whole = [*sources[:-1], self.file, sources[-1], Source(f"given for {self.label}", self.own)]
        return precedence.notes(whole, {*self.settings})

    def notes_of_left_out(self, config: Mapping[str, Any], datasets: Sequence[str], data_path: str) -> list[str]:
        """What of its file is not used although the comparison's value is another.

        Args:
            config: the model's effective settings.
            datasets: names.
            data_path: of the comparison.
        """
        found = []
        for key, value in self.left_out.items():
            used = {"dataset": ", ".join(datasets), "data_path": data_path}.get(key)
            used = config[key] if used is None else used
            same = _same(value, used) or (key == "dataset" and value in datasets)
            same = same or (key == "data_path" and os.path.abspath(value) == os.path.abspath(data_path))
            if not same and key not in _NOT_WORTH_A_NOTE:
                found.append(f"{key}={value!r} ({self.file.name}) is not used: it is one for all models, {used!r}")
        return found


def _same(value: Any, used: Any) -> bool:
    """Whether a setting says what is used, where RecBole has filled in the rest of a mapping."""
    if isinstance(value, dict) and isinstance(used, dict):
        return all(_same(each, used.get(key)) for key, each in value.items())
    if isinstance(used, dict) and value is not None:
        return {*map(str, used.values())} == {str(value)}
    return bool(value == used or [value] == used or (value in (None, [], {}) and used in (None, [], {})))


def files_of(words: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The content of the files that words name, by word.

    Raises:
        ValueError: a file that cannot be read.
    """
    variants = {word: word.partition("@")[2] for word in map(str.strip, words)}
    return {word: yaml_files.load_yaml(Path(name).expanduser()) for word, name in variants.items() if _is_file(name)}


def _is_file(variant: str) -> bool:
    return Path(variant).suffix in {".yaml", ".yml"}


def entries(
    words: Sequence[str],
    own: Optional[Mapping[str, Mapping[str, Any]]] = None,
    contents: Optional[Mapping[str, dict[str, Any]]] = None,
) -> list[Entry]:
    """The models that words like ``LightGCN``, ``DDRM:BPR``, ``DiffuRec@quick``, ``DiffRec@best.yaml`` name.

    Args:
        words: ``NAME[:BASE][@PRESET or FILE.yaml]``; NAME as for ``run``. BASE is the key ``base_model``.
        own: settings by label.
        contents: of the files, by word; None: they are read.

    Raises:
        ValueError: no such model or file, two equal labels, settings for a label that is not there.
    """
    read = files_of(words) if contents is None else contents
    found = [_entry(word.strip(), read) for word in words if word.strip()]
    labels = [entry.label for entry in found]
    if not found:
        raise ValueError("models is empty; name some, e.g. --models=LightGCN,EASE,DiffRec")
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(
                f"models: {label!r} is there twice; give one of them settings of its own by @FILE.yaml, and two files "
                "two names"
            )
    for label in own or {}:
        _check_own(label, (own or {})[label], labels)
    together = ({**each.own, **(own or {}).get(each.label, {})} for each in found)
    return [
        Entry(each.label, each.model, absolute(settings), each.file, each.left_out)
        for each, settings in zip(found, together)
    ]


def _check_own(label: str, settings: Mapping[str, Any], labels: Sequence[str]) -> None:
    if label not in labels:
        near = schema.nearest(label, labels)
        hint = f"did you mean {near}?" if near else f"there are {', '.join(labels)}"
        raise ValueError(f"settings for {label!r}, which is not among the models; {hint}")
    for key in sorted({*settings} & OF_THE_COMPARISON):
        raise ValueError(f"{label}.{key} would make {label} another comparison; give {key} to all: --{key}=VALUE")


def _entry(word: str, contents: Mapping[str, dict[str, Any]]) -> Entry:
    name, _, variant = word.partition("@")
    model, _, base = name.partition(":")
    settings: dict[str, Any] = {}
    if model == "recbole" or "." in model or _is_module(model):  # recbole:DiffRec, package.module:Class
        model = name
    elif base:
        settings["base_model"] = base
        registry.get_model(base)
    registry.get_model(model)
    if base and "base_model" in settings and "base_model" not in _keys_of(model):
        raise ValueError(f"models: {word!r} names a base, but {model} takes none; {_over_a_base()} do")
    if not variant:
        return Entry(name, model, settings)
    if not _is_file(variant):
        return Entry(f"{name}@{variant}", model, {**settings, "preset": variant})
    content = contents[word]
    if content.get("model", model) != model:
        raise ValueError(f"models: {variant!r} is a file of {content['model']}, not of {model}")
    values = absolute({key: value for key, value in content.items() if key not in OF_THE_COMPARISON})
    left_out = {key: value for key, value in content.items() if key in OF_THE_COMPARISON}
    return Entry(f"{name}@{Path(variant).stem}", model, settings, Source(Path(variant).name, values), left_out)


def _is_module(name: str) -> bool:
    known = {*registry.specs(), *registry.recbole_model_names()}
    if name in known or not name.isidentifier():
        return False
    return own_models.is_module(name) or schema.nearest(name, known) is None


def _keys_of(model: str) -> dict[str, Any]:
    spec = registry.find_spec(model)
    return dict(schema.read_keys(spec.defaults)) if spec else {}


def _over_a_base() -> str:
    """The models that are built on another one, for a message."""
    return " and ".join(name for name, spec in sorted(registry.specs().items()) if "base_model" in spec.needs)
