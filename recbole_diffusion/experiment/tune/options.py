"""The values that the options of a tuning may have."""

from __future__ import annotations

from typing import Any

SEARCHES = ("random", "grid", "optuna", "hyperopt")
#: Searches whose next trial depends on the scores of earlier ones. They run on Ray.
ADAPTIVE_SEARCHES = ("optuna", "hyperopt")
SCHEDULERS = ("asha", "median", "none")
EXECUTORS = ("ray", "serial")
#: Number of trials where none is given.
DEFAULT_TRIALS = 20


def check_names(search: str, scheduler: object, executor: object) -> None:
    """Check the names of the search, the scheduler and the executor; None stands for a default.

    Raises:
        ValueError: a name that is not known.
    """
    options = (("search", search, SEARCHES), ("scheduler", scheduler, SCHEDULERS), ("executor", executor, EXECUTORS))
    for option, value, allowed in options:
        if value is not None and value not in allowed:
            raise ValueError(f"{option}={value!r} is not allowed; allowed: {' | '.join(allowed)}")


def positive_integer(name: str, value: Any) -> int:
    """Return the value after a check.

    Raises:
        ValueError: it is no whole number from 1.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name}={value!r} is not allowed; allowed: int >= 1")
    return value
