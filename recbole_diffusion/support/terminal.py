"""Capabilities of the output: colours, progress bars, notebooks."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any, Optional


def colours(stream: Any, environment: Optional[Mapping[str, str]] = None) -> bool:
    """Whether to write colours to a stream: if it is a terminal, unless environment variables override that.

    ``NO_COLOR`` (https://no-color.org) overrides ``FORCE_COLOR`` and ``CLICOLOR_FORCE``. A variable is set if it is not
    empty; for the last two, 0 counts as not set.

    Args:
        stream: such as ``sys.stderr``.
        environment: the variables; None for those of the process.
    """
    variables = os.environ if environment is None else environment
    if variables.get("NO_COLOR"):
        return False
    if any(variables.get(name, "") not in {"", "0"} for name in ("FORCE_COLOR", "CLICOLOR_FORCE")):
        return True
    return is_terminal(stream) and variables.get("TERM") != "dumb"


def is_terminal(stream: Any) -> bool:
    """Whether the stream is a terminal; False if it is closed or None."""
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):
        return False


def shows_progress(setting: Optional[bool]) -> bool:
    """Whether to show progress bars: the setting ``show_progress``; if it is null, whether stderr is a terminal."""
    return is_terminal(sys.stderr) if setting is None else bool(setting)


def in_notebook() -> bool:
    """Whether IPython runs this code in a notebook or its own shell."""
    module = sys.modules.get("IPython")
    return module is not None and module.get_ipython() is not None
