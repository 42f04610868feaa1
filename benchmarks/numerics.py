"""Do the keys of torch's numerics change the ranking? Recall@20 with each, beside the spread of the seeds.

    python benchmarks/numerics.py --data PATH/ml-1m_clean.npz [--seeds 5] [--others 3] [--epochs 5] [--out FILE.json]
    python benchmarks/numerics.py --data PATH/ml-1m_clean.npz --device cuda --others 5 --epochs 1000 --jobs 10

DiffRec is trained as published for a few epochs on the official split of ml-1m, tested after the best epoch on the
validation part. ``matmul_precision: high`` has no effect on a CPU without TF32 units, so TF32 is emulated there: both
factors of every float32 matrix product, in training and in evaluation, forward and backward, are rounded to 10 bits of
mantissa. A run that ``--out`` holds already is not repeated. Markdown, on stdout.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from statistics import mean, stdev
from time import perf_counter
from typing import Any, Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout that is not installed

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from recbole_diffusion import run
from recbole_diffusion.data import convert
from recbole_diffusion.experiment.reproduce import load_setting
from recbole_diffusion.support.atomic_write import atomic_write_text
from recbole_diffusion.testing.products import FACTORS
from recbole_diffusion.training.run_folder import environment

NAME, METRIC = "ml-1m_clean", "recall@20"
QUIET = {"state": "error", "show_progress": False, "metric_decimal_place": 6}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "matmul_precision": {"matmul_precision": "high"},
    "TF32": {},
    "bfloat16": {"enable_amp": True, "amp_dtype": "bfloat16"},
    "compile": {"compile": True},
    "graphs": {"cuda_graphs": True},
}
MEANING = {
    "plain": "float32, the default",
    "matmul_precision": "`matmul_precision: high` on this CPU",
    "TF32": "TF32, emulated: what `matmul_precision: high` does on a GPU",
    "bfloat16": "`enable_amp: True`, `amp_dtype: bfloat16`",
    "compile": "`compile: True`",
    "graphs": "`cuda_graphs: True`",
}
#: On a GPU, TF32 is a GPU's own, and graphs are possible.
ON_A_GPU = {"matmul_precision": "`matmul_precision: high` (TF32)"}
#: Recall@20 of each variant's seeds, by name and number.
Results = dict[str, dict[str, float]]
#: Bits of a float32's mantissa that TF32 leaves out.
DROPPED = 13


def to_tf32(x: Tensor) -> Tensor:
    """Round finite float32 values to the 10 bits of mantissa of TF32, halves away from zero."""
    bits = x.detach().view(torch.int32) + (1 << (DROPPED - 1))
    return bits.bitwise_and_(-(1 << DROPPED)).view(torch.float32)


class TensorFloat32(TorchDispatchMode):
    """A context whose matrix products have factors in TF32."""

    def __torch_dispatch__(self, operator: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        places = FACTORS.get(operator.overloadpacket.__name__, ())
        rounded = [to_tf32(arg) if place in places and _is_float(arg) else arg for place, arg in enumerate(args)]
        return operator(*rounded, **(kwargs or {}))


def _is_float(x: Any) -> bool:
    return isinstance(x, Tensor) and x.dtype == torch.float32


def result_of(variant: str, seed: int, keys: dict[str, Any], threads: int) -> tuple[str, int, float, float]:
    """Variant, seed, Recall@20 of the test part, and the seconds of the run."""
    start = perf_counter()
    torch.set_num_threads(threads)
    emulation = TensorFloat32() if variant == "TF32" else contextlib.nullcontext()
    with emulation, contextlib.redirect_stdout(sys.stderr):
        found = run("DiffRec", NAME, config_dict={**keys, **VARIANTS[variant], "seed": seed}, saved=False)
    return variant, seed, float(found["test_result"][METRIC]), perf_counter() - start


def table(results: Results, meaning: dict[str, str]) -> str:
    """Markdown: each variant's runs, their mean and deviation, and the paired differences from the plain runs."""
    seeds = sorted(results["plain"])
    lines = ["| | " + " | ".join(f"seed {seed}" for seed in seeds) + " | mean ± sd | mean difference, same seeds |"]
    lines.append("|---" * (len(seeds) + 3) + "|")
    for variant, runs in results.items():
        cells = [f"{runs[seed]:.4f}" if seed in runs else "" for seed in seeds]
        spread = f"{mean(runs.values()):.4f} ± {stdev(runs.values()):.4f}" if len(runs) > 1 else ""
        differences = [value - results["plain"][seed] for seed, value in runs.items() if seed in results["plain"]]
        last = "" if variant == "plain" or not differences else f"{mean(differences):+.5f}"
        lines.append(f"| {meaning[variant]} | {' | '.join(cells)} | {spread} | {last} |")
    return "\n".join(lines)


def _runs(variants: Sequence[str], seeds: int, others: int) -> Iterator[tuple[str, int]]:
    """Variant and seed of each run: seed by seed, so that an interrupted script has compared the same seeds."""
    for seed in range(1, max(seeds, others) + 1):
        for variant in dict.fromkeys(variants):
            if seed <= {"plain": seeds}.get(variant, others):
                yield variant, seed


def main(arguments: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, help="ml-1m_clean.npz")
    parser.add_argument("--seeds", type=int, default=5, help="of the plain run: 1, 2, ...")
    parser.add_argument("--others", type=int, default=3, help="seeds of each other variant")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, help="default: all that the device has")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("numerics.json"))
    options = parser.parse_args(arguments)
    on_gpu = options.device == "cuda"
    variants = options.variants or [name for name in VARIANTS if name != ("TF32" if on_gpu else "graphs")]
    file, out, here = options.data.resolve(), options.out.resolve(), Path.cwd()
    published = load_setting("DiffRec", NAME).settings
    results: Results = json.loads(out.read_text()) if out.exists() else {}
    pool = ProcessPoolExecutor(options.jobs, mp_context=multiprocessing.get_context("spawn"))
    with tempfile.TemporaryDirectory() as name, pool:
        os.chdir(name)  # RecBole logs where it is started
        convert.write_split(file, Path(name) / "data", NAME)
        shared = {**published, **convert.settings(Path(name) / "data"), **QUIET, "use_gpu": on_gpu}
        shared = {**shared, "epochs": options.epochs}
        runs = list(_runs(["plain", *variants], options.seeds, options.others))
        missing = [(variant, seed) for variant, seed in runs if str(seed) not in results.get(variant, {})]
        tasks = [pool.submit(result_of, variant, seed, shared, options.threads) for variant, seed in missing]
        for task in as_completed(tasks):
            variant, seed, value, took = task.result()
            results.setdefault(variant, {})[str(seed)] = value
            atomic_write_text(out, json.dumps(results, indent=1) + "\n")
            print(f"{variant}, seed {seed}: {value:.5f} in {took:.0f} s", file=sys.stderr, flush=True)
        os.chdir(here)  # Windows cannot remove a folder that is in use
    in_order = {variant: results[variant] for variant in VARIANTS if variant in results}
    print(table(in_order, {**MEANING, **(ON_A_GPU if on_gpu else {})}))
    print(f"\nDiffRec on {NAME}, {options.epochs} epochs, validated every {published['eval_step']}; R@20 on test.")
    print(f"Device: {torch.cuda.get_device_name() if on_gpu else 'CPU'}. Settings: {published}. {environment()}")


if __name__ == "__main__":
    main()
