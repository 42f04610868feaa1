"""Train a model (:func:`run`), load a trained one (:func:`load`), and recommend with it (:func:`recommend`).

This is the only module in which settings, data, models and trainers meet.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from logging import getLogger
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional, Union

import numpy as np
from recbole.utils import init_seed

from recbole_diffusion.cards import own_models
from recbole_diffusion.compat import repairs
from recbole_diffusion.data import fit_on, numbering, pipeline, prepared, provenance
from recbole_diffusion.evaluation.kept_split import split_data_of
from recbole_diffusion.evaluation.list_evaluation import RankedLists
from recbole_diffusion.evaluation.ranked_lists import ListsOfSplit
from recbole_diffusion.evaluation.user_metrics import UserMetrics
from recbole_diffusion.model import hooks
from recbole_diffusion.pretraining import base_settings, bases, cache
from recbole_diffusion.serving import frames
from recbole_diffusion.serving.recommendation import Recommender, Request
from recbole_diffusion.serving.seen import DEFAULT as SEEN_BY_DEFAULT
from recbole_diffusion.settings import failed_settings
from recbole_diffusion.settings.config import Config, settings_of
from recbole_diffusion.settings.precedence import Source
from recbole_diffusion.support import terminal, trusted_files
from recbole_diffusion.training import (
    checkpoint,
    earlier_run,
    fit,
    run_cost,
    run_folder,
    run_log,
    run_outputs,
    run_result,
)
from recbole_diffusion.training.run_result import RunResult

#: The loaders of the train, validation and test split.
Loaders = tuple[Any, Any, Any]
Files = Optional[Sequence[Union[str, Path]]]


class Loaded(NamedTuple):
    """A loaded model with its data, in the order of RecBole's ``load_data_and_model``.

    Attributes:
        config: settings of the run; ``config.notes`` holds the warnings.
        model: the model, in evaluation mode.
        dataset: the data set.
        train_data, valid_data, test_data: the loaders.
    """

    config: Config
    model: Any
    dataset: Any
    train_data: Any
    valid_data: Any
    test_data: Any


def configure(
    model: Union[str, type, None] = None,
    dataset: Optional[str] = None,
    config_file_list: Files = None,
    config_dict: Optional[dict[str, Any]] = None,
    resume: Union[str, Path, None] = None,
    trust: bool = False,
    like: Union[str, Path, None] = None,
) -> Config:
    """Return the settings of a run; with ``resume`` or ``like``, those of that run with the given ones on top.

    Args:
        model, dataset, config_file_list, config_dict, resume, trust, like: as :func:`run` takes them.

    Raises:
        ValueError: a setting that is not allowed; one line with key, value and way out.
    """
    repairs.apply()
    if resume is None:
        config = _new_config((model, dataset, config_file_list, config_dict), trust, like)
        base_settings.settle(config, trust)
        base_settings.use_base(config, trust)
    else:
        if like is not None:
            raise ValueError("resume and like are both given; resume continues a run, like starts a new one")
        name = _checkpoint_name(resume)
        state = checkpoint.read(resume, trust)
        stored = Source(name, settings_of(state, name))
        config = Config(model, dataset, config_file_list, config_dict, stored)
        numbering.use_vocabulary(config, state, name)
    pipeline.resolve_columns(config)
    return config


def _new_config(arguments: tuple[Any, Any, Any, Any], trust: bool, like: Union[str, Path, None]) -> Config:
    """The settings of a new run; with ``like``, those of an earlier run below the given ones.

    With a ``fit_on`` that leaves no validation, ``epochs`` is the number that the earlier run's validation chose.

    Args:
        arguments: the first four of :func:`configure`.
        trust, like: as :func:`run` takes them.
    """
    if like is None:
        return Config(*arguments)
    earlier = earlier_run.read(like, trust)
    config = Config(*arguments, Source(earlier.name, earlier.settings))
    if not fit_on.is_joined(config) or earlier.epochs is None or config.source("epochs") != earlier.name:
        return config
    config = Config(*arguments, Source(earlier.name, {**earlier.settings, "epochs": earlier.epochs}))
    config.overridden.append(f"epochs={earlier.epochs}, as the validation of {earlier.name} has chosen")
    return config


def _checkpoint_name(file: Union[str, Path]) -> str:
    return f"checkpoint {str(file)!r}"


def run(
    model: Union[str, type, None] = None,
    dataset: Optional[str] = None,
    config_file_list: Files = None,
    config_dict: Optional[dict[str, Any]] = None,
    saved: bool = True,
    *,
    resume: Union[str, Path, None] = None,
    trust: bool = False,
    like: Union[str, Path, None] = None,
    callback: Optional[Callable[[int, float], Any]] = None,
    test: bool = True,
) -> RunResult:
    """Train a model, choose its best epoch on the validation split, test it once.

    Args:
        model: a name of ours or RecBole's, ``recbole:Name``, ``package.module:Class``, or a class.
        dataset: the data set's name.
        config_file_list: yaml files, the later ones win.
        config_dict: settings, which win over the files. ``sys.argv`` is never read.
        saved: write a checkpoint. False keeps the best weights in memory, from where they are tested.
        resume: continue from this checkpoint, bit for bit on the CPU as if it had not been interrupted.
        trust: load a checkpoint that holds pickled objects, such as RecBole's own. They can run code.
        like: start a new run with the settings of this run, a checkpoint or a run's folder; the given settings win.
            With ``fit_on: all`` it trains for as many epochs as that run's validation chose.
        callback: called as ``callback(epoch_idx, valid_score)`` after each validation, with RecBole's epoch index, from
            0.
        test: score the test split. False is for tuning; ``test_result`` is then None.

    Returns:
        A dict with RecBole's ``best_valid_score``, ``valid_score_bigger``, ``best_valid_result``, ``test_result``, and
        with ``model``, ``dataset``, ``seed``, ``data`` (counts and hash), ``timing`` (see
        :func:`recbole_diffusion.training.run_cost.cost_of`), ``epochs`` (one dict each, from 1), ``per_user``
        (:class:`recbole_diffusion.evaluation.user_metrics.UserMetrics` of the test split), ``lists`` (with
        ``keep_lists``: :class:`recbole_diffusion.evaluation.ranked_lists.ListsOfSplit`), ``warnings``, ``folder``,
        ``checkpoint``. Its ``repr`` is one line. ``result.table()`` is the command's table; a notebook shows it unless
        ``state`` silences the log.

    Raises:
        ValueError: a setting, a file or a data set that is not right; one line that names the way out.
    """
    config = configure(model, dataset, config_file_list, config_dict, resume, trust, like)
    own_models.check_keys(config)
    clock = run_cost.RunClock(config)
    run_folder.reset_peak_memory()
    run_folder.check_folders(config, saved)
    with run_folder.hide_known_warnings(), trusted_files.trusting(trust), run_log.plain_bars():
        dataset, loaders = prepare(config)
        folder = run_folder.RunFolder(config)
        options = fit.RunOptions(saved, resume, trust, callback, test)
        try:
            run_log.start_logging(config, folder.path)
            result = _train_and_test(config, dataset, loaders, folder, options, clock)
        except BaseException as error:
            with contextlib.suppress(OSError, MemoryError):  # a full disk must not hide the first error
                folder.update(status="failed", error=f"{type(error).__name__}: {error}")
            raise
        finally:
            run_log.stop_logging()
    if terminal.in_notebook() and str(config["state"]).upper() in {"DEBUG", "INFO"}:
        run_result.print_table(result)
    return result


def prepare(config: Config) -> tuple[Any, Loaders]:
    """Return the data set and its loaders.

    The global random generators are seeded before, since RecBole draws a random split from them.
    """
    seed = config["seed"] if config["split_seed"] is None else config["split_seed"]
    init_seed(seed, config["reproducibility"])
    with failed_settings.named_in_loading(config):
        pipeline.resolve_columns(config)
        if config["prepared_data"] is not None and prepared.can_prepare(config):
            dataset, parts = prepared.load(config, Path(config["prepared_data"]))
        else:
            dataset, parts = pipeline.create_dataset(config), None
        loaders = pipeline.prepare(config, dataset, parts)
    numbering.check_ids(config, loaders[0]._dataset)
    return dataset, loaders


def build_model(config: Config, loaders: Loaders, state: Optional[dict[str, Any]] = None) -> Any:
    """Build an untrained model on its device.

    Args:
        config: the settings.
        loaders: the loaders, to which a base model may be attached.
        state: ``state_dict`` of a checkpoint, whose weights will be loaded into the model; None for a new training.
    """
    repairs.repair_model(config.model_class)
    bases.attach(config, loaders)
    init_seed(config["seed"], config["reproducibility"])
    with failed_settings.named_in_building(config):
        model = hooks.build(config.model_class, config, loaders[0]._dataset, state)
    with failed_settings.named_in_training(config):  # a device that is too small; one that is missing is no setting's
        return model.to(config["device"])


def _train_and_test(
    config: Config,
    dataset: Any,
    loaders: Loaders,
    folder: run_folder.RunFolder,
    options: fit.RunOptions,
    clock: run_cost.RunClock,
) -> RunResult:
    """Train, validate and test; write the run's files.

    Args:
        config, dataset, loaders: see :func:`prepare`.
        folder: folder of the run.
        options: arguments of :func:`run`.
        clock: started with the run.
    """
    run_outputs.log_start(config, dataset, folder)
    counts = provenance.describe(dataset, loaders)
    folder.update(data=counts, warnings=list(config.notes))
    weights = None
    if options.resume is not None:
        state = checkpoint.read(options.resume, options.trust)
        provenance.check_resumed(state, _checkpoint_name(options.resume), config, loaders[0]._dataset, counts)
        weights = state["state_dict"]
    events = folder.path / run_log.TENSORBOARD
    with run_log.tensorboard_in(events / "pretrain"):
        model = build_model(config, loaders, weights)
    folder.write_config(config)
    getLogger().info(model, extra=run_log.TO_FILE)
    with run_log.tensorboard_in(events):
        trainer = fit.make_trainer(config, model)
        run_outputs.name_checkpoints(trainer, folder)
        if options.resume is not None:
            trainer.resume_checkpoint(options.resume, options.trust)
        with failed_settings.named_in_training(config):
            best_score, best_result, test_result, file = fit.fit_and_evaluate(config, trainer, loaders, options)
    folder.link_checkpoints(Path(trainer.saved_model_file))
    pretraining = getattr(config, "pretraining", None) or cache.PretrainingTime(0.0, 0.0)
    seconds = run_cost.RunSeconds(clock.seconds(), pretraining.training_s, pretraining.this_run_s)
    tested = test_result is not None
    result = {
        "best_valid_score": best_score,
        "valid_score_bigger": config["valid_metric_bigger"],
        "best_valid_result": best_result,
        "test_result": test_result,
        "model": config.model_name(),
        "dataset": config["dataset"],
        "seed": config["seed"],
        "data": counts,
        "fit_on": config["fit_on"],
        "timing": run_cost.cost_of(config, trainer, model, seconds, tested, clock.energy()),
        "epochs": getattr(trainer, "epochs_done", []),
        "per_user": _with_user_names(getattr(trainer, "per_user", None), dataset) if tested else None,
        "lists": _with_split(getattr(trainer, "lists", None), config, dataset, loaders) if tested else None,
        "warnings": list(config.notes),
        "folder": str(folder.path),
        "checkpoint": file,
    }
    run_outputs.write_result(config, folder, result)
    return RunResult(result)


def _with_user_names(per_user: Optional[UserMetrics], dataset: Any) -> Optional[UserMetrics]:
    """Replace the ids of the users by their names in the data's files."""
    if per_user is None:
        return None
    return per_user._replace(users=np.asarray(dataset.field2id_token[dataset.uid_field][per_user.users], dtype=str))


