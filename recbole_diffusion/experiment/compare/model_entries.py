"""The models of a comparison: words such as ``DDRM:BPR`` or ``DiffRec@best.yaml``, and the settings of each model."""

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

#: Keys that have one value for all models of a comparison.
SHARED_KEYS = scopes.keys(Scope.MEASURED, Scope.WHERE, Scope.SHOWN)
#: Shared keys that change neither a number nor what is compared: ignoring them needs no note.
_IGNORED_SILENTLY = scopes.keys(Scope.WHERE, Scope.SHOWN) - {"data_path"} | {"model", "seed"}


@dataclass(frozen=True)
class ModelEntry:
    """One model of a comparison with its settings.

    Attributes:
        label: the model's unique name in tables.
        model: the model, as :func:`recbole_diffusion.run` takes it.
        own_settings: passed for this model alone; they win over those for all models.
        file: settings of the model's file. They win over config files; settings passed for all models win over them.
        ignored: shared keys in the model's file; the comparison's values are used instead.
    """

    label: str
    model: str
    own_settings: dict[str, Any] = field(default_factory=dict)
    file: Source = field(default_factory=lambda: Source("", {}))
    ignored: dict[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the model's file and those passed for it alone."""
        return {**self.file.values, **self.own_settings}

    def merged_settings(self, common: Mapping[str, Any], passed_keys: Collection[str] = ()) -> dict[str, Any]:
        """Return the settings of the model's runs.

        Args:
            common: settings for all models.
            passed_keys: keys of ``common`` that were passed directly; they win over the model's file.
        """
        from_file = {key: value for key, value in self.file.values.items() if key not in passed_keys}
        return {**common, **from_file, **self.own_settings}

    def precedence_notes(self, sources: Sequence[Source]) -> list[str]:
        """Return one line for each key of this model that sources set differently: which value is used.

        Args:
            sources: config files and, last, the settings passed for all models, which win over the model's file.
        """
        all_sources = [*sources[:-1], self.file, sources[-1], Source(f"given for {self.label}", self.own_settings)]
        return precedence.notes(all_sources, {*self.settings})

    def ignored_notes(self, config: Mapping[str, Any], datasets: Sequence[str], data_path: str) -> list[str]:
        """Return one line for each ignored key of the model's file whose value differs from the comparison's.

        Args:
            config: the model's effective settings.
            datasets: the names of the comparison's data sets.
            data_path: of the comparison.
        """
        notes = []
        for key, value in self.ignored.items():
            used = {"dataset": ", ".join(datasets), "data_path": data_path}.get(key)
            used = config[key] if used is None else used
            same = _same(value, used) or (key == "dataset" and value in datasets)
            same = same or (key == "data_path" and os.path.abspath(value) == os.path.abspath(data_path))
            if not same and key not in _IGNORED_SILENTLY:
                notes.append(f"{key}={value!r} ({self.file.name}) is not used: it is one for all models, {used!r}")
        return notes


def _same(value: Any, used: Any) -> bool:
    """Whether a setting equals the one that is used, to which RecBole may have added the defaults of a mapping."""
    if isinstance(value, dict) and isinstance(used, dict):
        return all(_same(part, used.get(key)) for key, part in value.items())
    if isinstance(used, dict) and value is not None:
        return {*map(str, used.values())} == {str(value)}
    return bool(value == used or [value] == used or (value in (None, [], {}) and used in (None, [], {})))


def read_model_files(words: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the content of the file in each word ``NAME@FILE.yaml``, by word.

    Raises:
        ValueError: a file cannot be read.
    """
    variants = {word: word.partition("@")[2] for word in map(str.strip, words)}
    return {word: yaml_files.load_yaml(Path(name).expanduser()) for word, name in variants.items() if _is_file(name)}


def _is_file(variant: str) -> bool:
    return Path(variant).suffix in {".yaml", ".yml"}


def parse_entries(
    words: Sequence[str],
    own: Optional[Mapping[str, Mapping[str, Any]]] = None,
    contents: Optional[Mapping[str, dict[str, Any]]] = None,
) -> list[ModelEntry]:
    """Parse words such as ``LightGCN``, ``DDRM:BPR``, ``DiffuRec@quick`` and ``DiffRec@best.yaml``.

    Args:
        words: ``NAME[:BASE][@PRESET or FILE.yaml]``; NAME as for ``run``, BASE is the value of ``base_model``.
        own: settings for single models, by label.
        contents: the content of the files, by word; None: read them.

    Raises:
        ValueError: an unknown model or label, a file that cannot be read, two equal labels.
    """
    files = read_model_files(words) if contents is None else contents
    own = own or {}
    entries = [_parse_entry(word.strip(), files) for word in words if word.strip()]
    labels = [entry.label for entry in entries]
    if not entries:
        raise ValueError("models is empty; name some, e.g. --models=LightGCN,EASE,DiffRec")
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(
                f"models: {label!r} is listed twice; give one of them a file of settings, NAME@FILE.yaml; files need "
                "different names"
            )
    for label, settings in own.items():
        _check_own(label, settings, labels)
    return [
        ModelEntry(
            entry.label,
            entry.model,
            absolute({**entry.own_settings, **own.get(entry.label, {})}),
            entry.file,
            entry.ignored,
        )
        for entry in entries
    ]


def _check_own(label: str, settings: Mapping[str, Any], labels: Sequence[str]) -> None:
    """Raise a ValueError if settings are for an unknown label, or set a shared key."""
    if label not in labels:
        near = schema.nearest(label, labels)
        hint = f"did you mean {near}?" if near else f"there are {', '.join(labels)}"
        raise ValueError(f"settings for {label!r}, which is not among the models; {hint}")
    for key in sorted({*settings} & SHARED_KEYS):
        raise ValueError(
            f"{label}.{key} is not allowed: {key} is the same for all models; set it for all by --{key}=VALUE"
        )


def _parse_entry(word: str, contents: Mapping[str, dict[str, Any]]) -> ModelEntry:
    name, _, variant = word.partition("@")
    model, _, base = name.partition(":")
    own_settings: dict[str, Any] = {}
    if model == "recbole" or "." in model or _is_module(model):  # recbole:DiffRec, package.module:Class
        model = name
    elif base:
        own_settings["base_model"] = base
        registry.get_model(base)
    registry.get_model(model)
    if own_settings and "base_model" not in _default_keys(model):
        raise ValueError(f"models: {word!r} names a base, but {model} takes none; {_models_with_a_base()} do")
    if not variant:
        return ModelEntry(name, model, own_settings)
    if not _is_file(variant):
        return ModelEntry(f"{name}@{variant}", model, {**own_settings, "preset": variant})
    content = contents[word]
    if content.get("model", model) != model:
        raise ValueError(f"models: {variant!r} is a file of {content['model']}, not of {model}")
    values = absolute({key: value for key, value in content.items() if key not in SHARED_KEYS})
    ignored = {key: value for key, value in content.items() if key in SHARED_KEYS}
    return ModelEntry(f"{name}@{Path(variant).stem}", model, own_settings, Source(Path(variant).name, values), ignored)


def _is_module(name: str) -> bool:
    """Whether the part before a colon is a module of the user's and not a misspelt model."""
    known = {*registry.specs(), *registry.recbole_model_names()}
    if name in known or not name.isidentifier():
        return False
    return own_models.is_module(name) or schema.nearest(name, known) is None


def _default_keys(model: str) -> dict[str, Any]:
    spec = registry.find_spec(model)
    return dict(schema.read_keys(spec.defaults)) if spec else {}


def _models_with_a_base() -> str:
    """Names of the models that are built on a base model, for a message."""
    return " and ".join(name for name, spec in sorted(registry.specs().items()) if "base_model" in spec.needs)
