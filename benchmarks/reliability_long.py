"""What grows in a long-lived process: memory, open files, threads, handlers of logs.

    python benchmarks/reliability_long.py [--parts epochs cells runs] [--scale 1.0] [--out FILE]

A training of 500 epochs, a comparison of 200 runs, and 50 calls of ``run()``, each in a process of its own, on data of
30 users; sampled after a tenth and at the end. The parts are in tests/reliability/long_runs.py, which the tests share.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "reliability"))

import forked_commands as forked
import long_runs


def main(words: Optional[Sequence[str]] = None) -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--parts", nargs="+", default=list(long_runs.PARTS), choices=list(long_runs.PARTS))
    options.add_argument("--scale", type=float, default=1.0, help="of the numbers of epochs, runs and calls")
    options.add_argument("--out", type=Path, help="also write the table there")
    given = options.parse_args(words)
    forked.preload()
    rows = [row for part in given.parts for row in _rows(part, given.scale)]
    text = "\n".join(["| " + " | ".join(rows[0]) + " |", "|" + " --- |" * len(rows[0]), *map(_line, rows)])
    print(f"\n{text}")
    if given.out:
        given.out.write_text(text + "\n", encoding="utf-8")


def _line(row: dict[str, Any]) -> str:
    return (
        "| " + " | ".join(f"{value:.1f}" if isinstance(value, float) else str(value) for value in row.values()) + " |"
    )


def _rows(part: str, scale: float) -> list[dict[str, Any]]:
    """The two samples of a part, as rows of the table."""
    counted = long_runs.PARTS[part]
    numbers = [round(number * scale) for number in (counted.first, counted.last)]
    with tempfile.TemporaryDirectory() as place:
        samples = long_runs.in_process(part, Path(place), *numbers)
    rows = [{"after": f"{number} {counted.what}", **values} for number, values in zip(numbers, samples)]
    print("\n".join(map(_line, rows)), flush=True)
    return rows


if __name__ == "__main__":
    main()
