"""Pre-split files for ``benchmark_filename``: rows for general models, lists of items for sequential ones."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recbole_diffusion.data.importing import atomic_output, card
from recbole_diffusion.data.stored import describing, files
from recbole_diffusion.data.stored.files import AtomicTable, StoredSet
from recbole_diffusion.data.stored.splitting import LEFT_OUT, PARTS, Rows, Split, Way, split
from recbole_diffusion.support.atomic_folder import replace_files

FORMS = ("both", "general", "sequential")
#: Separators of item lists, RecBole's default first; the first that is in no name of an item is used.
_SEPARATORS = (" ", "|", ",", ";", "~", "^", "\x1e")


class Written(NamedTuple):
    """What a split wrote.

    Attributes:
        folder: its folder.
        parts: the names for ``benchmark_filename`` by form.
        separator: ``seq_separator`` of the item lists.
        lines: the counts and notes.
    """

    folder: Path
    parts: dict[str, list[str]]
    separator: str
    lines: list[str]


def write(
    stored: StoredSet,
    way: Way,
    data_path: str = "dataset",
    label: str = "",
    form: str = "both",
    max_length: int = 50,
    overwrite: bool = False,
) -> Written:
    """Split a data set and write the files.

    Args:
        stored: the data set, with one file of all interactions.
        way: how to split.
        data_path: where the files go if the data set is an example of RecBole's, whose own folder stays as it is.
        label: beginning of the parts' names, so that a data set can have several splits.
        form: one of :data:`FORMS`.
        max_length: most earlier items in a list of a train row; lists of valid and test are whole.
        overwrite: replace files of these names.

    Raises:
        ValueError: no file of all interactions; rows without a user or an item; files that exist.
    """
    if not stored.inter.is_file():
        raise ValueError(f"{stored.inter} is not there; only a file of all interactions can be split")
    if form not in FORMS:
        raise ValueError(f"--form={form} is not allowed; allowed: {' | '.join(FORMS)}")
    if max_length < 1:
        raise ValueError(f"--max-length={max_length} is not allowed; allowed: 1 or more")
    table = files.read(stored.inter)
    rows = _rows(table)
    result = split(rows, way)
    folder = describing.written_folder(stored, data_path)
    parts = _part_names(label, form)
    _check_free(folder, stored.name, parts, overwrite)
    separator, hashes, notes = " ", {}, list(result.notes)
    with replace_files(folder, lambda: _check_free(folder, stored.name, parts, overwrite)) as stage:
        _copy_packaged(stored, stage)
        if "general" in parts:
            hashes.update(_write_general(table, result, stage, stored.name, parts["general"]))
        if "sequential" in parts:
            separator = _separator(table)
            written, more = _write_sequences(
                table, rows, result, stage, stored.name, parts["sequential"], separator, max_length
            )
            hashes.update(written)
            notes += more
        counts = _counts(rows, result)
        if rows.times is None:
            notes.append("the data set has no times: the order of the file's lines is taken for that of time")
        facts = {"split": way._asdict(), "seq_separator": separator, "counts": counts, "notes": notes, "files": hashes}
        _write_card(stage, stored, label, facts)
    return Written(folder, parts, separator, [*_count_lines(counts), *(f"note: {note}" for note in notes)])


def _part_names(label: str, form: str) -> dict[str, list[str]]:
    prefix = f"{label}-" if label else ""
    forms = ("general", "sequential") if form == "both" else (form,)
    suffix = {"general": "", "sequential": "-seq"}
    return {name: [f"{prefix}{part}{suffix[name]}" for part in PARTS] for name in forms}


def _rows(table: AtomicTable) -> Rows:
    users, items, times = table.codes("user"), table.codes("item"), table.numbers("time")
    missing = int(((users < 0) | (items < 0)).sum())
    if missing:
        raise ValueError(f"{table.path}: {missing} rows have no user or no item; take them out before it is split")
    if times is not None and np.isnan(times).any():
        raise ValueError(
            f"{table.path}: {int(np.isnan(times).sum())} rows have no time; take them out before it is split"
        )
    order = np.arange(len(users)) if times is None else np.argsort(times, kind="stable")
    return Rows(users, items, order, times)


def _check_free(folder: Path, name: str, parts: dict[str, list[str]], overwrite: bool) -> None:
    present = [f"{name}.{part}.inter" for group in parts.values() for part in group]
    present = [file for file in present if (folder / file).exists()]
    if present and not overwrite:
        raise ValueError(f"{folder} holds {', '.join(present)}; --overwrite replaces them, --label=WORD writes others")


def _copy_packaged(stored: StoredSet, folder: Path) -> None:
    """Copy an example data set of RecBole's, since a run reads all files of a data set from one folder."""
    if stored.is_packaged:
        for file in stored.files():
            shutil.copyfile(file, folder / file.name)


