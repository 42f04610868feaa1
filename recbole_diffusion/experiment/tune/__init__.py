"""Choose a model's settings on the validation split, then train with the best of them and test once.

::

    FOLDER/tune.json       the plan and the result
    FOLDER/trials.csv      each trial: settings, best validation score, epochs, seconds, status, reason
    FOLDER/best.yaml       the best settings and the given ones, for ``recbole-diffusion run --config_files``
    FOLDER/best-full.yaml  every setting of the best trial, to look things up
    FOLDER/trials.png      the scores in their order, and against each key; also as svg
    FOLDER/runs, failed    a record of each trial and of the tested runs, see :mod:`store`
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional, Union

from recbole_diffusion.experiment.jobs.folder_lock import exclusive_lock
from recbole_diffusion.experiment.jobs.store import Store
from recbole_diffusion.experiment.space.search_space import Space
from recbole_diffusion.experiment.tune.backend import choose_backend
from recbole_diffusion.experiment.tune.report import NoTrialFinished, TuneResult
from recbole_diffusion.experiment.tune.tuning import Tuning
from recbole_diffusion.experiment.tune.tuning_plan import make_plan, new_folder, read_plan

__all__ = ["NoTrialFinished", "TuneResult", "tune"]


def tune(
    model: Optional[str] = None,
    dataset: Optional[str] = None,
    trials: Optional[int] = None,
    space: Union[str, Path, Space, None] = None,
    settings: Optional[dict[str, Any]] = None,
    files: Sequence[Union[str, Path]] = (),
    search: str = "random",
    scheduler: Optional[str] = None,
    workers: Optional[int] = None,
    address: Optional[str] = None,
    gpus_per_trial: float = 0.0,
    threads: int = 1,
    folder: Union[str, Path, None] = None,
    resume: Union[str, Path, None] = None,
    seed: Optional[int] = None,
    seeds: Optional[Sequence[int]] = None,
    grace: Optional[int] = None,
    executor: Optional[str] = None,
    show: bool = True,
) -> TuneResult:
    """Try configurations of a model, choose the best by its validation score, train it anew and test it once.

    Args:
        model, dataset: as :func:`recbole_diffusion.run` takes them.
        trials: the budget; None: 20, and for a grid all of its points.
        space: the search space: a file, or a :class:`Space`; None: ``properties/hyper/<model>.yaml``.
        settings: settings of every trial. They win over the files, and keys of the space among them are not tuned.
            By default trials are compared by NDCG@10, rounded to six decimals, as in a comparison.
        files: yaml files of settings; later files win. Keys of the space in them are tuned nevertheless.
        search: ``random`` (the model's defaults first, then draws), ``grid``, ``optuna`` or ``hyperopt``.
        scheduler: ``asha`` stops the trials outside the best third of their rung, ``median`` those below the median,
            ``none`` no trial. None: ``asha`` on Ray, else ``median``.
        workers: trials at once on this machine, on Ray; None: one, or as many as a cluster has room for.
        address: address of a Ray cluster, ``auto`` or ``host:port``.
        gpus_per_trial: GPUs of each trial; with a fraction several trials share one. Without Ray a trial sees the GPUs
            of this process.
        threads: threads of each trial.
        folder: folder of the tuning; None: a new one below ``outputs``.
        resume: folder of a tuning to continue. Its plan is kept. Of the other arguments only ``trials``, ``executor``,
            ``workers``, ``address``, ``threads``, ``gpus_per_trial`` and ``show`` have an effect.
        seed: seed of the trials and of the search; None: the setting ``seed``. The split has the same seed unless
            ``split_seed`` is set.
        seeds: seeds of the tested runs; None: ``seed`` alone. Nothing is tested if the test split is empty.
        grace: number of epochs before a scheduler may stop a trial; None: ``stopping_step * eval_step``, the patience.
        executor: ``ray`` or ``serial``; None: Ray if it works here.
        show: print progress to stderr.

    Returns:
        The best configuration, its test metrics for each seed, and the records of all trials.

    Raises:
        ValueError: an argument, a search space, a setting or a folder that is not right, or an empty validation split;
            one line.
        NoTrialFinished: every trial failed.
        KeyboardInterrupt: finished trials are stored; ``resume`` continues.
    """
    backend = (executor, workers, address, threads, gpus_per_trial)
    if resume is None:
        resources, note = choose_backend(*backend, search, scheduler)
        scheduler = scheduler or ("asha" if resources.on_ray else "median")
        plan = make_plan(model, dataset, trials, space, settings, files, search, scheduler, seed, seeds, grace)
        path = Path(folder).absolute() if folder else new_folder(plan.model, plan.dataset)
        _check_new(path)
    else:
        path = Path(resume).absolute()
        plan = read_plan(path, trials)
        resources, note = choose_backend(*backend, plan.search, plan.scheduler)
    if note:
        plan.add_notes(note)
    with exclusive_lock(path, "tuning"):
        if resume is None:
            _check_new(path)  # again: another process may have made one, and ended, in the meantime
        return Tuning(plan, Store(path), resources, show).run()


def _check_new(path: Path) -> None:
    """Check that a folder holds no tuning.

    Raises:
        ValueError: it does.
    """
    if (path / "tune.json").exists():
        option = shlex.join([f"--resume={path}"])
        raise ValueError(f"folder={str(path)!r} holds a tuning already; go on with it by {option}")
