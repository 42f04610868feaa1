"""A model's card, ``properties/card/<Name>.yaml``: the facts about one model, each written once. Imports no torch.

The registry, the README's table, ``CITATION.cff``, the index of the models' pages and the contract suite read it.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Any, Optional, TypeVar

from recbole_diffusion.support import yaml_files

TASKS = ("general", "sequential")
PROCESSES = ("gaussian", "flow", "discrete", "graph", "none")
LOADERS = (None, "user")
NEEDS = ("time", "base_model", "item_embeddings")
_CLASS = re.compile(r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
_Record = TypeVar("_Record")


def _named(key: str, **more: Any) -> Any:
    """A field that has another name in the yaml file than in Python."""
    return field(metadata={"key": key}, **more)


@dataclass(frozen=True)
class Journal:
    """The journal of an article, for ``CITATION.cff``."""

    name: str
    volume: Optional[int] = None
    issue: Optional[int] = None


@dataclass(frozen=True)
class Paper:
    """What to cite.

    Attributes:
        title: of the paper.
        venue: short name of the conference or journal.
        url: a doi link, or arXiv.
        authors: each as ``Family, Given``.
        year: of the publication; None where the venue names it.
        journal: of an article; None for a conference paper.
    """

    title: str
    venue: str
    url: str = _named("link")
    authors: tuple[str, ...] = ()
    year: Optional[int] = None
    journal: Optional[Journal] = None

    @property
    def where(self) -> str:
        """Venue and year."""
        return self.venue if self.year is None else f"{self.venue} {self.year}"


@dataclass(frozen=True)
class Code:
    """The reference code: GitHub repository ``owner/name``, the commit that was compared, its licence or ``none``."""

    repository: str
    commit: str
    licence: str

    def __str__(self) -> str:
        return f"https://github.com/{self.repository} @ {self.commit}"


@dataclass(frozen=True)
class Parity:
    """How near our numbers are to the reference code's, and the test that shows it."""

    tolerance: float
    test: str


@dataclass(frozen=True)
class Nfe:
    """Number of function evaluations per user and ranking, with the default settings; a remark for the tables."""

    default: int
    note: str = ""

    def __str__(self) -> str:
        return f"{self.default}; {self.note}" if self.note else str(self.default)


@dataclass(frozen=True)
class Contract:
    """Settings of the contract suite (:mod:`recbole_diffusion.testing`).

    Attributes:
        quick: with which the model learns its small data in seconds.
        noisy: settings on top of them under which scores must not depend on the batch, such as noise at inference.
        waits: functions in which a training step makes the host wait for the device, each with the reason.
    """

    quick: dict[str, Any] = field(default_factory=dict)
    noisy: tuple[dict[str, Any], ...] = ()
    waits: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Card:
    """The facts about one model.

    Attributes:
        name: what ``--model`` takes; the name of the card's file.
        path: ``package.module:Class`` (in the file: ``class``).
        task: ``general`` or ``sequential``.
        diffusion: whether it is a diffusion model.
        process: the family of its forward process, ``none`` without one.
        loader: ``user`` for one training row per user; None for RecBole's choice by input type.
        trainer: ``package.module:Class`` of the trainer; None for RecBole's choice.
        dataset: ``package.module:Class`` of the data set; None for RecBole's choice.
        needs: what it reads beside interactions: ``time``, ``base_model``, ``item_embeddings``.
        nfe: network calls per user.
        paper: what to cite.
        code: the reference code.
        parity: with the reference code.
        tags: short words for tables; no code reads them.
        page: the model's page, relative to the repository.
        properties: the yaml file of its keys, relative to the card; None for ``properties/model/<name>.yaml``.
        contract: settings of the contract suite.
    """

    name: str
    path: str = _named("class")
    task: str = "general"
    diffusion: bool = False
    process: str = "none"
    loader: Optional[str] = None
    trainer: Optional[str] = None
    dataset: Optional[str] = None
    needs: tuple[str, ...] = ()
    nfe: Optional[Nfe] = None
    paper: Optional[Paper] = None
    code: Optional[Code] = None
    parity: Optional[Parity] = None
    tags: tuple[str, ...] = ()
    page: Optional[str] = None
    properties: Optional[str] = None
    contract: Contract = field(default_factory=Contract)


