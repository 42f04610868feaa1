"""The log and the TensorBoard events of a run, both in the run's folder. The screen shows a shorter log.

RecBole writes ``log/`` and ``log_tensorboard/`` to the working folder and has no key for them. Under
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

#: Name of the log file in the run's folder.
LOG = "run.log"
#: Name of the folder of TensorBoard events in the run's folder.
TENSORBOARD = "tensorboard"

#: ``logger.info(text, extra=TO_FILE)`` writes to run.log only, not to the screen (e.g. 125 lines of settings).
TO_FILE = {"to_file_only": True}

_handlers: list[logging.Handler] = []
_former_levels: list[int] = []


class _LogFile(logging.FileHandler):
    """The file of the log. If it cannot be written, one line says so and the run goes on without it."""

    _is_lost = False

    def emit(self, record: logging.LogRecord) -> None:
        if self._is_lost:
            return
        try:
            super().emit(record)
        except (OSError, MemoryError):  # the file cannot be opened
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Print one line, and write nothing more."""
        error = sys.exc_info()[1]
        if not isinstance(error, (OSError, MemoryError)):
            super().handleError(record)
            return
        self._is_lost = True
        reason = getattr(error, "strerror", None) or "out of memory"
        print(f"{self.baseFilename!r} cannot be written: {reason}; the log ends here", file=sys.stderr)

    def close(self) -> None:
        with contextlib.suppress(OSError, MemoryError):  # what is still in its buffer
            super().close()


def start_logging(config: Any, folder: Path) -> None:
    """Configure the root logger for one run: the screen and ``folder/run.log``.

    RecBole configures it once per process, so that later runs log to the first run's file.
    """
    from recbole.utils.logger import RemoveColorFilter

    stop_logging()
    level = getattr(logging, str(config["state"] or "info").upper(), logging.INFO)
    to_file = _LogFile((folder / LOG).absolute(), encoding="utf-8", delay=True)
    to_file.setFormatter(logging.Formatter("%(asctime)-15s %(levelname)s  %(message)s"))
    to_file.addFilter(RemoveColorFilter())
    to_screen = logging.StreamHandler()
    to_screen.addFilter(lambda record: not getattr(record, "to_file_only", False))
    _set_colours(to_screen)
    root = logging.getLogger()
    _former_levels.append(root.level)
    root.setLevel(level)
    for handler in (to_screen, to_file):
        handler.setLevel(level)
        root.addHandler(handler)
        _handlers.append(handler)


def _set_colours(handler: Any) -> None:
    """Colour the levels where the handler's stream shows colours; else also remove RecBole's colours from the text."""
    import colorlog
    from recbole.utils.logger import RemoveColorFilter, log_colors_config

    line_format, time_format = "%(asctime)-15s %(levelname)s  %(message)s", "%d %b %H:%M"
    if terminal.colours(handler.stream):
        coloured = f"%(log_color)s{line_format}"
        handler.setFormatter(colorlog.ColoredFormatter(coloured, time_format, log_colors=log_colors_config))
    else:
        handler.addFilter(RemoveColorFilter())
        handler.setFormatter(logging.Formatter(line_format, time_format))


def stop_logging() -> None:
    """Remove the last run's handlers from the root logger and close its file."""
    while _handlers:
        handler = _handlers.pop()
        logging.getLogger().removeHandler(handler)
        handler.close()
    while _former_levels:
        logging.getLogger().setLevel(_former_levels.pop())


@contextlib.contextmanager
def tensorboard_in(folder: Path) -> Iterator[None]:
    """Redirect the TensorBoard events of RecBole's trainers to ``folder``, and close their writers at the end.

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
    """Remove the colours of progress bars where stderr shows none; RecBole's trainers always colour theirs."""
    from recbole.trainer import trainer as recbole_trainer

    from recbole_diffusion.training import epoch_loop, evaluation_loop, trainer

    def uncoloured(text: str, *colour: Any) -> str:
        return text

    changes = [(module, "set_color", uncoloured) for module in (recbole_trainer, trainer, epoch_loop, evaluation_loop)]
    revert = replace(*([] if terminal.colours(sys.stderr) else changes))
    try:
        yield
    finally:
        revert()
