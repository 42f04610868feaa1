"""Run and load: the only place where config, data, registry and trainer meet."""

from __future__ import annotations

import os
from collections.abc import Sequence
from logging import getLogger
from pathlib import Path
from time import perf_counter
from typing import Any, Callable, NamedTuple, Optional, Union

import numpy as np
from recbole.utils import ModelType, init_seed

from recbole_diffusion import registry
from recbole_diffusion.cards import own_models
from recbole_diffusion.compat import repairs
from recbole_diffusion.data import numbering, pipeline, prepared, provenance
from recbole_diffusion.evaluation.user_metrics import UserMetrics
from recbole_diffusion.model import hooks
from recbole_diffusion.pretraining import base_settings, bases, cache
from recbole_diffusion.settings.config import Config, settings_of
from recbole_diffusion.settings.precedence import Source
from recbole_diffusion.support import terminal, trusted_files
from recbole_diffusion.training import checkpoint, run_folder, run_log, run_result
from recbole_diffusion.training.run_result import RunResult
from recbole_diffusion.training.trainer import Training, trainer_class

Files = Optional[Sequence[Union[str, Path]]]


class Loaded(NamedTuple):
    """What RecBole's ``load_data_and_model`` gives, in its order."""

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
) -> Config:
    """The settings of a run; with ``resume``, those of the checkpoint with the given ones on top.

    Raises:
        ValueError: a setting that is not allowed; one line with key, value and way out.
    """
    repairs.apply()
    if resume is None:
        config = Config(model, dataset, config_file_list, config_dict)
        base_settings.settle(config, trust)
        base_settings.use_base(config, trust)
    else:
        source = _source(resume)
        state = checkpoint.read(resume, trust)
        stored = Source(source, settings_of(state, source))
        config = Config(model, dataset, config_file_list, config_dict, stored)
        numbering.use_vocabulary(config, state, source)
    pipeline.resolve_columns(config)
    return config


def _source(file: Union[str, Path]) -> str:
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
    callback: Optional[Callable[[int, float], Any]] = None,
    test: bool = True,
) -> RunResult:
    """Train a model, choose its best epoch on the validation split, test it once.

    Args:
        model: a name of ours or RecBole's, ``recbole:Name``, ``package.module:Class``, or a class.
        dataset: the data set's name.
        config_file_list: yaml files, the later ones win.
        config_dict: settings, which win over the files. ``sys.argv`` is never read.
        saved: write a checkpoint; without, the best weights are kept in memory and tested.
        resume: continue from this checkpoint, bit for bit on the CPU as if it had not been interrupted.
        trust: load a checkpoint that holds pickled objects (RecBole's own); they can run code.
        callback: called as ``callback(index, valid_score)`` after each validation; the index is RecBole's, from 0.
        test: score the test split; False leaves it alone, for tuning, and ``test_result`` is None.

    Returns:
        RecBole's ``best_valid_score``, ``valid_score_bigger``, ``best_valid_result``, ``test_result``, and
        ``model``, ``dataset``, ``seed``, ``data`` (counts and hash), ``timing``, ``epochs`` (one dict each, from 1),
        ``per_user`` (:class:`recbole_diffusion.evaluation.user_metrics.UserMetrics` of the test split),
        ``warnings``, ``folder``, ``checkpoint``. Its ``repr`` is one line; ``result.table()`` is the command's table,
        which is printed in a notebook unless ``state`` silences the log.

    Raises:
        ValueError: a setting, a file or a data set that is not right; one line that names the way out.
    """
    config = configure(model, dataset, config_file_list, config_dict, resume, trust)
    own_models.check_keys(config)
    start = perf_counter()
    run_folder.reset_peak_memory()
    run_folder.check_folders(config, saved)
    with run_folder.hide_known_warnings(), trusted_files.trusting(trust), run_log.plain_bars():
        ready = prepare(config)
        folder = run_folder.RunFolder(config)
        try:
            run_log.start_logging(config, folder.path)
            result = _train_and_test(config, *ready, folder, saved, resume, trust, callback, start, test)
        except BaseException as error:
            folder.update(status="failed", error=f"{type(error).__name__}: {error}")
            raise
        finally:
            run_log.stop_logging()
    if terminal.in_notebook() and str(config["state"]).upper() in {"DEBUG", "INFO"}:
        run_result.print_table(result)
    return result


