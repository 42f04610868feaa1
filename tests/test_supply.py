"""Supply: what is installed is pinned with checksums, and its licences are known and allowed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email.message import Message
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
EXTRAS = ("pins", "compare", "search", "energy", "test")
#: Licences without conditions for a package that imports the other: notices in copies are all they ask for.
ALLOWED = {"MIT", "MIT-CMU", "BSD", "BSD-2-Clause", "BSD-3-Clause", "Apache-2.0", "PSF-2.0", "ISC", "0BSD", "BSL-1.0"}
ALLOWED |= {"LLVM-exception", "Unlicense", "Zlib", "CC0-1.0"}
#: Packages with another licence, which it is, and why it is allowed.
ODD = {
    "certifi": ("MPL-2.0", "certificates, used as they are; its condition is about changed files of its own"),
    "hypothesis": ("MPL-2.0", "of the tests, not of the package"),
    "pathspec": ("MPL-2.0", "of mypy, which the tests bring along"),
    "tqdm": ("MPL-2.0", "used as it is; RecBole needs it"),
}
#: Words of the metadata of packages that name no SPDX licence.
WORDS = {
    "MIT": r"^MIT( License)?$|MIT License",
    "BSD": r"BSD",
    "Apache-2.0": r"Apache",
    "PSF-2.0": r"Python Software Foundation|matplotlib versions",
    "MPL-2.0": r"MPL|Mozilla",
    "ISC": r"\bISC\b",
}


def licences_of(package: Message) -> set[str]:
    """The licences that a package's metadata name: the SPDX expression, else the classifiers, else the field."""
    expression = package.get("License-Expression") or package.get("License") or ""
    if package.get("License-Expression") or re.fullmatch(r"[\w.+-]+( (AND|OR|WITH) [\w.+-]+)*", expression):
        words = {*re.split(r"[\s()]+", expression)} - {"AND", "OR", "WITH", ""}
        if package.get("License-Expression") or words <= ALLOWED | {"MPL-2.0"}:
            return words
    classifiers = [text for text in package.get_all("Classifier", []) if re.match("License :: .* :: ", text)]
    for text in [*classifiers, expression.strip().split("\n")[0][:200]]:
        named = {licence for licence, words in WORDS.items() if re.search(words, text)}
        if named:
            return named
        if classifiers:
            return {text.rsplit(" :: ", 1)[1]}
    return {expression.strip().split("\n")[0][:60] or "none named"}


def not_allowed(packages: dict[str, Message]) -> list[str]:
    """One line for each package whose licence is neither allowed nor explained."""
    other = {name: licences_of(package) - ALLOWED - {*ODD.get(name, ())[:1]} for name, package in packages.items()}
    return [f"{name}: {', '.join(sorted(licences))}" for name, licences in sorted(other.items()) if licences]


def installed_dependencies() -> dict[str, Any]:
    """The metadata of all packages that this one and its extras need here, by name, as far as they are installed."""
    try:
        waiting = [*_required("recbole-diffusion", EXTRAS)]
    except metadata.PackageNotFoundError:
        pytest.skip("recbole-diffusion is not installed here")
    packages: dict[str, Any] = {}
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name not in packages:
            try:
                packages[name] = metadata.metadata(name)
            except metadata.PackageNotFoundError:  # of an extra that is not installed
                continue
            waiting.extend(_required(name, requirement.extras))
    return packages


def _required(name: str, extras: Any) -> Iterator[Requirement]:
    for text in metadata.requires(name) or []:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement


def test_the_licences_of_all_dependencies_are_allowed():
    packages = installed_dependencies()
    assert {"torch", "recbole", "numpy", "tqdm"} <= {*packages}
    assert not_allowed(packages) == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"License-Expression": "GPL-3.0-only"}, "new: GPL-3.0-only"),
        ({"License-Expression": "MIT AND AGPL-3.0-or-later"}, "new: AGPL-3.0-or-later"),
        ({"License": "GPLv3"}, "new: GPLv3"),
        ({"Classifier": "License :: OSI Approved :: GNU General Public License v3 (GPLv3)"}, "new: GNU General"),
        ({"Classifier": "License :: Other/Proprietary License", "License": "ask us"}, "new: ask us"),
        ({}, "new: none named"),
        ({"License": "MPL-2.0"}, "new: MPL-2.0"),
    ],
)
def test_a_licence_that_is_not_allowed_is_named(fields, message):
    package = Message()
    for name, value in fields.items():
        package[name] = value
    (line,) = not_allowed({"new": package})
    assert line.startswith(message)
    assert (not_allowed({"tqdm": package}) == []) == (message == "new: MPL-2.0")


@pytest.mark.parametrize(
    ("fields", "licences"),
    [
        ({"License-Expression": "Apache-2.0 OR (MIT AND BSD-2-Clause)"}, {"Apache-2.0", "MIT", "BSD-2-Clause"}),
        ({"License": "MIT"}, {"MIT"}),
        ({"License": "Apache 2.0"}, {"Apache-2.0"}),
        ({"License": "3-Clause BSD License"}, {"BSD"}),
        ({"Classifier": "License :: OSI Approved :: BSD License", "License": "Copyright (c) 2005\nAll"}, {"BSD"}),
    ],
)
def test_licences_are_read_from_each_field(fields, licences):
    package = Message()
    for name, value in fields.items():
        package[name] = value
    assert licences_of(package) == licences


def test_every_pinned_version_but_torch_has_checksums():
    """``requirements-hashed.txt`` is ``constraints.txt`` with the checksums of the files of each version."""
    pinned = dict(line.split("==") for line in _lines("constraints.txt"))
    assert pinned.pop("torch")
    entries = "\n".join(_lines("requirements-hashed.txt")).replace("\\\n", " ").splitlines()
    hashed = {}
    for entry in entries:
        requirement, *checksums = entry.split()
        assert checksums, requirement
        assert all(re.fullmatch("--hash=sha256:[0-9a-f]{64}", checksum) for checksum in checksums), requirement
        name, version = requirement.split("==")
        hashed[canonicalize_name(name)] = version
    assert hashed == {canonicalize_name(name): version for name, version in pinned.items()}


def _lines(name: str) -> list[str]:
    return [line for line in (ROOT / name).read_text().splitlines() if line.strip() and not line.startswith("#")]
