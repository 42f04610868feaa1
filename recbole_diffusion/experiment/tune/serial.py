"""Trials one after the other in this process: no Ray."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Optional

from recbole_diffusion.experiment.jobs.executor import one_line
from recbole_diffusion.experiment.tune.trials import Median, TrialLog, curve_of, run_trial


class _Stopped(Exception):
    """The scheduler has seen enough of a trial."""


def search(board: TrialLog, todo: Iterable[tuple[int, dict[str, Any]]], rule: Optional[Median]) -> None:
    """Run trials and keep them on the board.

    Args:
        board: of the study.
        todo: number and settings of each trial.
        rule: when to stop one; None: never.
    """
    if rule is not None:
        rule.curves.update({number: curve_of(record) for number, record in board.records.items()})
    for number, chosen in todo:
        board.start(number, chosen)

        def report(epochs: int, score: float, number: int = number) -> None:
            curve = board.report(number, epochs, score)
            if rule is not None and rule.stops(number, curve):
                raise _Stopped

        try:
            record = run_trial(board.study, number, chosen, report)
        except _Stopped:
            board.stop(number)
        except Exception as error:  # the trial's fault, whatever it is; the others go on
            board.fail(number, one_line(error))
            if rule is not None:
                rule.curves.pop(number, None)
        else:
            board.finish(number, record)
