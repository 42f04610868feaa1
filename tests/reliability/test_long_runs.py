"""Many trainings in one process, many epochs in one training: nothing is left of each but its results.

A tenth of what benchmarks/reliability_long.py counts. At the first sample of ``runs`` each model has had its turn.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import forked_commands as forked
import long_runs
import pytest
from long_runs import COUNTED, sample

#: Bounds of the growth between the samples. A training's data set and model alone are some thousand objects.
OBJECTS, MEBIBYTES = 300, 16
#: Bound of run.log, per epoch.
BYTES = 400


@pytest.mark.processes
@pytest.mark.parametrize(("part", "first", "last"), [("epochs", 5, 55), ("cells", 4, 20), ("runs", 5, 15)])
def test_nothing_grows(part: str, first: int, last: int, tmp_path: Path) -> None:
    forked.preload()
    before, after = long_runs.in_process(part, tmp_path, first, last)
    assert {name: after[name] for name in COUNTED} == {name: before[name] for name in COUNTED}
    assert after["objects"] - before["objects"] < OBJECTS
    assert after["memory"] - before["memory"] < MEBIBYTES
    assert after.get("log", 0) - before.get("log", 0) < BYTES * (last - first)
    assert (part == "epochs") == ("log" in after)
    assert forked.processes_left(set(), tmp_path, 2.0) == []


def test_what_stays_is_counted(tmp_path: Path) -> None:
    end, handler = threading.Event(), logging.NullHandler()
    thread = threading.Thread(target=end.wait)
    before = sample()
    try:
        with open(tmp_path / "file", "w"):
            thread.start()
            logging.getLogger("some.name").addHandler(handler)
            more = [[number] for number in range(1000)]
            after = sample()
    finally:
        end.set()
        thread.join()
        logging.getLogger("some.name").removeHandler(handler)
    assert {name for name in COUNTED if after[name] != before[name]} == {"open files", "threads", "handlers"}
    assert [after[name] - before[name] for name in ("open files", "threads", "handlers")] == [1, 1, 1]
    assert len(more) <= after["objects"] - before["objects"] < len(more) + 200
