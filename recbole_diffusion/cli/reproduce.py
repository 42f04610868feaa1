"""``recbole-diffusion reproduce``: a paper's setting on its own split, beside what the paper reports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recbole_diffusion.cli import option_names
from recbole_diffusion.cli.command import Command
from recbole_diffusion.cli.option_names import UsageError
from recbole_diffusion.cli.seeds import seeds_of


def parser() -> Command:
    """The options of the command, and the settings with published numbers."""
    from recbole_diffusion.experiment.published import available

    published = "\n".join(f"  {model} {name}" for model, name in available())
    usage = "MODEL DATASET --data=PATH [options] [--key=value ...]"
    command = Command("reproduce", usage, f"Settings with published numbers:\n{published}")
    command.place("model", "with published numbers, see below")
    command.place("dataset", "the paper's")
    command.option(
        "data",
        "PATH",
        "the official arrays: a .npz with train, valid, test (and item_emb), or a folder with train_list.npy, "
        "valid_list.npy, test_list.npy (and item_emb.npy); for sequential models a .txt with lines 'user item ...' "
        "or RecBole's .inter (also as .xz or .gz)",
    )
    command.option("seeds", "3", "three runs, with seeds 1, 2 and 3; or a list such as 7,8,9", default="3")
    command.option(
        "protocol",
        "official",
        "official: arrays as named, to compare with published numbers; time-proper: in the order of time; both. "
        "Sequential models have one only: leave-one-out",
    )
    command.option("out", "FILE", "also write the tables there")
    command.flag("debug", "a traceback instead of one line")
    return command


def main(words: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    command = parser()
    code = command.usage_asked(words, enough=len(words) > 1 and not any(word.startswith("-") for word in words[:2]))
    if code is not None:
        return code
    options, settings = command.read(words)
    if "seed" in settings:
        raise UsageError("--seed is not an option of reproduce; write --seeds=3 for seeds 1 to 3, --seeds=7, for 7")
    if options.out is not None and not Path(options.out).absolute().parent.is_dir():
        raise UsageError(f"--out={options.out} is not allowed; allowed: a file in a folder that is there")
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
    for each in setting.protocols if protocol == "both" else (protocol,):
        rows = reproduce.reproduce(model, name, options.data, seeds, each, dict(settings))
        tables.append(reproduce.markdown(setting, each, rows))
        print(f"\n{tables[-1]}\n", flush=True)
        if options.out is not None:
            atomic_write_text(options.out, "\n\n".join(tables) + "\n")
    return 0
