"""The vocabulary of a data set: the names behind its ids, packed into checkpoints and compared before tables are used.

RecBole numbers users, items and all other tokens in order of appearance. With another order of lines, or another
filter, the same ids stand for other names. A table of embeddings is therefore meaningless without the names of its
rows.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
import torch

#: The version of the packed form.
FORMAT = 1


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Names in id order, of every token field of a data set.

    Attributes:
        names: by field, the names of the ids 1, 2, ..., without the padding.
        columns: all columns of the data set in order, which is the order of the tables of context models.
        user_field, item_field: the fields of users and items.
        source: the file that it was read from, for messages, e.g. ``checkpoint 'saved/BPR.pth'``.
    """

    names: Mapping[str, np.ndarray]
    columns: tuple[str, ...]
    user_field: str
    item_field: str
    source: str

    def names_by_field(self, dataset: Any) -> dict[str, np.ndarray]:
        """The names by field of ``dataset``, whose fields of users and items may have other names."""
        users, items = self.names[self.user_field], self.names[self.item_field]
        return {**self.names, dataset.uid_field: users, dataset.iid_field: items}

    @property
    def fingerprint(self) -> str:
        """A sha256 of the names of all fields in id order."""
        return _digest(self.names[field] for field in sorted(self.names))

    @property
    def user_item_fingerprint(self) -> str:
        """A sha256 of the names of users and items, comparable with :func:`user_item_fingerprint` of a data set."""
        return _digest([self.names[self.user_field], self.names[self.item_field]])


def pack(dataset: Any) -> dict[str, Any]:
    """Pack the names of a data set into plain values and tensors, which load with ``weights_only=True``.

    Fields with equal names share one entry.
    """
    fields_by_text: dict[str, list[str]] = {}
    for field in dataset.field2id_token:
        text = json.dumps(names_of(dataset, field).tolist())
        fields_by_text.setdefault(text, []).append(str(field))  # some of RecBole's field names are numpy.str_
    return {
        "format": FORMAT,
        "columns": [str(column) for column in dataset.field2type],
        "user_field": str(dataset.uid_field),
        "item_field": str(dataset.iid_field),
        "groups": [{"fields": fields, "names": _compress(text)} for text, fields in fields_by_text.items()],
    }


def unpack(state: Any, source: str) -> Optional[Vocabulary]:
    """Read the names in a checkpoint; None if it holds none (RecBole's, and early ones of this package).

    Args:
        state: the content of the checkpoint.
        source: its name for messages.
    """
    stored = state.get("names") if isinstance(state, dict) else None
    if not isinstance(stored, dict) or stored.get("format") != FORMAT:
        return None
    names = {}
    for group in stored["groups"]:
        names.update(dict.fromkeys(group["fields"], np.array(_decompress(group["names"]), dtype=str)))
    return Vocabulary(names, tuple(stored["columns"]), stored["user_field"], stored["item_field"], source)


def names_of(dataset: Any, field: str) -> np.ndarray:
    """The names of the ids 1, 2, ... of a field, str, (n,)."""
    return np.asarray(dataset.field2id_token[field], dtype=str)[1:]


def user_item_fingerprint(dataset: Any) -> str:
    """A sha256 of the names of users and items in id order, which is the order of the rows of embedding tables."""
    return _digest(names_of(dataset, field) for field in (dataset.uid_field, dataset.iid_field))


def same_names(dataset1: Any, dataset2: Any) -> bool:
    """Whether two data sets have the same names behind their ids, in all token fields that both have."""
    common = {*dataset1.field2id_token} & {*dataset2.field2id_token}
    return all(np.array_equal(names_of(dataset1, field), names_of(dataset2, field)) for field in common)


def first_difference(vocabulary: Vocabulary, dataset: Any) -> Optional[str]:
    """The first token field whose ids differ between vocabulary and data set; None if none does.

    Ids of the data set beyond those of the vocabulary are no difference.
    """
    for field, known in vocabulary.names_by_field(dataset).items():
        if field in dataset.field2id_token and not np.array_equal(names_of(dataset, field)[: len(known)], known):
            return field
    return None


def unknown_users(vocabulary: Vocabulary, dataset: Any) -> np.ndarray:
    """The names of the users of ``dataset`` whose ids are beyond those of the vocabulary."""
    return names_of(dataset, dataset.uid_field)[len(vocabulary.names[vocabulary.user_field]) :]


def examples(names: Iterable[Any]) -> str:
    """Format two of the names, for messages."""
    return ", ".join(repr(str(name)) for name in list(names)[:2])


def _digest(names: Iterable[np.ndarray]) -> str:
    content = hashlib.sha256()
    for tokens in names:
        content.update(json.dumps(tokens.tolist()).encode() + b"\n")
    return content.hexdigest()


#: Bytes that names may take unpacked whatever their packed size, and their bytes per packed byte beyond that.
_ALWAYS_UNPACKED, _LARGEST_RATIO = 2**28, 100


def _compress(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray(zlib.compress(text.encode("ascii"))), dtype=torch.uint8)


def _decompress(packed: torch.Tensor) -> list[str]:
    content = packed.cpu().numpy().tobytes()
    largest = max(_ALWAYS_UNPACKED, _LARGEST_RATIO * len(content))
    text = zlib.decompressobj().decompress(content, largest)
    if len(text) == largest:
        raise ValueError(f"{len(content)} bytes of names would become more than {largest}")
    names: list[str] = json.loads(text)
    return names