def _with_split(lists: Optional[RankedLists], config: Config, dataset: Any, loaders: Loaders) -> Optional[ListsOfSplit]:
    """Add the data of the split, with the names of users and items, to recommended lists."""
    return None if lists is None else ListsOfSplit(lists, split_data_of(config, dataset, loaders))


def load(path: Union[str, Path], trust: bool = False, config_dict: Optional[dict[str, Any]] = None) -> Loaded:
    """Load a trained model with its data, on the device of this machine.

    The ids of users and items are those of the checkpoint, whatever the order of lines in the data's files.
    ``config.notes`` lists the differences: users that the checkpoint does not know, names that are missing, another
    split than that of its training.

    Args:
        path: a checkpoint of this package, or of RecBole's with ``trust=True``.
        trust: unpickle the objects in the file. They can run code.
        config_dict: settings to change, e.g. ``data_path``, ``gpu_id``.

    Returns:
        Settings, model, data set and loaders.

    Raises:
        UntrustedFile, ValueError: see :func:`recbole_diffusion.training.checkpoint.read`; or the data hold items that
            the checkpoint lacks.
    """
    config = configure(config_dict=config_dict, resume=path, trust=trust)
    with run_folder.hide_known_warnings(), trusted_files.trusting(trust):
        dataset, loaders = prepare(config)
        for note in config.notes:
            getLogger().warning(note)
        state = checkpoint.read(path, trust, map_location=config["device"])
        provenance.describe(dataset, loaders)
        provenance.note_loaded(state, _checkpoint_name(path), config, loaders[0]._dataset)
        model = build_model(config, loaders, state["state_dict"])
    checkpoint.load_weights(model, state, provenance.mismatch(config, _checkpoint_name(path), dataset))
    model.eval()
    return Loaded(config, model, dataset, *loaders)


