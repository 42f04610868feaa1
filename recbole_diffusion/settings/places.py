"""Where a data set's files are: one rule for every command, for the data sets too that RecBole brings along."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple, Optional

from recbole_diffusion import registry

#: The value of ``data_path`` that stands for RecBole's own example data, whatever lies in the working folder.
PACKAGED = "recbole"


class Place(NamedTuple):
    """A data set's folder.

    Attributes:
        root: ``data_path`` as it is stored: as given, or :data:`PACKAGED`.
        folder: the folder with the files.
        note: what a reader must know, if anything.
    """

    root: str
    folder: str
    note: Optional[str]


def locate(data_path: str, dataset: str, given: bool) -> Place:
    """The folder of a data set.

    A local ``<data_path>/<dataset>`` that holds the data set wins. Without one, a data set that RecBole brings along is
    read from there.

    Args:
        data_path: the setting.
        dataset: the data set's name.
        given: whether the user set ``data_path``.

    Raises:
        ValueError: ``data_path`` is :data:`PACKAGED`, and RecBole has no such data set.
    """
    packaged = _packaged_root() / dataset
    local = os.path.join(data_path, dataset)
    if data_path == PACKAGED:
        if not _holds(packaged, dataset):
            there = ", ".join(sorted(each.name for each in _packaged_root().iterdir() if _holds(each, each.name)))
            raise ValueError(f"data_path={PACKAGED!r} has no dataset={dataset!r}; RecBole brings {there}")
        return Place(PACKAGED, str(packaged), None)
    if not _holds(packaged, dataset):
        return Place(data_path, local, None)
    if _holds(Path(local), dataset):
        return Place(
            data_path,
            local,
            f"dataset={dataset!r} is read from {local}, not from the copy that RecBole brings; for that: "
            f"--data_path={PACKAGED}",
        )
    elsewhere = given and os.path.basename(os.path.normpath(data_path)) != "dataset"  # the default's name
    note = f"data_path={data_path!r} holds no {dataset}.inter: the copy that RecBole brings is read"
    return Place(PACKAGED, str(packaged), note if elsewhere else None)


def _packaged_root() -> Path:
    return registry.recbole_folder() / "dataset_example"


def _holds(folder: Path, dataset: str) -> bool:
    """Whether the folder has the data set's interactions, in one file or split."""
    return folder.is_dir() and any(each.name.endswith(".inter") for each in folder.glob(f"{dataset}.*"))
