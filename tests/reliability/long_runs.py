"""What grows in one process: memory, open files, threads and others, after a few of many trainings or epochs."""

from __future__ import annotations

import atexit
import gc
import json
import logging
import os
import re
import threading
import warnings
from pathlib import Path
from typing import Any, Callable, NamedTuple

import forked_commands as forked
import yaml
from forked_commands import EVALUATION, SMALL

#: What must not grow at all between the two samples; memory and objects have a bound.
COUNTED = ("open files", "threads", "children", "handlers", "filters", "exit functions")
#: Models of several kinds, for the calls of ``run()``, and what makes them small.
MODELS = ("DiffRec", "EASE", "DiffuRec", "BPR", "GiffCF")
OF_MODEL: dict[str, dict[str, Any]] = {
    "DiffRec": {"steps": 3, "dims": [8]},
    "DiffuRec": {"hidden_size": 8, "steps": 3, "MAX_ITEM_LIST_LENGTH": 5},
    "GiffCF": {"steps": 2},
}
Sample = dict[str, float]


def sample() -> Sample:
    """Count what the process holds, after a garbage collection.

    Returns:
        Memory is the anonymous one, without the files that are mapped; MiB.
    """
    gc.collect()
    loggers = [logging.getLogger(), *map(logging.getLogger, list(logging.root.manager.loggerDict))]
    return {
        "memory": _anonymous_memory(),
        "objects": len(gc.get_objects()),
        "open files": len(os.listdir("/proc/self/fd")),
        "threads": len(threading.enumerate()),
        "children": len(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()),
        "handlers": sum(len(logger.handlers) for logger in loggers),
        "filters": len(warnings.filters),
        "exit functions": atexit._ncallbacks(),
    }


def _anonymous_memory() -> float:
    content = Path("/proc/self/smaps_rollup").read_text()
    return int(re.findall(r"^Anonymous: +(\d+) kB", content, re.MULTILINE)[0]) / 1024


def settings(**more: Any) -> dict[str, Any]:
    """The settings of the small trainings, as a dict."""
    words = (word[2:].partition("=") for word in (*SMALL, EVALUATION))
    return {**{key: yaml.safe_load(value) for key, _, value in words}, **more}


def epochs(first: int, last: int) -> dict[int, Sample]:
    """Train once, for ``last`` epochs; the samples after ``first`` and ``last`` of them, with the bytes of run.log."""
    from recbole_diffusion import run

    samples: dict[int, Sample] = {}

    def callback(index: int, _: float) -> None:
        if index + 1 in (first, last):
            (log,) = Path("outputs").glob("*/run.log")
            samples[index + 1] = {**sample(), "log": log.stat().st_size}

    words = settings(epochs=last, stopping_step=last, state="INFO", **OF_MODEL["DiffRec"])
    run("DiffRec", "tiny", config_dict=words, callback=callback)
    return samples


def runs(first: int, last: int) -> dict[int, Sample]:
    """Call ``run()`` ``last`` times, with several models in turn; the samples after ``first`` and ``last`` of them."""
    from recbole_diffusion import run

    samples = {}
    for number in range(1, last + 1):
        model = MODELS[number % len(MODELS)]
        run(model, "tiny", config_dict=settings(epochs=2, seed=number, **OF_MODEL.get(model, {})))
        if number in (first, last):
            samples[number] = sample()
    return samples


def cells(first: int, last: int) -> dict[int, Sample]:
    """Compare, serially, with ``last`` runs; the samples after ``first`` and ``last`` of them are kept."""
    from recbole_diffusion.experiment.compare import compare
    from recbole_diffusion.experiment.jobs.store import Store

    samples: dict[int, Sample] = {}
    finish, numbers = Store.finish, iter(range(1, last + 1))

    def sampled(self: Any, *arguments: Any) -> None:
        finish(self, *arguments)
        number = next(numbers)
        if number in (first, last):
            samples[number] = sample()

    Store.finish = sampled  # type: ignore[method-assign]
    seeds = range(1, last // 2 + 1)
    compare(["BPR", "DiffRec"], ["tiny"], seeds, "compare", settings(epochs=1), own={"DiffRec": OF_MODEL["DiffRec"]})
    return samples


class Part(NamedTuple):
    """A part of the benchmark.

    Attributes:
        what: is counted.
        execute: the function; returns the samples after ``first`` and ``last``.
        first, last: the numbers after which the benchmark samples.
    """

    what: str
    execute: Callable[[int, int], dict[int, Sample]]
    first: int
    last: int


PARTS = {
    "epochs": Part("epochs of one training", epochs, 50, 500),
    "cells": Part("runs of one comparison, serial", cells, 20, 200),
    "runs": Part("calls of `run()` in one process", runs, 5, 50),
}


def in_process(part: str, folder: Path, first: int, last: int) -> list[Sample]:
    """Execute a part in a forked process, with ``folder`` as its working folder; its two samples."""
    forked.write_data(folder / "dataset")

    def function() -> int:
        samples = PARTS[part].execute(first, last)
        (folder / "samples.json").write_text(json.dumps([samples[first], samples[last]]))
        return 0

    ended = forked.execute([], folder, function=function, limit=7200)
    if ended.code:
        raise RuntimeError(ended.text)
    return list(json.loads((folder / "samples.json").read_text()))
