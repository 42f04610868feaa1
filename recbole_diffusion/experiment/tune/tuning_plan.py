"""The plan of a tuning: checked before anything is trained, and stored in ``tune.json`` for ``--resume``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Optional, Union

from recbole_diffusion import quick_start
from recbole_diffusion.cards import own_models
from recbole_diffusion.data import fit_on
from recbole_diffusion.experiment.compare import plan
from recbole_diffusion.experiment.defaults import CHOICE
from recbole_diffusion.experiment.jobs.fingerprint import absolute
from recbole_diffusion.experiment.jobs.moved_paths import moved_settings
from recbole_diffusion.experiment.space import search_space
from recbole_diffusion.experiment.space.search_space import Settings, Space, canonical_json
from recbole_diffusion.experiment.tune.configurations import known_configurations, limit_to_space
from recbole_diffusion.experiment.tune.options import ADAPTIVE_SEARCHES, DEFAULT_TRIALS, positive_integer
from recbole_diffusion.settings import precedence
from recbole_diffusion.settings.config import Config, parse_setting
from recbole_diffusion.settings.precedence import GIVEN, Source
from recbole_diffusion.support import json_files, yaml_files

#: Version of the format of ``tune.json``.
FORMAT = 3
SpaceSource = Union[str, Path, Space, None]


@dataclass
class TuningPlan:
    """What the trials depend on; ``tune.json`` holds it under ``request``.

    Attributes:
        model, dataset: as :func:`recbole_diffusion.run` takes them.
        trials: number of trials.
        space: the search space, see :meth:`Space.to_entries`.
        source: file of the search space.
        settings: settings of every trial, those of config files and the tuning's defaults included; paths are
            absolute.
        given: settings from the command line and config files; paths as they were written.
        search: one of :data:`recbole_diffusion.experiment.tune.options.SEARCHES`.
        scheduler: one of :data:`recbole_diffusion.experiment.tune.options.SCHEDULERS`.
        grace: number of epochs before a scheduler may stop a trial.
        seed: seed of the trials and of the search.
        seeds: seeds of the tested runs.
        configurations: configurations that are known beforehand, by trial number.
        notes: notes for the user.
    """

    model: str
    dataset: str
    trials: int
    space: dict[str, Any]
    source: str
    settings: Settings
    given: Settings
    search: str
    scheduler: str
    grace: int
    seed: int
    seeds: list[int]
    configurations: list[Settings]
    notes: list[str] = field(default_factory=list)

    @property
    def is_adaptive(self) -> bool:
        """Whether the search chooses trials by the scores of earlier ones."""
        return self.search in ADAPTIVE_SEARCHES

    def add_notes(self, *notes: str) -> None:
        """Add notes that are not there yet."""
        self.notes += [note for note in notes if note not in self.notes]


def make_plan(
    model: Optional[str],
    dataset: Optional[str],
    trials: Optional[int],
    space: SpaceSource,
    settings: Optional[Settings],
    files: Sequence[Union[str, Path]],
    search: str,
    scheduler: str,
    seed: Optional[int],
    seeds: Optional[Sequence[int]],
    grace: Optional[int],
) -> TuningPlan:
    """Make a plan, and check its settings and its whole search space.

    Args:
        model, dataset, trials, space, settings, files, search, scheduler, seed, seeds, grace: as
            :func:`recbole_diffusion.experiment.tune.tune` takes them.

    Raises:
        ValueError: an argument, a setting, a file or a search space that is not right; one line.
    """
    parsed = {key: parse_setting(key, value) for key, value in (settings or {}).items()}
    sources = _sources(model, dataset, parsed, files)
    given = precedence.merge(sources)
    model, dataset = (_required(key, given.pop(key, None)) for key in ("model", "dataset"))
    common = absolute({**CHOICE, **given})
    full_space = space if isinstance(space, Space) else search_space.load(space if space is not None else model)
    config = quick_start.configure(model, dataset, config_dict=common)
    common["data_path"] = plan.absolute_data_path(config)
    trial_seed = int(config["seed"] if seed is None else seed)
    common.pop("seed", None)
    common.setdefault("split_seed", trial_seed)
    fixed = [key for key in full_space.dimensions if key in parsed]
    tuned_space = _without_fixed_keys(full_space, fixed)
    tuned_space.check(model, dataset, common)
    own_models.check_keys(config, tuned_space.dimensions)
    fit_on.check_measured(config, "a tuning")
    if not config["eval_step"]:
        raise ValueError("eval_step=0 is not allowed in a tuning, which needs validation; allowed: int >= 1")
    if trials is not None:
        positive_integer("trials", trials)
    configurations, count, budget_notes = _budget(tuned_space, config, search, trials, trial_seed)
    return TuningPlan(
        model=model,
        dataset=dataset,
        trials=count,
        space=tuned_space.to_entries(),
        source=full_space.source,
        settings=common,
        given=given,
        search=search,
        scheduler=scheduler,
        grace=_patience(config) if grace is None else positive_integer("grace", grace),
        seed=trial_seed,
        seeds=[int(test_seed) for test_seed in seeds] if seeds else [trial_seed],
        configurations=configurations,
        notes=[
            *precedence.notes(sources),
            *config.notes,
            *(f"{key}={parsed[key]!r} is given and not tuned" for key in fixed),
            *budget_notes,
        ],
    )


def _sources(
    model: Optional[str], dataset: Optional[str], settings: Settings, files: Sequence[Union[str, Path]]
) -> list[Source]:
    """The config files, then the settings, in which the names of model and data set are settings too."""
    names = {key: name for key, name in (("model", model), ("dataset", dataset)) if name}
    contents = [Source(str(file), yaml_files.load_yaml(Path(file))) for file in files]
    return [*contents, Source(GIVEN, {**settings, **names})]


def _required(key: str, value: Any) -> str:
    if value is None:
        raise ValueError(f"{key} is not set; give --{key}=NAME, or {key}: NAME in a config file")
    return str(value)


def _without_fixed_keys(space: Space, fixed: Sequence[str]) -> Space:
    """The search space without the keys that settings fix.

    Raises:
        ValueError: no key is left.
    """
    tuned_space = space.without(fixed)
    if not tuned_space.dimensions:
        raise ValueError(
            f"{space.source}: nothing is left to tune, {', '.join(fixed)} given as settings; leave one out"
        )
    return tuned_space


def _patience(config: Config) -> int:
    """Epochs without a gain after which RecBole stops a training, at most all of them."""
    return min(max(config["stopping_step"] * config["eval_step"], 1), max(config["epochs"], 1))


def _budget(
    space: Space, config: Config, search: str, trials: Optional[int], seed: int
) -> tuple[list[Settings], int, list[str]]:
    """The known configurations, the number of trials, and notes for the user."""
    configurations, notes = known_configurations(space, config, search, trials, seed)
    if search not in ADAPTIVE_SEARCHES:
        return configurations, len(configurations), notes
    count, limit_notes = limit_to_space(space, trials or DEFAULT_TRIALS)
    return configurations, count, [*notes, *limit_notes]


def read_plan(folder: Path, trials: Optional[int]) -> TuningPlan:
    """Read the plan of an earlier tuning.

    Args:
        folder: folder of the tuning.
        trials: a new budget, not smaller than the earlier one; None: the earlier one.

    Raises:
        ValueError: the folder holds no tuning, or the budget is smaller than before.
    """
    file = folder / "tune.json"
    try:
        content = json_files.read(file)
        if content.get("format") != FORMAT:
            raise ValueError(f"{str(file)!r} has format {content.get('format')!r}; this version reads {FORMAT}")
        tuning_plan = TuningPlan(**content["request"])
        tuning_plan.settings = moved_settings(tuning_plan.settings, content["folder"], folder, tuning_plan.dataset)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"resume={str(folder)!r} is not the folder of a tuning: {error}") from error
    if trials is None or positive_integer("trials", trials) == tuning_plan.trials:
        return tuning_plan
    if trials < tuning_plan.trials:
        raise ValueError(
            f"trials={trials} is not allowed; {str(folder)!r} has a budget of {tuning_plan.trials}; allowed: more"
        )
    _extend(tuning_plan, trials)
    return tuning_plan


def _extend(tuning_plan: TuningPlan, trials: int) -> None:
    """Add the configurations of a larger budget to a plan."""
    space = search_space.parse(tuning_plan.space, tuning_plan.source)
    config = quick_start.configure(tuning_plan.model, tuning_plan.dataset, config_dict=tuning_plan.settings)
    configurations, count, notes = _budget(space, config, tuning_plan.search, trials, tuning_plan.seed)
    known = set(map(canonical_json, tuning_plan.configurations))
    tuning_plan.configurations += [new for new in configurations if canonical_json(new) not in known]
    tuning_plan.trials = count if tuning_plan.is_adaptive else len(tuning_plan.configurations)
    tuning_plan.add_notes(*notes)


def new_folder(model: str, dataset: str) -> Path:
    """Return a new path below ``outputs``, of the names, the time and the process id."""
    name = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in f"{model}-{dataset}")
    return Path("outputs").absolute() / f"tune-{name}-{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}"
