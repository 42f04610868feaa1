"""RecBole's Config with our defaults, checked keys and values, and without its side effects.

Differences from RecBole's, each on purpose: ``sys.argv`` is never read, strings are parsed and not evaluated,
``CUDA_VISIBLE_DEVICES`` is left alone (``gpu_id`` counts among the visible devices), yaml's own loaders and
RecBole's argument lists are not changed, ``data_path`` is honoured for ml-100k too.
"""

from __future__ import annotations

import copy
import functools
import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional, Union

import torch
import yaml
from recbole.config import Config as RecBoleConfig
from recbole.evaluator import metric_types
from recbole.utils import EvaluatorType, ModelType

from recbole_diffusion import registry, schema

#: What RecBole derives from other keys; left out of a saved configuration so that it can be read again.
DERIVED = frozenset(
    {"MODEL_TYPE", "MODEL_INPUT_TYPE", "eval_type", "device", "single_spec", "local_rank", "world_size"}
    | {"valid_metric_bigger", "valid_neg_sample_args", "test_neg_sample_args", "model", "dataset", "config_files"}
)


class Config(RecBoleConfig):
    """The settings of one run. Precedence as in RecBole: defaults < data set < files < ``config_dict``.

    Args:
        model: a name (ours, RecBole's, ``recbole:Name``, ``package.module:Class``) or a class.
        dataset: the data set's name.
        config_file_list: yaml files, the later ones win.
        config_dict: keys and values; strings are parsed (``"1e-3"`` is a number).

    Raises:
        ValueError: no such model, a value that is not allowed, a file that cannot be read; one line each.
    """

    def __init__(
        self,
        model: Union[str, type, None] = None,
        dataset: Optional[str] = None,
        config_file_list: Optional[Sequence[Union[str, Path]]] = None,
        config_dict: Optional[dict[str, Any]] = None,
    ) -> None:
        self.notes: list[str] = []
        super().__init__(model, dataset, config_file_list, config_dict)
        self._check_consistency()

    def compatibility_settings(self) -> None:
        """RecBole puts np.float and others into numpy here; :mod:`compat` gives them to RecBole's modules only."""

    def _init_parameters_category(self) -> None:
        super()._init_parameters_category()
        theirs: dict[str, list[str]] = vars(self)["parameters"]
        self.parameters = {category: list(keys) for category, keys in theirs.items()}

    def _build_yaml_loader(self) -> type:
        return schema.YamlLoader

    def _load_cmd_line(self) -> dict[str, Any]:
        return {}

    def _load_config_files(self, file_list: Optional[Sequence[Union[str, Path]]]) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for file in file_list or ():
            merged.update(schema.load_yaml(Path(file)))
        return merged

    def _convert_config_dict(self, config_dict: dict[str, Any]) -> dict[str, Any]:
        plain = {key: value.item() if hasattr(value, "item") else value for key, value in config_dict.items()}
        parsed = {key: parse_setting(key, value) for key, value in plain.items()}
        return copy.deepcopy(parsed)  # RecBole fills in the dicts it is given

    def _get_model_and_dataset(self, model: Any, dataset: Any) -> tuple[str, type, str]:
        wanted = model if model is not None else self.external_config_dict.get("model")
        data = dataset if dataset is not None else self.external_config_dict.get("dataset")
        for key, value in (("model", wanted), ("dataset", data)):
            if value is None:
                raise ValueError(f"{key} is not set; give --{key}=NAME, or {key}: NAME in a config file")
        self.requested_model = wanted
        self.spec = registry.find_spec(wanted)
        model_class = registry.get_model(wanted)
        return self.spec.name if self.spec else model_class.__name__, model_class, str(data)

    def _load_internal_config_dict(self, model: str, model_class: type, dataset: str) -> None:
        self.keys: dict[str, schema.Key] = {}
        super()._load_internal_config_dict(model, model_class, dataset)
        preset = self.external_config_dict.get("preset")
        if preset is not None:
            self.internal_config_dict.update(_preset(preset, model))

    def _update_internal_config_dict(self, file: str) -> dict[str, Any]:
        path = Path(file)
        if path.parent.name == "model" and self.spec is not None:
            return {}  # RecBole's defaults of its own model of that name
        found: dict[str, Any] = super()._update_internal_config_dict(file) or {}
        self.keys.update({key: schema.Key(value, None, "") for key, value in found.items()})
        if path.name == "overall.yaml":
            self._add_defaults(schema.properties() / "overall.yaml")
        # RecBole reads its data sets' files after the model's, and their MAX_ITEM_LIST_LENGTH of 50 would win.
        if self.spec is not None and (path.name == "overall.yaml" or path.parent.name == "dataset"):
            self._add_defaults(self.spec.defaults)
        return found

    def _add_defaults(self, file: Path) -> None:
        if not file.is_file():
            raise ValueError(f"the defaults {str(file)!r} of model {self.model!r} are missing")
        keys = schema.read_keys(file)
        self.keys.update(keys)
        self.internal_config_dict.update({key: entry.default for key, entry in keys.items()})

    def _get_final_config_dict(self) -> dict[str, Any]:
        self._check_keys()
        rules = schema.load_yaml(schema.properties() / "recbole.yaml")
        for key, value in self.external_config_dict.items():
            entry = self.keys.get(key, schema.Key(None, None, ""))
            self.external_config_dict[key] = schema.check_key(key, value, entry.rule or rules.get(key), entry.default)
        final: dict[str, Any] = super()._get_final_config_dict()
        self.data_root = final["data_path"]
        metrics = [final["metrics"]] if isinstance(final["metrics"], str) else final["metrics"]
        for metric in metrics:
            if metric.lower() not in metric_types:
                raise ValueError(f"metrics={metric!r} is not allowed; allowed: {' | '.join(sorted(metric_types))}")
        if len({metric_types[metric.lower()] for metric in metrics}) > 1:
            raise ValueError(f"metrics={metrics!r} mixes metrics of rankings and of values; allowed: one kind")
        return final

    def _check_keys(self) -> None:
        if all(key in self.keys for key in self.external_config_dict):
            return
        known = {*self.keys, *_more_keys(), *_keys_read_by(self.model_class)}
        for key in self.external_config_dict:
            if key in known:
                continue
            near = schema.nearest(key, known)
            hint = f"; did you mean {near}?" if near else ""
            self.notes.append(f"key {key!r} is unknown to {self.model} and RecBole and has no effect{hint}")

    def _set_default_parameters(self) -> None:
        self._check_eval_args()
        final = self.final_config_dict
        softmax = final.get("loss_type") == "CE" and final["MODEL_TYPE"] == ModelType.SEQUENTIAL
        if softmax and "train_neg_sample_args" not in self.external_config_dict:
            final["train_neg_sample_args"] = None  # RecBole stops here and asks its user to write this
        super()._set_default_parameters()
        given = "data_path" in self.external_config_dict
        if self.dataset == "ml-100k" and given and (Path(self.data_root) / "ml-100k").is_dir():
            self.final_config_dict["data_path"] = str(Path(self.data_root) / "ml-100k")

    def _check_eval_args(self) -> None:
        args = self.final_config_dict["eval_args"]
        split, order = args.get("split"), args.get("order", "RO")
        if order not in {"RO", "TO"}:
            raise ValueError(f"eval_args.order={order!r} is not allowed; allowed: RO | TO")
        if split is not None and (not isinstance(split, dict) or len(split) != 1 or not {*split} <= {"RS", "LS", "TS"}):
            raise ValueError(f"eval_args.split={split!r} is not allowed; allowed: one of {{RS: […], LS: …, TS: […]}}")
        if split and "TS" in split and order != "TO":
            raise ValueError(
                "eval_args.order='RO' with split TS puts rows before the boundary into test; allowed: order: TO"
            )
        ratios = next(iter(split.values())) if split else None
        if split and "LS" in split and ratios not in {"valid_and_test", "valid_only", "test_only"}:
            raise ValueError(
                f"eval_args.split={split!r} is not allowed; allowed: LS: valid_and_test | valid_only | test_only"
            )
        if split and "LS" not in split and not (isinstance(ratios, list) and len(ratios) == 3):
            raise ValueError(
                f"eval_args.split={split!r} is not allowed; allowed: three shares, e.g. RS: [0.8, 0.1, 0.1]"
            )
        unknown = {*args} - {"split", "order", "group_by", "mode"}
        for key in sorted(unknown):
            near = schema.nearest(key, ["split", "order", "group_by", "mode"])
            self.notes.append(
                f"key 'eval_args.{key}' is unknown to RecBole and has no effect"
                + (f"; did you mean {near}?" if near else "")
            )

    def _init_device(self) -> None:
        several = "local_rank" in self.final_config_dict  # one of the processes of recbole_diffusion.distributed
        if several and not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            raise ValueError("local_rank is set by --nproc; leave it out")
        gpu = self.final_config_dict["gpu_id"]
        numbers = gpu if isinstance(gpu, (tuple, list)) else [gpu]
        gpu = "" if gpu is None else ",".join(str(each) for each in numbers)
        first = gpu.split(",")[0].strip()
        if first and not first.isdigit():
            raise ValueError(f"gpu_id={gpu!r} is not allowed; allowed: the number of a visible GPU, or '' for the CPU")
        wanted = bool(first) and self.final_config_dict["use_gpu"] and torch.cuda.is_available()
        if wanted and int(first) >= torch.cuda.device_count():
            raise ValueError(f"gpu_id={gpu!r} is not allowed; allowed: 0..{torch.cuda.device_count() - 1}")
        self.final_config_dict["gpu_id"] = gpu  # a string, as RecBole keeps it
        self.final_config_dict["single_spec"] = not several
        self.final_config_dict.setdefault("local_rank", 0)
        self.final_config_dict["device"] = torch.device("cuda", int(first)) if wanted else torch.device("cpu")
        self.final_config_dict["use_gpu"] = wanted  # RecBole's trainer reads it beside the device

    def _check_consistency(self) -> None:
        """What RecBole notices only after an epoch, or never."""
        cut = [metric for metric in self["metrics"] if metric.lower() != "gauc"]  # of the whole ranking
        possible = [f"{metric}@{k}" for metric in cut for k in self["topk"]]
        possible += [metric for metric in self["metrics"] if metric not in cut]
        if self["eval_type"] == EvaluatorType.VALUE:
            possible = list(self["metrics"])
        if self["valid_metric"].lower() not in {name.lower() for name in possible}:
            near = schema.nearest(self["valid_metric"], possible)
            raise ValueError(
                f"valid_metric={self['valid_metric']!r} is not measured; allowed: {', '.join(possible)}"
                + (f" (did you mean {near}?)" if near else "; or add it to metrics and topk")
            )
        if self["MODEL_TYPE"] == ModelType.SEQUENTIAL and self["eval_args"]["order"] == "RO":
            raise ValueError(
                "eval_args.order='RO' would let a sequential model train on later rows; allowed: order: TO"
            )
        if self["MODEL_TYPE"] == ModelType.GENERAL and self["threshold"]:
            self.notes.append(
                "threshold only makes a label column, every row stays a positive; to drop low ratings use "
                "val_interval: {rating: '[4,inf)'}"
            )
        sampled = any(mode.startswith(("uni", "pop")) for mode in self["eval_args"]["mode"].values())
        if sampled and self["mask_history"] and self["MODEL_TYPE"] == ModelType.SEQUENTIAL:
            self.notes.append("mask_history has no effect in sampled evaluation, whose negatives may be a user's past")
        if sampled:
            self.notes.append("sampled evaluation can rank models differently from full ranking (mode: full)")

    def plain(self) -> dict[str, Any]:
        """The effective settings as plain values, in a form that ``Config(config_dict=…)`` and yaml take."""
        return {**plain_settings(self), "model": self.model_name(), "data_path": str(self.data_root)}

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


