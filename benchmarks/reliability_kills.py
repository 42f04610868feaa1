"""What is lost when commands are killed, when a call fails, and when eight processes want one folder, by counting.

    python benchmarks/reliability_kills.py [--kills 20] [--every 1] [--only kills calls together] [--out FILE]

Data of 30 users; the commands run in processes that are forked from this one, so that a start costs no import. The
parts that the tests share are in tests/reliability.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import itertools
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "reliability"))

import failing_calls
import forked_commands as forked
import kill_stories
import two_at_once
from kill_stories import Compare, Run, Story, Tune

#: (error, whether all later calls fail too), in turn.
_WAYS = [
    *(("ENOSPC", True), ("EIO", False), ("EACCES", True), ("MemoryError", False)),
    *((failing_calls.KILL, False), ("ENOSPC", False), ("EIO", True), ("EACCES", False), ("MemoryError", True)),
]
Row = dict[str, Any]


def main(words: Optional[Sequence[str]] = None) -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--kills", type=int, default=20, help="at random moments, of each command")
    options.add_argument("--every", type=int, default=1, help="let every so-many-th call fail")
    options.add_argument("--first", type=int, default=1, help="the first of the calls that fail, to go on with")
    options.add_argument("--seed", type=int, default=1, help="of the moments")
    options.add_argument("--workers", type=int, help="of compare and tune, on Ray; default: serial")
    options.add_argument("--commands", nargs="+", default=["run", "compare", "tune"])
    options.add_argument("--only", nargs="+", default=["kills", "calls", "together"])
    options.add_argument("--out", type=Path, help="also write the table there")
    given = options.parse_args(words)
    forked.preload()
    stories: list[Story] = [Run(), Compare(given.workers), Tune(given.workers)]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        for story in (story for story in stories if story.name in given.commands):
            reference = kill_stories.undisturbed(story, _folder(Path(place)))
            if "kills" in given.only:
                rows.append(_kills(story, reference, Path(place), given.kills, given.seed))
            if "calls" in given.only:
                rows.append(_calls(story, reference, Path(place), given.first, given.every))
        if "together" in given.only:
            rows += [_together(kind, Path(place)) for kind in two_at_once.COMMANDS]
    columns = list(rows[0])
    text = "\n".join(["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns), *map(_line, rows)])
    print(f"\n{text}")
    if given.out:
        given.out.write_text(text + "\n", encoding="utf-8")


def _line(row: Row) -> str:
    return "| " + " | ".join(str(value) for value in row.values()) + " |"


def _folder(place: Path) -> Path:
    folder = Path(tempfile.mkdtemp(dir=place))
    forked.write_data(folder / "dataset")
    return folder


def _row(what: str, cases: int, faults: list[str]) -> Row:
    kinds = collections.Counter(fault[:100] for fault in faults)
    row = {"what": what, "cases": cases, "faults": len(faults), "which": dict(kinds) or "none"}
    print(_line(row), flush=True)
    return row


def _kills(story: Story, reference: Any, place: Path, kills: int, seed: int) -> Row:
    """Kill a command at random moments of its time, again and again until it is done, in new folders until enough."""
    moments, done, faults, stories = forked.draws(seed), 0, list[str](), 0

    def strike(attempt: int) -> dict[str, Any]:
        worker = bool(story.workers) and attempt % 3 == 2
        return {"kill_after": next(moments) * reference["seconds"] * 1.3, "kill_worker": worker}

    while done < kills:
        folder = _folder(place)
        with forked.short_temporary_folder(folder) if story.workers else contextlib.nullcontext():
            more, found = kill_stories.tell(story, folder, reference, strike)
        done, stories, faults = done + more, stories + 1, [*faults, *found]
        print(f"{story.name}: {done} kills, {stories} times to the end, {len(faults)} faults {found}", flush=True)
        shutil.rmtree(folder)
    return _row(f"{story.name}: killed at random moments, {stories} times to the end", done, faults)


def _calls(story: Story, reference: Any, place: Path, first: int, every: int) -> Row:
    """Let every n-th call fail, from the first one, in the ways in turn, until the command makes fewer."""
    faults, cases = list[str](), 0
    for number, n in enumerate(itertools.count(first, every), (first - 1) // every):
        folder = _folder(place)
        outcome = kill_stories.fail(story, folder, reference, n, *_WAYS[number % len(_WAYS)])
        shutil.rmtree(folder)
        if not outcome.call and not outcome.faults:
            break
        faults, cases = [*faults, *outcome.faults], cases + 1
        if cases % 10 == 0:
            print(f"{story.name}: {cases} calls, the last of them is the {n}th; {len(faults)} faults", flush=True)
        for fault in outcome.faults:
            print(n, _WAYS[number % len(_WAYS)], outcome.call, fault, flush=True)
    return _row(f"{story.name}: a call that fails, of {n - 1}", cases, faults)


def _together(kind: str, place: Path) -> Row:
    """Eight processes, without a kill and with one."""
    faults = []
    result = two_at_once.start_all(kind, _folder(place))
    waiting = kind in two_at_once.WAITING
    if sorted(result.codes) != sorted([0, *[0 if waiting else 2] * 7]) or result.workers != 1:
        faults.append(f"ended with {result.codes}, {result.workers} worked")
    folder = _folder(place)
    result = two_at_once.start_all(kind, folder, slow=True)
    if waiting and sorted(result.codes) != [-9, *[0] * 7]:
        faults.append(f"after a kill: {result.codes}")
    again = forked.execute(two_at_once.COMMANDS[kind], folder)
    if again.code != (2 if kind == "import" else 0):  # the killed import has been completed by one that waited
        faults.append(f"the next ended with {again.code}")
    faults += [f"left: {name}" for name in [*forked.temporary_files(folder), *forked.held_locks(folder)]]
    return _row(f"{kind}: eight processes, then eight of which the first is killed", 16, faults)


if __name__ == "__main__":
    main()
