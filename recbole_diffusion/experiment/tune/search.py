"""The order of the trials on Ray Tune: the known configurations, then those that Optuna or HyperOpt suggest.

Optuna and HyperOpt are used through Ray's own wrappers, which ray 2.6.3 and ray 2.49 both have. When a tuning is
resumed, they are given the scores of the finished trials again.
"""

from __future__ import annotations

import importlib
import json
from collections import deque
from dataclasses import dataclass
from typing import Any, Optional

from recbole_diffusion.experiment.space.search_space import Space
from recbole_diffusion.experiment.tune.backend import import_search_library
from recbole_diffusion.experiment.tune.trials import TrialLog


@dataclass(frozen=True)
class RemainingSearch:
    """The trials that a tuning still has to run, and how.

    Attributes:
        todo: number and configuration of the known trials.
        suggested: number of trials after them, whose configurations the algorithm suggests.
        algorithm: ``optuna`` or ``hyperopt``; None where ``suggested`` is 0.
        space: the search space.
        scheduler: ``asha``, ``median`` or ``none``.
        grace: number of epochs before the scheduler may stop a trial.
        epochs: the largest number of epochs of a trial.
        at_once: number of trials at once; 0: as many as the cluster has room for.
        seed: seed of the algorithm.
        reuse: run trials after each other in one process, which imports torch and RecBole once.
    """

    todo: list[tuple[int, dict[str, Any]]]
    suggested: int
    algorithm: Optional[str]
    space: Space
    scheduler: str
    grace: int
    epochs: int
    at_once: int
    seed: int
    reuse: bool = True


def suggestions(tune: Any, trial_log: TrialLog, remaining: RemainingSearch) -> Any:
    """Make the searcher that gives Ray Tune the configuration of each trial.

    Args:
        tune: the module ``ray.tune``.
        trial_log: log of the tuning, with the finished trials.
        remaining: the trials to run.

    Returns:
        A ``ray.tune.search.Searcher``.
    """
    mode, waiting = "max" if trial_log.bigger else "min", deque(remaining.todo)
    algorithm = _algorithm(tune, trial_log, remaining) if remaining.suggested else None
    searcher_class = importlib.import_module("ray.tune.search").Searcher

    class Suggestions(searcher_class):  # type: ignore[misc,valid-type]
        def __init__(self) -> None:
            super().__init__(metric="best", mode=mode)
            self.numbers: dict[str, int] = {}  # trials that the algorithm waits for, by Ray's id
            used = [*trial_log.records, *trial_log.failures, *(number for number, _ in remaining.todo)]
            self.next_number = 1 + max([-1, *used])

        def set_search_properties(self, *_: Any, **__: Any) -> bool:
            return True

        def suggest(self, trial_id: str) -> Any:
            if waiting:
                number, chosen = waiting.popleft()
                if algorithm is not None and _point(remaining.space, chosen) is not None:
                    algorithm.suggest(trial_id)  # returns this point, the next of its points_to_evaluate
                    self.numbers[trial_id] = number
            elif algorithm is None:
                return searcher_class.FINISHED
            else:
                point = algorithm.suggest(trial_id)
                if not isinstance(point, dict):
                    return point
                number, chosen = self.next_number, remaining.space.decode(point)
                self.next_number += 1
                self.numbers[trial_id] = number
            return {"trial": number, "chosen": json.dumps(chosen), "bigger": trial_log.bigger}

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
            if algorithm is not None and self.numbers.pop(trial_id, None) is not None:
                failed = error or not result or "failure" in result
                algorithm.on_trial_complete(trial_id, None if failed else {"best": result["best"]}, error=failed)

        def save(self, checkpoint_path: str) -> None:
            """Write nothing: the trial log holds what a resumed search needs."""

        def restore(self, checkpoint_path: str) -> None:
            """Read nothing: the trial log holds what a resumed search needs."""

    return Suggestions()


def _algorithm(tune: Any, trial_log: TrialLog, remaining: RemainingSearch) -> Any:
    """Make Optuna's or HyperOpt's search, give it the finished trials, and the known ones as its next points.

    The seed depends on the number of finished trials, so that a resumed search does not repeat its first draws.
    """
    records = [trial_log.records[number] for number in sorted(trial_log.records)]
    finished = [(record, point) for record in records for point in [_point(remaining.space, record["chosen"])] if point]
    known = [point for _, chosen in remaining.todo for point in [_point(remaining.space, chosen)] if point]
    points = [*(point for _, point in finished), *known] or None
    mode, seed = "max" if trial_log.bigger else "min", remaining.seed + len(records)
    trials = len(records) + len(remaining.todo) + remaining.suggested
    make = _optuna if remaining.algorithm == "optuna" else _hyperopt
    algorithm = make(points, mode, seed, trials)
    algorithm.set_search_properties("best", mode, remaining.space.to_ray(tune))
    for index, (record, _) in enumerate(finished):
        algorithm.suggest(f"kept-{index}")
        algorithm.on_trial_complete(f"kept-{index}", {"best": record["valid_score"]})
    return algorithm


def _point(space: Space, chosen: dict[str, Any]) -> Optional[dict[str, Any]]:
    """Encode a configuration; None where it lies outside of the space, as a model's defaults may."""
    try:
        return space.encode(chosen)
    except (ValueError, KeyError):
        return None


def _optuna(points: Any, mode: str, seed: int, trials: int) -> Any:
    optuna = import_search_library("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=random_trials(trials))
    search_class = importlib.import_module("ray.tune.search.optuna").OptunaSearch
    return search_class(metric="best", mode=mode, sampler=sampler, points_to_evaluate=points)


def _hyperopt(points: Any, mode: str, seed: int, trials: int) -> Any:
    import_search_library("hyperopt")
    search_class = importlib.import_module("ray.tune.search.hyperopt").HyperOptSearch
    return search_class(
        metric="best",
        mode=mode,
        random_state_seed=seed,
        n_initial_points=random_trials(trials),
        points_to_evaluate=points,
    )


def random_trials(trials: int) -> int:
    """Return how many trials an adaptive search draws at random first: a third of the budget, between 3 and 10.

    HyperOpt's default of 20 would leave nothing to adapt in a budget of 20 trials.
    """
    return min(10, max(3, trials // 3))
