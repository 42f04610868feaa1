"""Conversion of published data to RecBole's files: the splits of the DiffRec family (arrays of pairs), and sequences.

The official code (https://github.com/YiyanXu/DiffRec, commit d35a6c6) chooses its epoch on the array ``valid`` and
reports the array ``test``. The network's input is the train rows only, and at test the items of train and valid are
masked. RecBole does the same with ``benchmark_filename: [train, valid, test]``. Chronologically, however, the array
``test`` precedes ``valid``: a user's later items choose the epoch and are masked at test.

The published data of sequential models are files of sequences, one user a line, for a leave-one-out split.
"""

from __future__ import annotations

import io
import lzma
import math
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Union

import numpy as np

from recbole_diffusion.data import sequence_pickles
from recbole_diffusion.support import npz_files
from recbole_diffusion.support.atomic_folder import replace_files
from recbole_diffusion.support.atomic_write import atomic_write, atomic_write_text
from recbole_diffusion.support.bounded_read import TooLarge, unpack

#: The arrays that become RecBole's train, valid and test splits.
PROTOCOLS: dict[str, tuple[str, str, str]] = {
    "official": ("train", "valid", "test"),  # for comparison with published numbers
    "time-proper": ("train", "test", "valid"),  # the splits in chronological order
}
PARTS = ("train", "valid", "test")
IN_TIME = ("train", "test", "valid")  # the arrays in chronological order
HEADER = "user_id:token\titem_id:token\ttimestamp:float"
EMBEDDINGS = "item_emb.npz"


def read_arrays(source: Union[str, Path]) -> dict[str, np.ndarray]:
    """Read a published split.

    Args:
        source: a .npz with these arrays, or a folder with ``train_list.npy``, ``valid_list.npy``, ``test_list.npy``
            (and ``item_emb.npy``) as in the official repository.

    Returns:
        ``train``, ``valid``, ``test``: users and items from 0, int (N, 2). ``item_emb`` if it exists: (n_items, d).

    Raises:
        ValueError: a file or an array is missing, or does not hold pairs of integers from 0.
    """
    source = Path(source)
    if source.is_dir():
        files = {part: source / f"{part}_list.npy" for part in PARTS} | {"item_emb": source / "item_emb.npy"}
        arrays = {name: load_arrays(file)[""] for name, file in files.items() if file.is_file()}
    elif source.is_file() and source.suffix == ".npz":
        arrays = load_arrays(source)
    else:
        raise ValueError(f"{str(source)!r} is neither a .npz file nor a folder with train_list.npy and the others")
    missing = [part for part in PARTS if part not in arrays]
    if missing:
        raise ValueError(f"{str(source)!r} lacks the array {missing[0]!r}; needed: {', '.join(PARTS)}")
    _check_arrays(arrays, source)
    return arrays


def _check_arrays(arrays: dict[str, np.ndarray], source: Path) -> None:
    """Check types and shapes of the arrays.

    Raises:
        ValueError: an array does not hold pairs of integers from 0, or the embeddings are not a matrix.
    """
    for part in PARTS:
        array = arrays[part]
        if array.ndim != 2 or array.shape[1] != 2 or not np.issubdtype(array.dtype, np.integer):
            raise ValueError(f"{part} of {str(source)!r} must hold pairs of integers, got {array.dtype} {array.shape}")
        if len(array) and array.min() < 0:
            raise ValueError(f"{part} of {str(source)!r} holds negative numbers; users and items count from 0")
    if "item_emb" in arrays and arrays["item_emb"].ndim != 2:
        raise ValueError(f"item_emb of {str(source)!r} must be a table, got shape {arrays['item_emb'].shape}")


def load_arrays(file: Path) -> dict[str, np.ndarray]:
    """Read the arrays of a .npz by name; the one of a .npy has the name "".

    Raises:
        ValueError: the file cannot be read; unlike numpy's message it names the file.
    """
    try:
        return npz_files.read(file)
    except (OSError, ValueError) as error:
        raise ValueError(f"{str(file)!r} cannot be read as numpy's arrays: {error}") from error


