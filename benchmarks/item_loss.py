"""Memory and time of the cross-entropy over all items: torch's, and ours in blocks of rows.

    python benchmarks/item_loss.py [--items 60000] [--width 128] [--rows 3072 6144] [--threads 1]

No data is needed. Loss and gradients of random states (rows, width) and a random table (items, width) are computed
once, each case in a process of its own. Reported is how much the peak of resident memory lies above what was resident
before, and the seconds of the processor. ADRec's published batch of 512 sequences of 50 places has 25,600 rows.
Markdown, on stdout.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import process_time
from typing import Optional

import torch
from memory import forget_peak, peak, resident
from torch.nn import functional as F

from recbole_diffusion.model.networks.item_cross_entropy import item_cross_entropy

TORCH, OURS = "torch", "ours"


def measure(name: str, rows: int, items: int, width: int) -> dict[str, float]:
    """Peak MiB above what was resident before, and the processor's seconds, of one loss and its gradients."""
    torch.manual_seed(1)
    states, table = torch.randn(rows, width).requires_grad_(), (0.1 * torch.randn(items, width)).requires_grad_()
    target = torch.randint(items, (rows,))
    forget_peak()
    before, start = resident(), process_time()
    loss = item_cross_entropy(states, table, target) if name == OURS else F.cross_entropy(states @ table.T, target)
    loss.backward()
    gradient = float(table.grad.norm()) if table.grad is not None else 0.0
    seconds = process_time() - start
    return {"peak": peak() - before, "seconds": seconds, "loss": float(loss.detach()), "gradient": gradient}


def main(arguments: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=60000)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--rows", type=int, nargs="+", default=[3072, 6144])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--names", nargs="+", choices=[TORCH, OURS], default=[TORCH, OURS])
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    if options.one:
        print(json.dumps(measure(*json.loads(options.one))))
        return
    print(f"{options.items:,} items, width {options.width}, torch {torch.__version__}, {options.threads} threads.\n")
    print("| rows | logits, MiB | loss | peak above before, MiB | seconds | value | norm of the table's gradient |")
    print("|---|---|---|---|---|---|---|")
    for rows in options.rows:
        for name in options.names:
            case = json.dumps([name, rows, options.items, options.width])
            command = [sys.executable, str(Path(__file__).resolve()), "--threads", str(options.threads), "--one", case]
            result = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
            figures = (
                f"{result['peak']:.0f} | {result['seconds']:.1f} | {result['loss']:.6f} | {result['gradient']:.7f}"
            )
            print(f"| {rows:,} | {rows * options.items / 2**18:.0f} | {name} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
