"""Operators and waits of one training step of each model, on the checkerboard: what a GPU would launch and wait for.

    python benchmarks/operators.py [--models DiffRec ...]

``operators`` counts those below autograd, as a dispatch mode sees them: forward, backward and update. ``profiled``
counts every operator in a trace of ``torch.profiler``, those that call others included. The step is one after the
samplers of times are full. Markdown, on stdout.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout that is not installed

import torch
from torch.profiler import ProfilerActivity, profile

from recbole_diffusion import registry
from recbole_diffusion.compat import repairs
from recbole_diffusion.testing.board import SETTINGS, write_board
from recbole_diffusion.testing.building import build, quick, trainer_of
from recbole_diffusion.testing.synchronisation import Synchronisations
from recbole_diffusion.training.run_folder import hide_known_warnings

#: Epochs before the step that is watched.
WARM_UP = 12


def row(model: str) -> str:
    """A line of the table for one model."""
    built = build(model, {**SETTINGS, **quick(model), "data_path": "dataset", "use_gpu": False, "state": "ERROR"})
    trainer = trainer_of(built.config, built.model)
    built.model.train()
    batches = [batch for _ in range(WARM_UP) for batch in built.loaders[0]]
    for batch in batches:
        _step(trainer, batch)
    with Synchronisations() as seen:
        _step(trainer, batches[0])
    with profile(activities=[ProfilerActivity.CPU]) as trace:
        _step(trainer, batches[0])
    profiled = sum(event.name.startswith("aten::") for event in trace.events())
    places = ", ".join(sorted({place.function for place in seen.places}))
    return f"| {model} | {sum(seen.operators.values())} | {profiled} | {len(seen.places)} | {places} |"


def _step(trainer: Any, batch: Any) -> None:
    trainer.optimizer.zero_grad()
    losses = trainer.model.calculate_loss(batch)
    loss: Any = sum(losses) if isinstance(losses, tuple) else losses
    loss.backward()
    trainer.optimizer.step()


def main(arguments: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    own = [name for name, spec in registry.specs().items() if spec.card is not None]
    parser.add_argument("--models", nargs="+", choices=own, default=own)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    repairs.apply()
    here = Path.cwd()
    print("| model | operators | profiled | waits | where |\n| --- | ---: | ---: | ---: | --- |")
    with tempfile.TemporaryDirectory() as name, hide_known_warnings():
        os.chdir(name)  # RecBole writes where it is started
        write_board(Path("dataset"))
        for model in options.models:
            print(row(model), flush=True)
        os.chdir(here)  # Windows cannot remove a folder that is in use


if __name__ == "__main__":
    main()
