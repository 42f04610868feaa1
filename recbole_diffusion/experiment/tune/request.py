"""What a tuning is asked for: checked before anything is trained, and kept so that one can go on with it."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Optional, Union

from recbole_diffusion import quick_start
from recbole_diffusion.cards import own_models
from recbole_diffusion.experiment.compare import plan
from recbole_diffusion.experiment.defaults import CHOICE
from recbole_diffusion.experiment.jobs.fingerprint import absolute
from recbole_diffusion.experiment.jobs.moved_paths import moved_settings
from recbole_diffusion.experiment.space import search_space
from recbole_diffusion.experiment.space.search_space import Settings, Space, identity
from recbole_diffusion.settings import precedence
from recbole_diffusion.settings.config import Config, parse_setting
from recbole_diffusion.settings.precedence import GIVEN, Source
from recbole_diffusion.support import yaml_files

FORMAT = 3
TRIALS = 20
SEARCHES = ("random", "grid", "optuna", "hyperopt")
#: Searches that invent their trials one after the other, on Ray.
INVENTING = ("optuna", "hyperopt")
SCHEDULERS = ("asha", "median", "none")
EXECUTORS = ("ray", "serial")
SpaceSource = Union[str, Path, Space, None]


@dataclass(frozen=True)
class Resources:
    """Where trials run.

    Attributes:
        executor: ``ray`` or ``serial``.
        workers: trials at once on this machine; None on a cluster: as many as there is room for.
        address: of a cluster.
        threads, gpus: of each trial.
        note: why it is not what one would expect.
    """

    executor: str
    workers: Optional[int]
    address: Optional[str]
    threads: int
    gpus: float
    note: str = ""


@dataclass
class TuningPlan:
    """What the trials depend on, as ``tune.json`` keeps it.

    Attributes:
        model, dataset: what :func:`recbole_diffusion.run` takes.
        trials: how many there will be.
        space, source: what is chosen from, see :meth:`Space.plain`, and the file that it came from.
        settings: of every trial, those of files and defaults of the tuning included; paths are absolute.
        given: those that were given, in files too; paths as they were given.
        search, scheduler: one of the words above.
        grace: epochs that no trial is stopped before.
        seed: of the trials and of the search.
        seeds: of the tested runs.
        configurations: the trials that are known beforehand, by number.
        notes: what a reader must know.
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


def where(
    executor: Optional[str],
    workers: Optional[int],
    address: Optional[str],
    threads: int,
    gpus: float,
    search: str,
    scheduler: Optional[str],
) -> Resources:
    """Which executor, and whether what is asked goes with it. Ray wherever it is there, unless ``executor`` says no.

    Raises:
        ValueError: it does not, a word is not known, or a library is not there.
    """
    words = (("search", search, SEARCHES), ("scheduler", scheduler, SCHEDULERS), ("executor", executor, EXECUTORS))
    for name, value, allowed in words:
        if value is not None and value not in allowed:
            raise ValueError(f"{name}={value!r} is not allowed; allowed: {' | '.join(allowed)}")
    for name, number in (("workers", workers), ("threads", threads)):
        if number is not None:
            at_least_one(name, number)
    asked = {"search": search if search in INVENTING else None, "workers": workers, "address": address}
    asked["scheduler"] = scheduler if scheduler == "asha" else None
    needs = [f"{name}={value}" for name, value in asked.items() if value is not None]
    if executor == "serial" and needs:
        raise ValueError(f"executor=serial is not allowed with {needs[0]}, which needs Ray; allowed: executor=ray")
    if executor == "serial":
        return Resources("serial", 1, None, threads, gpus)
    fault = _fault_of_ray()
    if fault is not None and (executor == "ray" or needs):
        raise ValueError(f"{needs[0] if needs else 'executor=ray'}: {fault}")
    if fault is not None:
        note = f"trials run one after the other in this process, with median stopping instead of ASHA: {fault}"
        return Resources("serial", 1, None, threads, gpus, note)
    if search in INVENTING:
        library(search)
    return Resources("ray", workers or (1 if address is None else None), address, threads, float(gpus))


def _fault_of_ray() -> Optional[str]:
    """Why Ray Tune does not work here; None where it does."""
    from recbole_diffusion.experiment.cluster.session import import_ray

    try:
        import_ray()
        importlib.import_module("ray.tune")
    except (ValueError, ImportError) as error:
        return " ".join(str(error).split())
    return None


def library(name: str) -> Any:
    """A search's library.

    Raises:
        ValueError: it is not there.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f"search={name} needs {name}, which cannot be imported ({error}); pip install {name}"
        ) from error


def at_least_one(name: str, value: Any) -> int:
    """The value.

    Raises:
        ValueError: it is no whole number from 1.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name}={value!r} is not allowed; allowed: int >= 1")
    return value


