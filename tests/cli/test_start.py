"""What a command imports before it answers."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

#: Libraries that take a tenth of a second or more to import.
HEAVY = ("numpy", "pandas", "torch", "recbole", "scipy", "sklearn", "matplotlib", "ray", "hyperopt", "networkx")


def loaded(*statements: str) -> list[str]:
    """The heavy libraries that a new process has loaded after the statements; scipy.stats and torch._dynamo too."""
    names = [*HEAVY, "scipy.stats", "torch._dynamo"]
    code = "\n".join(["import contextlib, io, json, sys", *statements])
    code += f"\nprint(json.dumps([name for name in {names!r} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    answer: list[str] = json.loads(done.stdout.splitlines()[-1])
    return answer


def command(*words: str) -> str:
    """A statement that runs a command and fails unless it ends with 0."""
    return f"with contextlib.redirect_stdout(io.StringIO()):\n    assert main({list(words)!r}) == 0"


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["models", "--all"],
        ["run", "--help", "--model=CDDRec"],
        ["compare", "--help"],
        ["tune", "--help"],
        ["reproduce", "--help"],
        ["report", "--help"],
        ["convert", "--help"],
    ],
)
def test_commands_that_only_print_load_no_library(words: list[str]) -> None:
    assert loaded("from recbole_diffusion.cli import main", command(*words)) == []


def test_a_report_needs_no_torch() -> None:
    assert {"torch", "pandas", "recbole"}.isdisjoint(loaded("import recbole_diffusion.experiment.report"))


@pytest.mark.parametrize(
    "model", ["DiffRec", *(pytest.param(name, marks=pytest.mark.processes) for name in ("BPR", "SASRec", "LR"))]
)
def test_a_configuration_loads_what_a_run_needs_and_no_more(model: str) -> None:
    """scikit-learn, which RecBole imports for three metrics and two models, waits until it is used."""
    words = ("run", f"--model={model}", "--dataset=ml-100k", "--dry-run")
    modules = loaded("from recbole_diffusion.cli import main", command(*words))
    assert set(modules) == {"numpy", "pandas", "torch", "recbole", "scipy"}


@pytest.mark.processes
def test_many_runs_load_no_more_than_one() -> None:
    modules = loaded("import recbole_diffusion.experiment.compare, recbole_diffusion.experiment.tune")
    assert set(modules) == {"numpy", "pandas", "torch", "recbole", "scipy"}


@pytest.mark.processes
def test_metrics_of_scikit_learn_have_its_values_when_they_are_used() -> None:
    lines = (
        "import numpy as np, recbole_diffusion.quick_start",
        "from recbole.evaluator import metrics",
        "assert 'sklearn' not in sys.modules",
        "assert metrics.mean_absolute_error([1, 2], [2, 4]) == 1.5",
        "assert metrics.mean_squared_error([1, 2], [2, 4]) == 2.5",
        "assert metrics.sk_auc(np.array([0, 0.5, 1]), np.array([0, 1, 1])) == 0.75",
    )
    assert "sklearn" in loaded(*lines)
