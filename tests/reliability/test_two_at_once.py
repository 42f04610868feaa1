"""Eight processes on one folder: one works, the others wait or say so at once; if it is killed, another can."""

from __future__ import annotations

import forked_commands as forked
import pytest
import two_at_once
from two_at_once import COMMANDS, PROCESSES, WAITING

SAYS = {"compare": "is at work in", "tune": "is at work in", "import": "holds a data set of that name"}


@pytest.fixture
def folder(tmp_path):
    forked.preload()
    forked.write_data(tmp_path / "dataset")
    return tmp_path


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if kind == "import" else pytest.mark.slow) for kind in COMMANDS]
)
def test_one_of_eight_works(kind, folder):
    result = two_at_once.start_all(kind, folder)
    assert result.workers == 1
    if kind in WAITING:
        assert result.codes == [0] * PROCESSES, result.lines
    else:
        refused = [line for code, line in zip(result.codes, result.lines) if code == 2]
        assert sorted(result.codes) == [0, *[2] * (PROCESSES - 1)], result.lines
        assert all(SAYS[kind] in line for line in refused), refused
    assert forked.temporary_files(folder) == forked.held_locks(folder) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(COMMANDS))
def test_when_the_one_that_works_is_killed_the_next_can(kind, folder):
    result = two_at_once.start_all(kind, folder, slow=True)
    assert result.codes.count(-9) == 1
    if kind in WAITING:
        assert sorted(result.codes) == [-9, *[0] * (PROCESSES - 1)], result.lines
        assert result.workers == 2  # the killed one, and one of those that waited
    again = forked.execute(COMMANDS[kind], folder)
    assert again.code == (2 if kind == "import" else 0), again.text  # a waiting import has completed the killed one
    assert forked.temporary_files(folder) == forked.held_locks(folder) == []
