"""Official data as RecBole's files: the splits of the DiffRec family (arrays of pairs), and sequences.

The official code (https://github.com/YiyanXu/DiffRec, commit d35a6c6) chooses its epoch on the array that is named
``valid`` and reports the one named ``test``; the network is fed the train rows only, and at test the items of train
and valid are masked. RecBole does exactly that with ``benchmark_filename: [train, valid, test]``. In time, though, the
array ``test`` comes before ``valid``: a user's later items choose the epoch and are left out of the candidates.

Sequential models have files of sequences, one user a line, split by leaving one out.
"""

from __future__ import annotations

import gzip
import lzma
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Callable, Union

import numpy as np

from recbole_diffusion.support.atomic_write import atomic_write, atomic_write_text

#: Which array is which of RecBole's parts (train, valid, test).
PROTOCOLS: dict[str, tuple[str, str, str]] = {
    "official": ("train", "valid", "test"),  # for comparison with published numbers
    "time-proper": ("train", "test", "valid"),  # the parts in the order of time
}
PARTS = ("train", "valid", "test")
IN_TIME = ("train", "test", "valid")  # the arrays, earliest first
HEADER = "user_id:token\titem_id:token\ttimestamp:float"
EMBEDDINGS = "item_emb.npz"


def read_arrays(source: Union[str, Path]) -> dict[str, np.ndarray]:
    """``train``, ``valid``, ``test``: int (N, 2), users and items from 0; ``item_emb`` (n_items, d) where it is there.

    Args:
        source: a .npz with these arrays, or a folder with ``train_list.npy``, ``valid_list.npy``, ``test_list.npy``
            (and ``item_emb.npy``) as the official repository has them.

    Raises:
        ValueError: a file or an array that is missing, or that does not hold pairs of numbers from 0.
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
    for part in PARTS:
        array = arrays[part]
        if array.ndim != 2 or array.shape[1] != 2 or not np.issubdtype(array.dtype, np.integer):
            raise ValueError(f"{part} of {str(source)!r} must hold pairs of integers, got {array.dtype} {array.shape}")
        if len(array) and array.min() < 0:
            raise ValueError(f"{part} of {str(source)!r} holds negative numbers; users and items count from 0")
    if "item_emb" in arrays and arrays["item_emb"].ndim != 2:
        raise ValueError(f"item_emb of {str(source)!r} must be a table, got shape {arrays['item_emb'].shape}")
    return arrays


def load_arrays(file: Path) -> dict[str, np.ndarray]:
    """The arrays of a .npz by their names, that of a .npy by "".

    Raises:
        ValueError: the file holds none; numpy's own messages do not name it.
    """
    try:
        content = np.load(file)
        if isinstance(content, np.ndarray):
            return {"": content}
        with content:
            return {name: content[name] for name in content.files}
    except Exception as error:  # whatever numpy and zipfile make of a file that is something else
        raise ValueError(f"{str(file)!r} cannot be read as numpy's arrays: {error}") from error


def write_split(source: Union[str, Path], folder: Union[str, Path], name: str, protocol: str = "official") -> Path:
    """Write ``folder/name/name.{train,valid,test}.inter``; :func:`settings` are the keys that read them.

    The times in the files are the rows' numbers, parts in their true order, since the arrays hold an order in time but
    no times. Embeddings in the source become ``folder/name/item_emb.npz``, with the items' names, for the key
    ``pretrain``.

    Args:
        source: see :func:`read_arrays`; the rows of a user in the order of time.
        folder: what ``data_path`` will be.
        name: what ``dataset`` will be.
        protocol: one of :data:`PROTOCOLS`.

    Returns:
        ``folder/name``.

    Raises:
        ValueError: no such protocol, or a source that is not right; nothing is written then.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol={protocol!r} is not allowed; allowed: {' | '.join(PROTOCOLS)}")
    arrays = read_arrays(source)
    target = Path(folder) / name
    target.mkdir(parents=True, exist_ok=True)
    first, start = {}, 0
    for array in IN_TIME:
        first[array], start = start, start + len(arrays[array])
    for part, array in zip(PARTS, PROTOCOLS[protocol]):
        _write_pairs(target / f"{name}.{part}.inter", arrays[array], first[array])
    if "item_emb" in arrays:
        table = arrays["item_emb"]
        named = {"item": table.astype(np.float32), "item_token": np.arange(len(table)).astype(str)}
        atomic_write(target / EMBEDDINGS, lambda file: np.savez(file, **named))
    else:
        (target / EMBEDDINGS).unlink(missing_ok=True)  # of another source
    return target