def _write_general(table: AtomicTable, result: Split, folder: Path, name: str, parts: Sequence[str]) -> dict[str, str]:
    """Write the rows of each part with all their columns, in the order of the file."""
    texts = {f"{entry.name}:{entry.type}": table.table.columns[entry.name].filled("") for entry in table.entries}
    hashes = {}
    for number, part in enumerate(parts):
        chosen = result.parts == number
        file = f"{name}.{part}.inter"
        hashes[file] = atomic_output.write_file(
            folder / file, {entry: column[chosen] for entry, column in texts.items()}
        )
    return hashes


def _separator(table: AtomicTable) -> str:
    """A separator that is in no name of an item."""
    characters = {*"".join(table.table.columns[table.fields["item"]].values)}
    separator = next((mark for mark in _SEPARATORS if mark not in characters), None)
    if separator is None:
        raise ValueError(
            f"{table.path}: the names of the items hold all separators of lists; rename them, or --form=general"
        )
    return separator


def _write_sequences(
    table: AtomicTable,
    rows: Rows,
    result: Split,
    folder: Path,
    name: str,
    parts: Sequence[str],
    separator: str,
    max_length: int,
) -> tuple[dict[str, str], list[str]]:
    """Write the rows of each part with the items before them; rows without any are left out."""
    items = table.text("item")
    targets, lists = _sequences(rows, result, items, separator, max_length)
    fields = {role: table.fields[role] for role in ("user", "item", "time") if role in table.fields}
    types = {"user": "token", "item": "token", "time": "float"}
    texts = {f"{field}:{types[role]}": table.text(role) for role, field in fields.items()}
    if rows.times is not None and any(
        entry.name == fields["time"] and entry.type == "token" for entry in table.entries
    ):
        texts = {
            entry.replace(f"{fields['time']}:float", f"{fields['time']}:token"): value for entry, value in texts.items()
        }
    hashes, left_out = {}, []
    for number, part in enumerate(parts):
        columns = {entry: column[targets[number]] for entry, column in texts.items()}
        columns[f"{fields['item']}_list:token_seq"] = np.array(lists[number], dtype=object)
        file = f"{name}.{part}.inter"
        hashes[file] = atomic_output.write_file(folder / file, columns)
        left_out.append(int((result.parts == number).sum()) - len(targets[number]))
    notes = [
        f"sequences: {', '.join(f'{count:,} rows of {part}' for count, part in zip(left_out, PARTS))} have no earlier "
        f"item and are in lists only; lists of train hold the last {max_length} items (--max-length)"
    ]
    return hashes, notes


def _sequences(
    rows: Rows, result: Split, items: np.ndarray, separator: str, max_length: int
) -> tuple[list[np.ndarray], list[list[str]]]:
    """The target rows of each part and the text of their lists of earlier items.

    Returns:
        For each part the rows, int64, and their lists, in order of users and time.
    """
    targets: list[list[int]] = [[], [], []]
    lists: list[list[str]] = [[], [], []]
    order = rows.order[np.argsort(rows.users[rows.order], kind="stable")]
    for group in np.split(order, np.flatnonzero(np.diff(rows.users[order])) + 1):
        group_parts = result.parts[group]
        for part, history in enumerate(result.history):
            earlier: list[str] = []
            for row, row_part in zip(group.tolist(), group_parts.tolist()):
                if row_part == part and earlier:
                    targets[part].append(row)
                    lists[part].append(separator.join(earlier[-max_length:] if part == 0 else earlier))
                if row_part in history:
                    earlier.append(items[row])
    return [np.array(rows_of_part, dtype=np.int64) for rows_of_part in targets], lists


def _counts(rows: Rows, result: Split) -> dict[str, dict[str, int]]:
    cold_users, cold_items = (describing.overlap(result.parts, codes) for codes in (rows.users, rows.items))
    counts = {}
    for number, part in enumerate(PARTS):
        chosen = result.parts == number
        counts[part] = {
            "rows": int(chosen.sum()),
            "users": len(np.unique(rows.users[chosen])),
            "items": len(np.unique(rows.items[chosen])),
            "users_not_in_train": cold_users[number],
            "items_not_in_train": cold_items[number],
        }
    counts["left out"] = {"rows": int((result.parts == LEFT_OUT).sum())}
    return counts


def _count_lines(counts: dict[str, dict[str, int]]) -> list[str]:
    lines = [
        f"{part:6} {entry['rows']:>10,} rows, {entry['users']:,} users ({entry['users_not_in_train']:,} not in train), "
        f"{entry['items']:,} items ({entry['items_not_in_train']:,} not in train)"
        for part, entry in counts.items()
        if part in PARTS
    ]
    return [*lines, f"{counts['left out']['rows']:,} rows left out"] if counts["left out"]["rows"] else lines


def _write_card(folder: Path, stored: StoredSet, label: str, facts: dict[str, Any]) -> None:
    """Write ``<name>.split.json``, with a label ``<name>.<label>-split.json``."""
    content = {
        "format": card.FORMAT,
        "name": stored.name,
        **card.stamp(),
        "source": {"name": stored.inter.name, "sha256": files.sha256(stored.inter)},
        **facts,
    }
    card.write_json(folder / f"{stored.name}.{label + '-' if label else ''}split.json", content)
