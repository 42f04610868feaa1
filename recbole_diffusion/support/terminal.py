"""What the place that text goes to can show: colours, progress bars, a notebook's output."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any, Optional


def colours(stream: Any, environment: Optional[Mapping[str, str]] = None) -> bool:
    """Whether to write colours to a stream: a terminal, unless the environment says otherwise.

    ``NO_COLOR`` (https://no-color.org) wins over ``FORCE_COLOR`` and ``CLICOLOR_FORCE``. A variable counts when it is
    not empty, the last two when they are not 0 either.

    Args:
        stream: such as ``sys.stderr``.
        environment: the variables; None: those of the process.
    """
    variables = os.environ if environment is None else environment
    if variables.get("NO_COLOR"):
        return False
    if any(variables.get(name, "") not in {"", "0"} for name in ("FORCE_COLOR", "CLICOLOR_FORCE")):
        return True
    return is_terminal(stream) and variables.get("TERM") != "dumb"


def is_terminal(stream: Any) -> bool:
    """Whether a person watches the stream; False for one that is closed or missing."""
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):
        return False


def shows_progress(setting: Optional[bool]) -> bool:
    """The setting ``show_progress``; null: only where stderr, to which bars are written, is a terminal."""
    return is_terminal(sys.stderr) if setting is None else bool(setting)


def in_notebook() -> bool:
    """Whether IPython runs this code in a notebook or its own shell."""
    module = sys.modules.get("IPython")
    return module is not None and module.get_ipython() is not None
