"""The command ``recbole-diffusion data export``: a data set as csv, parquet or json lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recbole_diffusion.cli.command import Command
from recbole_diffusion.cli.option_names import UsageError


def parser() -> Command:
    """Declare the arguments of the command."""
    epilog = "Ids are the original ones, also where data import wrote escapes. data import reads the file again."
    command = Command("data export", "NAME --out=FILE [--times=numbers|iso]", epilog, settings=False)
    command.positional("name", "the data set")
    command.option("out", "FILE", "name.csv, .tsv, .jsonl or .parquet; text also packed: .csv.gz, .xz, .bz2")
    command.option("times", "numbers|iso", "times as the numbers that they are, or as ISO dates; default: numbers")
    command.option("data_path", "FOLDER", "folder of the data sets; default: dataset", str, "dataset")
    return command


def main(words: Sequence[str]) -> int:
    """Run the command, and return the exit code."""
    command = parser()
    has_out = any(word.partition("=")[0] == "--out" for word in words)
    code = command.print_help_if_needed(words, complete=has_out and not words[0].startswith("-"))
    if code is not None:
        return code
    options, _ = command.read(words)
    from recbole_diffusion.data.stored import exporting, files

    times = options.times or "numbers"
    if times not in exporting.TIMES:
        raise UsageError(f"--times={times} is not allowed; allowed: {' | '.join(exporting.TIMES)}")
    if not Path(options.out).absolute().parent.is_dir():
        raise UsageError(f"--out={options.out} is not allowed; allowed: a file in an existing folder")
    rows, columns = exporting.export(files.find(options.name, options.data_path), Path(options.out), times)
    print(f"{options.out}: {rows:,} rows; {', '.join(columns)}")
    return 0
