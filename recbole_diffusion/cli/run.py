"""``recbole-diffusion run``: train and test a model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from recbole_diffusion.cli import option_names
from recbole_diffusion.cli.command import Command, whole
from recbole_diffusion.cli.option_names import OF_THE_GROUP
from recbole_diffusion.cli.options import config_files, parse

_EPILOG = "--key=value             any setting; '--key value' too"


def parser() -> Command:
    """The options of the command."""
    command = Command("run", "--model=NAME --dataset=NAME [options] [--key=value ...]", _EPILOG)
    command.option("model", "NAME", "ours or RecBole's; recbole:NAME for RecBole's own; package.module:Class")
    command.option(
        "dataset", "NAME", "data_path/NAME/NAME.inter (data_path is 'dataset' unless set); ml-100k comes with RecBole"
    )
    command.option("config_files", '"A B"', "yaml files, the later ones win; the command line wins over them")
    command.option("resume", "FILE", "continue an interrupted run from its checkpoint, outputs/RUN/checkpoint.pth")
    command.flag("trust-checkpoint", "load a checkpoint that holds pickled objects; they can run code")
    command.option("nproc", "N", "train with N processes: on N GPUs (--gpu_id=0,1), or on parts of the CPU", whole)
    command.option("world_size", "N", "processes on all machines; without: there is only this one", whole)
    command.option("ip", "HOST", "of the first machine")
    command.option("port", "N", "where the first machine listens", whole)
    command.option("group_offset", "N", "processes on the machines before this one", whole)
    command.flag("no-save", "write no checkpoint; the best weights are kept in memory")
    command.flag(
        "dry-run", "print the effective settings with the source of each, as a file for --config_files; run nothing"
    )
    command.flag("debug", "a traceback instead of one line")
    command.flag("help", "this; with --model also the model's own keys")
    return command


def main(words: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    command = parser()
    if {"-h", "--help"} & {*words}:
        from recbole_diffusion.cli import run_help

        print(f"{command.format_help().rstrip()}\n\n{run_help.keys(parse(words)[0].get('model'))}")
        return 0
    options, settings = command.read(words)
    option_names.check("run", settings, [options.model] if options.model else [])
    files = config_files(options.config_files or "")
    if options.dry_run:
        return _dry_run(options, settings, files)
    from recbole_diffusion import distributed
    from recbole_diffusion.training.run_result import print_table

    group = {key: getattr(options, key) for key in OF_THE_GROUP if getattr(options, key) is not None}
    more: dict[str, Any] = {"resume": options.resume, "trust": options.trust_checkpoint, "nproc": 1, **group}
    result = distributed.run(options.model, options.dataset, files, dict(settings), not options.no_save, **more)
    print_table(result)
    return 0


def _dry_run(options: argparse.Namespace, settings: dict[str, str], files: list[str]) -> int:
    from recbole_diffusion import quick_start
    from recbole_diffusion.cards import own_models
    from recbole_diffusion.settings import effective

    config = quick_start.configure(
        options.model, options.dataset, files, dict(settings), options.resume, options.trust_checkpoint
    )
    own_models.check_keys(config)
    for line in [*(f"warning: {note}" for note in config.notes), *config.overridden]:
        print(line, file=sys.stderr)
    print(effective.as_yaml(config), end="")
    return 0
