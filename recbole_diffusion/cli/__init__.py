"""The command line: it converts arguments to settings, and errors to one line.

Exit codes: 0 success; 1 a failure; 2 an argument, setting, file or data set that is not right; 130 Ctrl-C.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Optional

from recbole_diffusion.cli.option_names import UsageError
from recbole_diffusion.support import libraries

#: The commands and their meanings. Each is the module of its name in this folder, imported when it is called.
COMMANDS: dict[str, str] = {
    "run": "train and test a model",
    "recommend": "write the best items of users, or of new users, with a trained model",
    "card": "describe a checkpoint: data, metrics, settings, cost, origin, limits",
    "compare": "train and test several models, ours and RecBole's, on one split, and report the results",
    "tune": "search for the best settings of a model on the validation split",
    "evaluate": "evaluate checkpoints, or lists of other software, at any metrics, without training",
    "runs": "list the runs in a folder",
    "report": "write the tables and plots of a comparison again",
    "reproduce": "run a published setting on its own split, beside the published numbers and baselines",
    "data": "import tables, describe, check, export and split data sets, fetch those of the papers",
    "convert": "convert the official DiffRec arrays, or sequences, to RecBole's files",
    "steps": "measure a trained model's quality against its network calls",
    "ablate": "measure what carries a trained model's result: chain, noise, input, condition",
    "robustness": "compare models with more and more noise in the training split",
    "watch": "show users' rankings along the reverse process of a trained model",
    "models": "list the models, or describe one of them",
    "doctor": "check the installed libraries for known problems",
}
_EXAMPLE = "recbole-diffusion run --model=DiffRec --dataset=ml-100k --epochs=50"


def usage() -> str:
    """Return the help of the program: a line for each command."""
    commands = [f"  {name:11} {meaning}" for name, meaning in COMMANDS.items()]
    notes = [f"example: {_EXAMPLE}", "options of a command: recbole-diffusion COMMAND --help"]
    return "\n".join(["usage: recbole-diffusion COMMAND [options]", "", *commands, "", *notes])


def main(words: Optional[Sequence[str]] = None) -> int:
    """Run the command line, and return the exit code.

    Args:
        words: the arguments; None: those of the process.
    """
    words = sys.argv[1:] if words is None else list(words)
    if not words or words[0] in {"-h", "--help", "help"}:
        print(usage())
        return 0 if words else 2
    if words[0] == "--version":
        from recbole_diffusion import __version__

        print(f"recbole-diffusion {__version__}")
        return 0
    if words[0] not in COMMANDS:
        return _print_error(f"unknown command {words[0]!r}; commands: {', '.join(COMMANDS)}", 2)
    try:
        return int(importlib.import_module(f"{__name__}.{words[0]}").main(words[1:]))
    except KeyboardInterrupt:
        return _print_error("interrupted", 130)
    except BrokenPipeError:  # piped into head
        sys.stderr.close()
        return 0
    except UsageError as error:
        return _print_error(str(error), 2)
    except Exception as error:
        if "--debug" in words:
            raise
        return _print_exception(error)


def _print_exception(error: Exception) -> int:
    """Print an error in one line, and return the exit code."""
    library_error, text = libraries.explain(error), " ".join(str(error).split())
    if library_error is not None:
        return _print_error(library_error, 1)
    if isinstance(error, (ValueError, NotImplementedError, OSError)):
        return _print_error(text, 2 if isinstance(error, ValueError) else 1)
    kind = "out of memory" if isinstance(error, MemoryError) else type(error).__name__
    return _print_error(f"{kind}: {text[:300]} (--debug shows where)" if text else f"{kind} (--debug shows where)", 1)


def _print_error(message: str, code: int) -> int:
    """Print a line to stderr, and return the exit code."""
    print(f"recbole-diffusion: {message}", file=sys.stderr)
    return code
