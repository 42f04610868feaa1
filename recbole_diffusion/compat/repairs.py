"""Repairs of RecBole 1.2.1 on today's libraries, one function each.

Each repair is applied only where its condition holds, changes only what RecBole's own code sees, and can be
taken back with :func:`undo`. On a stack where RecBole ran before, only wrong numbers change (ShannonEntropy, Pop,
lists of users with fewer than k candidates). Nothing happens at import: :func:`apply` is called by our runner
and by :func:`recbole_diffusion.enable`.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Callable, Optional

import numpy as np
import torch
from packaging.version import Version

from recbole_diffusion.support import trusted_files
from recbole_diffusion.support.atomic_write import atomic_write
from recbole_diffusion.support.patch import Undo, replace
from recbole_diffusion.support.random_state import random_state, restore_random_state
from recbole_diffusion.training import checkpoint


@dataclass(frozen=True)
class Repair:
    """One repair: ``run`` applies it and returns how to take it back, or None where it is not needed."""

    name: str
    reason: str
    drop_when: str
    run: Callable[[], Optional[Undo]]


REPAIRS: list[Repair] = []
_applied: dict[str, Undo] = {}


def repair(drop_when: str) -> Callable[[Callable[[], Optional[Undo]]], Callable[[], Optional[Undo]]]:
    """Register a repair; the docstring's first line is its reason."""

    def register(function: Callable[[], Optional[Undo]]) -> Callable[[], Optional[Undo]]:
        reason = (function.__doc__ or "").strip().splitlines()[0]
        REPAIRS.append(Repair(function.__name__, reason, drop_when, function))
        return function

    return register


def apply() -> list[str]:
    """Apply every repair that is needed and not applied yet; the names of those in force."""
    for each in REPAIRS:
        if each.name not in _applied:
            revert = each.run()
            if revert is not None:
                _applied[each.name] = revert
    return list(_applied)


def undo() -> None:
    """Take every repair back."""
    trusted_files.trust_all(False)
    while _applied:
        _, revert = _applied.popitem()
        revert()


def _called_by_recbole(depth: int = 2) -> bool:
    name = sys._getframe(depth).f_globals.get("__name__", "")
    return name == "recbole" or name.startswith("recbole.")


class _Namespace(types.ModuleType):
    """A module with some names added, for one importer's eyes only."""

    def __init__(self, module: types.ModuleType, **added: Any) -> None:
        super().__init__(module.__name__)
        self.__dict__.update(added)
        self.__dict__["_module"] = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_module"], name)


#: RecBole's modules that use the dropped names; a test compares the list with RecBole's sources.
NUMPY_ALIAS_USERS = (
    "data.interaction",
    "data.dataset.dataset",
    "evaluator.metrics",
    "trainer.hyper_tuning",
    "model.abstract_recommender",
    "model.layers",
    "model.context_aware_recommender.ffm",
)


@repair(drop_when="RecBole no longer uses np.float and its kin")
def numpy_aliases() -> Optional[Undo]:
    """numpy 1.24 dropped np.float, np.bool, np.str, np.long; numpy 2 also np.float_, which RecBole's Config reads."""
    if Version(np.__version__).release < (1, 24):
        return None
    from recbole.config.configurator import Config

    names = {"float": np.float64, "bool": np.bool_, "str": np.str_, "int": np.int_, "long": np.int_}
    modules = [importlib.import_module(f"recbole.{user}") for user in NUMPY_ALIAS_USERS]
    changes: list[tuple[Any, str, Any]] = [(module, "np", _Namespace(np, **names)) for module in modules]
    if not hasattr(np, "float_"):
        changes.append((Config, "compatibility_settings", lambda self: None))
    return replace(*changes)


@repair(drop_when="RecBole builds its adjacency without dok_matrix._update")
def scipy_dok_update() -> Optional[Undo]:
    """scipy 1.13 dropped the private dok_matrix._update, which LightGCN, NGCF, NCL, GCMC and SpectralCF call."""
    from scipy.sparse import dok_matrix

    if hasattr(dok_matrix, "_update"):
        return None

    def _update(self: Any, data: Any) -> None:
        if not _called_by_recbole():
            raise AttributeError("'dok_matrix' object has no attribute '_update'")
        self._dict.update(data)

    return replace((dok_matrix, "_update", _update))


@repair(drop_when="RecBole passes weights_only itself or stops pickling its Config")
def torch_load() -> Optional[Undo]:
    """torch 2.6 loads weights only by default, but RecBole's checkpoints hold a pickled Config."""
    original_load, original_save = torch.load, torch.save

    def load(f: Any, *args: Any, **kwargs: Any) -> Any:
        if "weights_only" in kwargs or not _called_by_recbole():
            return original_load(f, *args, **kwargs)
        trust = trusted_files.trusts_all()
        return _rehydrated(checkpoint.read(f, trust=trust, map_location=kwargs.get("map_location")))

    def save(obj: Any, f: Any, *args: Any, **kwargs: Any) -> None:
        if not _called_by_recbole() or not isinstance(f, (str, os.PathLike)):
            original_save(obj, f, *args, **kwargs)
            return
        atomic_write(f, lambda file: original_save(obj, file, *args, **kwargs))
        trusted_files.trust_file(str(f))

    return replace((torch, "load", load), (torch, "save", save))


