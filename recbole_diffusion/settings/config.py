"""RecBole's Config with our defaults, checked keys and values, and without its side effects.

Differences from RecBole's, each on purpose: ``sys.argv`` is never read, strings are parsed and not evaluated,
``CUDA_VISIBLE_DEVICES`` is left alone (``gpu_id`` counts among the visible devices), yaml's own loaders and
RecBole's argument lists are not changed, ``data_path`` is honoured for ml-100k too (:mod:`places`). The device is
derived from the machine and kept beside the settings: ``use_gpu`` and ``gpu_id`` stay what the user said.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional, Union

import torch
import yaml
from recbole.utils import ModelType

from recbole_diffusion import registry
from recbole_diffusion.settings import (
    consistency,
    elsewhere,
    former_names,
    known_keys,
    nested,
    places,
    precedence,
    schema,
    scopes,
)
from recbole_diffusion.settings.precedence import Source
from recbole_diffusion.settings.recbole_config import RecBoleConfig
from recbole_diffusion.support import yaml_files

#: What RecBole derives from other keys; left out of a saved configuration so that it can be read again.
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
        overridden: a line for each value that another one won over; see :mod:`recbole_diffusion.settings.precedence`.

    Raises:
        ValueError: no such model, a value that is not allowed, a file that cannot be read; one line each.
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
        """RecBole puts np.float and others into numpy here; :mod:`compat` gives them to RecBole's modules only."""

    def _init_parameters_category(self) -> None:
        super()._init_parameters_category()
        theirs: dict[str, list[str]] = vars(self)["parameters"]
        self.parameters = {category: list(keys) for category, keys in theirs.items()}

    def _build_yaml_loader(self) -> type:
        return yaml_files.YamlLoader

    def _load_cmd_line(self) -> dict[str, Any]:
        return {}

    def _load_config_files(self, file_list: Optional[Sequence[Union[str, Path]]]) -> dict[str, Any]:
        self._sources += [Source(str(file), yaml_files.load_yaml(Path(file))) for file in file_list or ()]
        return {}

    def _convert_config_dict(self, config_dict: dict[str, Any]) -> dict[str, Any]:
        plain = {key: value.item() if hasattr(value, "item") else value for key, value in config_dict.items()}
        parsed = {key: parse_setting(key, value) for key, value in plain.items()}
        self._sources.append(Source(precedence.GIVEN, parsed))
        return parsed

    def _merge_external_config_dict(self) -> None:
        # RecBole fills in the dicts it is given
        self.external_config_dict = copy.deepcopy(precedence.merge(self._sources))

    def _get_model_and_dataset(self, model: Any, dataset: Any) -> tuple[str, type, str]:
        arguments = {key: value for key, value in (("model", model), ("dataset", dataset)) if value is not None}
        words = {**self.external_config_dict, **arguments}
        for key in ("model", "dataset"):
            if words.get(key) is None:
                raise ValueError(f"{key} is not set; give --{key}=NAME, or {key}: NAME in a config file")
        self.requested_model = words["model"]
        self.spec = registry.find_spec(words["model"])
        self._take_former_names()
        self._sources.append(Source(precedence.GIVEN, arguments))
        self.overridden = precedence.notes(self._sources)
        model_class = registry.get_model(words["model"])
        return self.spec.name if self.spec else model_class.__name__, model_class, str(words["dataset"])

    def _take_former_names(self) -> None:
        names = former_names.of_file(self.spec.defaults) if self.spec is not None else {}
        if names and any(key in names for key in self.external_config_dict):
            self._sources = [former_names.renamed(source, names) for source in self._sources]
            self._merge_external_config_dict()

    def _load_internal_config_dict(self, model: str, model_class: type, dataset: str) -> None:
        self.keys: dict[str, schema.Key] = {}
        super()._load_internal_config_dict(model, model_class, dataset)
        preset = self.external_config_dict.get("preset")
        if preset is not None:
            found = known_keys.preset(preset, model)
            self.internal_config_dict.update(found)
            self._origins.update(dict.fromkeys(found, "preset"))

    def _update_internal_config_dict(self, file: str) -> dict[str, Any]:
        path = Path(file)
        if path.parent.name == "model" and self.spec is not None:
            return {}  # RecBole's defaults of its own model of that name
        found = yaml_files.load_yaml(path)
        self.internal_config_dict.update(found)
        self._origins.update(dict.fromkeys(found, _origin(path)))
        self.keys.update({key: schema.Key(value, None, "") for key, value in found.items()})
        if path.name == "overall.yaml":
            self._add_defaults(yaml_files.properties() / "overall.yaml", "default")
        # RecBole reads its data sets' files after the model's, and their MAX_ITEM_LIST_LENGTH of 50 would win.
        if self.spec is not None and (path.name == "overall.yaml" or path.parent.name == "dataset"):
            self._add_defaults(self.spec.defaults, "model")
        return found

    def _add_defaults(self, file: Path, origin: str) -> None:
        if not file.is_file():
            raise ValueError(f"the defaults {str(file)!r} of model {self.model!r} are missing")
        keys = schema.read_keys(file)
        self.keys.update(keys)
        self._origins.update(dict.fromkeys(keys, origin))
        self.internal_config_dict.update({key: entry.default for key, entry in keys.items()})

    def _get_final_config_dict(self) -> dict[str, Any]:
        given = self.external_config_dict
        self._elsewhere = elsewhere.take_out(given, known_keys.read_by(self.model_class))
        self.notes += known_keys.notes_without_effect(given, self.keys, self.model, self.model_class)
        rules: dict[str, Any] = nested.of_recbole(self.model_class.__module__.startswith("recbole."))
        consistency.check_old_form(given)
        for key, value in given.items():
            entry = self.keys.get(key, schema.Key(None, None, ""))
            if isinstance(rules.get(key), dict):
                given[key] = nested.check(key, value, rules[key], self.notes)
            else:
                given[key] = schema.check_key(key, value, entry.rule or rules.get(key), entry.default)
        if (given.get("train_neg_sample_args") or {}).get("distribution") == "none":
            given["train_neg_sample_args"] = None  # which is RecBole's word for it
        final: dict[str, Any] = super()._get_final_config_dict()
        consistency.check_metrics(final)
        consistency.check_columns(final)
        return final

    def _set_default_parameters(self) -> None:
        final = self.final_config_dict
        consistency.check_evaluation(final)
        softmax = final.get("loss_type") == "CE" and final["MODEL_TYPE"] == ModelType.SEQUENTIAL
        if softmax and "train_neg_sample_args" not in self.external_config_dict:
            final["train_neg_sample_args"] = None  # RecBole stops here and asks its user to write this
        consistency.check_loss(final, self.model_class)
        place = places.locate(final["data_path"], self.dataset, "data_path" in self.external_config_dict)
        super()._set_default_parameters()
        self.data_root, final["data_path"] = place.root, place.folder
        self.notes += [place.note] if place.note else []
        self.notes += consistency.check_negatives(final, self.model, self.model_class)

    def _init_device(self) -> None:
        final = self.final_config_dict
        several = "local_rank" in final  # one of the processes of recbole_diffusion.distributed
        if several and not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            raise ValueError("local_rank is set by --nproc; leave it out")
        gpu = final["gpu_id"]
        numbers = gpu if isinstance(gpu, (tuple, list)) else [gpu]
        gpu = "" if gpu is None else ",".join(str(each) for each in numbers)
        first = gpu.split(",")[0].strip()
        if first and not first.isdigit():
            raise ValueError(f"gpu_id={gpu!r} is not allowed; allowed: the number of a visible GPU, or '' for the CPU")
        wanted = bool(first) and final["use_gpu"] and torch.cuda.is_available()
        number = 0 if wanted and _sees_its_own_gpu_only() else int(first or 0)
        if wanted and number >= torch.cuda.device_count():
            raise ValueError(f"gpu_id={gpu!r} is not allowed; allowed: 0..{torch.cuda.device_count() - 1}")
        final["gpu_id"] = gpu  # a string, as RecBole keeps it
        final["single_spec"] = not several
        final.setdefault("local_rank", 0)
        final["device"] = torch.device("cuda", number) if wanted else torch.device("cpu")

    def _check_consistency(self) -> None:
        """What RecBole notices only after an epoch, or never."""
        final = self.final_config_dict
        consistency.check_valid_metric(final)
        consistency.check_order(final)
        self.notes += elsewhere.notes(self._elsewhere, final)
        self.notes += consistency.notes(final, self.model_class)
        self.notes += consistency.notes_of_modes(self.external_config_dict, final)

    def plain(self) -> dict[str, Any]:
        """The effective settings as plain values, in a form that ``Config(config_dict=…)`` and yaml take."""
        return {**plain_settings(self), "model": self.model_name(), "data_path": str(self.data_root)}

    def source(self, key: str) -> str:
        """Where the effective value of a key is from.

        Returns:
            ``default``, ``model`` (its file of defaults), ``data set``, ``preset``, the name of a checkpoint or of a
            config file, :data:`precedence.GIVEN`; ``derived`` for what follows from other settings or the machine.
        """
        given = [source.name for source in self._sources if key in source.values]
        if given:
            return given[-1]
        value, before = self.plain().get(key), self.internal_config_dict.get(key)
        completed = key == "data_path" or (isinstance(value, dict) and isinstance(before, dict))
        return self._origins.get(key, "derived") if completed or value == _plain(before) else "derived"

    def model_name(self) -> str:
        """A string that names the model again in :func:`registry.get_model`."""
        if isinstance(self.requested_model, str):
            return self.requested_model
        if self.spec is not None:
            return self.spec.name
        return f"{self.model_class.__module__}:{self.model_class.__qualname__}"

    def to_yaml(self) -> str:
        """:meth:`plain` as yaml, for ``--config_files``."""
        return yaml.safe_dump(self.plain(), sort_keys=True, allow_unicode=True, default_flow_style=None)


