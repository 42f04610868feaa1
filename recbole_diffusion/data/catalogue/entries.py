"""The entries of ``properties/datasets.yaml``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

from recbole_diffusion import registry
from recbole_diffusion.settings.schema import nearest
from recbole_diffusion.support import yaml_files

FORMATS = ("atomic", "table", "sequences", "diffrec")


@dataclass(frozen=True)
class Entry:
    """A data set of the catalogue.

    Attributes:
        name: of the data set.
        title: what it is.
        papers: models whose papers use it.
        addresses: of its files; names alone where they come by hand.
        optional: further files that are used where they are.
        by_hand: whether the files cannot be downloaded directly.
        checksum: ``md5:…`` or ``sha256:…`` by file name, where it is known for certain.
        format: one of :data:`FORMATS`.
        table, items: members of the archive.
        arguments: of the import of ``table``.
        users, item_count, interactions: where they are stated.
        licence, page, citation: texts.
    """

    name: str
    title: str
    papers: list[str]
    addresses: list[str]
    format: str
    licence: str
    page: str
    citation: str
    optional: list[str] = field(default_factory=list)
    by_hand: bool = False
    checksum: dict[str, str] = field(default_factory=dict)
    table: Optional[str] = None
    items: Optional[str] = None
    arguments: dict[str, Any] = field(default_factory=dict)
    users: Optional[int] = None
    item_count: Optional[int] = None
    interactions: Optional[int] = None

    @property
    def files(self) -> list[str]:
        """The names of the needed files."""
        return [address.rpartition("/")[2] for address in self.addresses]


def entries() -> dict[str, Entry]:
    """All entries by name.

    Raises:
        ValueError: the yaml is not right.
    """
    content = yaml_files.load_yaml(yaml_files.properties() / "datasets.yaml")["catalogue"]
    return {name: _entry(name, values) for name, values in content.items()}


def _entry(name: str, values: dict[str, Any]) -> Entry:
    if values["format"] not in FORMATS:
        raise ValueError(f"datasets.yaml: {name}: format={values['format']!r}; allowed: {' | '.join(FORMATS)}")
    addresses = list(values.get("files") or [])
    if "recbole" in values:
        addresses = [_recbole_addresses()[values["recbole"]]]
    keys = ("title", "papers", "format", "licence", "page", "citation", "table", "items", "users", "interactions")
    same = {key: values[key] for key in keys if key in values}
    return Entry(
        name=name,
        addresses=addresses,
        optional=list(values.get("optional") or []),
        by_hand=bool(values.get("by_hand")),
        checksum=dict(values.get("checksum") or {}),
        arguments=dict(values.get("import") or {}),
        item_count=values.get("items_count"),
        **same,
    )


def _recbole_addresses() -> dict[str, str]:
    """RecBole's own addresses by the names of its data sets."""
    return yaml_files.load_yaml(registry.recbole_folder() / "properties" / "dataset" / "url.yaml")


def find(name: str) -> Entry:
    """The entry of a name, or of another key of RecBole's list of addresses.

    Raises:
        ValueError: there is none.
    """
    known = entries()
    if name in known:
        return known[name]
    addresses = _recbole_addresses()
    if name in addresses:
        page = "https://recbole.io/dataset_list.html"
        terms = "not known to this package; see the page"
        return Entry(name, f"RecBole's {name}", [], [addresses[name]], "atomic", terms, page, "see the page")
    near = nearest(name, [*known, *addresses])
    hint = f"; did you mean {near}?" if near else ""
    raise ValueError(
        f"{name!r} is not in the catalogue{hint}; data list shows what is, data import reads your own file"
    )
