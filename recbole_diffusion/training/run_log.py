"""A run's log and TensorBoard events, in the run's own folder; the screen gets the part of the log that people follow.

RecBole writes ``log/`` and ``log_tensorboard/`` to the working folder, whatever the settings are. Under
:func:`recbole_diffusion.enable` it still does.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recbole_diffusion.support import terminal
from recbole_diffusion.support.patch import replace

#: Name of the log in the run's folder.
LOG = "run.log"
#: Name of the folder of TensorBoard's events there.
TENSORBOARD = "tensorboard"

#: ``logger.info(text, extra=TO_FILE)``: a record for run.log alone, such as 125 lines of settings.
TO_FILE = {"to_file_only": True}

_handlers: list[logging.Handler] = []
_level_before: list[int] = []


def start_logging(config: Any, folder: Path) -> None:
    """Log to the screen and to ``folder/run.log``, anew for each run.

    RecBole configures the root logger once, so that all later runs of a process end up in the first one's file.
    """
    from recbole.utils.logger import RemoveColorFilter

    stop_logging()
    level = getattr(logging, str(config["state"] or "info").upper(), logging.INFO)
    to_file = logging.FileHandler((folder / LOG).absolute(), encoding="utf-8", delay=True)
    to_file.setFormatter(logging.Formatter("%(asctime)-15s %(levelname)s  %(message)s"))
    to_file.addFilter(RemoveColorFilter())
    to_screen = logging.StreamHandler()
    to_screen.addFilter(lambda record: not getattr(record, "to_file_only", False))
    _set_colours(to_screen)
    root = logging.getLogger()
    _level_before.append(root.level)
    root.setLevel(level)
    for handler in (to_screen, to_file):
        handler.setLevel(level)
        root.addHandler(handler)
        _handlers.append(handler)


def _set_colours(handler: Any) -> None:
    """Colours for the levels where the handler's stream shows them; else none, not even RecBole's within the text."""
    import colorlog
    from recbole.utils.logger import RemoveColorFilter, log_colors_config

    line, time = "%(asctime)-15s %(levelname)s  %(message)s", "%d %b %H:%M"
    if terminal.colours(handler.stream):
        handler.setFormatter(colorlog.ColoredFormatter(f"%(log_color)s{line}", time, log_colors=log_colors_config))
    else:
        handler.addFilter(RemoveColorFilter())
        handler.setFormatter(logging.Formatter(line, time))


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


@contextlib.contextmanager
def plain_bars() -> Iterator[None]:
    """Leave the colours out of progress bars where stderr shows none; RecBole's trainers always colour theirs."""
    from recbole.trainer import trainer as theirs

    from recbole_diffusion.training import trainer as ours

    def uncoloured(text: str, *colour: Any) -> str:
        return text

    changes = [(module, "set_color", uncoloured) for module in (theirs, ours)]
    revert = replace(*([] if terminal.colours(sys.stderr) else changes))
    try:
        yield
    finally:
        revert()
