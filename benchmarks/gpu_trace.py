"""Where do the seconds go? Profiles of epochs, steps and evaluations: the host's functions, the device's kernels.

    python benchmarks/gpu_trace.py [--device cpu --scale 0.02] [--only WORD ...]

One table per piece of work: wall time, time in kernels, launches, the host's time per launch, the functions in which
the host spends most of its own time, the kernels that take longest.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Callable

os.environ.setdefault("OMP_NUM_THREADS", "4")

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout that is not installed

from gpu_measures import Bench, embedding_keys, precision, rows_of
from gpu_report import duration, synchronise
from torch.profiler import ProfilerActivity, profile

from recbole_diffusion.compat import repairs
from recbole_diffusion.training.run_folder import hide_known_warnings

LINES = 12


def traced(name: str, task: Callable[[], object], device: torch.device, repeats: int = 3) -> None:
    """Run a task, then profile it on the host, then on the device."""
    for _ in range(2):
        task()
    synchronise(device)
    start = perf_counter()
    for _ in range(repeats):
        task()
    synchronise(device)
    wall = (perf_counter() - start) / repeats
    host = cProfile.Profile()
    host.runcall(lambda: (task(), synchronise(device)))
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile(activities=activities) as trace:
        task()
        synchronise(device)
    events = trace.key_averages()
    kernels = [event for event in events if event.device_type == torch.autograd.DeviceType.CUDA]
    busy = sum(event.self_device_time_total for event in kernels) / 1e6
    launches = sum(event.count for event in kernels)
    print(f"\n## {name}\n\nwall {duration(wall)}, kernels {duration(busy)} in {launches} launches", end="")
    print(f", {1e6 * wall / launches:.1f} us of wall time per launch" if launches else "")
    print("\nhost, own time:")
    stats: Any = pstats.Stats(host)
    rows = sorted(stats.stats.items(), key=lambda item: -item[1][2])[:LINES]
    for (file, line, function), (_, calls, own, total, _) in rows:
        print(f"  {1e3 * own:8.2f} ms {calls:6d} x  {Path(file).name}:{line} {function} (total {1e3 * total:.1f})")
    print("kernels:")
    for event in sorted(kernels, key=lambda event: -event.self_device_time_total)[:LINES]:
        print(f"  {event.self_device_time_total / 1e3:8.2f} ms {event.count:6d} x  {event.key[:90]}", flush=True)


def launch_cost(device: torch.device) -> None:
    """Microseconds of the host for a small operator, and of a product of DiffRec's on the device."""
    x = torch.zeros(16, device=device)
    for operator, task in (("add_", lambda: x.add_(1)), ("add", lambda: x + 1)):
        synchronise(device)
        start = perf_counter()
        for _ in range(2000):
            task()
        host = perf_counter() - start
        synchronise(device)
        print(f"{operator} of 16 numbers: host {host / 2e-3:.1f} us, done {(perf_counter() - start) / 2e-3:.1f} us")


def jobs(bench: Bench) -> Iterator[tuple[str, Callable[[], object], Any]]:
    """Names, tasks and configs."""
    for name in ("ml-1m_clean", "yelp_clean"):
        ready = bench.build("DiffRec", {**bench.rows(name), **rows_of(name), "matmul_precision": "high"})
        epoch = partial(ready.trainer._train_epoch, ready.loaders[0], 0)
        yield f"DiffRec epoch, {name}", epoch, ready.config
        yield f"DiffRec evaluation, {name}", _evaluation(ready), ready.config
    for model, width in (("DDRM", 64), ("HDRM", 512)):
        ready = bench.build(model, embedding_keys(bench, model, width))
        yield f"{model} step", _step(bench, ready), ready.config
        yield f"{model} evaluation", _evaluation(ready), ready.config
    for model, keys in (("CDDRec", {}), ("DiffuRec", {"MAX_ITEM_LIST_LENGTH": bench.length(50)})):
        ready = bench.build(model, {**bench.sequences("beauty"), "matmul_precision": "high", **keys})
        yield f"{model} step, beauty", _step(bench, ready), ready.config
        yield f"{model} evaluation, beauty", _evaluation(ready), ready.config


def _evaluation(ready: Any) -> Callable[[], object]:
    return partial(ready.trainer.evaluate, ready.loaders[2], load_best_model=False)


def _step(bench: Bench, ready: Any) -> Callable[[], object]:
    batch = next(iter(ready.loaders[0])).to(bench.device)

    def step() -> None:
        ready.model.train()
        ready.trainer.optimizer.zero_grad()
        losses = ready.model.calculate_loss(batch)
        (sum(losses) if isinstance(losses, tuple) else losses).backward()
        ready.trainer.optimizer.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--scale", type=float, default=1.0, help="of users and items; 1: the published shapes")
    parser.add_argument("--only", nargs="+", help="words; work whose names hold one of them")
    options = parser.parse_args()
    device = torch.device(options.device)
    repairs.apply()
    launch_cost(device)
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as name, hide_known_warnings():
        os.chdir(name)  # RecBole writes where it is started
        for work, task, config in jobs(Bench(device, Path(name), options.scale, 1)):
            if not options.only or any(word.lower() in work.lower() for word in options.only):
                with precision(config):
                    traced(work, task, device)
        os.chdir(here)


if __name__ == "__main__":
    main()