def _rehydrated(content: Any) -> Any:
    """For RecBole's own readers: a checkpoint of ours with its settings as a Config object."""
    if not isinstance(content, dict) or content.get("format") != checkpoint.FORMAT:
        return content
    from recbole_diffusion.data import numbering
    from recbole_diffusion.settings.config import Config
    from recbole_diffusion.settings.precedence import Source

    config = Config(stored=Source("checkpoint", content["config"]))
    numbering.use_vocabulary(config, content, "the checkpoint")
    return {**content, "config": config}


@repair(drop_when="RecBole's collector stops calling .cpu() on counters")
def collector_plain_values() -> Optional[Undo]:
    """Collector.get_data_struct calls .cpu() on ints and Counters: coverage, Gini and tail metrics crash."""
    from recbole.evaluator.collector import Collector

    original = Collector.get_data_struct

    def get_data_struct(self: Any) -> Any:
        data = self.data_struct._data_dict
        plain = {key: data.pop(key) for key in list(data) if not hasattr(data[key], "cpu")}
        try:
            result = original(self)
        finally:
            data.update(plain)
        result._data_dict.update(plain)
        return result

    return replace((Collector, "get_data_struct", get_data_struct))


@repair(drop_when="RecBole assigns what fillna returns and avoids Series.agg on arrays")
def pandas_copy_on_write() -> Optional[Undo]:
    """pandas 3: fillna(inplace=True) on a column writes nothing, Series.agg(np.concatenate) changed its meaning."""
    import pandas as pd

    if Version(pd.__version__).major < 3:
        return None
    from recbole.data.dataset import dataset as module

    original_agg = pd.Series.agg

    def agg(self: Any, func: Any = None, *args: Any, **kwargs: Any) -> Any:
        if _called_by_recbole() and func is len:
            return self.map(len)
        if _called_by_recbole() and func is np.concatenate:
            return np.concatenate(list(self))
        return original_agg(self, func, *args, **kwargs)

    def read_csv(*args: Any, **kwargs: Any) -> Any:
        frame = pd.read_csv(*args, **kwargs)
        for column in frame.columns:  # still "name:type" here
            if column.endswith("_seq"):
                frame[column] = frame[column].astype(object).fillna("")
            elif frame[column].dtype != np.float64:
                frame[column] = frame[column].astype(object)  # as in pandas 2: str objects and nan
        return frame

    def _fill_nan(self: Any) -> None:
        from recbole.utils.enum_type import FeatureType

        for name in self.feat_name_list:
            feat = getattr(self, name)
            for field in feat:
                kind = self.field2type[field]
                if kind == FeatureType.TOKEN:
                    feat[field] = feat[field].fillna(0)
                elif kind == FeatureType.FLOAT:
                    feat[field] = feat[field].fillna(feat[field].mean())
                else:
                    empty = np.array([], dtype=np.int64 if kind == FeatureType.TOKEN_SEQ else np.float64)
                    filled = [empty if isinstance(value, float) else value for value in feat[field]]
                    feat[field] = pd.Series(filled, index=feat.index, dtype=object)

    return replace(
        (pd.Series, "agg", agg),
        (module, "pd", _Namespace(pd, read_csv=read_csv)),
        (module.Dataset, "_fill_nan", _fill_nan),
    )


@repair(drop_when="RecBole guards the barrier at the end of Dataset._download")
def download_barrier() -> Optional[Undo]:
    """Dataset._download ends with torch.distributed.barrier(), which fails without a process group."""
    from recbole.data.dataset.dataset import Dataset

    original = Dataset._download

    def _download(self: Any) -> None:
        with contextlib.ExitStack() as stack:
            if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
                stack.callback(replace((torch.distributed, "barrier", lambda *a, **k: None)))
            original(self)

    return replace((Dataset, "_download", _download))


@repair(drop_when="RecBole keeps names in its checkpoints and finds rows by them")
def ids_of_a_checkpoint() -> Optional[Undo]:
    """RecBole numbers names in order of appearance: other lines, and a checkpoint's rows are those of other names."""
    from recbole.data.dataset import Dataset

    from recbole_diffusion.data.numbering import renumbering

    step = "_user_item_feat_preparation"  # changes nothing where the Config has no vocabulary
    return replace((Dataset, step, renumbering(vars(Dataset)[step])))


@repair(drop_when="RecBole's collector keeps no items that are no candidates, and its rank sums are in float64")
def collector_candidates() -> Optional[Undo]:
    """Where a user has fewer than k candidates, RecBole's lists go on with masked items and the padding item."""
    from recbole.evaluator.collector import Collector

    from recbole_diffusion.evaluation import collect

    return replace((Collector, "eval_batch_collect", collect.batch), (Collector, "data_collect", collect.train_data))


