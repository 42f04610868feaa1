"""The folder of a comparison or a tuning: one json file per run, written atomically.

A run's file is named by its key, a hash of everything that its numbers depend on (:mod:`run_spec`). A finished run is
therefore never repeated, and a record that other code or data made is never taken for it.

::

    FOLDER/comparison.json     the request: models, data sets, seeds, metrics, budget, environment
    FOLDER/runs/KEY.json       a finished run: settings, results, cost, epochs
    FOLDER/runs/KEY.npz        its test metrics per user, if it has any
    FOLDER/lists/KEY.npz       its recommended lists of the test, if it kept them
    FOLDER/lists/split-HASH.npz  names, training and test pairs of the split that lists refer to
    FOLDER/failed/KEY.json     a failed run with its reason; ``--resume`` tries it again
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, Optional, Union

import numpy as np

from recbole_diffusion.evaluation import ranked_lists
from recbole_diffusion.evaluation.list_evaluation import RankedLists
from recbole_diffusion.evaluation.per_user import UserMetrics
from recbole_diffusion.evaluation.ranked_lists import ListsOfSplit
from recbole_diffusion.evaluation.split_data import SplitData
from recbole_diffusion.support import json_files, npz_files
from recbole_diffusion.support.atomic_write import atomic_write

FORMAT = 3
#: The folders in a comparison's or tuning's that files are written to.
_WRITTEN = ("runs", "lists", "failed", "report", "data", "work", "saved")

#: The entry of a record: whether the run has metrics per user, in a file of its own.
_HAS_USERS = "has_users"


class DamagedRecord(ValueError):
    """The record of a run cannot be read."""


class Store:
    """Records of runs in a folder.

    Args:
        folder: of the comparison or tuning; the first file that is written creates it.
        new: False: the folder must exist.

    Raises:
        ValueError: ``folder`` is a file, does not exist with ``new=False``, or a folder in it is a link to elsewhere.
    """

    def __init__(self, folder: Union[str, Path], new: bool = True) -> None:
        self.folder = Path(folder).absolute()
        self._splits: dict[str, SplitData] = {}
        if not self.folder.is_dir() and (self.folder.exists() or not new):
            reason = "it is a file" if self.folder.exists() else "it does not exist"
            raise ValueError(f"{str(folder)!r} is not the folder of a comparison: {reason}")
        check_links(self.folder)

    def plan(self) -> dict[str, Any]:
        """Read ``comparison.json``.

        Raises:
            ValueError: it is missing or damaged, or has another format.
        """
        file = self.folder / "comparison.json"
        try:
            plan = json_files.read(file)
        except (OSError, ValueError) as error:
            raise ValueError(f"{str(self.folder)!r} is not the folder of a comparison: {error}") from error
        if plan.get("format") != FORMAT:
            raise ValueError(f"{str(file)!r} has format {plan.get('format')!r}; this version reads {FORMAT}")
        return plan

    def write_plan(self, plan: dict[str, Any]) -> None:
        """Write ``comparison.json``."""
        json_files.write(self.folder / "comparison.json", {"format": FORMAT, **plan})

    def record(self, key: str) -> Optional[dict[str, Any]]:
        """Read the record of a finished run; None if the run has not finished.

        Raises:
            DamagedRecord: the file is damaged.
        """
        return _read_record(self._record_file(key), key)

    def failure(self, key: str) -> Optional[dict[str, Any]]:
        """Read the record of a failed run; None if it has not failed.

        Raises:
            DamagedRecord: the file is damaged.
        """
        return _read_record(self._failure_file(key), key)

    def set_damaged_aside(self, say: Callable[[str], Any]) -> None:
        """Rename damaged records of runs, so that these runs are missing and made again.

        Args:
            say: called with one line for each.
        """
        for folder in ("runs", "failed"):
            for file in sorted((self.folder / folder).glob("*.json")):
                try:
                    record = json_files.read(file)
                    _check_key(record, file.stem)
                    if record.get(_HAS_USERS) and not self._users_file(file.stem).is_file():
                        raise ValueError(f"its metrics per user, runs/{file.stem}.npz, are missing")
                except ValueError as error:
                    kept = next(name for name in _names_aside(file.name) if not file.with_name(name).exists())
                    file.replace(file.with_name(kept))
                    say(f"{folder}/{file.name} is damaged ({error}): its run is made again; it is kept as {kept}")

    def users(self, key: str) -> Optional[UserMetrics]:
        """Read the test metrics per user of a finished run; None if it has none.

        Raises:
            ValueError: the file is damaged or missing.
        """
        file = self._users_file(key)
        if not file.is_file():
            if (self.record(key) or {}).get(_HAS_USERS):
                raise ValueError(f"{str(file)!r} is missing; resume makes its run again")
            return None
        try:
            arrays = npz_files.read(file)
            values = arrays["values"]
            return UserMetrics(arrays["users"], dict(zip(map(str, arrays["names"]), values.T.astype(np.float64))))
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(
                f"{str(file)!r} cannot be read ({error}); delete runs/{key}.json and it, and run it again"
            ) from error

    def lists(self, key: str) -> Optional[ListsOfSplit]:
        """Read the recommended lists of a finished run; None if it kept none.

        Raises:
            ValueError: a file is damaged or missing.
        """
        file = self._lists_file(key)
        if not file.is_file():
            return None
        lists, fingerprint = _read_lists(file, f"runs/{key}.json and lists/{key}.npz")
        if fingerprint not in self._splits:
            self._splits[fingerprint] = SplitData.load(self._split_file(fingerprint))
        return ListsOfSplit(lists, self._splits[fingerprint])

    def _write_lists(self, key: str, lists: ListsOfSplit) -> None:
        """Write the lists of a run. The data of their split are written once; many runs refer to them."""
        (self.folder / "lists").mkdir(parents=True, exist_ok=True)
        fingerprint = ranked_lists.fingerprint(lists.split)
        split_file = self._split_file(fingerprint)
        if not split_file.is_file():
            lists.split.save(split_file)
        packed = ranked_lists.pack(lists.lists, fingerprint)
        atomic_write(self._lists_file(key), lambda stream: np.savez_compressed(stream, **packed))

    def finish(
        self,
        key: str,
        record: dict[str, Any],
        users: Optional[UserMetrics] = None,
        lists: Optional[ListsOfSplit] = None,
    ) -> None:
        """Keep a finished run. Its record is written last, so that a run with a record is complete.

        Raises:
            OSError: a file cannot be written.
        """
        if users is not None:
            file = self._users_file(key)
            file.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(file, lambda stream: _write_users(stream, users))
        if lists is not None:
            self._write_lists(key, lists)
        json_files.write(self._record_file(key), record if users is None else {**record, _HAS_USERS: True})
        self._failure_file(key).unlink(missing_ok=True)

    def fail(self, key: str, record: dict[str, Any]) -> None:
        """Keep a failed run.

        Raises:
            OSError: the file cannot be written.
        """
        json_files.write(self._failure_file(key), record)

    def _record_file(self, key: str) -> Path:
        return self.folder / "runs" / f"{_plain(key)}.json"

    def _users_file(self, key: str) -> Path:
        return self.folder / "runs" / f"{_plain(key)}.npz"

    def _lists_file(self, key: str) -> Path:
        return self.folder / "lists" / f"{_plain(key)}.npz"

    def _split_file(self, fingerprint: str) -> Path:
        return self.folder / "lists" / f"split-{_plain(fingerprint)}.npz"

    def _failure_file(self, key: str) -> Path:
        return self.folder / "failed" / f"{_plain(key)}.json"


def _plain(key: Any) -> str:
    """The key, which must be a plain name: a stranger's comparison.json could name a path.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(key, str) or not key or {*key} & {"/", "\\", "\0"}:
        raise ValueError(f"{key!r} is no key of a run; comparison.json is damaged, or not made by this package")
    return key


