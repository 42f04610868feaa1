"""The evaluations of one checkpoint in several ways, each kept in a folder as soon as it has ended.

The folder has the form of a comparison whose models are the variants, so that ``report`` reads it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from pathlib import Path
from time import perf_counter
from typing import Any, Callable, NamedTuple, Optional, Union

import numpy as np
from recbole.utils import EvaluatorType

from recbole_diffusion import quick_start
from recbole_diffusion.evaluation.per_user import UserMetrics
from recbole_diffusion.evaluation.ranked_lists import ListsOfSplit
from recbole_diffusion.experiment.evaluate import checkpoints
from recbole_diffusion.experiment.evaluate import split as splits
from recbole_diffusion.experiment.evaluate.split import EvaluationSplit
from recbole_diffusion.experiment.jobs.fingerprint import code_fingerprint
from recbole_diffusion.experiment.jobs.run_job import finished_record
from recbole_diffusion.experiment.jobs.run_spec import RunSpec
from recbole_diffusion.experiment.jobs.store import Store
from recbole_diffusion.model import hooks
from recbole_diffusion.settings.config import settings_of
from recbole_diffusion.training import checkpoint as checkpoint_files
from recbole_diffusion.training import run_folder

#: Length of the recommended lists that are kept, for overlaps.
LIST_LENGTH = 100


class Studied(NamedTuple):
    """A loaded checkpoint with the part of its split that is evaluated."""

    loaded: quick_start.Loaded
    split: EvaluationSplit

    @property
    def model(self) -> Any:
        """The model, in evaluation mode."""
        return self.loaded.model


class Variant(NamedTuple):
    """One way of evaluating a checkpoint.

    Attributes:
        label: its name in tables.
        basis: what its numbers depend on, as plain values, for the key of its record.
        applied: ``applied(studied)`` is a context in which the model works in this way.
    """

    label: str
    basis: Mapping[str, Any]
    applied: Callable[[Studied], AbstractContextManager[Any]]


class Outcome(NamedTuple):
    """The numbers of one variant.

    Attributes:
        variant: its label.
        metrics: values by metric, e.g. ``ndcg@10``.
        users: values of each user; None where a metric is not a mean over users.
        lists: the recommended items of each user, ids, (n_users, :data:`LIST_LENGTH`).
        nfe: number of function evaluations: network calls per user; None if it varies.
        users_per_s: users ranked per second.
    """

    variant: str
    metrics: dict[str, float]
    users: Optional[UserMetrics]
    lists: np.ndarray
    nfe: Optional[int]
    users_per_s: float


class CheckpointStudy:
    """A study of one checkpoint.

    Args:
        checkpoint: the file.
        folder: of the study; evaluations that it holds already are not repeated.
        phase: the part of the split that is evaluated: ``valid`` or ``test``.
        metrics, topk: None: those of the checkpoint.
        settings: settings to change, e.g. ``data_path``.
        trust: load a checkpoint that holds pickled objects.

    Raises:
        ValueError: see :func:`recbole_diffusion.load`; or the part is empty.
    """

    def __init__(
        self,
        checkpoint: Union[str, Path],
        folder: Union[str, Path],
        phase: str = "test",
        metrics: Optional[Sequence[str]] = None,
        topk: Optional[Sequence[int]] = None,
        settings: Optional[Mapping[str, Any]] = None,
        trust: bool = False,
    ) -> None:
        if phase not in ("valid", "test"):
            raise ValueError(f"split={phase!r} is not allowed; allowed: valid | test")
        self.checkpoint, self.store, self.phase = Path(checkpoint), Store(folder), phase
        stored = settings_of(checkpoint_files.read(checkpoint, trust), f"checkpoint {str(checkpoint)!r}")
        changed = checkpoints.overrides(metrics, topk, stored)
        loaded = quick_start.load(checkpoint, trust, {**changed, **(settings or {})})
        split = splits.make(loaded.config, loaded.dataset, loaded[3:], phase)
        if loaded.config["eval_type"] != EvaluatorType.RANKING:
            raise ValueError("a study needs a ranking, but the checkpoint was evaluated by labels (mode: labeled)")
        self.studied = Studied(loaded, split)
        self._checkpoint_hash = hashlib.sha256(self.checkpoint.read_bytes()).hexdigest()[:20]
        self._code = code_fingerprint(loaded.config.model_class, settings_of_run(loaded.config))

    @property
    def config(self) -> Any:
        """The settings of the checkpoint."""
        return self.studied.loaded.config

    @property
    def main_metric(self) -> str:
        """The metric that variants are ranked by: the one that chose the epoch."""
        return str(self.config["valid_metric"]).lower()

    def run(self, variants: Sequence[Variant], progress: Callable[[str], Any] = print) -> Iterator[Outcome]:
        """Evaluate the variants one after the other, but for those in the folder; yield each as soon as it is there."""
        for variant in variants:
            spec = self._spec(variant)
            record = self.store.record(spec.key)
            if record is None or self.store.lists(spec.key) is None:  # lists that somebody has deleted
                progress(f"{variant.label} ...")
                record = self._evaluate(spec, variant)
            yield self._outcome(spec, record)

    def _spec(self, variant: Variant) -> RunSpec:
        config = self.config
        settings = {
            "variant": dict(variant.basis),
            "split": self.phase,
            **{key: config[key] for key in ("metrics", "topk", "eval_seed", "metric_decimal_place")},
        }
        basis = {
            "checkpoint": self._checkpoint_hash,
            "code": self._code,
            "split": self.studied.split.counts["split_sha256"],
        }
        name = config.model_name()
        return RunSpec(variant.label, name, config["dataset"], config["seed"], settings, basis=basis)

    def _evaluate(self, spec: RunSpec, variant: Variant) -> dict[str, Any]:
        """Evaluate a variant and keep its record."""
        started, start = datetime.now(timezone.utc), perf_counter()
        loaded = self.studied.loaded
        with variant.applied(self.studied):
            nfe = hooks.of(loaded.model).nfe
            evaluated = checkpoints.evaluate(loaded, self.phase, LIST_LENGTH)
        names = self.studied.split.data.user_names
        users = evaluated.users
        if users is not None and names is not None:
            users = users._replace(users=np.asarray(names[users.users], dtype=str))
        seconds = perf_counter() - start
        result: dict[str, Any] = {
            **{"best_valid_result": None, "best_valid_score": None, "valid_score_bigger": None, "epochs": []},
            "test_result": evaluated.metrics,
            "data": self.studied.split.counts,
            "warnings": [],
            "timing": {
                **{"epochs": 0, "best_epoch": None, "train_s_per_epoch": 0.0, "valid_s_per_epoch": 0.0},
                "test_users_per_s": evaluated.users_per_s,
                "denoiser_calls_per_user": nfe,
                "parameters": sum(parameter.numel() for parameter in loaded.model.parameters()),
                "peak_memory_mib": run_folder.peak_memory_mib(),
                "peak_gpu_memory_mib": run_folder.peak_gpu_memory_mib(self.config["device"]),
                **{"pretrain_s": 0.0, "total_s": seconds, "from_scratch_s": seconds},
            },
        }
        record = finished_record(spec, result, started)
        assert evaluated.lists is not None  # the ranking is full or sampled: :meth:`__init__` has checked
        self.store.finish(spec.key, record, users, ListsOfSplit(evaluated.lists, self.studied.split.data))
        return record

    def _outcome(self, spec: RunSpec, record: dict[str, Any]) -> Outcome:
        kept, timing = self.store.lists(spec.key), record["timing"]
        assert kept is not None  # written before the record
        return Outcome(
            record["label"],
            record["test"],
            self.store.users(spec.key),
            kept.lists.items,
            timing["denoiser_calls_per_user"],
            timing["test_users_per_s"],
        )

    def write_plan(self, variants: Sequence[Variant], command: str, notes: Sequence[str], study: str) -> None:
        """Write ``comparison.json``, with which ``report`` reads the folder."""
        config, split = self.config, self.studied.split
        dataset = config["dataset"]
        self.store.write_plan(
            {
                "study": study,
                "checkpoint": str(self.checkpoint.absolute()),
                "models": [
                    {
                        "label": variant.label,
                        "model": config.model_name(),
                        "diffusion": True,
                        "settings": dict(variant.basis),
                        "runs": {dataset: [self._spec(variant).key]},
                    }
                    for variant in variants
                ],
                "datasets": {dataset: {**split.counts, "statement": split.masked_items(), "data_path": None}},
                "seeds": [config["seed"]],
                "metrics": list(self.metric_names()),
                "main_metric": self.main_metric,
                "mode": config["eval_args"]["mode"],
                "settings": {},
                "tune": 0,
                "search": None,
                "equal_budget": True,
                "notes": list(notes),
                "environment": run_folder.environment(),
                "command": command,
                "folder": str(self.store.folder),
                "asked": {},
                "resources": {},
                **{"threads": None, "workers": None, "executor": "serial"},
                "driver": {"pid": os.getpid()},
            }
        )

    def metric_names(self) -> list[str]:
        """The names of the metrics with their cut-offs, in lower case."""
        from recbole_diffusion.experiment.compare.plan import metric_names

        return list(metric_names(self.config.final_config_dict))


def settings_of_run(config: Any) -> dict[str, Any]:
    """The settings that the code fingerprint reads."""
    return {key: config[key] for key in ("preset", "base_model") if key in config}


def overlap(lists: np.ndarray, reference: np.ndarray, k: int = 10) -> float:
    """Return the mean share of the first ``k`` items that two lists of a user have in common, from 0 to 1.

    Args:
        lists, reference: ids, (n_users, at least k), 0 where a list has ended; same users in the same order.
        k: number of items.
    """
    first, second = lists[:, :k], reference[:, :k]
    common = ((first[:, :, None] == second[:, None, :]) & (first[:, :, None] > 0)).any(axis=2).sum(axis=1)
    lengths = np.maximum((first > 0).sum(axis=1), (second > 0).sum(axis=1))
    return float((common[lengths > 0] / lengths[lengths > 0]).mean())
