"""The command ``recbole-diffusion recommend``: the best items of users, to a file."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from recbole_diffusion.cli import option_names
from recbole_diffusion.cli.command import Command, integer

_EPILOG = """\
The names are those of the data's files. Equal scores are ordered by the model's ids.

examples:
  recbole-diffusion recommend outputs/DiffRec-.../checkpoint.pth -k 20 --out=top.csv
  recbole-diffusion recommend saved/SASRec-....pth --histories=visits.csv -k 5

--key=value             a setting that differs from the checkpoint's, such as --data_path or --gpu_id"""


def parser() -> Command:
    """Declare the arguments of the command."""
    command = Command("recommend", "CHECKPOINT [-k 10] [--users=all] [--out=FILE] [options]", _EPILOG)
    command.positional("checkpoint", "checkpoint of a run, outputs/RUN/checkpoint.pth")
    command.option(
        "users", "all", "all, names separated by commas, or a file: one name a line, or a table", default="all"
    )
    command.option("k", "10", "items of each list; -k 10 is the same", integer, 10)
    command.option(
        "out",
        "FILE",
        "a file that ends in .csv, .tsv or .parquet (a row per item), .json or .jsonl (an object per user)\n"
        "default: - for csv to the standard output",
        default="-",
    )
    command.option(
        "exclude",
        "train,valid",
        "splits whose items a user's list leaves out, or none\n"
        "default: train,valid; the lists then are those that the test evaluation ranks",
        default="train,valid",
    )
    command.option(
        "histories",
        "FILE",
        "score new users: a table with columns user, item and optionally time\n"
        "for models that score from a user's items: DiffRec and its family, EASE, ItemKNN, MultiVAE, sequential models",
    )
    command.option("items", "FILE", "items that may be recommended: names separated by commas, or a file; default: all")
    command.option(
        "samples",
        "1",
        "generations of a model that draws noise at inference; lists are ranked by the mean score",
        integer,
        1,
    )
    command.flag("skip-unknown", "leave out names in --users and --items that the data lack")
    command.flag("trust-checkpoint", "load a checkpoint that holds pickled objects; they can run code")
    command.flag("debug", "print the traceback of an error")
    return command


def main(words: Sequence[str]) -> int:
    """Run the command, and return the exit code."""
    command = parser()
    words = ["--k" + word[2:] if word == "-k" or word.startswith("-k=") else word for word in words]
    code = command.print_help_if_needed(words, complete=bool(words) and not words[0].startswith("-"))
    if code is not None:
        return code
    options, settings = command.read(words)
    option_names.check("recommend", settings)
    from recbole_diffusion import quick_start
    from recbole_diffusion.serving import output
    from recbole_diffusion.serving.recommendation import Recommender, Request

    output.check(options.out)
    loaded = quick_start.load(options.checkpoint, options.trust_checkpoint, dict(settings))
    request = Request(
        options.users,
        options.k,
        options.exclude,
        options.histories,
        options.items,
        options.samples,
        options.skip_unknown,
    )
    recommender = Recommender(loaded, request)
    for note in recommender.notes:
        print(note, file=sys.stderr)
    _write(recommender, options)
    return 0


def _write(recommender: Any, options: argparse.Namespace) -> None:
    """Write the lists and print how many there are, and how long it took."""
    from recbole_diffusion.serving import output
    from recbole_diffusion.serving.diversity import Diversity

    start, counts = time.perf_counter(), [0]
    diversity = Diversity(recommender.k, recommender.samples)
    output.write(options.out, diversity.watch(_with_bar(recommender, counts)))
    seconds = time.perf_counter() - start
    if recommender.samples > 1:
        print(diversity.sentence(), file=sys.stderr)
    where = "" if options.out == output.STDOUT else f" in {options.out}"
    print(f"{len(recommender)} users, {counts[0]} items{where}, {seconds:.1f} s", file=sys.stderr)


def _with_bar(recommender: Any, counts: list[int]) -> Iterator[Any]:
    """The batches, with a progress bar in a terminal; the number of items is added to ``counts``."""
    from tqdm import tqdm

    from recbole_diffusion.support import terminal

    shows = terminal.shows_progress(recommender.trained.config["show_progress"])
    with tqdm(total=len(recommender), disable=not shows, ncols=100, unit=" users", desc="Recommend") as bar:
        for batch in recommender.batches():
            counts[0] += int((batch.lists.items != 0).sum())
            yield batch
            bar.update(len(batch.lists.users))
