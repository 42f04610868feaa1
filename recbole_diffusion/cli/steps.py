"""The command ``recbole-diffusion steps``: quality against network calls of a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional, Union

from recbole_diffusion.cli.command import Command
from recbole_diffusion.cli.study_options import add_options, command_line, listed, print_result

_EPILOG = """\
Nothing is trained. Each solver of the model's process is tried with each number of steps; the cheapest setting that is
not significantly worse than the model as it was trained is named. It may be chosen on the validation split (default).

examples:
  recbole-diffusion steps outputs/DiffRec-.../checkpoint.pth
  recbole-diffusion steps outputs/DiffRec-.../checkpoint.pth --steps=1,2,5,full --solvers=ancestral,ddim

--key=value             a setting, e.g. data_path, gpu_id, eval_batch_size"""


def parser() -> Command:
    """Declare the arguments of the command."""
    command = Command("steps", "CHECKPOINT [--steps=1,2,5,full] [--solvers=ancestral,ddim] [options]", _EPILOG)
    command.positional("checkpoint", "checkpoint of a model with a reverse process")
    command.option("steps", "1,2,5,full", "numbers of steps; full: those of the training; default: a few up to it")
    command.option("solvers", "ddim", "solvers: ancestral, ddim; for a flow euler, midpoint, heun; default: all")
    add_options(command, "valid")
    return command


def main(words: Sequence[str]) -> int:
    """Run the command, and return the exit code."""
    command = parser()
    code = command.print_help_if_needed(words, complete=bool(words) and not words[0].startswith("-"))
    if code is not None:
        return code
    options, settings = command.read(words)
    from recbole_diffusion.experiment import study

    result = study.steps(
        options.checkpoint,
        _counts(options.steps),
        listed(options.solvers),
        split=options.split,
        folder=options.folder,
        metrics=listed(options.metrics),
        topk=listed(options.topk, int),
        config_dict=settings,
        trust=options.trust_checkpoint,
        command=command_line("steps", words),
    )
    return print_result(result)


def _counts(text: Optional[str]) -> Optional[list[Union[int, str]]]:
    words = listed(text)
    return None if words is None else [int(word) if word.isdigit() else word for word in words]