def _origin(file: Path) -> str:
    """What :meth:`Config.source` calls the values in one of RecBole's files of defaults."""
    if file.name == "overall.yaml" or file.name == "sample.yaml":
        return "default"
    return "data set" if file.parent.name == "dataset" or file.stem.endswith("ml-100k") else "model"


def plain_settings(config: RecBoleConfig) -> dict[str, Any]:
    """:meth:`Config.plain` for any Config, RecBole's own (from its checkpoints, under ``enable()``) included."""
    plain = {key: _plain(value) for key, value in config.final_config_dict.items() if key not in DERIVED}
    folder = Path(config["data_path"]).parent
    packaged = folder.name == "dataset_example" and "data_path" not in config.external_config_dict
    plain["data_path"] = config.external_config_dict.get("data_path") or (places.PACKAGED if packaged else str(folder))
    negatives = plain.get("train_neg_sample_args")
    if isinstance(negatives, dict) and negatives.get("distribution") == "none":
        plain["train_neg_sample_args"] = None
    return {"model": config["model"], "dataset": config["dataset"], **plain}


def settings_of(state: Any, what: str) -> dict[str, Any]:
    """The plain settings in a checkpoint of ours or RecBole's.

    Raises:
        ValueError: it holds none; the line starts with ``what``.
    """
    if not isinstance(state, dict) or "config" not in state:
        raise ValueError(f"{what} holds no settings; it is not a checkpoint of a run")
    stored = state["config"]
    if not isinstance(stored, (dict, RecBoleConfig)):
        raise ValueError(f"{what} holds no settings; it is not a checkpoint of a run")
    return dict(stored) if isinstance(stored, dict) else plain_settings(stored)


def parse_setting(key: str, value: Any) -> Any:
    """A string's value; RecBole's intervals, such as [5,10], stay strings."""
    interval = key.endswith("_num_interval") and str(value).lower() not in {"none", "null", "~", ""}
    return schema.parse_value(value) if isinstance(value, str) and not interval else value


def _sees_its_own_gpu_only() -> bool:
    """Whether this is a process of ``--nproc`` on GPUs, whose one visible GPU has number 0 whatever ``gpu_id`` says."""
    group = torch.distributed.is_available() and torch.distributed.is_initialized()
    return group and torch.distributed.get_backend() == "nccl" and torch.cuda.device_count() == 1


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(each) for each in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
