"""Comparisons of any models on one split: each run is made once and kept as soon as it has ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Optional, Union

from recbole_diffusion.experiment.compare import plan
from recbole_diffusion.experiment.compare.comparison import Comparison
from recbole_diffusion.experiment.compare.model_entries import ModelEntry, parse_entries, read_model_files
from recbole_diffusion.experiment.compare.models_on_datasets import Note, prepare_models
from recbole_diffusion.experiment.compare.request import ComparisonRequest
from recbole_diffusion.experiment.defaults import LIST_LENGTH
from recbole_diffusion.experiment.jobs.executor import server_for_workers
from recbole_diffusion.experiment.jobs.fingerprint import absolute
from recbole_diffusion.experiment.jobs.folder_lock import exclusive_lock
from recbole_diffusion.experiment.jobs.moved_paths import moved_path
from recbole_diffusion.experiment.jobs.resources import Resources
from recbole_diffusion.experiment.jobs.store import Store
from recbole_diffusion.settings import precedence
from recbole_diffusion.settings.config import parse_setting
from recbole_diffusion.support import yaml_files

__all__ = ["Resources", "compare", "compare_variants", "resume"]

#: Name of the settings that all variants of a model share, in notes.
BASE = "settings of all variants"


def compare(
    models: Sequence[str],
    datasets: Sequence[str],
    seeds: Sequence[int],
    folder: Union[str, Path],
    settings: Optional[Mapping[str, Any]] = None,
    own: Optional[Mapping[str, Mapping[str, Any]]] = None,
    tune: int = 0,
    resources: Optional[Resources] = None,
    command: str = "",
    metric: Optional[str] = None,
    reference: Optional[str] = None,
    files: Sequence[Union[str, Path]] = (),
) -> Store:
    """Train and test every model on every data set with every seed, and keep the runs in ``folder``.

    Args:
        models: words, see :func:`recbole_diffusion.experiment.compare.model_entries.parse_entries`.
        datasets: names of data sets.
        seeds: of the trainings; the split is the same for all of them.
        folder: created if needed. Runs in it that the same settings, data and code made are not repeated.
        settings: for every model. They win over the defaults of :mod:`plan`, over ``files`` and over a model's file.
        own: for single models, by label. They win over everything.
        tune: trials per model and data set. The first has the model's defaults, the others are drawn from its search
            space; the best one on the validation split is tested.
        resources: of the runs; None: one after the other in this process.
        command: the command line, for the record.
        metric: the main metric of the report; None: the one that chooses the epochs.
        reference: the label of the model that the report tests the others against; None: the best one.
        files: yaml files of settings for every model; later ones win. A model's own file wins over them.

    Returns:
        The folder's store. It holds failed runs too, with their reasons.

    Raises:
        ValueError: an unknown model, setting or data set; different splits; another comparison at work in the folder.
            One line.
    """
    request = ComparisonRequest(
        models=[word.strip() for word in models if word.strip()],
        contents={word: absolute(content) for word, content in read_model_files(models).items()},
        datasets=list(datasets),
        seeds=list(seeds),
        files=[(str(file), absolute(yaml_files.load_yaml(Path(file)))) for file in files],
        settings=absolute(_parsed(settings or {})),
        own={label: absolute(_parsed(of_model)) for label, of_model in (own or {}).items()},
        tune=tune,
        metric=metric,
        reference=reference,
    )
    return _run(request, Path(folder), resources or Resources(), command, {})


def compare_variants(
    model: str,
    variants: Mapping[str, Mapping[str, Any]],
    dataset: str,
    seeds: Sequence[int],
    folder: Union[str, Path],
    base: Mapping[str, Any],
    settings: Optional[Mapping[str, Any]] = None,
    resources: Optional[Resources] = None,
    command: str = "",
) -> Store:
    """Train and test variants of one model; see :func:`compare`.

    Args:
        model: the model.
        variants: the settings of each variant, by label; they win over ``base``. The labels in the folder are
            ``MODEL@LABEL``.
        dataset: the data set's name.
        seeds, folder, resources, command: see :func:`compare`.
        base: settings of all variants.
        settings: for all variants; they win over everything.
    """
    contents = {f"{model}@{label}.yaml": absolute(dict(content)) for label, content in variants.items()}
    request = ComparisonRequest(
        models=[*contents],
        contents=contents,
        datasets=[dataset],
        seeds=list(seeds),
        files=[(BASE, absolute(dict(base)))],
        settings=absolute(_parsed(settings or {})),
        own={},
        tune=0,
        metric=None,
        reference=None,
    )
    return _run(request, Path(folder), resources or Resources(), command, {})


def resume(folder: Union[str, Path], resources: Optional[Mapping[str, Any]] = None) -> Store:
    """Continue a comparison: make the missing and the failed runs.

    The folder, or the whole project with its data, may have been moved since.

    Args:
        folder: of the comparison.
        resources: fields of :class:`Resources` that replace those of the first call.

    Raises:
        ValueError: the folder holds no comparison; see :func:`compare`.
    """
    store = Store(folder, new=False)
    kept_plan = store.plan()
    before, now = kept_plan["folder"], store.folder
    request = ComparisonRequest(**kept_plan["asked"]).after_move(before, now)
    merged = Resources(**{**kept_plan["resources"], **(resources or {})})
    data_paths = {name: dataset.get("data_path") for name, dataset in kept_plan["datasets"].items()}
    data_paths = {name: moved_path(path, before, now, name) for name, path in data_paths.items() if path}
    return _run(request, store.folder, merged, kept_plan["command"], data_paths)


def _run(
    request: ComparisonRequest, folder: Path, resources: Resources, command: str, data_paths: Mapping[str, str]
) -> Store:
    """Run a comparison; ``data_paths`` are the paths of data sets that an earlier call has found, by name."""
    entries = parse_entries(request.models, request.own, request.contents)
    protocol = plan.make_protocol(entries, precedence.merge(request.sources))
    _check_report(entries, protocol.settings, request.metric, request.reference)
    store = Store(folder)
    with exclusive_lock(store.folder, "comparison"), server_for_workers(resources.workers, resources.address) as server:
        common = {
            "keep_lists": LIST_LENGTH,
            **protocol.settings,
            "state": "ERROR",
            "prepared_data": str(store.folder / "data"),
            "checkpoint_dir": str(store.folder / "saved"),
        }
        prepared = prepare_models(entries, request.datasets, common, request.sources, bool(request.tune), data_paths)
        prepared.notes[:0] = [Note("", text) for text in protocol.notes]
        store.set_damaged_aside(lambda text: prepared.notes.append(Note("", text)))
        comparison = Comparison(
            store, prepared, request.seeds, common, {*request.settings}, request.tune, resources, command,
            asdict(request),
        )  # fmt: skip
        comparison.run(server)
    return store


def _check_report(
    entries: Sequence[ModelEntry], settings: Mapping[str, Any], metric: Optional[str], reference: Optional[str]
) -> None:
    """Check the report's arguments before hours of training.

    Raises:
        ValueError: an unknown model, or a metric that is not measured.
    """
    labels = [entry.label for entry in entries]
    if reference is not None and reference not in labels:
        raise ValueError(f"reference={reference!r} is not allowed; allowed: {' | '.join(labels)}")
    measured = plan.metric_names(settings)
    if metric is not None and metric.lower() not in measured:
        raise ValueError(f"metric={metric!r} is not measured; allowed: {' | '.join(measured)}")


def _parsed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with the types of their keys: the command line passes strings."""
    return {key: parse_setting(key, value) for key, value in settings.items()}
