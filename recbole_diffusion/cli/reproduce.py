"""The command ``recbole-diffusion reproduce``: run a paper's setting on its own split, beside the reported numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recbole_diffusion.cli import option_names
from recbole_diffusion.cli.command import Command
from recbole_diffusion.cli.option_names import UsageError
from recbole_diffusion.cli.seeds import seeds_of


def parser() -> Command:
    """Declare the arguments of the command, and list the published settings in the help."""
    from recbole_diffusion.experiment.published import available

    published = "\n".join(f"  {model} {name}" for model, name in available())
    usage = "MODEL DATASET --data=PATH [options] [--key=value ...]"
    command = Command("reproduce", usage, f"Settings with published numbers:\n{published}")
    command.positional("model", "model of a published setting, see below")
    command.positional("dataset", "data set of the setting")
    command.option(
        "data",
        "PATH",
        "the official data\n"
        "general models: a .npz with train, valid, test (and item_emb), or a folder with train_list.npy, "
        "valid_list.npy, test_list.npy (and item_emb.npy)\n"
        "sequential models: a .txt with lines 'user item ...', RecBole's .inter (also as .xz or .gz), or the "
        "dataset.pkl of DiffuRec, FMRec or ADRec; "
        "DreamRec and PreferDiff: the folder of their own split by user, see convert --help",
    )
    command.option("seeds", "3", "number of seeds (3: seeds 1, 2 and 3), or a list such as 7,8,9", default="3")
    command.option(
        "protocol",
        "official",
        "official: arrays as they are named, to compare with the published numbers\n"
        "time-proper: arrays in the order of time\n"
        "both: one after the other\n"
        "sequential models have the one of their paper only: leave-one-out, or split by user",
    )
    command.option("out", "FILE", "also write the tables to this file")
    command.flag("debug", "print the traceback of an error")
    return command


def main(words: Sequence[str]) -> int:
    """Run the command, and return the exit code."""
    command = parser()
    has_positionals = len(words) > 1 and not any(word.startswith("-") for word in words[:2])
    code = command.print_help_if_needed(words, complete=has_positionals)
    if code is not None:
        return code
    options, settings = command.read(words)
    if "seed" in settings:
        raise UsageError("--seed is not an option of reproduce; write --seeds=3 for seeds 1 to 3, --seeds=7, for 7")
    if options.out is not None and not Path(options.out).absolute().parent.is_dir():
        raise UsageError(f"--out={options.out} is not allowed; allowed: a file in an existing folder")
    if options.data is None:
        raise UsageError("--data=PATH is missing: the official data")
    seeds = seeds_of(options.seeds)
    option_names.check("reproduce", settings, [options.model])
    from recbole_diffusion.experiment import reproduce
    from recbole_diffusion.support.atomic_write import atomic_write_text

    model, name = options.model, options.dataset
    setting = reproduce.load_setting(model, name)
    protocol = options.protocol or setting.protocols[0]
    tables = []
    for one_protocol in setting.protocols if protocol == "both" else (protocol,):
        rows = reproduce.reproduce(model, name, options.data, seeds, one_protocol, dict(settings))
        tables.append(reproduce.markdown(setting, one_protocol, rows))
        print(f"\n{tables[-1]}\n", flush=True)
        if options.out is not None:
            atomic_write_text(options.out, "\n\n".join(tables) + "\n")
    return 0