def write_split(source: Union[str, Path], folder: Union[str, Path], name: str, protocol: str = "official") -> Path:
    """Write ``folder/name/name.{train,valid,test}.inter``; :func:`settings` returns the settings to read them.

    The arrays are in chronological order but hold no times. The timestamps in the files are therefore row numbers,
    which continue from array to array in chronological order. Embeddings in the source are written to
    ``folder/name/item_emb.npz``, with the items' names, for the setting ``pretrain``.

    Args:
        source: see :func:`read_arrays`; the rows of a user in chronological order.
        folder: the value for ``data_path``.
        name: the value for ``dataset``.
        protocol: one of :data:`PROTOCOLS`.

    Returns:
        ``folder/name``.

    Raises:
        ValueError: an unknown protocol, or a source that :func:`read_arrays` rejects; nothing is written then.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol={protocol!r} is not allowed; allowed: {' | '.join(PROTOCOLS)}")
    arrays = read_arrays(source)
    target = Path(folder) / name
    obsolete = () if "item_emb" in arrays else (EMBEDDINGS,)  # left by another source
    first_times, time = {}, 0
    for array in IN_TIME:
        first_times[array], time = time, time + len(arrays[array])
    with replace_files(target, obsolete=lambda _: obsolete) as stage:
        for part, array in zip(PARTS, PROTOCOLS[protocol]):
            _write_pairs(stage / f"{name}.{part}.inter", arrays[array], first_times[array])
        if "item_emb" in arrays:
            table = arrays["item_emb"]
            content = {"item": table.astype(np.float32), "item_token": np.arange(len(table)).astype(str)}
            atomic_write(stage / EMBEDDINGS, lambda file: np.savez(file, **content))
    return target


def _write_pairs(file: Path, pairs: np.ndarray, first_time: int) -> None:
    """Write (user, item) pairs with consecutive timestamps from ``first_time``."""
    rows = (f"{user}\t{item}\t{time}" for time, (user, item) in enumerate(pairs.tolist(), first_time))
    atomic_write_text(file, "\n".join([HEADER, *rows]) + "\n")


def settings(folder: Union[str, Path], name: str = "") -> dict[str, Any]:
    """The settings for RecBole to read the files of :func:`write_split`; with ``name`` also for their embeddings."""
    keys: dict[str, Any] = {"data_path": str(folder), "benchmark_filename": list(PARTS)}
    embeddings = Path(folder) / name / EMBEDDINGS
    if name and embeddings.is_file():
        keys["pretrain"] = str(embeddings)
    return keys


#: Settings of the leave-one-out split: a user's last item for test, the one before for validation.
LEAVE_ONE_OUT: dict[str, Any] = {
    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full", "group_by": "user"},
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
}
_PACKED = (".xz", ".gz")


def read_sequences(source: Union[str, Path]) -> dict[str, list[str]]:
    """Read each user's items in chronological order.

    Args:
        source: a .txt with lines ``user item item ...`` (S3-Rec, ICLRec, CDDRec), or RecBole's .inter, whose rows are
            sorted by time with a stable sort; either may be compressed as .xz or .gz. Or the ``dataset.pkl`` of
            DiffuRec, FMRec and ADRec.

    Returns:
        The item names by user name.

    Raises:
        ValueError: a file of another kind, or with other content.
    """
    file = Path(source)
    compressed = file.suffix in _PACKED
    kind = Path(file.stem).suffix if compressed else file.suffix
    if not file.is_file() or kind not in {".txt", ".inter", ".pkl"} or (compressed and kind == ".pkl"):
        raise ValueError(
            f"{str(source)!r} is neither a .txt of sequences nor RecBole's .inter (or one of them as .xz, .gz), "
            "nor the dataset.pkl of DiffuRec, FMRec or ADRec"
        )
    try:
        sequences = sequence_pickles.read(file) if kind == ".pkl" else _read_lines(file, kind)
    except (OSError, EOFError, lzma.LZMAError, zlib.error, TooLarge, UnicodeDecodeError) as error:
        raise ValueError(f"{str(source)!r} cannot be read: {error}") from error
    except ValueError as error:
        raise ValueError(f"{str(source)!r} {error}") from error
    if not sequences:
        raise ValueError(f"{str(source)!r} holds no sequence")
    return sequences


def _read_lines(file: Path, kind: str) -> dict[str, list[str]]:
    """Read the sequences of a text file: ``.txt`` or ``.inter``, which may be compressed."""
    raw = file.read_bytes()
    content = io.BytesIO(unpack(raw, packed=True) if file.suffix in _PACKED else raw)
    with io.TextIOWrapper(content, encoding="utf-8") as lines:
        return _parse_sequences(lines) if kind == ".txt" else _parse_interactions(lines)


def _parse_sequences(lines: Iterable[str]) -> dict[str, list[str]]:
    """Parse lines ``user item item ...``."""
    sequences: dict[str, list[str]] = {}
    for number, line in enumerate(lines, 1):
        names = line.split()
        if not names:
            continue
        if len(names) < 2 or names[0] in sequences:
            raise ValueError(f"line {number} must be 'user item item ...', a user once; got {line.strip()[:40]!r}")
        sequences[names[0]] = names[1:]
    return sequences


def _parse_interactions(lines: Iterable[str]) -> dict[str, list[str]]:
    """Parse the lines of an ``.inter`` file and sort each user's items by time."""
    rows = iter(lines)
    fields = [field.split(":")[0] for field in next(rows, "").rstrip("\n").split("\t")]
    needed = ("user_id", "item_id", "timestamp")
    if not set(needed) <= set(fields):
        raise ValueError(f"must begin with the names of its columns, {', '.join(needed)} among them; got {fields}")
    user, item, time = (fields.index(name) for name in needed)
    timed: dict[str, list[tuple[float, str]]] = {}
    for number, line in enumerate(rows, 2):
        values = line.rstrip("\n").split("\t")
        try:
            timestamp, item_name = float(values[time]), values[item]
            if not (math.isfinite(timestamp) and values[user] and item_name):  # nan does not compare
                raise ValueError
            timed.setdefault(values[user], []).append((timestamp, item_name))
        except (IndexError, ValueError):
            raise ValueError(f"line {number} must hold {', '.join(fields)}; got {line.strip()[:40]!r}") from None
    return {
        user_name: [item_name for _, item_name in sorted(pairs, key=lambda pair: pair[0])]
        for user_name, pairs in timed.items()
    }


def write_sequences(source: Union[str, Path], folder: Union[str, Path], name: str) -> Path:
    """Write ``folder/name/name.inter``, for the settings of :data:`LEAVE_ONE_OUT`; timestamps are positions.

    Args:
        source: see :func:`read_sequences`.
        folder: the value for ``data_path``.
        name: the value for ``dataset``.

    Returns:
        ``folder/name``.

    Raises:
        ValueError: a source that :func:`read_sequences` rejects; nothing is written then.
    """
    sequences = read_sequences(source)
    target = Path(folder) / name
    target.mkdir(parents=True, exist_ok=True)
    rows = [f"{user}\t{item}\t{place}" for user, items in sequences.items() for place, item in enumerate(items)]
    atomic_write_text(target / f"{name}.inter", "\n".join([HEADER, *rows]) + "\n")
    return target