def plain_settings(config: RecBoleConfig) -> dict[str, Any]:
    """:meth:`Config.plain` for any Config, RecBole's own (from its checkpoints, under ``enable()``) included."""
    plain = {key: _plain(value) for key, value in config.final_config_dict.items() if key not in DERIVED}
    plain["data_path"] = config.external_config_dict.get("data_path") or str(Path(config["data_path"]).parent)
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


def _preset(preset: Any, model: str) -> dict[str, Any]:
    """The settings of ``properties/<preset>/<model>.yaml``.

    Raises:
        ValueError: there is none.
    """
    file = schema.properties() / "quick" / f"{model}.yaml"
    if preset != "quick" or not file.is_file():
        there = sorted(each.stem for each in file.parent.glob("*.yaml"))
        raise ValueError(f"preset={preset!r} of {model} is not there; allowed: quick, for {', '.join(there)}")
    return schema.load_yaml(file)


def parse_setting(key: str, value: Any) -> Any:
    """A string's value; RecBole's intervals, such as [5,10], stay strings."""
    return schema.parse_value(value) if isinstance(value, str) and not key.endswith("_num_interval") else value


def _keys_read_by(model_class: type) -> set[str]:
    """Keys in the source of the model's module: an own model reads keys that no yaml file has."""
    try:
        source = inspect.getsource(inspect.getmodule(model_class) or model_class)
    except (OSError, TypeError):
        return set()
    return set(_KEY_READ.findall(source))


_KEY_READ = re.compile(r"config\[\s*[\"']([\w-]+)[\"']\s*\]")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(each) for each in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


@functools.lru_cache(maxsize=1)
def _more_keys() -> frozenset[str]:
    """Keys that RecBole's sources read without a default in any yaml file, and those of its other models."""
    folder = registry.recbole_folder()
    keys = {"model", "dataset", "config_files", "config_file_list"}
    for file in folder.rglob("*.py"):
        keys.update(_KEY_READ.findall(file.read_text(encoding="utf-8")))
    for file in (folder / "properties" / "quick_start_config").glob("*.yaml"):
        keys.update(schema.load_yaml(file))
    from recbole.utils import dataset_arguments, evaluation_arguments, general_arguments, training_arguments

    keys.update(general_arguments, training_arguments, evaluation_arguments, dataset_arguments)
    return frozenset(keys)
