"""The outputs of a run as it goes: first lines of the log, names of the checkpoints, files of the result."""

from __future__ import annotations

import os
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole_diffusion.training import run_log
from recbole_diffusion.training.run_folder import RunFolder
from recbole_diffusion.training.run_result import result_table
from recbole_diffusion.training.trainer import Training

#: Keys of the result that metrics.json holds.
_SCORES = ("best_valid_score", "valid_score_bigger", "best_valid_result", "test_result")


def log_start(config: Any, dataset: Any, folder: RunFolder) -> None:
    """Log the name of the run, its notes, and to run.log alone its settings and data."""
    logger = getLogger()
    logger.info(config, extra=run_log.TO_FILE)
    logger.info(dataset, extra=run_log.TO_FILE)
    name = f"{config.model_name()} on {config['dataset']}, seed {config['seed']}, {config['device']}"
    logger.info(f"{name}; settings, data and model: {folder.path / run_log.LOG}")
    for line in config.overridden:
        logger.info(line)
    for note in config.notes:
        logger.warning(note)


def name_checkpoints(trainer: Any, folder: RunFolder) -> None:
    """Give the checkpoints the run's name, and link them from its folder as they are written."""
    if isinstance(trainer, Training):
        trainer.name_checkpoint(folder.path.name)
        trainer.after_save = lambda: folder.link_checkpoints(Path(trainer.saved_model_file))
    else:  # RecBole's trainers of decision trees
        trainer.saved_model_file = os.path.join(trainer.checkpoint_dir, f"{folder.path.name}.pth")


def write_result(config: Any, folder: RunFolder, result: dict[str, Any]) -> None:
    """Write metrics.json, epochs.json, per_user.csv if ``save_per_user`` is set, and the end of the log."""
    folder.write("metrics.json", {key: result[key] for key in _SCORES})
    folder.write("epochs.json", result["epochs"])
    if config["save_per_user"] and result["per_user"] is not None:
        folder.write_table("per_user.csv", {"user": result["per_user"].users, **result["per_user"].metrics})
    folder.update(
        status="finished", timing=result["timing"], checkpoint=result["checkpoint"], warnings=result["warnings"]
    )
    getLogger().info(result_table(result), extra=run_log.TO_FILE)
