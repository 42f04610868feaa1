"""Mutation testing: change one token of the package at a time and see whether the tests notice.

    python benchmarks/mutants.py --count=60 --seed=0                    # the tests of this checkout
    python benchmarks/mutants.py --count=60 --seed=0 --tests=main       # those of another commit, on the same mutants

Each mutant is made in a copy of the tracked files under a temporary folder, never in place. A mutant is *killed* if a
test fails or does not end in time, and *survives* otherwise. The same seed draws the same mutants as long as the source
is the same, so that two sets of tests can be compared; equivalent mutants, which no test can kill, are among them.
"""

from __future__ import annotations

import argparse
import ast
import io
import os
import random
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Optional

ROOT = Path(__file__).resolve().parents[1]
#: Folders of the package, and the tests that cover each.
TESTS = {
    "diffusion": ("tests/diffusion", "tests/model"),
    "evaluation": ("tests/evaluation", "tests/training"),
    "model": ("tests/model", "tests/diffusion"),
    "training": ("tests/training", "tests/model/test_contract.py"),
    "data": ("tests/data", "tests/evaluation"),
}
#: Tests of whole runs, whichever folder they pass through.
OF_ALL = ("tests/test_bridge.py", "tests/settings/test_config.py", "tests/test_environments.py")
#: Seconds by the clock for each of a processor, for tests that wait: other programs may be at work.
ASLEEP = 20
OPERATORS = {ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.Div: ("/", "*"), ast.Pow: ("**", "*")}
OPERATORS |= {ast.Lt: ("<", ">="), ast.LtE: ("<=", ">"), ast.Gt: (">", "<="), ast.GtE: (">=", "<")}
OPERATORS |= {ast.Eq: ("==", "!="), ast.NotEq: ("!=", "=="), ast.And: ("and", "or"), ast.Or: ("or", "and")}


class Mutant(NamedTuple):
    """One change: ``old`` at an offset of a file's bytes becomes ``new``."""

    file: str
    line: int
    start: int
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}  {' '.join(self.old.split())[:60]}  ->  {' '.join(self.new.split())[:60]}"