def _write_pairs(file: Path, pairs: np.ndarray, first: int) -> None:
    rows = (f"{user}\t{item}\t{row}" for row, (user, item) in enumerate(pairs.tolist(), first))
    atomic_write_text(file, "\n".join([HEADER, *rows]) + "\n")


def settings(folder: Union[str, Path], name: str = "") -> dict[str, Any]:
    """The keys with which RecBole reads the files as they are; with ``name`` also the embeddings, if there are some."""
    keys: dict[str, Any] = {"data_path": str(folder), "benchmark_filename": list(PARTS)}
    embeddings = Path(folder) / name / EMBEDDINGS
    if name and embeddings.is_file():
        keys["pretrain"] = str(embeddings)
    return keys


#: Keys that split sequences as the sequential models' papers do: the last item for test, the one before for validation.
LEAVE_ONE_OUT: dict[str, Any] = {
    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full", "group_by": "user"},
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
}
_OPEN: dict[str, Callable[..., Any]] = {".xz": lzma.open, ".gz": gzip.open}


def read_sequences(source: Union[str, Path]) -> dict[str, list[str]]:
    """Each user's items in the order of time.

    Args:
        source: a .txt with lines ``user item item ...`` (S3-Rec, ICLRec, CDDRec), or RecBole's .inter, whose rows are
            sorted by time, equal times in the file's order; either may be packed as .xz or .gz.

    Raises:
        ValueError: another file, or one that does not hold that.
    """
    file = Path(source)
    packed = file.suffix in _OPEN
    kind = Path(file.stem).suffix if packed else file.suffix
    if not file.is_file() or kind not in {".txt", ".inter"}:
        raise ValueError(
            f"{str(source)!r} is neither a .txt of sequences nor RecBole's .inter (or one of them as .xz, .gz)"
        )
    try:
        with _OPEN.get(file.suffix, open)(file, "rt", encoding="utf-8") as lines:
            found = _of_lines(lines) if kind == ".txt" else _of_rows(lines)
    except (OSError, EOFError, lzma.LZMAError, UnicodeDecodeError) as error:
        raise ValueError(f"{str(source)!r} cannot be read: {error}") from error
    except ValueError as error:
        raise ValueError(f"{str(source)!r} {error}") from error
    if not found:
        raise ValueError(f"{str(source)!r} holds no sequence")
    return found


def _of_lines(lines: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        if len(words) < 2 or words[0] in found:
            raise ValueError(f"line {number} must be 'user item item ...', a user once; got {line.strip()[:40]!r}")
        found[words[0]] = words[1:]
    return found


def _of_rows(lines: Iterable[str]) -> dict[str, list[str]]:
    rows = iter(lines)
    fields = [field.split(":")[0] for field in next(rows, "").rstrip("\n").split("\t")]
    needed = ("user_id", "item_id", "timestamp")
    if not set(needed) <= set(fields):
        raise ValueError(f"must begin with the names of its columns, {', '.join(needed)} among them; got {fields}")
    user, item, time = (fields.index(name) for name in needed)
    timed: dict[str, list[tuple[float, str]]] = {}
    for number, line in enumerate(rows, 2):
        words = line.rstrip("\n").split("\t")
        try:
            moment, name = float(words[time]), words[item]
            if not (math.isfinite(moment) and words[user] and name):  # nan has no place in an order
                raise ValueError
            timed.setdefault(words[user], []).append((moment, name))
        except (IndexError, ValueError):
            raise ValueError(f"line {number} must hold {', '.join(fields)}; got {line.strip()[:40]!r}") from None
    return {name: [item for _, item in sorted(each, key=lambda one: one[0])] for name, each in timed.items()}


def write_sequences(source: Union[str, Path], folder: Union[str, Path], name: str) -> Path:
    """Write ``folder/name/name.inter``, for the keys of :data:`LEAVE_ONE_OUT`; times are places in the sequence.

    Returns ``folder/name``. Raises ValueError for a source that is not right; nothing is written then.
    """
    sequences = read_sequences(source)
    target = Path(folder) / name
    target.mkdir(parents=True, exist_ok=True)
    rows = [f"{user}\t{item}\t{place}" for user, items in sequences.items() for place, item in enumerate(items)]
    atomic_write_text(target / f"{name}.inter", "\n".join([HEADER, *rows]) + "\n")
    return target
