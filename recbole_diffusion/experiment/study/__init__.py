"""Studies of one trained model: the same checkpoint evaluated in several ways, without training."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Callable, Optional, Union

from recbole_diffusion.experiment.jobs.folder_lock import exclusive_lock
from recbole_diffusion.experiment.jobs.resources import Resources
from recbole_diffusion.experiment.study import ablate as ablations
from recbole_diffusion.experiment.study import page as pages
from recbole_diffusion.experiment.study import results
from recbole_diffusion.experiment.study import retrain as retraining
from recbole_diffusion.experiment.study import steps as step_counts
from recbole_diffusion.experiment.study import watch as watching
from recbole_diffusion.experiment.study.checkpoint_study import CheckpointStudy, Variant
from recbole_diffusion.experiment.study.plot import plot_steps
from recbole_diffusion.experiment.study.results import StudyResult
from recbole_diffusion.experiment.study.retrain import Retrained
from recbole_diffusion.experiment.study.watch import Trajectory

__all__ = ["StudyResult", "Trajectory", "ablate", "steps", "watch"]


def steps(
    checkpoint: Union[str, Path],
    steps: Optional[Sequence[Union[int, str]]] = None,
    solvers: Optional[Sequence[str]] = None,
    *,
    split: str = "valid",
    folder: Union[str, Path, None] = None,
    metrics: Optional[Sequence[str]] = None,
    topk: Optional[Sequence[int]] = None,
    config_dict: Optional[Mapping[str, Any]] = None,
    trust: bool = False,
    command: str = "",
    progress: Callable[[str], Any] = print,
) -> StudyResult:
    """Measure quality against network calls against users per second, without training.

    Args:
        checkpoint: of a model with a reverse process.
        steps: numbers of steps, ``full`` for those of the training; None: a few up to it.
        solvers: names; None: all of the model's process.
        split: part of the split: ``valid``, which may be used to choose, or ``test``.
        folder: of the study, for ``report`` and to continue; None: a new one below ``outputs``.
        metrics, topk: None: those of the checkpoint.
        config_dict: settings to change, e.g. ``data_path``.
        trust: load a checkpoint that holds pickled objects.
        command: the command line, for the record.
        progress: is given a line before each evaluation.

    Raises:
        ValueError: the model has no steps to vary, or an argument is not allowed; one line.
    """
    study = _study("steps", checkpoint, folder, split, metrics, topk, config_dict, trust)
    variants = step_counts.variants(study.studied, steps, solvers)
    title = f"{study.config.model_name()} on {study.config['dataset']}, {split} split"

    def finish(result: StudyResult) -> None:
        cheapest = result.cheapest()
        if cheapest is not None:
            result.notes.append(_cheapest_note(result, cheapest))
        result.files.extend(plot_steps(result, title))

    return _run(study, variants, "steps", step_counts.AS_TRAINED, [], command, progress, finish=finish)


def ablate(
    checkpoint: Union[str, Path],
    *,
    split: str = "test",
    folder: Union[str, Path, None] = None,
    metrics: Optional[Sequence[str]] = None,
    topk: Optional[Sequence[int]] = None,
    config_dict: Optional[Mapping[str, Any]] = None,
    trust: bool = False,
    train: bool = False,
    seeds: Sequence[int] = (1, 2, 3),
    budget: Optional[Mapping[str, Any]] = None,
    resources: Optional[Resources] = None,
    page: Union[str, Path, None] = None,
    command: str = "",
    progress: Callable[[str], Any] = print,
) -> StudyResult:
    """Measure what carries a model's result at inference; see :func:`recbole_diffusion.experiment.study.ablate.plan`.

    Args:
        checkpoint, split, folder, metrics, topk, config_dict, trust, command, progress: see :func:`steps`.
        train: also train the model again without each of its parts; see
            :mod:`recbole_diffusion.experiment.study.retrain`.
        seeds: of these trainings.
        budget: settings of these trainings, such as ``epochs``; None: those of the checkpoint.
        resources: of these trainings; None: one after the other.
        page: a markdown file whose block of this model is written again; see
            :mod:`recbole_diffusion.experiment.study.page`.

    Raises:
        ValueError: see :func:`steps`; the page has no block of the model; the card of the model has no ``ablation``.
    """
    study = _study("ablate", checkpoint, folder, split, metrics, topk, config_dict, trust)
    model = study.config.model_name()
    if page is not None:
        pages.check(page, model)
    if train:
        retraining.check(study, split)
    plan = ablations.plan(study.studied)
    notes = [f"Left out: {line}." for line in plan.left_out]
    retrain = functools.partial(retraining.retrain, study, seeds, budget or {}, resources, command) if train else None
    result = _run(study, plan.variants, "ablation", ablations.FULL, notes, command, progress, retrain)
    if page is not None:
        pages.write(page, model, result, command)
    return result


def watch(
    checkpoint: Union[str, Path],
    users: Optional[Sequence[str]] = None,
    *,
    split: str = "test",
    folder: Union[str, Path, None] = None,
    config_dict: Optional[Mapping[str, Any]] = None,
    trust: bool = False,
    command: str = "",
) -> tuple[Trajectory, list[Path]]:
    """Rank the items of some users after each step of the reverse process.

    Args:
        checkpoint: of a model with a reverse process.
        users: names as in the data's files; None: the first five.
        split: part whose items are held out: ``valid`` or ``test``.
        folder: of the files; None: a new one below ``outputs``.
        config_dict, trust, command: see :func:`steps`.

    Returns:
        The trajectory, and the csv files and plots.

    Raises:
        ValueError: the model has no reverse process, or a user has no held-out items; one line.
    """
    study = _study("watch", checkpoint, folder, split, None, None, config_dict, trust)
    trajectory = watching.watch(study.studied, users)
    return trajectory, watching.write(trajectory, study.store.folder, command)


def _study(
    name: str,
    checkpoint: Union[str, Path],
    folder: Union[str, Path, None],
    split: str,
    metrics: Optional[Sequence[str]],
    topk: Optional[Sequence[int]],
    settings: Optional[Mapping[str, Any]],
    trust: bool,
) -> CheckpointStudy:
    if folder is None:
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        folder = Path("outputs") / f"{name}-{Path(checkpoint).absolute().stem}-{stamp}"
    return CheckpointStudy(checkpoint, folder, split, metrics, topk, settings, trust)


def _run(
    study: CheckpointStudy,
    variants: Sequence[Variant],
    name: str,
    reference: str,
    notes: Sequence[str],
    command: str,
    progress: Callable[[str], Any],
    retrain: Optional[Callable[[], Retrained]] = None,
    finish: Optional[Callable[[StudyResult], Any]] = None,
) -> StudyResult:
    """Evaluate the variants, make the trainings, and write the study's files."""
    with exclusive_lock(study.store.folder, "study"):
        study.store.set_damaged_aside(progress)
        study.write_plan(variants, command, notes, name)
        outcomes = list(study.run(variants, progress))
        trained = Retrained([], [], 0) if retrain is None else retrain()
        notes = [*notes, *trained.notes]
        result = results.collect(
            study.store.folder, outcomes, study.main_metric, reference, notes, trained.rows, finish
        )
        return result._replace(failed=trained.failed)


def _cheapest_note(result: StudyResult, row: results.Row) -> str:
    """Name the cheapest setting that is not significantly worse, with the interval of its difference."""
    reference = next(other for other in result.rows if other.label == result.reference)
    fewer = [o for o in result.rows if None not in (o.nfe, reference.nfe) and (o.nfe or 0) < (reference.nfe or 0)]
    if not fewer:
        return f"No setting has fewer network calls than {result.reference} ({reference.nfe})."
    if row.nfe == reference.nfe:
        return f"Every setting with fewer network calls than {result.reference} is significantly worse."
    low, high = row.difference_low, row.difference_high
    interval = "" if low is None or high is None else f", 95 % interval of the difference {low:+.4f} to {high:+.4f}"
    return (
        f"Cheapest setting that is not significantly worse than {result.reference}: {row.label} "
        f"({row.nfe} network calls per user{interval})."
    )