#: Fields that are mappings themselves, with what they become.
_NESTED: dict[tuple[type, str], type] = {
    (Card, "nfe"): Nfe,
    (Card, "paper"): Paper,
    (Card, "code"): Code,
    (Card, "parity"): Parity,
    (Card, "contract"): Contract,
    (Paper, "journal"): Journal,
}


def read(file: Path) -> Card:
    """The card in a yaml file; its name is the file's.

    Raises:
        ValueError: a field that no card has, one that is missing, a value that is not allowed; one line.
    """
    content = {"name": file.stem, **yaml_files.load_yaml(file)}
    what = f"card {str(file)!r}"
    card = _record(Card, content, what, "")
    if card.name != file.stem:
        raise ValueError(f"{what}: name={card.name!r} is not the file's name, {file.stem!r}; leave it out")
    _check(card, what)
    return card


def _record(kind: type[_Record], content: Any, what: str, inside: str) -> _Record:
    """A mapping as the dataclass ``kind``; ``inside``: the field that it is the value of, with a dot."""
    if not isinstance(content, dict):
        raise ValueError(f"{what}: {inside[:-1]} must hold 'field: value', got {content!r}")
    known = {each.metadata.get("key", each.name): each for each in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in content:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {inside}{near[0]}?" if near else f"allowed: {', '.join(known)}"
            raise ValueError(f"{what}: {inside}{key} is no field of a card; {hint}")
    for key, each in known.items():
        if each.default is MISSING and each.default_factory is MISSING and content.get(key) is None:
            raise ValueError(f"{what}: {inside}{key} is missing")
    values = {
        known[key].name: _value(kind, known[key], value, what, f"{inside}{key}") for key, value in content.items()
    }
    return kind(**values)


def _value(kind: type, of: Any, value: Any, what: str, key: str) -> Any:
    nested = _NESTED.get((kind, of.name))
    if nested is not None and value is not None:
        return _record(nested, value, what, f"{key}.")
    kinds = _PYTHON.get(str(of.type))
    if kinds is None:
        return value
    if type(value) not in kinds:
        raise ValueError(f"{what}: {key}={value!r} is not allowed; allowed: {_WORDS[str(of.type)]}")
    if "tuple" not in str(of.type):
        return value
    inner = dict if "dict" in str(of.type) else str
    if not all(type(each) is inner for each in value):
        raise ValueError(f"{what}: {key}={value!r} is not allowed; allowed: {_WORDS[str(of.type)]}")
    return tuple(value)


#: The annotations of the fields (text, by the future import), what yaml gives for them, and how to call it.
_PYTHON: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "Optional[str]": (str, type(None)),
    "bool": (bool,),
    "int": (int,),
    "Optional[int]": (int, type(None)),
    "float": (float, int),
    "tuple[str, ...]": (list,),
    "dict[str, Any]": (dict,),
    "tuple[dict[str, Any], ...]": (list,),
}
_WORDS = {
    "str": "text",
    "Optional[str]": "text or null",
    "bool": "true or false",
    "int": "an integer",
    "Optional[int]": "an integer or null",
    "float": "a number",
    "tuple[str, ...]": "a list of texts",
    "dict[str, Any]": "a mapping of settings",
    "tuple[dict[str, Any], ...]": "a list of mappings of settings",
}


def _check(card: Card, what: str) -> None:
    """The values of the fields that allow a few only."""
    closed: tuple[tuple[str, Any, Any], ...] = (
        ("task", card.task, TASKS),
        ("process", card.process, PROCESSES),
        ("loader", card.loader, LOADERS),
        *(("needs", each, NEEDS) for each in card.needs),
    )
    for key, value, allowed in closed:
        if value not in allowed:
            words = ", ".join("null" if each is None else each for each in allowed)
            raise ValueError(f"{what}: {key}={value!r} is not allowed; allowed: {words}")
    for key, path in (("class", card.path), ("trainer", card.trainer), ("dataset", card.dataset)):
        if path is not None and not _CLASS.match(path):
            raise ValueError(f"{what}: {key}={path!r} is not allowed; allowed: package.module:Class")
    if card.nfe is not None and card.nfe.default < 0:
        raise ValueError(f"{what}: nfe.default={card.nfe.default} is not allowed; allowed: int >= 0")
    if not all("," in author for author in (card.paper.authors if card.paper else ())):
        raise ValueError(f"{what}: paper.authors is not allowed; allowed: each as 'Family, Given'")
