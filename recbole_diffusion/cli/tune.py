"""``recbole-diffusion tune``: search a model's settings on the validation split."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from recbole_diffusion.cli import option_names
from recbole_diffusion.cli.command import Command, real, whole
from recbole_diffusion.cli.option_names import UsageError
from recbole_diffusion.cli.options import config_files
from recbole_diffusion.cli.seeds import seeds_of

_EPILOG = """\
Chosen by NDCG@10 on the validation split (--valid_metric=...); the test split is read once, at the end.
FOLDER/best.yaml is for run --config_files and compare --models=NAME@FOLDER/best.yaml; best-full.yaml holds all keys."""


def parser() -> Command:
    """The options of the command."""
    command = Command("tune", "--model=NAME --dataset=NAME [options] [--key=value ...]", _EPILOG)
    command.option("model", "NAME", "as for run")
    command.option("dataset", "NAME", "as for run")
    command.option(
        "trials", "20", "the budget; the model's defaults are the first trial, unless the search is a grid", whole
    )
    command.option(
        "space", "FILE", "what to choose from: yaml, or RecBole's .hyper; without: properties/hyper/NAME.yaml"
    )
    command.option("search", "random", "random | grid | optuna | hyperopt (the last two need Ray and their library)")
    command.option(
        "scheduler",
        "asha",
        "asha | median | none: stops trials that are behind on their validation score. Without Ray median or none",
    )
    command.option(
        "grace", "N", "epochs that no trial is stopped before (the patience, stopping_step * eval_step)", whole
    )
    command.option("workers", "N", "trials at once on this machine, on Ray", whole)
    command.option("address", "auto", "a Ray cluster instead (host:port, or auto)")
    command.option("executor", "serial", "serial: one trial after the other in this process, without Ray")
    command.option("threads", "1", "of each trial", whole)
    command.option("gpus", "0", "GPUs that a trial takes; a fraction shares one", real)
    command.option("seed", "N", "of the trials", whole)
    command.option("seeds", "3", "seeds of the tested runs of the best settings (the one of the trials)")
    command.option("folder", "FOLDER", "where the tuning is kept (outputs/tune-...)")
    command.option("resume", "FOLDER", "go on with that tuning, also with more --trials")
    command.option("config_files", '"A B"', "yaml files for every trial; --key=value wins over them and is not tuned")
    command.flag("debug", "a traceback instead of one line")
    return command


def main(words: Sequence[str]) -> int:
    """Run the command; returns the exit code, 1 if every trial failed."""
    command = parser()
    code = command.usage_asked(words, enough=bool(words))
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
    from recbole_diffusion.experiment.tune import NoTrialFinished
    from recbole_diffusion.experiment.tune import tune as search

    try:
        result = search(settings=dict(settings), **{"model": None, "dataset": None, "resume": None, **arguments})
    except NoTrialFinished as error:
        print(f"recbole-diffusion: {error}", file=sys.stderr)
        return 1
    print(result.summary())
    return 0


#: What may stand beside ``--resume``: more trials, and where they run.
_BESIDE_RESUME = {"resume", "trials", "executor", "workers", "address", "threads"}


def _check_resumed(arguments: dict[str, Any], settings: dict[str, str]) -> None:
    """Refuse what a resumed tuning has decided already.

    Raises:
        UsageError: there is something.
    """
    more = [word for word in arguments if arguments[word] and word not in _BESIDE_RESUME]
    for word in [*settings, *("config_files" if word == "files" else word for word in more)]:
        raise UsageError(f"--{word} is not allowed with --resume, which goes on with what was asked")
