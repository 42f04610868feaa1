"""RecBole's Config with our defaults, with checked keys and values, and without side effects.

Deliberate differences from RecBole's:

- ``sys.argv`` is never read, and strings are parsed instead of evaluated.
- ``CUDA_VISIBLE_DEVICES`` is not set; ``gpu_id`` counts among the visible devices.
- yaml's own loaders and RecBole's argument lists are not modified.
- ``data_path`` applies to ml-100k too (:mod:`places`).
- The device is derived from the machine and kept beside the settings: ``use_gpu`` and ``gpu_id`` keep the user's
  values.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional, Union

from recbole.utils import ModelType

from recbole_diffusion import registry
from recbole_diffusion.settings import (
    consistency,
    device,
    former_names,
    known_keys,
    nested,
    non_settings,
    places,
    precedence,
    schema,
    scopes,
)
from recbole_diffusion.settings.precedence import Source
from recbole_diffusion.settings.recbole_config import RecBoleConfig
from recbole_diffusion.support import yaml_files

#: Keys that RecBole derives from others; left out of a saved configuration so that it can be read again.
DERIVED = scopes.keys(scopes.Scope.DERIVED)


class Config(RecBoleConfig):
    """The settings of one run.

    Precedence: defaults < the model's file < the data set's file < preset < checkpoint < files < ``config_dict``.

    Args:
        model: a name (ours, RecBole's, ``recbole:Name``, ``package.module:Class``) or a class.
        dataset: the data set's name.
        config_file_list: yaml files, the later ones win.
        config_dict: keys and values; strings are parsed (``"1e-3"`` is a number).
        stored: the settings of a checkpoint.

    Attributes:
        notes: warnings, one line each.
        overridden: one line for each value that another source overrides; see
            :mod:`recbole_diffusion.settings.precedence`.

    Raises:
        ValueError: an unknown model, a value that is not allowed, or a file that cannot be read; one line.
    """

    def __init__(
        self,
        model: Union[str, type, None] = None,
        dataset: Optional[str] = None,
        config_file_list: Optional[Sequence[Union[str, Path]]] = None,
        config_dict: Optional[dict[str, Any]] = None,
        stored: Optional[Source] = None,
    ) -> None:
        self.notes: list[str] = []
        self._sources: list[Source] = [] if stored is None else [stored]
        self._origins: dict[str, str] = {}
        super().__init__(model, dataset, config_file_list, config_dict)
        self._check_consistency()

    def compatibility_settings(self) -> None:
        """Do nothing. RecBole adds np.float and others to numpy here; :mod:`compat` adds them to its modules only."""

    def _init_parameters_category(self) -> None:
        super()._init_parameters_category()
        shared: dict[str, list[str]] = vars(self)["parameters"]  # RecBole's module-level lists, which it extends
        self.parameters = {category: list(keys) for category, keys in shared.items()}

    def _build_yaml_loader(self) -> type:
        return yaml_files.YamlLoader

    def _load_cmd_line(self) -> dict[str, Any]:
        return {}

    def _load_config_files(self, file_list: Optional[Sequence[Union[str, Path]]]) -> dict[str, Any]:
        self._sources += [Source(str(file), yaml_files.load_yaml(Path(file))) for file in file_list or ()]
        return {}

    def _convert_config_dict(self, config_dict: dict[str, Any]) -> dict[str, Any]:
        # numpy's numbers become Python's
        plain = {key: value.item() if hasattr(value, "item") else value for key, value in config_dict.items()}
        parsed = {key: parse_setting(key, value) for key, value in plain.items()}
        self._sources.append(Source(precedence.GIVEN, parsed))
        return parsed

    def _merge_external_config_dict(self) -> None:
        # a copy, since RecBole modifies the mappings among the values
        self.external_config_dict = copy.deepcopy(precedence.merge(self._sources))

    def _get_model_and_dataset(self, model: Any, dataset: Any) -> tuple[str, type, str]:
        arguments = {key: value for key, value in (("model", model), ("dataset", dataset)) if value is not None}
        requested = {**self.external_config_dict, **arguments}
        for key in ("model", "dataset"):
            if requested.get(key) is None:
                raise ValueError(f"{key} is not set; give --{key}=NAME, or {key}: NAME in a config file")
        self.requested_model = requested["model"]
        self.spec = registry.find_spec(requested["model"])
        self._rename_former_keys()
        self._sources.append(Source(precedence.GIVEN, arguments))
        self.overridden = precedence.notes(self._sources)
        model_class = registry.get_model(requested["model"])
        return self.spec.name if self.spec else model_class.__name__, model_class, str(requested["dataset"])

    def _rename_former_keys(self) -> None:
        """Replace former names of the model's keys by the current ones, in all sources."""
        names = former_names.current_names(self.spec.defaults) if self.spec is not None else {}
        if names and any(key in names for key in self.external_config_dict):
            self._sources = [former_names.with_current_names(source, names) for source in self._sources]
            self._merge_external_config_dict()

    def _load_internal_config_dict(self, model: str, model_class: type, dataset: str) -> None:
        self.keys: dict[str, schema.Key] = {}
        super()._load_internal_config_dict(model, model_class, dataset)
        preset = self.external_config_dict.get("preset")
        if preset is not None:
            values = known_keys.preset_settings(preset, model)
            self.internal_config_dict.update(values)
            self._origins.update(dict.fromkeys(values, "preset"))

    def _update_internal_config_dict(self, file: str) -> dict[str, Any]:
        path = Path(file)
        if path.parent.name == "model" and self.spec is not None:
            return {}  # these are the defaults of RecBole's own model of the same name
        defaults = yaml_files.load_yaml(path)
        self.internal_config_dict.update(defaults)
        self._origins.update(dict.fromkeys(defaults, _origin(path)))
        self.keys.update({key: schema.Key(value, None, "") for key, value in defaults.items()})
        if path.name == "overall.yaml":
            self._add_defaults(yaml_files.properties() / "overall.yaml", "default")
        # RecBole reads its data sets' files after the model's, and their MAX_ITEM_LIST_LENGTH of 50 would win.
        if self.spec is not None and (path.name == "overall.yaml" or path.parent.name == "dataset"):
            self._add_defaults(self.spec.defaults, "model")
        return defaults

    def _add_defaults(self, file: Path, origin: str) -> None:
        if not file.is_file():
            raise ValueError(f"the defaults {str(file)!r} of model {self.model!r} are missing")
        keys = schema.read_keys(file)
        self.keys.update(keys)
        self._origins.update(dict.fromkeys(keys, origin))
        self.internal_config_dict.update({key: entry.default for key, entry in keys.items()})

    def _get_final_config_dict(self) -> dict[str, Any]:
        settings = self.external_config_dict
        self._non_settings = non_settings.pop_from(settings, known_keys.keys_read_by(self.model_class))
        self.notes += known_keys.notes_without_effect(settings, self.keys, self.model, self.model_class)
        consistency.check_old_form(settings)
        self._check_values(settings)
        if (settings.get("train_neg_sample_args") or {}).get("distribution") == "none":
            settings["train_neg_sample_args"] = None  # RecBole's value for training without negatives
        final: dict[str, Any] = super()._get_final_config_dict()
        consistency.check_metrics(final)
        consistency.check_columns(final)
        return final

    def _check_values(self, settings: dict[str, Any]) -> None:
        """Check each value against its rule and convert it to the rule's type, in place."""
        rules: dict[str, Any] = nested.recbole_rules(self.model_class.__module__.startswith("recbole."))
        for key, value in settings.items():
            entry = self.keys.get(key, schema.Key(None, None, ""))
            if isinstance(rules.get(key), dict):
                settings[key] = nested.check(key, value, rules[key], self.notes)
            else:
                settings[key] = schema.check_key(key, value, entry.rule or rules.get(key), entry.default)

    def _set_default_parameters(self) -> None:
        final = self.final_config_dict
        consistency.check_evaluation(final)
        full_softmax = final.get("loss_type") == "CE" and final["MODEL_TYPE"] == ModelType.SEQUENTIAL
        if full_softmax and "train_neg_sample_args" not in self.external_config_dict:
            final["train_neg_sample_args"] = None  # RecBole raises an error that asks the user to set this
        consistency.check_loss(final, self.model_class)
        place = places.locate(final["data_path"], self.dataset, "data_path" in self.external_config_dict)
        super()._set_default_parameters()
        self.data_root, final["data_path"] = place.root, place.folder
        self.notes += [place.note] if place.note else []
        self.notes += consistency.check_negatives(final, self.model, self.model_class)

    def _init_device(self) -> None:
        final = self.final_config_dict
        is_distributed = "local_rank" in final  # set by recbole_diffusion.distributed
        if is_distributed and not device.in_process_group():
            raise ValueError("local_rank is set by --nproc; leave it out")
        value = final["gpu_id"]
        numbers = value if isinstance(value, (tuple, list)) else [value]
        gpu_id = "" if value is None else ",".join(str(number) for number in numbers)
        final["device"] = device.choose(gpu_id, final["use_gpu"])
        final["gpu_id"] = gpu_id  # a string, as RecBole keeps it
        final["single_spec"] = not is_distributed
        final.setdefault("local_rank", 0)

    def _check_consistency(self) -> None:
        """Check what RecBole notices only after an epoch, or never."""
        final = self.final_config_dict
        consistency.check_valid_metric(final)
        consistency.check_order(final)
        self.notes += non_settings.notes(self._non_settings, final)
        self.notes += consistency.notes(final, self.model_class)
        self.notes += consistency.notes_of_modes(self.external_config_dict, final)

    def plain(self) -> dict[str, Any]:
        """The effective settings as plain values, which ``Config(config_dict=…)`` and yaml accept."""
        return {**plain_settings(self), "model": self.model_name(), "data_path": str(self.data_root)}

    def source(self, key: str) -> str:
        """The source of a key's effective value.

        Returns:
            ``default``, ``model`` (its file of defaults), ``data set``, ``preset``, the name of a checkpoint or of a
            config file, :data:`precedence.GIVEN`; ``derived`` for values that follow from other settings or from the
            machine.
        """
        names = [source.name for source in self._sources if key in source.values]
        if names:
            return names[-1]
        value, default = self.plain().get(key), self.internal_config_dict.get(key)
        completed = key == "data_path" or (isinstance(value, dict) and isinstance(default, dict))
        return self._origins.get(key, "derived") if completed or value == _plain(default) else "derived"

    def key_origin(self, key: str) -> str:
        """The file of the key's default: ``default``, ``model``, ``data set`` or ``preset``; ``""`` if it has none."""
        return self._origins.get(key, "")

    def model_name(self) -> str:
        """The model as a string that :func:`registry.get_model` accepts."""
        if isinstance(self.requested_model, str):
            return self.requested_model
        if self.spec is not None:
            return self.spec.name
        return f"{self.model_class.__module__}:{self.model_class.__qualname__}"

    def to_yaml(self) -> str:
        """Format :meth:`plain` as yaml, for ``--config_files``."""
        return yaml_files.dump_yaml(self.plain(), sort_keys=True, default_flow_style=None)


def _origin(file: Path) -> str:
    """The source, as in :meth:`Config.source`, of the values in one of RecBole's files of defaults."""
    if file.name == "overall.yaml" or file.name == "sample.yaml":
        return "default"
    return "data set" if file.parent.name == "dataset" or file.stem.endswith("ml-100k") else "model"


def plain_settings(config: RecBoleConfig) -> dict[str, Any]:
    """:meth:`Config.plain` for any Config, including RecBole's own (from its checkpoints, or under ``enable()``)."""
    plain = {key: _plain(value) for key, value in config.final_config_dict.items() if key not in DERIVED}
    folder = Path(config["data_path"]).parent
    packaged = folder.name == "dataset_example" and "data_path" not in config.external_config_dict
    plain["data_path"] = config.external_config_dict.get("data_path") or (places.PACKAGED if packaged else str(folder))
    negatives = plain.get("train_neg_sample_args")
    if isinstance(negatives, dict) and negatives.get("distribution") == "none":
        plain["train_neg_sample_args"] = None
    return {"model": config["model"], "dataset": config["dataset"], **plain}


def settings_of(state: Any, what: str) -> dict[str, Any]:
    """The plain settings in a checkpoint of this package or of RecBole.

    Args:
        state: the content of the checkpoint.
        what: its name at the beginning of the error message.

    Raises:
        ValueError: it holds none.
    """
    if not isinstance(state, dict) or "config" not in state:
        raise ValueError(f"{what} holds no settings; it is not a checkpoint of a run")
    stored = state["config"]
    if not isinstance(stored, (dict, RecBoleConfig)):
        raise ValueError(f"{what} holds no settings; it is not a checkpoint of a run")
    return dict(stored) if isinstance(stored, dict) else plain_settings(stored)


def parse_setting(key: str, value: Any) -> Any:
    """Parse a value if it is a string. RecBole's intervals, such as [5,10], stay strings."""
    interval = key.endswith("_num_interval") and str(value).lower() not in {"none", "null", "~", ""}
    return schema.parse_value(value) if isinstance(value, str) and not interval else value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
