"""The same twice: two runs with one seed are equal to the last bit, for every model.

Equal after a resume: the contract suite (``test_resume_is_bit_for_bit``, every model). Equal whether it is validated
often or seldom: tests/compat/test_traps.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import same_twice
import torch

from recbole_diffusion import registry
from recbole_diffusion.testing import SETTINGS, write_board

SCRIPT = Path(same_twice.__file__)
MODELS = [spec.name for spec in registry.ours()]


#: One of each kind: rows, interactions with a base model, a base that is trained first, sequences, a flow. The others
#: are trained twice with one seed by the contract suite (``test_resume_is_bit_for_bit``).
KINDS = ("DiffRec", "DDRM", "ADRec", "FMRec", "GiffCF")


@pytest.mark.parametrize(
    "model", [pytest.param(name, marks=() if name in KINDS else pytest.mark.slow) for name in MODELS]
)
def test_one_run_after_another_in_one_process(model, checkerboard):
    """The base models below are trained anew too. Random numbers are drawn in between."""
    ((_, _, keys),) = same_twice.cases([model])
    keys = {**SETTINGS, "data_path": str(checkerboard), **keys}
    first = same_twice.train((model, keys))
    torch.rand(17)
    assert same_twice.train((model, keys)) == first


@pytest.mark.parametrize("part", ["weights", "losses", "valid", "test", "users", "scores"])
def test_another_seed_gives_other_checksums(part, trained_with_two_seeds):
    """The checksums can differ: each part of them depends on the seed."""
    one, other = trained_with_two_seeds
    assert one["parts"][part] != other["parts"][part]
    assert one["sha256"] != other["sha256"]


@pytest.fixture(scope="module")
def trained_with_two_seeds(tmp_path_factory: Any) -> Any:
    folder = write_board(tmp_path_factory.mktemp("data"))
    keys = {**SETTINGS, "data_path": str(folder), **same_twice.quick_of("DiffRec")}
    return [same_twice.train(("DiffRec", {**keys, "seed": seed})) for seed in (1, 2)]


def test_one_bit_gives_another_checksum():
    weights = torch.ones(3)
    before = same_twice._checksum({"a": weights})
    weights[1] = torch.nextafter(weights[1], torch.tensor(2.0))
    assert same_twice._checksum({"a": weights}) != before
    assert same_twice._checksum([0.1 + 0.2]) != same_twice._checksum([0.3])


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize("threads", [1, 2])
def test_fresh_processes(threads):
    """Every model and variant of its card, in two interpreters that hash names in different ways."""
    one, other = (_in_fresh_process(threads, seed) for seed in ("1", "2"))
    assert {*MODELS} <= {*one}
    assert [name for name in one if one[name] != other[name]] == []


@pytest.mark.processes
@pytest.mark.parametrize(
    "models", [pytest.param(KINDS, id="kinds"), pytest.param(MODELS, id="all", marks=pytest.mark.slow)]
)
def test_serial_and_ray(models, checkerboard, monkeypatch):
    """Workers are fresh processes too; the first cell is a training here."""
    from recbole_diffusion.experiment.cluster.session import import_ray, session
    from recbole_diffusion.experiment.jobs.executor import OnRay, Serial

    try:
        import_ray()
    except ValueError as error:
        pytest.skip(str(error))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(SCRIPT.parent), os.environ.get("PYTHONPATH", "")]))
    shared = {**SETTINGS, "data_path": str(checkerboard)}
    jobs = [(name, (model, {**shared, **keys})) for name, model, keys in same_twice.cases([*models])]
    serial = {done.key: (done.value, done.error) for done in Serial(threads=1).map(same_twice.train, jobs)}
    with session(workers=2) as ray:
        on_ray = {done.key: (done.value, done.error) for done in OnRay(ray, threads=1).map(same_twice.train, jobs)}
    assert [name for name in models if serial[name][1] or on_ray[name] != serial[name]] == []


def _in_fresh_process(threads: int, hash_seed: str) -> dict[str, Any]:
    """What ``same_twice.py`` prints. Threads that wait do not spin, since other tests run beside this one."""
    waiting = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}
    environment = {**os.environ, **waiting, "OMP_NUM_THREADS": str(threads), "PYTHONHASHSEED": hash_seed}
    words = [sys.executable, str(SCRIPT), f"--threads={threads}", "--noisy"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    cases: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        cases.update(json.loads(line))
    return cases
