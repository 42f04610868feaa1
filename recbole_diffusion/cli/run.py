"""The command ``recbole-diffusion run``: train and test a model."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from typing import Any

from recbole_diffusion.cli import option_names
from recbole_diffusion.cli.command import Command, integer
from recbole_diffusion.cli.option_names import PROCESS_GROUP_OPTIONS
from recbole_diffusion.cli.options import config_files, parse

_EPILOG = "--key=value             any setting, also as '--key value'; the keys are listed below"


def parser() -> Command:
    """Declare the arguments of the command."""
    command = Command("run", "--model=NAME --dataset=NAME [options] [--key=value ...]", _EPILOG)
    command.option(
        "model",
        "NAME",
        "DiffRec: a model of this package, or else of RecBole\n"
        "recbole:DiffRec: RecBole's model of that name\n"
        "package.module:Class: a model of your own",
    )
    command.option(
        "dataset",
        "NAME",
        "data set, read from DATA_PATH/NAME/NAME.inter; --data_path is 'dataset' by default\n"
        "ml-100k comes with RecBole",
    )
    command.option(
        "config_files", '"A B"', "yaml files of settings; later files win over earlier ones, the command line over all"
    )
    command.option("resume", "FILE", "continue an interrupted run from its checkpoint, outputs/RUN/checkpoint.pth")
    command.option(
        "like",
        "RUN",
        "take the settings of this checkpoint or run's folder, below the ones given here\n"
        "with --fit_on=all it trains on all rows, for as many epochs as the validation of that run chose",
    )
    command.flag("trust-checkpoint", "load a checkpoint that holds pickled objects; they can run code")
    command.option(
        "nproc",
        "N",
        "train with N processes on this machine: on N GPUs (--gpu_id=0,1), or on parts of the CPU",
        integer,
    )
    command.option("world_size", "N", "number of processes on all machines; default: those of this machine", integer)
    command.option("ip", "HOST", "address of the first machine")
    command.option("port", "N", "port on the first machine", integer)
    command.option("group_offset", "N", "number of processes on the machines before this one", integer)
    command.flag("no-save", "write no checkpoint; keep the best weights in memory")
    command.flag("dry-run", "print all settings with their sources, as a file for --config_files; train nothing")
    command.flag("debug", "print the traceback of an error")
    command.flag("help", "print this text; with --model also the model's keys")
    return command


def main(words: Sequence[str]) -> int:
    """Run the command, and return the exit code."""
    command = parser()
    if {"-h", "--help"} & {*words}:
        from recbole_diffusion.cli import run_help

        print(f"{command.format_help().rstrip()}\n\n{run_help.keys(parse(words)[0].get('model'))}")
        return 0
    options, settings = command.read([re.sub(r"^--fit-on(?==|$)", "--fit_on", word) for word in words])
    option_names.check("run", settings, [options.model] if options.model else [])
    files = config_files(options.config_files or "")
    if options.dry_run:
        return _dry_run(options, settings, files)
    from recbole_diffusion import distributed
    from recbole_diffusion.training.run_result import print_table

    processes = {key: getattr(options, key) for key in PROCESS_GROUP_OPTIONS if getattr(options, key) is not None}
    keywords: dict[str, Any] = {"resume": options.resume, "like": options.like, "trust": options.trust_checkpoint}
    keywords.update({"nproc": 1, **processes})
    result = distributed.run(options.model, options.dataset, files, dict(settings), not options.no_save, **keywords)
    print_table(result)
    return 0


def _dry_run(options: argparse.Namespace, settings: dict[str, str], files: list[str]) -> int:
    """Print the effective settings to stdout, and the notes to stderr."""
    from recbole_diffusion import quick_start
    from recbole_diffusion.cards import own_models
    from recbole_diffusion.settings import effective

    config = quick_start.configure(
        options.model, options.dataset, files, dict(settings), options.resume, options.trust_checkpoint, options.like
    )
    own_models.check_keys(config)
    for line in [*(f"warning: {note}" for note in config.notes), *config.overridden]:
        print(line, file=sys.stderr)
    print(effective.as_yaml(config), end="")
    return 0