def prepare(config: Config) -> tuple[Any, tuple[Any, Any, Any]]:
    """The data set and its loaders; RecBole draws a random split from the global generators."""
    seed = config["seed"] if config["split_seed"] is None else config["split_seed"]
    init_seed(seed, config["reproducibility"])
    pipeline.resolve_columns(config)
    if config["prepared_data"] is not None and prepared.can_prepare(config):
        dataset, parts = prepared.load(config, Path(config["prepared_data"]))
    else:
        dataset, parts = pipeline.create_dataset(config), None
    loaders = pipeline.prepare(config, dataset, parts)
    numbering.check_ids(config, loaders[0]._dataset)
    return dataset, loaders


def _build_model(config: Config, loaders: tuple[Any, Any, Any], state: Optional[dict[str, Any]] = None) -> Any:
    """The model, untrained; ``state``: of a checkpoint whose weights will be loaded into it."""
    repairs.repair_model(config.model_class)
    bases.attach(config, loaders)
    init_seed(config["seed"], config["reproducibility"])
    return hooks.build(config.model_class, config, loaders[0]._dataset, state).to(config["device"])


def _train_and_test(
    config: Config,
    dataset: Any,
    loaders: tuple[Any, Any, Any],
    folder: run_folder.RunFolder,
    saved: bool,
    resume: Any,
    trust: bool,
    callback: Any,
    start: float,
    test: bool,
) -> RunResult:
    logger = getLogger()
    logger.info(config, extra=run_log.TO_FILE)
    logger.info(dataset, extra=run_log.TO_FILE)
    name = f"{config.model_name()} on {config['dataset']}, seed {config['seed']}, {config['device']}"
    logger.info(f"{name}; settings, data and model: {folder.path / run_log.LOG}")
    for line in config.overridden:
        logger.info(line)
    for note in config.notes:
        logger.warning(note)
    train_data, valid_data, test_data = loaders
    counts = provenance.describe(dataset, loaders)
    folder.update(data=counts, warnings=list(config.notes))
    weights = None
    if resume is not None:
        state = checkpoint.read(resume, trust)
        provenance.check_resumed(state, _source(resume), config, train_data._dataset, counts)
        weights = state["state_dict"]
    events = folder.path / run_log.TENSORBOARD
    with run_log.tensorboard_in(events / "pretrain"):
        net = _build_model(config, loaders, weights)
    folder.write_config(config)
    logger.info(net, extra=run_log.TO_FILE)
    kind = trainer_class(registry.get_trainer(config["MODEL_TYPE"], config.requested_model, config["model"]))
    with run_log.tensorboard_in(events):
        trainer = kind(config, net)
        _name_checkpoints(trainer, folder)
        if resume is not None:
            trainer.resume_checkpoint(resume, trust)
        writes = saved or getattr(trainer, "keeps_in_files", False)
        options = {"saved": writes, "show_progress": config["show_progress"]}
        best_score, best_result = trainer.fit(
            train_data, valid_data, **options, **({"callback_fn": callback} if callback else {})
        )
        file = trainer.saved_model_file if writes and os.path.exists(trainer.saved_model_file) else None
        show = {"load_best_model": file is not None, "show_progress": config["show_progress"]}
        tested = trainer.evaluate(test_data, **show) if test else None
    if file is not None and not saved:
        os.unlink(file)
        file = None
    folder.link_checkpoints(Path(trainer.saved_model_file))
    result = {
        "best_valid_score": best_score,
        "valid_score_bigger": config["valid_metric_bigger"],
        "best_valid_result": best_result,
        "test_result": tested,
        "model": config.model_name(),
        "dataset": config["dataset"],
        "seed": config["seed"],
        "data": counts,
        "timing": _timing(config, trainer, net, perf_counter() - start, tested is not None),
        "epochs": getattr(trainer, "epochs_done", []),
        "per_user": None if tested is None else _named(getattr(trainer, "per_user", None), dataset),
        "warnings": list(config.notes),
        "folder": str(folder.path),
        "checkpoint": file,
    }
    scores = ("best_valid_score", "valid_score_bigger", "best_valid_result", "test_result")
    folder.write("metrics.json", {key: result[key] for key in scores})
    folder.write("epochs.json", result["epochs"])
    if config["save_per_user"] and result["per_user"] is not None:
        folder.write_table("per_user.csv", {"user": result["per_user"].users, **result["per_user"].metrics})
    folder.update(status="finished", timing=result["timing"], checkpoint=file, warnings=result["warnings"])
    logger.info(run_result.result_table(result), extra=run_log.TO_FILE)
    return RunResult(result)


