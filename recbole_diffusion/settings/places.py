"""The folder of a data set, by one rule for every command, including the example data sets in RecBole's package."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple, Optional

from recbole_diffusion import registry
from recbole_diffusion.support import atomic_folder

#: The value of ``data_path`` that selects RecBole's example data, even if the working folder holds the data set.
PACKAGED = "recbole"


class Place(NamedTuple):
    """A data set's folder.

    Attributes:
        root: ``data_path`` as it is stored: the setting's value, or :data:`PACKAGED`.
        folder: the folder with the files.
        note: a warning for the user, or None.
    """

    root: str
    folder: str
    note: Optional[str]


def locate(data_path: str, dataset: str, given: bool) -> Place:
    """Find the folder of a data set.

    A local ``<data_path>/<dataset>`` with the data set's files is preferred. Without one, RecBole's example data set of
    that name is used.

    Args:
        data_path: the setting.
        dataset: the data set's name.
        given: whether the user set ``data_path``.

    Raises:
        ValueError: ``data_path`` is :data:`PACKAGED`, and RecBole has no example data set of that name.
    """
    packaged = _packaged_root() / dataset
    local = os.path.join(data_path, dataset)
    if data_path != PACKAGED:
        atomic_folder.recover(Path(local))  # of an import that was killed
    else:
        if not _holds(packaged, dataset):
            names = sorted(folder.name for folder in _packaged_root().iterdir() if _holds(folder, folder.name))
            raise ValueError(f"data_path={PACKAGED!r} has no dataset={dataset!r}; RecBole brings {', '.join(names)}")
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
    is_unexpected = given and os.path.basename(os.path.normpath(data_path)) != "dataset"  # the default's name
    note = f"data_path={data_path!r} holds no {dataset}.inter: the copy that RecBole brings is read"
    return Place(PACKAGED, str(packaged), note if is_unexpected else None)


def _packaged_root() -> Path:
    return registry.recbole_folder() / "dataset_example"


def _holds(folder: Path, dataset: str) -> bool:
    """Whether the folder has the data set's interactions, in one file or in pre-split files."""
    return folder.is_dir() and any(file.name.endswith(".inter") for file in folder.glob(f"{dataset}.*"))
