"""Make the trainer of a run, train with it, and test."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional, Union

from recbole_diffusion import registry
from recbole_diffusion.training.trainer import trainer_class


class RunOptions(NamedTuple):
    """The arguments of :func:`recbole_diffusion.run` that are no settings.

    Attributes:
        saved: whether a checkpoint is kept.
        resume: checkpoint to continue from; None for a new training.
        trust: whether the checkpoint may hold pickled objects.
        callback: called as ``callback(epoch_idx, valid_score)`` after each validation.
        test: whether the test split is scored.
    """

    saved: bool
    resume: Union[str, Path, None]
    trust: bool
    callback: Optional[Callable[[int, float], Any]]
    test: bool


def make_trainer(config: Any, model: Any) -> Any:
    """Make RecBole's trainer for the model, with the mixin :class:`Training` where it takes one."""
    recbole_trainer = registry.get_trainer(config["MODEL_TYPE"], config.requested_model, config["model"])
    return trainer_class(recbole_trainer)(config, model)


def fit_and_evaluate(
    config: Any, trainer: Any, loaders: tuple[Any, Any, Any], options: RunOptions
) -> tuple[float, Any, Any, Optional[str]]:
    """Train, then test with the best weights.

    Args:
        config: settings of the run.
        trainer: see :func:`make_trainer`.
        loaders: the loaders of the train, validation and test split.
        options: of these, ``saved``, ``callback`` and ``test`` count.

    Returns:
        RecBole's best validation score and result, the test result (None without a test), and the checkpoint (None if
        none is kept).
    """
    train_data, valid_data, test_data = loaders
    writes_files = options.saved or getattr(trainer, "keeps_in_files", False)
    callback = {"callback_fn": options.callback} if options.callback else {}
    show_progress = config["show_progress"]
    best_score, best_result = trainer.fit(
        train_data, valid_data, saved=writes_files, show_progress=show_progress, **callback
    )
    file = trainer.saved_model_file if writes_files and os.path.exists(trainer.saved_model_file) else None
    test_result = None
    if options.test:
        trainer.list_length = config["keep_lists"] or 0
        test_result = trainer.evaluate(test_data, load_best_model=file is not None, show_progress=show_progress)
    if file is not None and not options.saved:
        os.unlink(file)
        file = None
    return best_score, best_result, test_result, file
