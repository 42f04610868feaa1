"""Does everything work on a GPU, and how fast? One command, under eight minutes, no network, no data but its own.

    python benchmarks/gpu.py                                    # on the GPU, at the published shapes
    python benchmarks/gpu.py --device cpu --scale 0.02          # the same code anywhere, in about a minute

It checks first (every model trains, ranks as on the CPU, repeats, resumes, travels, in mixed precision, where it waits
for the device) and then measures (epochs, evaluations and steps, each beside the bare matrix products of its shapes).
Data are random with the published numbers of users, items and interactions. Each row is printed as it is known, and
``gpu.json`` and ``gpu.md`` in ``--out`` are written after each, so that a run that is cut off keeps what it had.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from time import perf_counter
from typing import Any, Optional

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before CUDA starts: deterministic products need it
os.environ.setdefault("OMP_NUM_THREADS", "4")

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout that is not installed

import gpu_data
from gpu_checks import checks, models
from gpu_measures import Bench, measures
from gpu_report import Report, Row

from recbole_diffusion.compat import repairs
from recbole_diffusion.training.run_folder import environment, hide_known_warnings


def head(device: torch.device, options: argparse.Namespace) -> dict[str, Any]:
    """Device, versions, settings."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    versions = {key: value for key, value in environment().items() if key in {"python", "torch", "numpy", "recbole"}}
    return {"device": name, **versions, "CUDA": torch.version.cuda, "scale": options.scale, "repeats": options.repeats}


def checks_of(model: str, device: torch.device, options: argparse.Namespace) -> list[Row]:
    """One model's checks, in a process of their own and a folder of their own."""
    report = Report(options.out / "checks" / model, head(device, options), quiet=True)
    repairs.apply()
    torch.set_num_threads(1)
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as name, hide_known_warnings():
        os.chdir(name)
        run(report, "check", checks(device, [model]), options)
        os.chdir(here)  # Windows cannot remove a folder that is in use
    return report.rows


def side_by_side(report: Report, bench: Bench, device: torch.device, options: argparse.Namespace) -> None:
    """The checks of ``--jobs`` models at a time; the data of the measures are written meanwhile."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, mp_context=context) as pool:
        written = []
        if "measures" in options.parts:
            rows = [(gpu_data.write_rows, name, shape) for name, shape in reversed(gpu_data.ROWS.items())]
            sequences = [(gpu_data.write_sequences, name, shape) for name, shape in gpu_data.SEQUENCES.items()]
            for write, name, shape in rows + sequences:
                written.append(pool.submit(write, bench.folder, name, shape.scaled(options.scale)))
        tasks = {pool.submit(checks_of, model, device, options): model for model in models()}
        for task in as_completed(tasks):
            for row in task.result():
                report.add(row)
        for task in written:
            task.result()


def run(report: Report, part: str, jobs: Any, options: argparse.Namespace) -> None:
    """Each job's rows; what fails is a row too, and what would end after ``--minutes`` is skipped and said so."""
    for name, estimate, job in jobs:
        if options.only and not any(word.lower() in name.lower() for word in options.only):
            continue
        left = 60 * options.minutes - (perf_counter() - report.start)
        if estimate * min(options.scale, 1.0) > left:
            note = f"takes about {estimate:.0f} s on a GPU at scale 1; {max(left, 0):.0f} s are left"
            report.add(Row(part, name, verdict="skipped", note=note))
            continue
        try:
            for row in job():
                report.add(row)
        except Exception as error:
            if options.traceback:
                traceback.print_exc()
            text = " ".join(str(error).split())[:300]
            report.add(Row(part, name, verdict="error", note=f"{type(error).__name__}: {text}"))


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda (default), cuda:N or cpu")
    parser.add_argument("--scale", type=float, default=1.0, help="of users and items; 1: the published shapes")
    parser.add_argument("--out", type=Path, default=Path("gpu-results"), help="folder of gpu.json and gpu.md")
    parser.add_argument("--parts", nargs="+", choices=["checks", "measures"], default=["checks", "measures"])
    parser.add_argument("--only", nargs="+", help="words; rows whose names hold one of them")
    parser.add_argument("--minutes", type=float, default=8.0, help="what would not end by then is skipped")
    parser.add_argument("--jobs", type=int, default=1, help="models that are checked at a time; measures go alone")
    parser.add_argument("--repeats", type=int, help="of epochs and evaluations (3 on a GPU, 1 else); of steps 10 x")
    parser.add_argument("--diffrec", type=Path, help="a checkout of YiyanXu/DiffRec at d35a6c6; left out without")
    parser.add_argument("--traceback", action="store_true", help="print the traceback of what fails")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    if options.repeats is None:
        options.repeats = 3 if device.type == "cuda" else 1
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("no GPU that torch can use; --device cpu --scale 0.02 runs the same code here")
    options.out = options.out.resolve()
    report = Report(options.out, head(device, options))
    checkout = options.diffrec.resolve() if options.diffrec else None
    repairs.apply()
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as name, hide_known_warnings():
        os.chdir(name)  # RecBole writes where it is started
        try:
            bench = Bench(device, Path(name), options.scale, options.repeats)
            if "checks" in options.parts and options.jobs > 1:
                side_by_side(report, bench, device, options)
            elif "checks" in options.parts:
                run(report, "check", checks(device), options)
            if "measures" in options.parts:
                run(report, "measure", measures(bench, checkout), options)
        finally:
            os.chdir(here)
            report.write()
    print(report.markdown())
    return int(any(row.verdict in {"fail", "error"} for row in report.rows))


if __name__ == "__main__":
    sys.exit(main())
