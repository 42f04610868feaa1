"""Categories of the items, e.g. genres, read from the ``.item`` file for metrics.

RecBole is not asked to load the column: with an ``.item`` file it drops interactions of items that the file lacks, and
counts items that only the file has. So the metrics change neither the data nor the split.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np

from recbole_diffusion.data import columns

#: Names of the column, in the order in which they are tried where ``item_category_field`` is None.
GUESSES = ("class", "genre", "genres", "category", "categories")
_TYPES = ("token", "token_seq")


class Categories(NamedTuple):
    """The categories of the items.

    Attributes:
        pairs: (item, category) ids, each pair once, int64, (n_pairs, 2); categories count from 0.
        names: the names of the categories, str, (n_categories,).
        field: the column that they were read from.
    """

    pairs: np.ndarray
    names: np.ndarray
    field: str

    def matrix(self, n_items: int) -> Any:
        """Items by categories, 0 and 1; scipy's csr_matrix, float64, (n_items, n_categories)."""
        from scipy import sparse

        items, categories = self.pairs.T
        return sparse.csr_matrix((np.ones(len(items)), (items, categories)), shape=(n_items, len(self.names)))

    def describe(self, n_items: int) -> str:
        """A line such as ``categories from the column 'class': 18, of 1682 of 1682 items``.

        Args:
            n_items: number of item ids, with the padding id.
        """
        with_category = len(np.unique(self.pairs[:, 0]))
        return (
            f"categories from the column {self.field!r}: {len(self.names)}, of {with_category} of {n_items - 1} items"
        )


def file_of(config: Any) -> Path:
    """The path of the ``.item`` file."""
    return Path(config["data_path"]) / f"{config['dataset']}.item"


def find_column(config: Any) -> Optional[str]:
    """The column of the categories: ``item_category_field``, or the first of :data:`GUESSES` that the file has.

    Returns:
        None if the file or such a column does not exist.

    Raises:
        ValueError: ``item_category_field`` names a column that does not exist or that holds no names.
    """
    fields = columns.header(config, file_of(config)) or {}
    field = config["item_category_field"]
    if field is None:
        names = {name.lower(): name for name, kind in fields.items() if kind in _TYPES}
        return next((names[guess] for guess in GUESSES if guess in names), None)
    if fields.get(field) not in _TYPES:
        has = f"has {', '.join(f'{name}:{kind}' for name, kind in fields.items())}" if fields else "is not there"
        raise ValueError(
            f"item_category_field={field!r} is not allowed; allowed: a column of type token or token_seq; "
            f"{file_of(config).name} {has}"
        )
    return str(field)


def read(config: Any, dataset: Any) -> Optional[Categories]:
    """Read the categories of the items of a data set.

    Args:
        config: of the run.
        dataset: RecBole's, whose item ids are used. Items of the file that it does not have are skipped.

    Returns:
        None if there is no column of categories, see :func:`find_column`.
    """
    field = find_column(config)
    if field is None:
        return None
    names, values = _two_columns(config, dataset.iid_field, field)
    is_list = (columns.header(config, file_of(config)) or {})[field] == "token_seq"
    ids = {name: number for number, name in enumerate(dataset.field2id_token[dataset.iid_field]) if number}
    pairs: set[tuple[int, str]] = set()
    for name, value in zip(names, values):
        if name in ids:
            tokens = value.split(config["seq_separator"]) if is_list else [value]
            pairs.update((ids[name], token.strip()) for token in tokens if token.strip())
    categories = sorted({token for _, token in pairs})
    numbers = {token: number for number, token in enumerate(categories)}
    coded = sorted((item, numbers[token]) for item, token in pairs)
    return Categories(np.array(coded, dtype=np.int64).reshape(-1, 2), np.array(categories, dtype=str), field)


def _two_columns(config: Any, item_field: str, field: str) -> tuple[list[str], list[str]]:
    """The names of the items and the texts of the categories, line by line.

    Raises:
        ValueError: the file has no column of the items.
    """
    import pandas as pd

    file = file_of(config)
    fields = columns.header(config, file) or {}
    if item_field not in fields:
        raise ValueError(f"{file.name} has no column {item_field!r}, which names the items; it has {', '.join(fields)}")
    table = pd.read_csv(
        file,
        sep=config["field_separator"],
        names=list(fields),
        skiprows=1,
        usecols=[item_field, field],
        dtype=str,
        keep_default_na=False,
        quoting=csv.QUOTE_NONE,
        encoding=config["encoding"] or "utf-8",
        engine="python" if len(config["field_separator"]) > 1 else "c",
    )
    return table[item_field].tolist(), table[field].tolist()