@repair(drop_when="RecBole's entropy is one, its coverage and Gini leave the padding item out, and it has novelty")
def list_metrics() -> Optional[Undo]:
    """ShannonEntropy is divided by the number of items, coverage and Gini count the padding item, novelty lacks."""
    from recbole.evaluator import register

    from recbole_diffusion.evaluation import list_metrics as ours

    undos = []
    for metric in ours.ALL:
        for table, value in (
            (register.metrics_dict, metric),
            (register.metric_information, metric.metric_need),
            (register.metric_types, metric.metric_type),
        ):
            undos.append(_replace_item(table, metric.__name__.lower(), value))

    def revert() -> None:
        for each in reversed(undos):
            each()

    return revert


def _replace_item(table: dict[str, Any], key: str, value: Any) -> Undo:
    """Set an entry of a dict and return a function that restores it, or takes it out."""
    was_there, before = key in table, table.get(key)
    table[key] = value

    def revert() -> None:
        if was_there:
            table[key] = before
        else:
            del table[key]

    return revert


@repair(drop_when="RecBole's models take their sparse products out of autocast")
def sparse_products_in_float32() -> Optional[Undo]:
    """torch's sparse products and their gradients fail in half precision: with enable_amp, LightGCN and others die."""
    original = torch.sparse.mm

    def mm(first: torch.Tensor, second: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if not _called_by_recbole():
            return original(first, second, *args, **kwargs)
        with torch.autocast(first.device.type, enabled=False):
            return original(_in_float32(first), _in_float32(second), *args, **kwargs)

    return replace((torch.sparse, "mm", mm))


def _in_float32(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def repair_model(model_class: type) -> None:
    """Repairs of single models, made when the model is looked up: importing RecBole's models takes seconds."""
    if model_class.__module__ == "recbole.model.general_recommender.pop" and "pop_counts" not in _applied:
        _applied["pop_counts"] = pop_counts(model_class)


def pop_counts(pop: type) -> Undo:
    """Pop counts an item once per batch, however often it occurs there, and counts sampled negatives too."""
    original = vars(pop)["__init__"]

    def __init__(self: Any, config: Any, dataset: Any) -> None:
        original(self, config, dataset)
        self.LABEL = config["LABEL_FIELD"]

    def calculate_loss(self: Any, interaction: Any) -> Any:
        items = interaction[self.ITEM_ID]
        if self.LABEL in interaction:
            items = items[interaction[self.LABEL] > 0]
        self.item_cnt.index_add_(0, items, torch.ones_like(items)[:, None])
        self.max_cnt = torch.max(self.item_cnt, dim=0)[0]
        return torch.nn.Parameter(torch.zeros(1)).to(self.device)

    return replace((pop, "__init__", __init__), (pop, "calculate_loss", calculate_loss))


class _LazyTune(types.ModuleType):
    """Stands for ``ray.tune`` inside RecBole's quick_start: ray is imported when something of it is used."""

    def report(self, **metrics: Any) -> None:
        if "ray" not in sys.modules:
            return  # no ray, no session to report to: RecBole's hyperopt path
        tune = importlib.import_module("ray.tune")
        try:
            tune.report(**metrics)
        except TypeError:  # ray >= 2.7 takes a dict
            tune.report(metrics)

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module("ray.tune"), name)


@contextlib.contextmanager
def _stub_ray() -> Iterator[types.ModuleType]:
    lazy = _LazyTune("ray.tune")
    ray = types.ModuleType("ray")
    ray.__dict__["tune"] = lazy
    sys.modules.update({"ray": ray, "ray.tune": lazy})
    try:
        yield lazy
    finally:
        for name in ("ray", "ray.tune"):
            sys.modules.pop(name, None)


def quick_start_module() -> types.ModuleType:
    """RecBole's ``quick_start`` module, imported without importing ray (ray 2.6.3 does not import on numpy 2)."""
    if "recbole.quick_start.quick_start" not in sys.modules and "ray" not in sys.modules:
        with _stub_ray():
            return importlib.import_module("recbole.quick_start.quick_start")
    return importlib.import_module("recbole.quick_start.quick_start")


def tune_of_any_ray(quick_start: types.ModuleType) -> Undo:
    """quick_start holds ray.tune; stand in for it, also where ray was imported before (a ray worker)."""
    return replace((quick_start, "tune", _LazyTune("ray.tune")))


def flops_without_side_effects(quick_start: types.ModuleType) -> Undo:
    """get_flops draws from the global random state and fails where predict is not implemented."""
    original = quick_start.get_flops

    def get_flops(*args: Any, **kwargs: Any) -> Any:
        state = random_state()
        try:
            return original(*args, **kwargs)
        except (AssertionError, NotImplementedError):
            return "not counted: predict() is not implemented"
        finally:
            restore_random_state(state)

    return replace((quick_start, "get_flops", get_flops))
