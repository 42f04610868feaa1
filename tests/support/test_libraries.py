"""Libraries that are not there or damaged: one line, and the command that fixes it, from every command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from recbole_diffusion.compat import doctor
from recbole_diffusion.support import libraries
from recbole_diffusion.support.libraries import Failure

RECBOLE = "pip install --no-deps recbole==1.2.1"
#: Every command, with what it needs to get as far as RecBole.
COMMANDS = {
    "run": ["run", "--model=DiffRec", "--dataset=ml-100k"],
    "dry-run": ["run", "--model=DiffRec", "--dataset=ml-100k", "--dry-run"],
    "compare": ["compare", "--models=DiffRec,EASE", "--dataset=ml-100k"],
    "tune": ["tune", "--model=DiffRec", "--dataset=ml-100k"],
    "reproduce": ["reproduce", "DiffRec", "yelp_clean", "--data=data"],
    "models": ["models", "--all"],
    "help of a model of RecBole's": ["run", "--model=LightGCN", "--help"],
}
#: What needs no RecBole.
WITHOUT = [["--help"], ["--version"], ["models"], ["doctor", "--help"], ["run", "--help"], ["runs", "."]]
WITHOUT += [["run", "--model=DiffRec", "--help"]]
WITHOUT += [[each, "--help"] for each in ("compare", "tune", "report", "reproduce", "convert", "models", "runs")]
#: Runs several command lines in one process: exit code and standard error of each.
SEVERAL = """
import contextlib, io, json, sys
from recbole_diffusion import cli
answers = []
for words in json.loads(sys.argv[1]):
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        code = cli.main(words)
    answers.append((code, out.getvalue(), error.getvalue()))
bad = {"torch", "recbole", "numpy", "pandas", "scipy"} & {*sys.modules} if len(sys.argv) > 2 else set()
print(json.dumps([answers, sorted(bad)]))
"""


def called(commands, folder, *more):
    """Exit code, output and errors of each command line, with ``folder`` first on Python's path."""
    path = os.pathsep.join([str(folder), str(Path(libraries.__file__).parents[2])])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", SEVERAL, json.dumps(commands), *more]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def stub(folder, name, code):
    """A module of that name that is found before the installed one."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(code)
    return folder


ABSENT = """
import importlib.abc, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
from importlib import metadata
version = metadata.version
def only_others(name):
    if name in {names!r}:
        raise metadata.PackageNotFoundError(name)
    return version(name)
