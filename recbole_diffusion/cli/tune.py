"""The command ``recbole-diffusion tune``: search for a model's best settings on the validation split."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from recbole_diffusion.cli import option_names
from recbole_diffusion.cli.command import Command, integer, real_number
from recbole_diffusion.cli.option_names import UsageError
from recbole_diffusion.cli.options import config_files
from recbole_diffusion.cli.seeds import seeds_of

_EPILOG = """\
The best trial has the best NDCG@10, or --valid_metric=..., on the validation split.
The best settings are trained anew and tested at the end. Nothing else reads the test split.
FOLDER/best.yaml holds them, for run --config_files=... and compare --models=NAME@FOLDER/best.yaml.
FOLDER/best-full.yaml holds every setting, to look things up."""


def parser() -> Command:
    """Declare the arguments of the command."""
    command = Command("tune", "--model=NAME --dataset=NAME [options] [--key=value ...]", _EPILOG)
    command.option("model", "NAME", "model, see run --help")
    command.option("dataset", "NAME", "data set, see run --help")
    command.option(
        "trials", "20", "number of trials; the first one has the model's defaults, unless the search is a grid", integer
    )
    command.option("space", "FILE", "search space: yaml, or RecBole's .hyper; default: properties/hyper/NAME.yaml")
    command.option(
        "search",
        "random",
        "random | grid | optuna | hyperopt\noptuna and hyperopt need Ray and their libraries",
    )
    command.option(
        "scheduler",
        "asha",
        "asha | median | none: the rule that stops trials with low validation scores\n"
        "asha needs Ray; without Ray the default is median",
    )
    command.option(
        "grace",
        "N",
        "number of epochs before a trial may be stopped\ndefault: stopping_step * eval_step, the patience",
        integer,
    )
    command.option("workers", "N", "number of trials at once on this machine, on Ray", integer)
    command.option("address", "auto", "address of a Ray cluster, host:port or auto")
    command.option(
        "executor",
        "serial",
        "ray | serial: serial runs one trial after the other in this process\ndefault: ray where it works",
    )
    command.option("threads", "1", "threads of each trial", integer)
    command.option("gpus", "0", "GPUs of each trial; with a fraction several trials share one", real_number)
    command.option("seed", "N", "seed of the trials", integer)
    command.option(
        "seeds",
        "3",
        "seeds of the tested runs of the best settings: a number of seeds, or a list such as 7,8,9\n"
        "default: the seed of the trials",
    )
    command.option("folder", "FOLDER", "folder of the tuning; default: outputs/tune-...")
    command.option("resume", "FOLDER", "continue the tuning in this folder; --trials may be larger than before")
    command.option(
        "config_files", '"A B"', "yaml files of settings for every trial; --key=value wins over them and is not tuned"
    )
    command.flag("debug", "print the traceback of an error")
    return command


def main(words: Sequence[str]) -> int:
    """Run the command, and return the exit code: 1 if every trial failed."""
    command = parser()
    code = command.print_help_if_needed(words, complete=bool(words))
    if code is not None:
        return code
    options, settings = command.read(words)
    arguments: dict[str, Any] = {key: value for key, value in vars(options).items() if value is not None}
    arguments.pop("debug", None)
    arguments["files"] = config_files(arguments.pop("config_files", ""))
    if "seeds" in arguments:
        arguments["seeds"] = seeds_of(arguments["seeds"])
    if "cpus" in settings:
        raise UsageError("--cpus is not an option of tune, whose trials take one CPU slot each")
    if options.resume is not None:
        _check_resumed(arguments, settings)
    if "gpus" in arguments:
        arguments["gpus_per_trial"] = arguments.pop("gpus")
    option_names.check("tune", settings, [str(options.model)])
    from recbole_diffusion.experiment.tune import NoTrialFinished, tune

    try:
        result = tune(settings=dict(settings), **{"model": None, "dataset": None, "resume": None, **arguments})
    except NoTrialFinished as error:
        print(f"recbole-diffusion: {error}", file=sys.stderr)
        return 1
    print(result.summary())
    return 0


#: Options that are allowed with ``--resume``.
_ALLOWED_WITH_RESUME = {"resume", "trials", "executor", "workers", "address", "threads"}


def _check_resumed(arguments: dict[str, Any], settings: dict[str, str]) -> None:
    """Refuse options that a resumed tuning cannot change.

    Raises:
        UsageError: such an option, or a setting, is given.
    """
    options = [name for name in arguments if arguments[name] and name not in _ALLOWED_WITH_RESUME]
    for name in [*settings, *("config_files" if name == "files" else name for name in options)]:
        raise UsageError(f"--{name} is not allowed with --resume, which continues with the earlier settings")