def check_links(folder: Path) -> None:
    """Check that nothing in a comparison's or tuning's folder is a link that leads out of it.

    A stranger's folder could otherwise have a file of the user replaced: of a link the target is written.

    Raises:
        ValueError: a link does.
    """
    for part in (folder, *(folder / name for name in _WRITTEN)):
        for entry in list(os.scandir(part)) if part.is_dir() else []:
            if entry.is_symlink() and folder.resolve() not in Path(entry.path).resolve().parents:
                raise ValueError(
                    f"{entry.path!r} is a link to {os.path.realpath(entry.path)!r}, outside of the folder; put the "
                    "file or folder itself there, or link the whole folder"
                )


def _write_users(stream: Any, users: UserMetrics) -> None:
    names = list(users.metrics)
    values = np.stack([users.metrics[name] for name in names], axis=1) if names else np.empty((len(users.users), 0))
    np.savez_compressed(stream, users=users.users, names=np.array(names), values=values)


def _read_lists(file: Path, files: str) -> tuple[RankedLists, str]:
    """Read the lists of a run, and the fingerprint of their split's data.

    Args:
        file: of the lists.
        files: the names of the run's files, for the message.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        return ranked_lists.unpack(npz_files.read(file))
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"lists/{file.name} cannot be read ({error}); delete {files}, and run it again") from error


def _read_record(file: Path, key: str) -> Optional[dict[str, Any]]:
    """The record of a run; None if it is missing.

    Raises:
        DamagedRecord: it is damaged or cannot be read; one line with the name of the file.
    """
    name = f"{file.parent.name}/{file.name}"
    try:
        record = json_files.read(file)
        _check_key(record, key)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DamagedRecord(f"{name} cannot be read ({error.strerror}); make it readable") from error
    except ValueError as error:
        raise DamagedRecord(f"{name} is damaged ({error}); resume makes its run again") from error
    return record


def _check_key(record: dict[str, Any], key: str) -> None:
    """Check that a record is that of the run by which its file is named.

    Raises:
        ValueError: it is of another run: the file was copied or renamed.
    """
    if record.get("key", key) != key:
        raise ValueError(f"it is the record of the run {record['key']!r}")


def _names_aside(name: str) -> Iterator[str]:
    """The names for a damaged file that is kept."""
    yield f"{name}.damaged"
    yield from (f"{name}.damaged-{count}" for count in itertools.count(2))
