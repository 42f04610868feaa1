"""doctor: versions, known-bad combinations and the line that mends each."""

from __future__ import annotations

import pytest
from packaging.version import Version

from recbole_diffusion import cli
from recbole_diffusion.compat import doctor
from recbole_diffusion.support.libraries import Failure

GOOD = {
    "recbole": Version("1.2.1"),
    "torch": Version("2.13.0"),
    "numpy": Version("1.26.4"),
    "pandas": Version("2.3.3"),
    "scipy": Version("1.17.1"),
    "ray": Version("2.6.3"),
    "setuptools": Version("81.0.0"),
    "pyarrow": Version("25.0.1"),
    "hyperopt": None,
}


def test_a_good_set_up():
    text, good = doctor.report(GOOD, {})
    assert good
    assert "no known problem" in text
    assert "torch >= 2.6 refuses RecBole's pickled checkpoints" in text


@pytest.mark.parametrize(
    ("change", "mend"),
    [
        ({"recbole": None}, "pip install --no-deps recbole==1.2.1"),
        ({"recbole": Version("1.2.0")}, "pip install --no-deps recbole==1.2.1"),
        ({"torch": None}, "pip install torch"),
        ({"torch": Version("1.10.0")}, "pip install 'torch>=1.12'"),
        ({"torch": Version("2.1.0"), "numpy": Version("2.0.0"), "ray": None}, "pip install 'numpy<2'"),
        ({"numpy": Version("2.4.6")}, "pip install 'ray[tune]>=2.49'"),
        ({"setuptools": Version("84.2.1")}, "pip install 'setuptools<82'"),
        ({"pyarrow": Version("26.0.0")}, "pip install 'pyarrow<26'"),
        ({"hyperopt": Version("0.2.7")}, "pip install hyperopt==0.2.5"),
    ],
    ids=str,
)
def test_each_known_bad_combination_names_its_cure(change, mend):
    text, good = doctor.report({**GOOD, **change}, {})
    assert not good
    assert mend in text
    assert text.count("PROBLEM") == 1


def test_todays_stack_without_ray_has_no_problem():
    today = {**GOOD, **dict.fromkeys(("ray", "pyarrow", "setuptools"))}
    today.update(numpy=Version("2.4.6"), pandas=Version("3.1.1"))
    text, good = doctor.report(today, {})
    assert good
    assert "numpy 2 breaks RecBole's Config" in text
    assert "pandas 3" in text


def test_exit_code(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "probe", dict)
    monkeypatch.setattr(doctor, "installed", lambda: GOOD)
    assert cli.main(["doctor"]) == 0
    monkeypatch.setattr(doctor, "installed", lambda: {**GOOD, "recbole": None})
    assert cli.main(["doctor"]) == 1
    assert "RecBole is not installed" in capsys.readouterr().out


@pytest.mark.processes
def test_what_is_installed_here_can_be_imported():
    """The real thing; ray is optional."""
    found, failures = doctor.installed(), doctor.probe()
    assert set(failures) <= {"ray"}
    assert found["recbole"] == Version("1.2.1")
    lines = doctor.report(found, failures)[0].splitlines()
    assert f"{'torch':18} {found['torch']}" in lines
    assert f"{'recbole':18} 1.2.1" in lines


@pytest.mark.parametrize(
    ("text", "parsed"),
    [("2.13.0+cpu", "2.13.0"), ("3.0.dev1", "3.0.dev1"), ("84", "84"), ("1.26.4-vendor_3", "1.26.4"), ("x", "0")],
)
def test_versions_are_parsed(text, parsed):
    assert doctor.parse(text) == Version(parsed)
    assert doctor.parse(None) is None


def test_versions_are_compared_as_numbers_and_a_release_candidate_comes_before_its_release():
    """As strings, and as numbers alone, 2.10 was before 2.3, and 2.0rc1 the same as 2.0.1."""
    old = {**GOOD, "torch": Version("2.10.0"), "numpy": Version("2.4"), "ray": None}
    assert "torch before 2.3" not in doctor.report(old, {})[0]
    candidate = {**GOOD, "numpy": Version("2.0.0rc1"), "ray": None}
    assert "numpy 2 breaks" not in doctor.report(candidate, {})[0]


def test_a_failure_is_explained_by_the_known_problem_and_said_once():
    ray = Failure("ray", False, "AttributeError: module 'numpy' has no attribute 'bool8'")
    torch = Failure("torch", False, "OSError: libtorch.so")
    text, good = doctor.report({**GOOD, "numpy": Version("2.4.6")}, {"ray": ray, "torch": torch, "RecBole": torch})
    assert not good
    assert text.count("PROBLEM") == 2
    assert "pip install 'ray[tune]>=2.49'" in text
    assert (
        "PROBLEM: torch cannot be imported: OSError: libtorch.so\n  mend:  pip install --force-reinstall torch" in text
    )
    assert f"{'torch':18} 2.13.0 (cannot be imported)" in text


def test_what_ray_lacks_is_not_said_twice():
    setuptools = Failure("pkg_resources", True, "ModuleNotFoundError: No module named 'pkg_resources'")
    text, _ = doctor.report({**GOOD, "setuptools": Version("84.2.1")}, {"ray": setuptools})
    assert text.count("PROBLEM") == text.count("pip install 'setuptools<82'") == 1


def test_a_ray_that_is_not_there_is_no_problem():
    missing = Failure("ray", True, "ModuleNotFoundError: No module named 'ray'")
    assert doctor.report({**GOOD, "ray": None, "pyarrow": None}, {"ray": missing})[1]


def test_what_a_library_needs_and_does_not_bring_is_named():
    text, good = doctor.report(GOOD, {"RecBole": Failure("distutils", True, "ModuleNotFoundError")})
    assert not good
    assert "PROBLEM: distutils is not installed, which RecBole needs\n  mend:  pip install setuptools" in text
