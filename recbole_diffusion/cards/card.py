"""Read a model's card, ``properties/card/<Name>.yaml``: the metadata of one model. Imports no torch.

The registry, the README's table, ``CITATION.cff``, the index of the models' pages and the contract suite are made from
the cards.
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
#: The label in ``ablation`` of the training without noise, and the beginning of those without a part of the loss.
NO_DIFFUSION, WITHOUT = "no diffusion", "without "
_CLASS = re.compile(r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
_LABEL = re.compile(r"^\w[\w +-]*$")
_Record = TypeVar("_Record")


def _field_in_yaml(key: str) -> Any:
    """Declare a field of a dataclass that has another name in the yaml file."""
    return field(metadata={"key": key})


@dataclass(frozen=True)
class Journal:
    """The journal of an article, for ``CITATION.cff``.

    Attributes:
        name: name of the journal.
        volume, issue: numbers; None where they are not known.
    """

    name: str
    volume: Optional[int] = None
    issue: Optional[int] = None


@dataclass(frozen=True)
class Paper:
    """The reference of a paper.

    Attributes:
        title: title of the paper.
        venue: short name of the conference or journal.
        url: link to the doi, or to arXiv (in the file: ``link``).
        authors: names as ``Family, Given``.
        year: year of publication; None if ``venue`` contains it.
        journal: journal of an article; None for a conference paper.
    """

    title: str
    venue: str
    url: str = _field_in_yaml("link")
    authors: tuple[str, ...] = ()
    year: Optional[int] = None
    journal: Optional[Journal] = None

    @property
    def where(self) -> str:
        """Venue and year."""
        return self.venue if self.year is None else f"{self.venue} {self.year}"


@dataclass(frozen=True)
class Code:
    """The official code.

    Attributes:
        repository: GitHub repository, ``owner/name``.
        commit: the commit that the tests compare with.
        licence: licence of the repository, or ``none``.
    """

    repository: str
    commit: str
    licence: str

    def __str__(self) -> str:
        return f"https://github.com/{self.repository} @ {self.commit}"


@dataclass(frozen=True)
class Parity:
    """The agreement with the official code.

    Attributes:
        tolerance: largest relative or absolute difference that the test accepts.
        test: path of the test, relative to the repository.
    """

    tolerance: float
    test: str


@dataclass(frozen=True)
class Nfe:
    """The number of function evaluations (network calls) per user and ranking.

    Attributes:
        default: the number with the default settings.
        note: remark for the tables.
    """

    default: int
    note: str = ""

    def __str__(self) -> str:
        return f"{self.default}; {self.note}" if self.note else str(self.default)


@dataclass(frozen=True)
class Contract:
    """Settings of the contract suite (:mod:`recbole_diffusion.testing`).

    Attributes:
        quick: settings with which the model learns the suite's small data in seconds.
        noisy: further settings, such as noise at inference, under which scores must not depend on the batch.
        waits: functions in which a training step makes the host wait for a GPU, each with the reason.
    """

    quick: dict[str, Any] = field(default_factory=dict)
    noisy: tuple[dict[str, Any], ...] = ()
    waits: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Card:
    """The metadata of one model.

    Attributes:
        name: name for ``--model``, and of the card's file.
        path: ``package.module:Class`` (in the file: ``class``).
        task: ``general`` or ``sequential``.
        diffusion: whether it is a diffusion model.
        yardstick: whether it is a model without training, of no paper, that others are measured by.
        process: family of its forward process; ``none`` without one.
        loader: ``user`` for one training row per user; None for RecBole's choice by input type.
        trainer: ``package.module:Class`` of the trainer; None for RecBole's choice.
        dataset: ``package.module:Class`` of the data set; None for RecBole's choice.
        needs: inputs beside interactions: ``time``, ``base_model``, ``item_embeddings``.
        nfe: number of function evaluations per user.
        paper: the paper.
        code: the official code.
        parity: agreement with the official code.
        tags: short words for tables, for display only.
        page: the model's page, relative to the repository.
        properties: yaml file of the model's keys, relative to the card; None for ``properties/model/<name>.yaml``.
        contract: settings of the contract suite.
        ablation: trainings without a part of the model, for ``ablate --train``: settings by label. ``no diffusion`` is
            the training without noise; ``without X`` leaves out the part X of the loss.
    """

    name: str
    path: str = _field_in_yaml("class")
    task: str = "general"
    diffusion: bool = False
    yardstick: bool = False
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
    ablation: dict[str, dict[str, Any]] = field(default_factory=dict)


#: Dataclasses of the fields whose values are mappings, by dataclass and field.
_NESTED: dict[tuple[type, str], type] = {
    (Card, "nfe"): Nfe,
    (Card, "paper"): Paper,
    (Card, "code"): Code,
    (Card, "parity"): Parity,
    (Card, "contract"): Contract,
    (Paper, "journal"): Journal,
}


def read(file: Path) -> Card:
    """Read the card in a yaml file, whose name is the model's.

    Raises:
        ValueError: an unknown or a missing field, or a value that is not allowed; one line.
    """
    content = {"name": file.stem, **yaml_files.load_yaml(file)}
    source = f"card {str(file)!r}"
    card = _record(Card, content, source, "")
    if card.name != file.stem:
        raise ValueError(f"{source}: name={card.name!r} is not the file's name, {file.stem!r}; leave it out")
    _check(card, source)
    return card


def _record(record_class: type[_Record], content: Any, source: str, prefix: str) -> _Record:
    """Convert a mapping to a dataclass.

    Args:
        record_class: the dataclass.
        content: the mapping.
        source: name of the file, for messages.
        prefix: path of the mapping in the file, with a dot at its end; empty for the whole file.
    """
    if not isinstance(content, dict):
        raise ValueError(f"{source}: {prefix[:-1]} must hold 'field: value', got {content!r}")
    fields = dataclasses.fields(record_class)  # type: ignore[arg-type]
    known = {declared.metadata.get("key", declared.name): declared for declared in fields}
    for key in content:
        if key not in known:
            similar = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {prefix}{similar[0]}?" if similar else f"allowed: {', '.join(known)}"
            raise ValueError(f"{source}: {prefix}{key} is no field of a card; {hint}")
    for key, declared in known.items():
        is_required = declared.default is MISSING and declared.default_factory is MISSING
        if is_required and content.get(key) is None:
            raise ValueError(f"{source}: {prefix}{key} is missing")
    values = {
        known[key].name: _value(record_class, known[key], value, source, f"{prefix}{key}")
        for key, value in content.items()
    }
    return record_class(**values)


def _value(record_class: type, declared: Any, value: Any, source: str, key: str) -> Any:
    """Check the type of a value, and convert mappings to dataclasses and lists to tuples."""
    nested_class = _NESTED.get((record_class, declared.name))
    if nested_class is not None and value is not None:
        return _record(nested_class, value, source, f"{key}.")
    annotation = str(declared.type)
    types = _TYPES_IN_YAML.get(annotation)
    if types is None:
        return value
    if type(value) not in types:
        raise ValueError(f"{source}: {key}={value!r} is not allowed; allowed: {_DESCRIPTIONS[annotation]}")
    if "tuple" not in annotation:
        return value
    item_type = dict if "dict" in annotation else str
    if not all(type(item) is item_type for item in value):
        raise ValueError(f"{source}: {key}={value!r} is not allowed; allowed: {_DESCRIPTIONS[annotation]}")
    return tuple(value)


#: Types of a value in the yaml file, by the annotation of its field (a text, because of the future import).
_TYPES_IN_YAML: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "Optional[str]": (str, type(None)),
    "bool": (bool,),
    "int": (int,),
    "Optional[int]": (int, type(None)),
    "float": (float, int),
    "tuple[str, ...]": (list,),
    "dict[str, Any]": (dict,),
    "tuple[dict[str, Any], ...]": (list,),
    "dict[str, dict[str, Any]]": (dict,),
}
#: Descriptions of these types for messages.
_DESCRIPTIONS = {
    "str": "text",
    "Optional[str]": "text or null",
    "bool": "true or false",
    "int": "an integer",
    "Optional[int]": "an integer or null",
    "float": "a number",
    "tuple[str, ...]": "a list of texts",
    "dict[str, Any]": "a mapping of settings",
    "tuple[dict[str, Any], ...]": "a list of mappings of settings",
    "dict[str, dict[str, Any]]": "settings by label",
}


def _check(card: Card, source: str) -> None:
    """Check the values of the fields.

    Raises:
        ValueError: a value that is not allowed.
    """
    choices: tuple[tuple[str, Any, Any], ...] = (
        ("task", card.task, TASKS),
        ("process", card.process, PROCESSES),
        ("loader", card.loader, LOADERS),
        *(("needs", need, NEEDS) for need in card.needs),
    )
    for key, value, allowed in choices:
        if value not in allowed:
            names = ", ".join("null" if choice is None else choice for choice in allowed)
            raise ValueError(f"{source}: {key}={value!r} is not allowed; allowed: {names}")
    for key, path in (("class", card.path), ("trainer", card.trainer), ("dataset", card.dataset)):
        if path is not None and not _CLASS.match(path):
            raise ValueError(f"{source}: {key}={path!r} is not allowed; allowed: package.module:Class")
    if card.nfe is not None and card.nfe.default < 0:
        raise ValueError(f"{source}: nfe.default={card.nfe.default} is not allowed; allowed: int >= 0")
    if not all("," in author for author in (card.paper.authors if card.paper else ())):
        raise ValueError(f"{source}: paper.authors is not allowed; allowed: each as 'Family, Given'")
    for label, settings in card.ablation.items():
        if not isinstance(label, str) or not _LABEL.match(label) or not isinstance(settings, dict) or not settings:
            raise ValueError(
                f"{source}: ablation.{label}={settings!r} is not allowed; allowed: a label of letters, digits, blanks "
                "and -+_, with the settings that differ"
            )