def recommend(
    trained: Union[str, Path, Loaded, dict[str, Any]],
    users: Any = None,
    k: int = 10,
    *,
    exclude: Union[str, Sequence[str], None] = SEEN_BY_DEFAULT,
    histories: Any = None,
    items: Any = None,
    samples: int = 1,
    skip_unknown: bool = False,
    trust: bool = False,
    config_dict: Optional[dict[str, Any]] = None,
) -> Any:
    """Recommend items: the k best of each user, with the names of the data's files.

    Args:
        trained: a checkpoint, the result of :func:`load`, or the result of :func:`run`.
        users: names, a file of them (one a line, or a table), or None for all users.
        k: length of the lists.
        exclude: splits whose items a user's list leaves out. By default train and validation, so that the lists are
            those that the test evaluation ranks. None leaves out nothing.
        histories: score users who are given by their items, instead of users of the data: ``{user: [items]}`` in order
            of time, or a frame or file with columns of users, items and optionally times.
        items: names of the items that may be recommended, or a file of them; None for all.
        samples: number of generations; the lists then are ranked by the mean score, and ``score_sd`` is its standard
            deviation over them. Where a model draws no noise at inference, one generation is made.
        skip_unknown: leave out unknown names in ``users`` and ``items``.
        trust, config_dict: see :func:`load`.

    Returns:
        A pandas frame with the columns ``user``, ``item``, ``rank`` (from 1), ``score``, and ``score_sd`` with several
        generations. ``attrs`` holds ``notes``, which are also logged, and with several generations ``jaccard``: the
        mean similarity of each user's lists over pairs of generations.

    Raises:
        ValueError: unknown names, or a model that cannot score new users; one line with the way out.
    """
    if isinstance(trained, dict):
        trained = frames.checkpoint_of(trained)
    loaded = trained if isinstance(trained, Loaded) else load(trained, trust, config_dict)
    request = Request(users, k, exclude, histories, items, samples, skip_unknown)
    return frames.frame(Recommender(loaded, request))
