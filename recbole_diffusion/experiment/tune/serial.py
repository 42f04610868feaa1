"""Run the trials one after the other in this process, without Ray."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Optional

from recbole_diffusion.experiment.jobs.executor import one_line
from recbole_diffusion.experiment.tune.trials import MedianStoppingRule, TrialLog, curve_of, run_trial


class _Stopped(Exception):
    """Ends a trial that the stopping rule has stopped."""


def search(
    trial_log: TrialLog, trials: Iterable[tuple[int, dict[str, Any]]], rule: Optional[MedianStoppingRule]
) -> None:
    """Run trials and store their records.

    Args:
        trial_log: log of the tuning; the rule sees the trials in it.
        trials: number and configuration of each trial.
        rule: the stopping rule; None: every trial is trained to its end.
    """
    if rule is not None:
        rule.curves.update({number: curve_of(record) for number, record in trial_log.records.items()})
    for number, chosen in trials:
        trial_log.start(number, chosen)

        def report(epochs: int, score: float, number: int = number) -> None:
            curve = trial_log.report(number, epochs, score)
            if rule is not None and rule.stops(number, curve):
                raise _Stopped

        try:
            record = run_trial(trial_log.context, number, chosen, report)
        except _Stopped:
            trial_log.stop(number)
        except Exception as error:  # one trial fails, the others go on
            trial_log.fail(number, one_line(error))
            if rule is not None:
                rule.curves.pop(number, None)
        else:
            trial_log.finish(number, record)
