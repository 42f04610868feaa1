"""Which trial comes next on Ray Tune: those that are known, then those that Optuna or HyperOpt invent.

Their searches are Ray's own wrappers, which both rays have. After a crash they are told again what is kept.
"""

from __future__ import annotations

import importlib
import json
from collections import deque
from dataclasses import dataclass
from typing import Any, Optional

from recbole_diffusion.experiment.space.search_space import Space
from recbole_diffusion.experiment.tune.request import library
from recbole_diffusion.experiment.tune.trials import TrialLog


@dataclass(frozen=True)
class Search:
    """How a tuning goes on.

    Attributes:
        todo: number and settings of the trials that are known beforehand.
        more: how many the search invents after them.
        algorithm: ``optuna`` or ``hyperopt`` for those; None where ``more`` is 0.
        space: where it searches.
        scheduler: ``asha``, ``median`` or ``none``.
        grace: epochs that no trial stops before.
        epochs: the most that a trial has.
        at_once: trials that run at the same time; 0: as many as there is room for.
        seed: of the search.
        reuse: trials follow each other in one process, which imports torch and RecBole once.
    """

    todo: list[tuple[int, dict[str, Any]]]
    more: int
    algorithm: Optional[str]
    space: Space
    scheduler: str
    grace: int
    epochs: int
    at_once: int
    seed: int
    reuse: bool = True


def suggestions(tune: Any, board: TrialLog, plan: Search) -> Any:
    """What Tune asks for the next trial: those that are known, then those of the search."""
    mode, waiting = "max" if board.bigger else "min", deque(plan.todo)
    inner = _algorithm(tune, board, plan) if plan.more else None
    kind = importlib.import_module("ray.tune.search").Searcher

    class Suggestions(kind):  # type: ignore[misc,valid-type]
        def __init__(self) -> None:
            super().__init__(metric="best", mode=mode)
            self.numbers: dict[str, int] = {}
            self.next = 1 + max([-1, *board.records, *board.failures, *(number for number, _ in plan.todo)])

        def set_search_properties(self, *_: Any, **__: Any) -> bool:
            return True

        def suggest(self, trial_id: str) -> Any:
            if waiting:
                number, chosen = waiting.popleft()
                if inner is not None and _point(plan.space, chosen) is not None:
                    inner.suggest(trial_id)  # gives this very point
                    self.numbers[trial_id] = number
            elif inner is None:
                return kind.FINISHED
            else:
                point = inner.suggest(trial_id)
                if not isinstance(point, dict):
                    return point
                number, chosen = self.next, plan.space.decode(point)
                self.next += 1
                self.numbers[trial_id] = number
            return {"trial": number, "chosen": json.dumps(chosen), "bigger": board.bigger}

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
            if inner is not None and self.numbers.pop(trial_id, None) is not None:
                failed = error or not result or "failure" in result
                inner.on_trial_complete(trial_id, None if failed else {"best": result["best"]}, error=failed)

        def save(self, checkpoint_path: str) -> None:
            """Nothing: what is kept is on the board."""

        def restore(self, checkpoint_path: str) -> None:
            """Nothing: what is kept is on the board."""

    return Suggestions()


def _algorithm(tune: Any, board: TrialLog, plan: Search) -> Any:
    """Optuna's or HyperOpt's search, told what is kept, with the known trials as its first points."""
    records = [board.records[number] for number in sorted(board.records)]
    kept = [(record, point) for record in records for point in [_point(plan.space, record["chosen"])] if point]
    known = [point for _, chosen in plan.todo for point in [_point(plan.space, chosen)] if point]
    points = [*(point for _, point in kept), *known] or None
    mode, seed = "max" if board.bigger else "min", plan.seed + len(records)  # not the first draws again
    trials = len(records) + len(plan.todo) + plan.more
    found = _optuna(points, mode, seed, trials) if plan.algorithm == "optuna" else _hyperopt(points, mode, seed, trials)
    found.set_search_properties("best", mode, plan.space.to_ray(tune))
    for place, (record, _) in enumerate(kept):
        found.suggest(f"kept-{place}")
        found.on_trial_complete(f"kept-{place}", {"best": record["valid_score"]})
    return found


def _point(space: Space, chosen: dict[str, Any]) -> Optional[dict[str, Any]]:
    """Settings as a point of the search; None where they lie outside of the space, as a model's defaults may."""
    try:
        return space.encode(chosen)
    except (ValueError, KeyError):
        return None


def _optuna(points: Any, mode: str, seed: int, trials: int) -> Any:
    optuna = library("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=first_draws(trials))
    kind = importlib.import_module("ray.tune.search.optuna").OptunaSearch
    return kind(metric="best", mode=mode, sampler=sampler, points_to_evaluate=points)


def _hyperopt(points: Any, mode: str, seed: int, trials: int) -> Any:
    library("hyperopt")
    kind = importlib.import_module("ray.tune.search.hyperopt").HyperOptSearch
    return kind(
        metric="best",
        mode=mode,
        random_state_seed=seed,
        n_initial_points=first_draws(trials),
        points_to_evaluate=points,
    )


def first_draws(trials: int) -> int:
    """How many trials a search that learns draws at random first: a third, 3 to 10. HyperOpt's own 20 would be all."""
    return min(10, max(3, trials // 3))