def new(
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
    """A request, its settings and the whole space checked; see :func:`recbole_diffusion.experiment.tune.tune`.

    Raises:
        ValueError: something that is not right; one line.
    """
    given = {key: parse_setting(key, value) for key, value in (settings or {}).items()}
    sources = [Source(str(file), yaml_files.load_yaml(Path(file))) for file in files]
    sources.append(Source(GIVEN, {**given, **{word: name for word, name in _pairs(model, dataset) if name}}))
    asked = precedence.merge(sources)
    model, dataset = (_name(word, asked.pop(word, None)) for word in ("model", "dataset"))
    common = absolute({**CHOICE, **asked})
    whole = space if isinstance(space, Space) else search_space.load(space if space is not None else model)
    config = quick_start.configure(model, dataset, config_dict=common)
    common["data_path"] = plan.absolute_data_path(config)
    chosen_seed = int(config["seed"] if seed is None else seed)
    common.pop("seed", None)
    common.setdefault("split_seed", chosen_seed)
    fixed = [key for key in whole.dimensions if key in given]
    left = whole.fix(fixed)
    if not left.dimensions:
        raise ValueError(
            f"{whole.source}: nothing is left to tune, {', '.join(fixed)} given as settings; leave one out"
        )
    left.check(model, dataset, common)
    own_models.check_keys(config, left.dimensions)
    if not config["eval_step"]:
        raise ValueError("eval_step=0 is not allowed in a tuning, which needs validation; allowed: int >= 1")
    if trials is not None:
        at_least_one("trials", trials)
    patience = min(max(config["stopping_step"] * config["eval_step"], 1), max(config["epochs"], 1))
    configurations, notes = _configurations(left, config, search, trials, chosen_seed)
    return TuningPlan(
        model=model,
        dataset=dataset,
        trials=len(configurations) if search not in INVENTING else _capped(left, trials or TRIALS, notes),
        space=left.plain(),
        source=whole.source,
        settings=common,
        given=asked,
        search=search,
        scheduler=scheduler,
        grace=patience if grace is None else at_least_one("grace", grace),
        seed=chosen_seed,
        seeds=[int(each) for each in seeds] if seeds else [chosen_seed],
        configurations=configurations,
        notes=[
            *precedence.notes(sources),
            *config.notes,
            *(f"{key}={given[key]!r} is given and not tuned" for key in fixed),
            *notes,
        ],
    )


def _pairs(model: Optional[str], dataset: Optional[str]) -> tuple[tuple[str, Any], tuple[str, Any]]:
    return ("model", model), ("dataset", dataset)


def _name(word: str, value: Any) -> str:
    if value is None:
        raise ValueError(f"{word} is not set; give --{word}=NAME, or {word}: NAME in a config file")
    return str(value)


def _capped(space: Space, trials: int, notes: list[str]) -> int:
    """No more trials than the space has configurations, and the defaults."""
    most = trials if space.size is None else min(trials, space.size + 1)
    if most < trials:
        notes.append(f"the space has {space.size} configurations: {most} trials in place of {trials}")
    return most


def _configurations(
    space: Space, config: Config, search: str, trials: Optional[int], seed: int
) -> tuple[list[Settings], list[str]]:
    """The trials that are known beforehand, in their order, and what there is to say about them."""
    if search == "grid":
        return _of_grid(space, trials, seed)
    plain, count = config.plain(), trials or TRIALS
    defaults = [{key: plain[key] for key in space.dimensions}] if {*space.dimensions} <= {*plain} else []
    if search in INVENTING:
        return defaults, []
    draws = [each for each in space.sample(count, seed) if identity(each) not in map(identity, defaults)]
    found = [*defaults, *draws][:count]
    note = f"the space has {space.size} configurations: {len(found)} trials are the defaults and all of it, not {count}"
    return found, [note] if len(found) < count else []


def _of_grid(space: Space, trials: Optional[int], seed: int) -> tuple[list[Settings], list[str]]:
    points = space.grid()  # a continuous key has none
    size = int(space.size or 0)
    if trials is None or trials >= size:
        more = f", not {trials}" if trials not in (None, size) else ""
        return list(points), [f"the grid has {size} points: all of them are run{more}"]
    note = f"the grid has {size} points: it is cut to {trials} of them, drawn at random with seed {seed}"
    return space.sample(trials, seed), [note]


def kept(home: Path, trials: Optional[int]) -> TuningPlan:
    """The request of an earlier tuning, with a larger budget if one is given.

    Raises:
        ValueError: the folder is no tuning's, or the budget is smaller than before.
    """
    file = home / "tune.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content.get("format") != FORMAT:
            raise ValueError(f"{str(file)!r} has format {content.get('format')!r}; this version reads {FORMAT}")
        request = TuningPlan(**content["request"])
        request.settings = moved_settings(request.settings, content["folder"], home, request.dataset)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"resume={str(home)!r} is not the folder of a tuning: {error}") from error
    if trials is not None and at_least_one("trials", trials) < request.trials:
        raise ValueError(f"trials={trials} is not allowed; {str(home)!r} was asked for {request.trials}; allowed: more")
    return request if trials in (None, request.trials) else _extended(request, int(trials or 0))


def _extended(request: TuningPlan, trials: int) -> TuningPlan:
    space = search_space.parse(request.space, request.source)
    config = quick_start.configure(request.model, request.dataset, config_dict=request.settings)
    found, notes = _configurations(space, config, request.search, trials, request.seed)
    known = {identity(each) for each in request.configurations}
    request.configurations += [each for each in found if identity(each) not in known]
    listed = request.search not in INVENTING
    request.trials = len(request.configurations) if listed else _capped(space, trials, notes)
    request.notes += [note for note in notes if note not in request.notes]
    return request


def new_folder(model: str, dataset: str) -> Path:
    """A folder of its own below ``outputs``."""
    name = "".join(each if each.isalnum() or each in "-_." else "-" for each in f"{model}-{dataset}")
    return Path("outputs").absolute() / f"tune-{name}-{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}"
