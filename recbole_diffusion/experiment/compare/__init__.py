"""Any models side by side on one split: every run run once, kept at once, and what was asked kept beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional, Union

from recbole_diffusion.experiment.compare import plan
from recbole_diffusion.experiment.compare.comparison import Comparison, Resources, metric_names
from recbole_diffusion.experiment.compare.entries import Entry, entries, files_of
from recbole_diffusion.experiment.compare.models_on_datasets import columns_of
from recbole_diffusion.experiment.jobs.executor import server_for_workers
from recbole_diffusion.experiment.jobs.fingerprint import absolute
from recbole_diffusion.experiment.jobs.moved import found_again, settings_again
from recbole_diffusion.experiment.jobs.store import Store, exclusive_lock
from recbole_diffusion.settings import precedence
from recbole_diffusion.settings.config import parse_setting
from recbole_diffusion.settings.precedence import GIVEN, Source
from recbole_diffusion.support import yaml_files

__all__ = ["Resources", "compare", "resume"]


@dataclass
class Asked:
    """What a comparison was asked for, as comparison.json keeps it: files with their content, paths absolute.

    Attributes:
        models: words, see :func:`entries`.
        contents: of the files that these name, by word.
        datasets, seeds, tune, metric, reference: as :func:`compare` takes them.
        files: name and content of each config file.
        settings: those that win over files.
        own: settings by label.
    """

    models: list[str]
    contents: dict[str, dict[str, Any]]
    datasets: list[str]
    seeds: list[int]
    files: list[tuple[str, dict[str, Any]]]
    settings: dict[str, Any]
    own: dict[str, dict[str, Any]]
    tune: int
    metric: Optional[str]
    reference: Optional[str]

    def __post_init__(self) -> None:
        """Refuse what needs no data to be refused.

        Raises:
            ValueError: seeds or data sets that are not each there once, a number of trials below 0.
        """
        if len(set(self.seeds)) < max(len(self.seeds), 1):
            raise ValueError(f"seeds={self.seeds!r} is not allowed; allowed: one or more, each once")
        if len(set(self.datasets)) < max(len(self.datasets), 1):
            raise ValueError(f"dataset={','.join(self.datasets)!r} is not allowed; allowed: one or more, each once")
        if self.tune < 0:
            raise ValueError(f"tune={self.tune} is not allowed; allowed: a number of trials, or 0")

    @property
    def sources(self) -> list[Source]:
        """Of the settings for all models; the last one is what was given directly."""
        return [*(Source(name, content) for name, content in self.files), Source(GIVEN, self.settings)]

    def after_move(self, before: str, now: Path) -> Asked:
        """With its paths found again."""
        return Asked(
            **{
                **vars(self),
                "contents": {word: settings_again(each, before, now) for word, each in self.contents.items()},
                "files": [(name, settings_again(each, before, now)) for name, each in self.files],
                "settings": settings_again(self.settings, before, now),
                "own": {label: settings_again(each, before, now) for label, each in self.own.items()},
            }
        )


def compare(
    models: Sequence[str],
    datasets: Sequence[str],
    seeds: Sequence[int],
    folder: Union[str, Path],
    settings: Optional[Mapping[str, Any]] = None,
    own: Optional[Mapping[str, Mapping[str, Any]]] = None,
    tune: int = 0,
    resources: Optional[Resources] = None,
    command: str = "",
    metric: Optional[str] = None,
    reference: Optional[str] = None,
    files: Sequence[Union[str, Path]] = (),
) -> Store:
    """Run what is not there yet of every model, data set and seed, and keep it in ``folder``.

    Args:
        models: as :func:`entries` takes them.
        datasets: their names.
        seeds: of the trainings; the split is the same for all of them.
        folder: made where it is not there. Runs in it that the same settings, data and code made are not run again.
        settings: for every model; they win over the defaults of :mod:`plan`, over ``files`` and over a model's file.
        own: for single models, by label; they win over everything.
        tune: trials per model and data set, chosen between on the validation split: the model's defaults first, then
            draws from its search space.
        resources: where runs run; by default one after the other in this process.
        command: what was typed, for the record.
        metric: the report's main one; None: that which chooses the epochs.
        reference: the label of the model that the others are tested against in the report; None: the best.
        files: yaml files of settings for every model, the later ones win. A model's own file wins over them.

    Returns:
        The folder's store. Runs that failed are in it with their reasons.

    Raises:
        ValueError: a model, setting or data set that is not right for all of them, another comparison at work in the
            folder; one line.
    """
    asked = Asked(
        models=[word.strip() for word in models if word.strip()],
        contents={word: absolute(content) for word, content in files_of(models).items()},
        datasets=list(datasets),
        seeds=list(seeds),
        files=[(str(file), absolute(yaml_files.load_yaml(Path(file)))) for file in files],
        settings=absolute(_parsed(settings or {})),
        own={label: absolute(_parsed(each)) for label, each in (own or {}).items()},
        tune=tune,
        metric=metric,
        reference=reference,
    )
    return _run(asked, Path(folder), resources or Resources(), command, {})


def resume(folder: Union[str, Path], resources: Optional[Mapping[str, Any]] = None) -> Store:
    """Go on with a comparison: what failed or was not reached is run, what is finished is not.

    The folder, or the whole project with its data, may have been moved in between.

    Args:
        folder: of the comparison.
        resources: what of :class:`Resources` is to be other than it was.

    Raises:
        ValueError: the folder holds none; see :func:`compare`.
    """
    store = Store(folder, new=False)
    kept = store.plan()
    before, now = kept["folder"], store.folder
    asked = Asked(**kept["asked"]).after_move(before, now)
    where = Resources(**{**kept["resources"], **(resources or {})})
    homes = {name: each.get("data_path") for name, each in kept["datasets"].items()}
    homes = {name: found_again(home, before, now, name) for name, home in homes.items() if home}
    return _run(asked, store.folder, where, kept["command"], homes)


def _run(asked: Asked, folder: Path, where: Resources, command: str, homes: Mapping[str, str]) -> Store:
    """``homes``: the ``data_path`` of data sets, where an earlier call has found them."""
    chosen = entries(asked.models, asked.own, asked.contents)
    protocol = plan.protocol(chosen, precedence.merge(asked.sources))
    _check_report(chosen, protocol.settings, asked.metric, asked.reference)
    store = Store(folder)
    with exclusive_lock(store.folder, "comparison"), server_for_workers(where.workers, where.address) as server:
        common = {
            **protocol.settings,
            "state": "ERROR",
            "prepared_data": str(store.folder / "data"),
            "checkpoint_dir": str(store.folder / "saved"),
        }
        ready = columns_of(chosen, asked.datasets, common, asked.sources, bool(asked.tune), homes)
        ready.notes[:0] = [("", note) for note in protocol.notes]
        work = Comparison(
            store, ready, asked.seeds, common, {*asked.settings}, asked.tune, where, command, asdict(asked)
        )
        work.run(server)
    return store


def _check_report(
    chosen: Sequence[Entry], settings: Mapping[str, Any], metric: Optional[str], reference: Optional[str]
) -> None:
    """What the report will be asked for, before hours of training.

    Raises:
        ValueError: no such model, or a metric that is not measured.
    """
    labels = [entry.label for entry in chosen]
    if reference is not None and reference not in labels:
        raise ValueError(f"reference={reference!r} is not allowed; allowed: {' | '.join(labels)}")
    measured = metric_names(settings)
    if metric is not None and metric.lower() not in measured:
        raise ValueError(f"metric={metric!r} is not measured; allowed: {' | '.join(measured)}")


def _parsed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Values as they are meant: the command line has strings only."""
    return {key: parse_setting(key, value) for key, value in settings.items()}
