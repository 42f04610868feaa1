"""Models that are trained for one epoch on the checkerboard, once per test module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recbole_diffusion import load, run
from recbole_diffusion.quick_start import Loaded
from recbole_diffusion.testing import SETTINGS, quick, split, write_board


class ServedModels:
    """Trains models, and loads them as often as asked for.

    Args:
        folder: for the data, the checkpoints and the run folders.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = write_board(folder)
        self._results: dict[str, Any] = {}

    def result(self, model: str, **settings: Any) -> Any:
        """The result of a run of one epoch."""
        key = f"{model} {settings}"
        if key not in self._results:
            args = {"split": split(model)}
            args.update({"order": "TO"} if "LS" in args["split"] else {})
            folders = {"checkpoint_dir": str(self.folder / "saved"), "output_dir": str(self.folder / "outputs")}
            keys = {**SETTINGS, "data_path": str(self.folder), "eval_args": args, **quick(model), **folders}
            config_dict = {**keys, "epochs": 1, "eval_step": 1, **settings}
            self._results[key] = run(model, "board", config_dict=config_dict)
        return self._results[key]

    def __call__(self, model: str, **settings: Any) -> Loaded:
        """Load the model of :meth:`result`."""
        return load(self.result(model, **settings)["checkpoint"], trust=True)