class Source:
    """A file's bytes, and where its syntax nodes are."""

    def __init__(self, root: Path, file: str) -> None:
        self.file, self.bytes = file, (root / file).read_bytes()
        self.lines = [0]
        for line in self.bytes.splitlines(keepends=True):
            self.lines.append(self.lines[-1] + len(line))

    def place(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        """First and last offset of a node."""
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self.lines[node.lineno - 1] + node.col_offset, self.lines[node.end_lineno - 1] + node.end_col_offset

    def mutant(self, node: ast.expr | ast.stmt, start: int, end: int, new: str) -> Mutant:
        return Mutant(self.file, node.lineno, start, self.bytes[start:end].decode(), new)

    def mutants(self) -> Iterator[Mutant]:
        """Every mutant of the file: operators, comparisons, constants, arguments, statements."""
        for node in ast.walk(ast.parse(self.bytes)):
            if isinstance(node, ast.BinOp):
                yield from self._operator(node, node.op, node.left, node.right)
            elif isinstance(node, ast.Compare):
                yield from self._operator(node, node.ops[0], node.left, node.comparators[0])
            elif isinstance(node, ast.BoolOp):
                yield from self._operator(node, node.op, *node.values[:2])
            elif isinstance(node, ast.Constant):
                yield from self._constant(node)
            elif isinstance(node, ast.Call) and len(node.args) > 1:
                yield from self._arguments(node)
            elif isinstance(node, (ast.Assign, ast.AugAssign, ast.Expr)) and _can_be_dropped(node):
                yield self.mutant(node, *self.place(node), "pass")

    def _operator(self, node: ast.expr, operator: ast.AST, left: ast.expr, right: ast.expr) -> Iterator[Mutant]:
        old, new = OPERATORS.get(type(operator), ("", ""))
        start, end = self.place(left)[1], self.place(right)[0]
        between = self.bytes[start:end].decode()
        if old and between.count(old) == 1:
            first = start + between.index(old)
            yield self.mutant(node, first, first + len(old), new)

    def _constant(self, node: ast.Constant) -> Iterator[Mutant]:
        if isinstance(node.value, bool):
            yield self.mutant(node, *self.place(node), str(not node.value))
        elif isinstance(node.value, (int, float)):
            yield self.mutant(node, *self.place(node), repr(node.value + 1))

    def _arguments(self, node: ast.Call) -> Iterator[Mutant]:
        (first, middle), (second, end) = self.place(node.args[0]), self.place(node.args[1])
        parts = [self.bytes[a:b].decode() for a, b in ((second, end), (middle, second), (first, middle))]
        if parts[0] != parts[2]:
            yield self.mutant(node, first, end, "".join(parts))


def _can_be_dropped(node: ast.stmt) -> bool:
    """No docstring, and not the first assignment of a name, whose lack any test meets."""
    if isinstance(node, ast.Assign):
        return not any(isinstance(target, (ast.Name, ast.Tuple)) for target in node.targets)
    return not (isinstance(node, ast.Expr) and isinstance(node.value, (ast.Constant, ast.Yield)))


def draw(root: Path, count: int, seed: int) -> list[Mutant]:
    """Different mutants, of files that are drawn alike, however long each is."""
    files = [file for part in sorted(TESTS) for file in sorted((root / "recbole_diffusion" / part).rglob("*.py"))]
    every = [[*Source(root, file.relative_to(root).as_posix()).mutants()] for file in files]
    every, generator = [some for some in every if some], random.Random(seed)
    drawn: dict[Mutant, None] = {}
    while len(drawn) < min(count, sum(map(len, every))):
        drawn[generator.choice(generator.choice(every))] = None
    return [*drawn]


def copy(tests: Optional[str], folder: Path) -> None:
    """The tracked files as they are, with the tests of another commit where one is named."""
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file() and not (tests and name.startswith("tests/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    if tests:
        packed = subprocess.run(["git", "-C", str(ROOT), "archive", tests, "tests"], capture_output=True, check=True)
        with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
            archive.extractall(folder)


def covering(folder: Path, file: str) -> list[str]:
    """Tests of a file: those of its name first, then those of its folder, then whole runs."""
    same = sorted(folder.glob(f"tests/**/test_{Path(file).stem}.py"))
    places = [*(each.relative_to(folder).as_posix() for each in same), *TESTS[file.split("/")[1]], *OF_ALL]
    return [place for place in places if (folder / place).exists()]


def failing(folder: Path, files: list[str], seconds: float) -> str:
    """The first test that fails, in the copy and with its package; empty where all pass."""
    command = [sys.executable, "-m", "pytest", "-n", "0", "-x", "-p", "no:cacheprovider", *files]
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    limited = ["bash", "-c", f'ulimit -t {round(seconds)} && exec "$@"', "bash", *command]
    try:
        done = subprocess.run(
            limited, cwd=folder, env=environment, capture_output=True, text=True, timeout=ASLEEP * seconds
        )
    except subprocess.TimeoutExpired:
        return "not within the time"
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        return "not within the time"
    named = [line for line in done.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    if done.returncode and not named:  # pytest itself did not come to the tests
        raise RuntimeError(f"pytest ended with status {done.returncode}: {done.stdout}{done.stderr}")
    return named[0].split(" - ")[0] if named else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="numbers of the list, e.g. 0,3,7; without, all")
    parser.add_argument("--tests", help="a commit whose tests are run; without, those of this checkout")
    parser.add_argument("--seconds", type=float, default=1800, help="of a processor; then a run counts as killed")
    parser.add_argument("--list", action="store_true", help="print the mutants and run nothing")
    given = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy(given.tests, folder)
        mutants = draw(folder, given.count, given.seed)
        chosen = [int(word) for word in given.only.split(",")] if given.only else range(len(mutants))
        for number in chosen:
            mutant = mutants[number]
            if given.list:
                print(f"{number:3} {mutant}")
                continue
            file, start = folder / mutant.file, time.perf_counter()
            original = file.read_bytes()
            end = mutant.start + len(mutant.old.encode())
            file.write_bytes(original[: mutant.start] + mutant.new.encode() + original[end:])
            failed = failing(folder, covering(folder, mutant.file), given.seconds)
            file.write_bytes(original)
            results.append(bool(failed))
            took = time.perf_counter() - start
            print(f"{number:3} {'killed' if failed else 'SURVIVED':8} {took:5.0f} s  {mutant}  {failed}", flush=True)
    if not given.list:
        print(f"{sum(results)} of {len(results)} killed")


if __name__ == "__main__":
    main()
