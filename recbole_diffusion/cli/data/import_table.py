"""The command ``recbole-diffusion data import``: a table becomes a data set."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any, Optional

from recbole_diffusion.cli.command import Command, integer

_EPILOG = """\
The table is text with any delimiter (csv, tsv, '::'), parquet, or json; also packed (.gz, .xz, .bz2, .zip).
It writes DATA_PATH/NAME/NAME.inter, with --items NAME.item, and the card NAME.card.json and NAME.card.md.
Rows are dropped in this order: without a value, --positive, --drop-duplicates, --min-user and --min-item.
Ids stay the text that they are. Rows keep their order. Times become seconds since 1970 (UTC).

examples:
  recbole-diffusion data import ratings.csv --name=shop --positive="rating >= 4" --min-user=5 --min-item=5
  recbole-diffusion data import ratings.dat --name=ml-1m --user=1 --item=2 --rating=3 --time=4
  recbole-diffusion data import reviews.jsonl.gz --name=beauty --item=parent_asin --items=meta.jsonl.gz"""


def yes_or_no(text: str) -> bool:
    """Convert ``yes`` or ``no``, for :meth:`Command.option`."""
    words = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False, "none": False}
    if text.lower() not in words:
        raise argparse.ArgumentTypeError("yes or no")
    return words[text.lower()]


def parser() -> Command:
    """Declare the arguments of the command."""
    command = Command("data import", "FILE --name=NAME [options]", _EPILOG, settings=False)
    command.positional("file", "the table of interactions")
    command.option("name", "NAME", "name of the new data set")
    command.option("user", "COLUMN", "column of the users; default: guessed by its name, and printed")
    command.option("item", "COLUMN", "column of the items")
    command.option("rating", "COLUMN", "column of the ratings; none: leave it out")
    command.option("time", "COLUMN", "column of the times; none: leave it out")
    command.option("positive", "CONDITION", "rows to keep: 'rating >= 4', 'rating between 4 and 5', 'event == buy'")
    command.option(
        "drop-duplicates", "last|first|none", "row to keep of a (user, item) pair; default: none", str, "none"
    )
    command.option("min-user", "N", "least number of rows of a user (k-core)", integer, 0)
    command.option("min-item", "N", "least number of rows of an item (k-core)", integer, 0)
    command.option(
        "columns", "A,B:TYPE", "other columns to write; '*' for all; types: token, float, token_seq, float_seq"
    )
    command.option("time-unit", "UNIT", "unit of the times: s, ms, us, ns; raw: as they are; default: recognised")
    command.option("time-format", "FORMAT", "form of dates, e.g. %d/%m/%Y; default: recognised where one form fits")
    command.option("missing", "A,B", "texts that stand for missing values, beside the empty one")
    command.option("items", "FILE", "table about the items, which becomes NAME.item; lists are split at '|'")
    command.option("item-id", "COLUMN", "column of the ids in --items; default: guessed")
    command.option("item-columns", "A,B:TYPE", "columns of --items to write; default: all")
    command.option("delimiter", "CHARACTER", "between the cells; tab, comma, '::' and others; default: recognised")
    command.option("header", "yes|no", "whether the first line names the columns; default: recognised", yes_or_no)
    command.option("quotes", "yes|no", 'whether "…" encloses cells; default: yes, but not with tabs or ::', yes_or_no)
    command.option("encoding", "NAME", "encoding of text; default: utf-8")
    command.option("data_path", "FOLDER", "folder of the data sets; default: dataset", str, "dataset")
    command.flag("overwrite", "replace a data set of that name")
    return command


def main(words: Sequence[str]) -> int:
    """Run the command, and return the exit code."""
    command = parser()
    has_name = any(word.partition("=")[0] == "--name" for word in words)
    code = command.print_help_if_needed(words, complete=has_name and not words[0].startswith("-"))
    if code is not None:
        return code
    options, _ = command.read(words)
    from recbole_diffusion.data.importing import importer, sources
    from recbole_diffusion.data.importing.request import Request

    start = time.perf_counter()
    form = sources.Form(options.delimiter, options.header, options.quotes, options.encoding)
    imported = importer.import_file(options.file, Request(**_request(options)), form, options.items)
    print(imported.summary())
    place = "" if options.data_path == "dataset" else f" --data_path={options.data_path}"
    print(f"{time.perf_counter() - start:.1f} s; run it with")
    print(f"  recbole-diffusion run --model=DiffRec --dataset={imported.name}{place}")
    return 0


def _request(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of :class:`recbole_diffusion.data.importing.request.Request`."""
    same = ["name", "user", "item", "rating", "time", "positive", "drop_duplicates", "min_user", "min_item"]
    same += ["time_unit", "time_format", "item_id", "data_path", "overwrite"]
    request = {key: getattr(options, key) for key in same}
    request["columns"] = _listed(options.columns) or ()
    request["item_columns"] = _listed(options.item_columns)
    request["missing"] = frozenset(_listed(options.missing) or ())
    return request


def _listed(text: Optional[str]) -> Optional[list[str]]:
    return None if text is None else [word.strip() for word in text.split(",") if word.strip()]
