"""The official DiffRec splits (arrays of 0-based pairs) as RecBole's pre-split files.

The official code (https://github.com/YiyanXu/DiffRec, commit d35a6c6) chooses its epoch on the array that is named
``valid`` and reports the one named ``test``; the network is fed the train rows only, and at test the items of train
and valid are masked. RecBole does exactly that with ``benchmark_filename: [train, valid, test]``. In time, though, the
array ``test`` comes before ``valid``: a user's later items are left out of the candidates.
"""

from __future__ import annotations

from pathlib import Path
from typing import Union

import numpy as np

#: Which array is which of RecBole's parts (train, valid, test).
PROTOCOLS: dict[str, tuple[str, str, str]] = {
    "official": ("train", "valid", "test"),  # for comparison with published numbers
    "time-proper": ("train", "test", "valid"),  # the parts in the order of time
}
PARTS = ("train", "valid", "test")
HEADER = "user_id:token\titem_id:token\ttimestamp:float"


def write_split(file: Union[str, Path], folder: Union[str, Path], name: str, protocol: str = "official") -> Path:
    """Write ``folder/name/name.{train,valid,test}.inter``; the settings that read them are :func:`settings`.

    Args:
        file: a .npz with int arrays ``train``, ``valid``, ``test``, each (N, 2): user, item, both counted from 0, the
            rows of a user in the order of time.
        folder: what ``data_path`` will be.
        name: what ``dataset`` will be.
        protocol: one of :data:`PROTOCOLS`.

    Returns:
        ``folder/name``.

    Raises:
        ValueError: no such protocol.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol={protocol!r} is not allowed; allowed: {' | '.join(PROTOCOLS)}")
    target = Path(folder) / name
    target.mkdir(parents=True, exist_ok=True)
    with np.load(file) as arrays:
        for part, array in zip(PARTS, PROTOCOLS[protocol]):
            _write_pairs(target / f"{name}.{part}.inter", arrays[array])
    return target


def _write_pairs(file: Path, pairs: np.ndarray) -> None:
    """pairs: (N, 2). The row's number is its timestamp: the arrays hold an order in time, but no times."""
    rows = (f"{user}\t{item}\t{row}" for row, (user, item) in enumerate(pairs.tolist()))
    file.write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")


def settings(folder: Union[str, Path]) -> dict[str, object]:
    """The keys with which RecBole reads the files as they are."""
    return {"data_path": str(folder), "benchmark_filename": list(PARTS)}
