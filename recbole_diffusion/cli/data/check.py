"""The command ``recbole-diffusion data check``: load a data set as a run does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recbole_diffusion.cli.command import Command

_EPILOG = """\
Every column of every file is read and checked as a run reads it. Other --key=value are settings of the run, such as
--USER_ID_FIELD=uid or --val_interval="{rating: '[4,inf)'}"; rows that they drop are counted too.
exit code: 0 all rows are loaded; 1 rows are lost that no setting drops; 2 a file cannot be read"""


def parser() -> Command:
    """Declare the arguments of the command."""
    command = Command("data check", "NAME [--data_path=dataset] [--model=NAME] [--key=value ...]", _EPILOG)
    command.positional("name", "the data set")
    command.option("data_path", "FOLDER", "folder of the data sets; default: dataset", str, "dataset")
    command.option("model", "NAME", "model whose needs are checked too; default: BPR, for files of sequences SASRec")
    return command


def main(words: Sequence[str]) -> int:
    """Run the command, and return the exit code."""
    command = parser()
    code = command.print_help_if_needed(words, complete=bool(words) and not words[0].startswith("-"))
    if code is not None:
        return code
    options, settings = command.read(words)
    from recbole_diffusion.data.stored import files

    stored = files.find(options.name, options.data_path)
    lost = sum(_check(stored, options.model, dict(settings), parts) for parts in _part_groups(stored, settings))
    for name in files.changed_files(stored):
        print(f"warning: {name} is not the file that the card describes: it was changed after data import")
    return 1 if lost else 0


def _part_groups(stored: Any, settings: dict[str, str]) -> list[Any]:
    """What a run can read: the file of all interactions, and each complete set of pre-split files."""
    if "benchmark_filename" in settings:
        return [settings["benchmark_filename"]]
    parts, groups = stored.parts(), [None] if stored.inter.is_file() else []
    trains = [part for part in parts if "train" in part]
    triples = [[part.replace("train", name) for name in ("train", "valid", "test")] for part in trains]
    return [*groups, *(triple for triple in triples if {*triple} <= {*parts})] or [None]


def _check(stored: Any, model: Any, settings: dict[str, Any], parts: Any) -> int:
    """Load one group of files, print the account, and return the number of rows that are lost without a setting."""
    from recbole_diffusion import quick_start
    from recbole_diffusion.data import account, columns, pipeline
    from recbole_diffusion.data.stored import files
    from recbole_diffusion.training import run_folder

    keys: dict[str, Any] = {"load_col": None, "state": "ERROR", "data_path": _data_path(stored)}
    if parts is not None:
        keys["benchmark_filename"] = parts
    first = stored.inter if parts is None else stored.folder / f"{stored.name}.{parts[0]}.inter"
    is_list = isinstance(parts, list) and first.is_file() and "_list:" in first.read_text("utf-8", "replace")[:2000]
    if is_list:
        keys["seq_separator"] = files.list_separator(first)
    config = quick_start.configure(model or ("SASRec" if is_list else "BPR"), stored.name, None, {**keys, **settings})
    fields = columns.header(config, columns.interaction_files(config)[0]) or {}
    if parts is None and config["TIME_FIELD"] in fields and "eval_args" not in settings:
        keys["eval_args"] = {"order": "TO"}  # so that times are checked as where they decide
        config = quick_start.configure(config["model"], stored.name, None, {**keys, **settings})
    with run_folder.hide_known_warnings():
        dataset = pipeline.create_dataset(config)
    book = account.account_of(dataset)
    print(account.rows_line(book.plain()))
    others = {name: rows for name, rows in book.files.items() if ".inter" not in name}
    print("".join(f"{name}: {rows:,} rows\n" for name, rows in others.items()), end="")
    print(f"  {dataset.user_num - 1:,} users, {dataset.item_num - 1:,} items, {len(dataset.inter_feat):,} interactions")
    for note in dict.fromkeys([*config.notes, *book.notes]):
        print(f"  warning: {note}")
    return sum(entry.rows for entry in book.dropped if not entry.requested)


def _data_path(stored: Any) -> str:
    return "recbole" if stored.is_packaged else str(stored.folder.parent)
