"""The command ``recbole-diffusion data split``: train, valid and test files of a data set."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from typing import Any, Optional

from recbole_diffusion.cli.command import Command, integer
from recbole_diffusion.cli.option_names import UsageError

_EPILOG = """\
It writes NAME.train.inter, NAME.valid.inter, NAME.test.inter for general models, and NAME.train-seq.inter, … for
sequential ones, in which each row has the list of its earlier items; and NAME.split.json with counts and hashes.
  ratio          a user's first rows in time for train, the last ones for test (--order=random: drawn)
  leave-one-out  a user's last row for test, the one before for valid
  time           rows before one point in time for train, the last ones of all users for test
  cold-items     items of valid and test are in no row of train
  cold-users     users of valid and test are in no row of train"""


def parser() -> Command:
    """Declare the arguments of the command."""
    command = Command("data split", "NAME --by=WAY [options]", _EPILOG, settings=False)
    command.positional("name", "the data set")
    command.option("by", "WAY", "ratio, leave-one-out, time, cold-items or cold-users")
    command.option("ratio", "0.8,0.1,0.1", "shares of train, valid and test", _shares, (0.8, 0.1, 0.1))
    command.option("order", "time|random", "for ratio; default: time", str, "time")
    command.option("seed", "N", "seed of what is drawn; default: 0", integer, 0)
    command.option("valid-from", "TIME", "for time: first time of valid, a number or an ISO date; default: by --ratio")
    command.option("test-from", "TIME", "for time: first time of test")
    command.option("form", "both|general|sequential", "which files; default: both", str, "both")
    command.option("max-length", "N", "most items in a list of train; default: 50", integer, 50)
    command.option("label", "WORD", "beginning of the parts' names, for several splits of one data set", str, "")
    command.option("data_path", "FOLDER", "folder of the data sets; default: dataset", str, "dataset")
    command.flag("overwrite", "replace files of these names")
    return command


def main(words: Sequence[str]) -> int:
    """Run the command, and return the exit code."""
    command = parser()
    has_way = any(word.partition("=")[0] == "--by" for word in words)
    code = command.print_help_if_needed(words, complete=has_way and not words[0].startswith("-"))
    if code is not None:
        return code
    options, _ = command.read(words)
    from recbole_diffusion.data.importing import atomic_output
    from recbole_diffusion.data.stored import files, split_files

    if options.label:
        atomic_output.check_name(options.label, "label")
    stored = files.find(options.name, options.data_path)
    written = split_files.write(
        stored,
        _way(options),
        options.data_path,
        options.label,
        options.form,
        options.max_length,
        options.overwrite,
    )
    print(f"{written.folder}: {stored.name} by {options.by}")
    print("\n".join(written.lines))
    for form, parts in written.parts.items():
        print(f"{form} models: recbole-diffusion run {_run_words(form, parts, written, options)}")
    return 0


def _way(options: argparse.Namespace) -> Any:
    from recbole_diffusion.data.stored.splitting import Way

    if options.order not in {"time", "random"}:
        raise UsageError(f"--order={options.order} is not allowed; allowed: time | random")
    if options.order == "random" and options.by != "ratio":
        raise UsageError("--order is for --by=ratio")
    if (options.valid_from or options.test_from) and options.by != "time":
        raise UsageError("--valid-from and --test-from are for --by=time")
    start, end = _time(options.valid_from), _time(options.test_from)
    return Way(options.by, options.ratio, options.order == "random", options.seed, start, end)


def _run_words(form: str, parts: Sequence[str], written: Any, options: argparse.Namespace) -> str:
    words = [f"--model={'DiffRec' if form == 'general' else 'SASRec'}", f"--dataset={options.name}"]
    words.append(f"--benchmark_filename=[{','.join(parts)}]")
    if form == "sequential":
        words.append("--train_neg_sample_args=null")
        words += [f"--seq_separator={written.separator}"] if written.separator != " " else []
    if options.data_path != "dataset":
        words.append(f"--data_path={options.data_path}")
    return " ".join(map(shlex.quote, words))


def _shares(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(share) for share in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError("three shares, e.g. 0.8,0.1,0.1") from None


def _time(text: Optional[str]) -> Optional[float]:
    """Seconds since 1970, from a number or an ISO date."""
    if text is None:
        return None
    from recbole_diffusion.data.importing import times
    from recbole_diffusion.data.importing.coded import code
    from recbole_diffusion.data.importing.table import Table

    read = times.to_times(Table("the command line", "", {"time": code([text])}, rows=1), "time", "raw")
    return float(read.column.values[0])
