"""``benchmarks/gpu.py`` runs where there is no GPU: the same code, small."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.processes
@pytest.mark.parametrize(
    ("words", "rows"),
    [
        (["HGCF: ", "DDRM: trains"], 10),
        (["DiffRec, ml-1m_clean", "L-DiffRec"], 4),
    ],
)
def test_checks_and_measures_run_on_the_cpu(words, rows, tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--device", "cpu", "--scale", "0.005"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command += ["--repeats", "1", "--out", str(tmp_path / "out"), "--traceback", "--only", *words]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert len(content["rows"]) == rows
    assert {row["verdict"] for row in content["rows"]} <= {"pass", "skipped", "met", "missed", ""}
    table = (tmp_path / "out" / "gpu.md").read_text()
    assert all(row["name"] in table for row in content["rows"])
    assert "0 fail; 0 error" in table


@pytest.mark.processes
def test_what_does_not_fit_the_time_is_skipped_and_said_so(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--device", "cpu", "--scale", "0.005"]
    command += ["--minutes", "0", "--out", str(tmp_path / "out"), "--only", "HGCF: trains", "DDRM"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "out" / "gpu.json").read_text())["rows"]
    assert {row["verdict"] for row in rows} == {"skipped"}
    assert {"HGCF: trains one epoch", "DDRM"} <= {row["name"] for row in rows}
    assert all("0 s are left" in row["note"] for row in rows)


@pytest.mark.processes
def test_without_a_gpu_the_script_says_what_runs_here(tmp_path):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "gpu.py")], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "--device cpu --scale 0.02 runs the same code here" in done.stderr
