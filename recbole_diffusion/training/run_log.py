"""A run's log and TensorBoard events, in the run's own folder.

RecBole writes ``log/`` and ``log_tensorboard/`` to the working folder, whatever the settings are. Under
:func:`recbole_diffusion.enable` it still does.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recbole_diffusion.support.patch import replace

#: Name of the log in the run's folder.
LOG = "run.log"
#: Name of the folder of TensorBoard's events there.
TENSORBOARD = "tensorboard"

_handlers: list[logging.Handler] = []
_level_before: list[int] = []


def start_logging(config: Any, folder: Path) -> None:
    """Log to the screen and to ``folder/run.log``, anew for each run.

    RecBole configures the root logger once, so that all later runs of a process end up in the first one's file.
    """
    import colorlog
    from recbole.utils.logger import RemoveColorFilter, log_colors_config

    stop_logging()
    level = getattr(logging, str(config["state"] or "info").upper(), logging.INFO)
    to_file = logging.FileHandler((folder / LOG).absolute(), encoding="utf-8", delay=True)
    to_file.setFormatter(logging.Formatter("%(asctime)-15s %(levelname)s  %(message)s"))
    to_file.addFilter(RemoveColorFilter())
    to_screen = logging.StreamHandler()
    to_screen.setFormatter(
        colorlog.ColoredFormatter(
            "%(log_color)s%(asctime)-15s %(levelname)s  %(message)s", "%d %b %H:%M", log_colors=log_colors_config
        )
    )
    root = logging.getLogger()
    _level_before.append(root.level)
    root.setLevel(level)
    for handler in (to_screen, to_file):
        handler.setLevel(level)
        root.addHandler(handler)
        _handlers.append(handler)


def stop_logging() -> None:
    """Take the last run's handlers off the root logger and close its file."""
    while _handlers:
        handler = _handlers.pop()
        logging.getLogger().removeHandler(handler)
        handler.close()
    while _level_before:
        logging.getLogger().setLevel(_level_before.pop())


@contextlib.contextmanager
def tensorboard_in(folder: Path) -> Iterator[None]:
    """Let RecBole's trainers write their TensorBoard events to ``folder``; their writers are closed at the end.

    RecBole derives ``log_tensorboard/NAME`` from the logger's file and has no key for it.
    """
    from recbole.trainer import trainer as module
    from torch.utils.tensorboard import SummaryWriter

    writers: list[Any] = []

    def get_tensorboard(logger: Any) -> Any:
        writers.append(SummaryWriter(str(folder.absolute())))
        return writers[-1]

    revert = replace((module, "get_tensorboard", get_tensorboard))
    try:
        yield
    finally:
        revert()
        for writer in writers:
            writer.close()