metadata.version = only_others
"""


def absent(folder, *names):
    """As if these were not installed."""
    return stub(folder, "sitecustomize", ABSENT.format(names=names))


@pytest.mark.processes
def test_without_recbole_every_command_names_the_line_that_brings_it(tmp_path):
    answers, _ = called(list(COMMANDS.values()), absent(tmp_path / "first", "recbole"))
    for name, (code, out, error) in zip(COMMANDS, answers):
        assert (name, code) == (name, 1)
        assert RECBOLE in error, name
        assert error.startswith("recbole-diffusion: "), name
        assert error.count("\n") == 1, name
        assert "Traceback" not in out, name


def test_what_needs_no_recbole_works_without_and_imports_nothing_heavy(tmp_path):
    answers, imported = called(WITHOUT, absent(tmp_path / "first", "recbole", "torch", "numpy"), "look")
    for words, (code, out, error) in zip(WITHOUT, answers):
        assert (words, code, error) == (words, 0, "")
        assert len(out) > 10
    assert "LTDiffRec yelp_clean" in answers[WITHOUT.index(["reproduce", "--help"])][1]
    assert imported == []


def test_all_that_is_missing_is_named_recbole_first(tmp_path):
    ((code, _, error),), _ = called([COMMANDS["run"]], absent(tmp_path / "first", "recbole", "torch"))
    assert code == 1
    assert error == (
        f"recbole-diffusion: RecBole is not installed: {RECBOLE}; torch is not installed: pip install torch; "
        "recbole-diffusion doctor says more\n"
    )


BROKEN = {
    "torch": (
        "raise OSError('libcudart.so.12: cannot open shared object file')",
        "pip install --force-reinstall torch",
    ),
    "recbole": ("raise ImportError('half a package')", RECBOLE),
    "pandas": (
        "raise ValueError('numpy.dtype size changed, may indicate binary incompatibility')",
        "pip install --upgrade pandas",
    ),
    "numpy": (
        "raise ImportError('libopenblas.so: invalid ELF header')",
        "pip install --force-reinstall --no-deps numpy",
    ),
}


@pytest.mark.processes
@pytest.mark.parametrize("library", ["torch", "recbole", "numpy"])
def test_a_damaged_library_is_one_line_from_every_command(library, tmp_path):
    code, fix = BROKEN[library]
    some = ["run", "compare", "tune", "reproduce"]
    answers, _ = called([COMMANDS[name] for name in some], stub(tmp_path / "first", library, code))
    for name, (status, _, error) in zip(some, answers):
        assert (name, status) == (name, 1)
        assert f"recbole-diffusion: {'RecBole' if library == 'recbole' else library} cannot be imported (" in error
        assert fix in error
        assert error.count("\n") == 1


ROOT = Path(libraries.__file__).parents[2]


@pytest.mark.parametrize("start", [["-m", "recbole_diffusion"], [str(ROOT / "run_recbole_diffusion.py")]])
def test_every_way_to_the_doctor_imports_nothing_heavy(start):
    words = [sys.executable, "-X", "importtime", *start, "doctor", "--help"]
    done = subprocess.run(words, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert "usage: recbole-diffusion doctor" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "recbole_diffusion.cli" in imported
    assert not {"torch", "recbole", "numpy", "pandas", "scipy", "ray", "yaml"} & imported


# Doctor


@pytest.mark.processes
def test_doctor_reports_what_it_cannot_import(tmp_path):
    """Everything is broken at once; the one cause is named once, with its fix."""
    folder = absent(tmp_path / "first", "recbole", "hyperopt")
    for library in ("torch", "pandas"):
        stub(folder, library, BROKEN[library][0])
    stub(folder, "ray", "raise AttributeError('module numpy has no attribute bool8')")
    ((code, out, error),), imported = called([["doctor"]], folder, "look")
    assert code == 1
    assert error == ""
    assert imported == []
    problems = [line for line in out.splitlines() if line.startswith("PROBLEM: ")]
    assert problems == [
        "PROBLEM: RecBole is not installed",
        "PROBLEM: torch cannot be imported: OSError: libcudart.so.12: cannot open shared object file",
        "PROBLEM: pandas cannot be imported: ValueError: numpy.dtype size changed, may indicate binary incompatibility",
        "PROBLEM: ray cannot be imported: AttributeError: module numpy has no attribute bool8; only the commands that "
        "use ray fail",
    ]
    mends = [line for line in out.splitlines() if line.startswith("  mend:  ")]
    assert mends[0] == f"  mend:  {RECBOLE}"
    assert mends[1].startswith("  mend:  pip install --force-reinstall torch==")
    assert mends[2].startswith("  mend:  pip install --upgrade pandas")
    assert "4 problem(s) found" in out


PROBES = {
    "fine": "import json",
    "killed": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "exits": "raise SystemExit(3)",
    "leaves": "import os; os._exit(3)",
    "talks": "print('hello'); raise RuntimeError('two\\nlines')",
    "absent": "import no_such_module_at_all",
}


def test_an_import_may_end_its_process(monkeypatch):
    monkeypatch.setattr(doctor, "PROBES", PROBES)
    assert doctor.probe() == {
        "killed": Failure("killed", False, "the import ended the process by SIGSEGV"),
        "exits": Failure("exits", False, "SystemExit: 3"),
        "leaves": Failure("leaves", False, "the import ended the process with status 3"),
        "talks": Failure("talks", False, "RuntimeError: two lines"),
        "absent": Failure(
            "no_such_module_at_all", True, "ModuleNotFoundError: No module named 'no_such_module_at_all'"
        ),
    }


def test_an_import_that_does_not_end_is_ended(monkeypatch):
    monkeypatch.setattr(doctor, "PROBES", {"slow": "import time; time.sleep(600)"})
    assert doctor.probe(timeout=0.5) == {"slow": Failure("slow", False, "the import did not end in time")}


# Failures


@pytest.mark.parametrize(
    ("failure", "line"),
    [
        (Failure("yaml", True, ""), "yaml is not installed: pip install pyyaml"),
        (Failure("distutils", True, ""), "distutils is not installed: pip install setuptools"),
        (
            Failure("torch", False, "OSError: x"),
            "torch cannot be imported (OSError: x): pip install --force-reinstall torch==",
        ),
        (Failure("", False, "E: x"), "a library cannot be imported (E: x): recbole-diffusion doctor"),
        (
            Failure("recbole", False, "E: x"),
            f"RecBole cannot be imported (E: x): {RECBOLE} (with --force-reinstall where it is there)",
        ),
        (
            Failure("scipy", False, "ImportError: numpy.core.multiarray failed to import"),
            "scipy cannot be imported (ImportError: numpy.core.multiarray failed to import): pip install --upgrade "
            "scipy (made for the installed numpy), or pip install 'numpy<2'",
        ),
    ],
)
def test_the_line_of_a_failure(failure, line):
    assert failure.line.startswith(line)
    if "==" not in line:
        assert failure.line == line


def test_other_errors_are_not_taken_for_failed_imports():
    with pytest.raises(ValueError, match="invalid literal") as caught:
        int("x")
    assert libraries.explain(caught.value) is None