def _name_checkpoints(trainer: Any, folder: run_folder.RunFolder) -> None:
    """Give the checkpoints the run's name, and link them from its folder as they are written."""
    if isinstance(trainer, Training):
        trainer.name_checkpoint(folder.path.name)
        trainer.after_save = lambda: folder.link_checkpoints(Path(trainer.saved_model_file))
    else:  # RecBole's trainers of trees
        trainer.saved_model_file = os.path.join(trainer.checkpoint_dir, f"{folder.path.name}.pth")


def _timing(config: Config, trainer: Any, net: Any, total: float, tested: bool) -> dict[str, Any]:
    """The cost of a run: seconds, users per second at test, memory, parameters, network calls per user."""
    epochs = trainer.epochs_done if isinstance(trainer, Training) else []
    pretraining = getattr(config, "pretraining", None) or cache.PretrainingTime(0.0, 0.0)
    fitted = config["MODEL_TYPE"] == ModelType.TRADITIONAL  # EASE: RecBole gives it one parameter for form's sake
    count = len(epochs) or len(getattr(trainer, "train_loss_dict", ()))  # trainers with a loop of their own
    evaluation = getattr(trainer, "evaluation", None) or {"users": 0, "seconds": 1.0}
    return {
        "epochs": count,
        "best_epoch": getattr(trainer, "best_epoch", None),
        "train_s_per_epoch": float(np.mean([row["train_s"] for row in epochs])) if epochs else 0.0,
        "valid_s_per_epoch": float(np.mean([row["valid_s"] for row in epochs if "valid_s" in row] or [0.0])),
        "test_users_per_s": evaluation["users"] / max(evaluation["seconds"], 1e-9) if tested else None,
        "denoiser_calls_per_user": 0 if fitted else _network_calls(config, net),
        "parameters": 0 if fitted else sum(each.numel() for each in net.parameters() if each.requires_grad),
        "peak_memory_mib": run_folder.peak_memory_mib(),
        "peak_gpu_memory_mib": run_folder.peak_gpu_memory_mib(config["device"]),
        "pretrain_s": pretraining.training_s,
        "total_s": total,
        "from_scratch_s": total - pretraining.this_run_s + pretraining.training_s,  # as if no other run had pretrained
    }


def _network_calls(config: Config, net: Any) -> Optional[int]:
    """Number of function evaluations per user: the model's ``nfe``, the steps of RecBole's diffusion, or 1.

    None if it varies.
    """
    if type(net).__module__.startswith("recbole.") and type(net).__name__ in registry.DIFFUSION_IN_RECBOLE:
        return int(config["steps"])
    return hooks.of(net).nfe


def _named(found: Optional[UserMetrics], dataset: Any) -> Optional[UserMetrics]:
    """The metrics by the users' names in the data's files."""
    if found is None:
        return None
    return found._replace(users=np.asarray(dataset.field2id_token[dataset.uid_field][found.users], dtype=str))


def load(path: Union[str, Path], trust: bool = False, config_dict: Optional[dict[str, Any]] = None) -> Loaded:
    """A saved model with its data, on whatever device is there.

    Args:
        path: a checkpoint of ours, or of RecBole's with ``trust=True``.
        trust: unpickle what the file holds; it can run code.
        config_dict: settings to change, e.g. ``data_path``, ``gpu_id``.

    The ids of the data set are those of the checkpoint, whatever the order of lines. ``config.notes`` says what
    differs: users that the checkpoint does not know, names that are gone, another split than that of its training.

    Raises:
        UntrustedFile, ValueError: see :func:`recbole_diffusion.training.checkpoint.read`; items that the checkpoint
            lacks.
    """
    config = configure(config_dict=config_dict, resume=path, trust=trust)
    with run_folder.hide_known_warnings(), trusted_files.trusting(trust):
        dataset, loaders = prepare(config)
        for text in config.notes:
            getLogger().warning(text)
        state = checkpoint.read(path, trust, map_location=config["device"])
        provenance.describe(dataset, loaders)
        provenance.note_loaded(state, _source(path), config, loaders[0]._dataset)
        net = _build_model(config, loaders, state["state_dict"])
    checkpoint.load_weights(net, state, provenance.mismatch(config, _source(path), dataset))
    net.eval()
    return Loaded(config, net, dataset, *loaders)
