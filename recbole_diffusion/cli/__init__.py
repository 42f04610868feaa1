"""The command line, thin: words to settings, errors to one line.

Exit codes: 0 done, 1 failed, 2 a word, setting, file or data set that is not right.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any, Optional

from recbole_diffusion.cli.option_names import UsageError
from recbole_diffusion.support import libraries

#: Each command is the module of its name in this folder, imported when it is called.
COMMANDS: dict[str, str] = {
    "run": "train and test a model: run --model=DiffRec --dataset=ml-100k [--key=value ...]",
    "compare": "any models, ours and RecBole's, on one split: statistics, cost, tables and plots",
    "tune": "search a model's settings on the validation split, with Ray or without",
    "runs": "the runs of a folder as a table, or as csv",
    "report": "the tables and plots of a comparison again",
    "reproduce": "a paper's setting on its own split, beside what the paper reports and a baseline",
    "convert": "the official DiffRec arrays, or a .txt of sequences, as RecBole's files",
    "models": "the models, or one of them: models DiffRec   [--task=sequential; --all: RecBole's own too]",
    "doctor": "what is installed, what is known to fail, and how to fix it",
}


def usage() -> str:
    """The commands, a line each."""
    lines = "\n".join(f"  {name:11} {meaning}" for name, meaning in COMMANDS.items())
    return f"usage: recbole-diffusion COMMAND [options]\n\n{lines}\n\nrecbole-diffusion COMMAND --help says more."


def main(words: Optional[Sequence[str]] = None) -> int:
    """The console script; returns the exit code."""
    words = sys.argv[1:] if words is None else list(words)
    if not words or words[0] in {"-h", "--help", "help"}:
        print(usage())
        return 0 if words else 2
    if words[0] == "--version":
        from recbole_diffusion import __version__

        print(f"recbole-diffusion {__version__}")
        return 0
    if words[0] not in COMMANDS:
        return _say(f"no command {words[0]!r}; there are {', '.join(COMMANDS)}", 2)
    try:
        return int(importlib.import_module(f"{__name__}.{words[0]}").main(words[1:]))
    except KeyboardInterrupt:
        return _say("interrupted", 130)
    except BrokenPipeError:  # piped into head
        sys.stderr.close()
        return 0
    except UsageError as error:
        return _say(str(error), 2)
    except Exception as error:
        if "--debug" in words:
            raise
        return _failed(error)


def _failed(error: Exception) -> int:
    """One line for an error, wherever it was raised."""
    of_library, text = libraries.explain(error), " ".join(str(error).split())
    if of_library is not None:
        return _say(of_library, 1)
    if isinstance(error, (ValueError, NotImplementedError, OSError)):
        return _say(text, 2 if isinstance(error, ValueError) else 1)
    return _say(f"{type(error).__name__}: {text[:300]} (--debug shows where)", 1)


def _say(message: Any, code: int) -> int:
    print(f"recbole-diffusion: {message}", file=sys.stderr)
    return code
