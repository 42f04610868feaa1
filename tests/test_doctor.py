"""doctor: versions, known-bad combinations and the line that mends each."""

from __future__ import annotations

import pytest

from recbole_diffusion import cli, doctor

GOOD = {
    "recbole": (1, 2, 1),
    "torch": (2, 13, 0),
    "numpy": (1, 26, 4),
    "pandas": (2, 3, 3),
    "scipy": (1, 17, 1),
    "ray": (2, 6, 3),
    "setuptools": (81, 0, 0),
    "pyarrow": (25, 0, 1),
    "hyperopt": None,
}


def test_a_good_set_up():
    text, good = doctor.report(GOOD)
    assert good
    assert "no known problem" in text
    assert "torch >= 2.6 refuses RecBole's pickled checkpoints" in text


@pytest.mark.parametrize(
    ("change", "mend"),
    [
        ({"recbole": None}, "pip install --no-deps recbole==1.2.1"),
        ({"recbole": (1, 2, 0)}, "pip install --no-deps recbole==1.2.1"),
        ({"torch": None}, "pip install torch"),
        ({"torch": (1, 10, 0)}, "pip install 'torch>=1.12'"),
        ({"torch": (2, 1, 0), "numpy": (2, 0, 0), "ray": None}, "pip install 'numpy<2'"),
        ({"numpy": (2, 4, 6)}, "pip install 'ray[tune]>=2.49'"),
        ({"setuptools": (84, 2, 1)}, "pip install 'setuptools<82'"),
        ({"pyarrow": (26, 0, 0)}, "pip install 'pyarrow<26'"),
        ({"hyperopt": (0, 2, 7)}, "pip install hyperopt==0.2.5"),
    ],
    ids=str,
)
def test_each_known_bad_combination_names_its_cure(change, mend):
    text, good = doctor.report({**GOOD, **change})
    assert not good
    assert mend in text
    assert text.count("PROBLEM") == 1


def test_todays_stack_without_ray_has_no_problem():
    today = {**GOOD, "numpy": (2, 4, 6), "pandas": (3, 1, 1), "ray": None, "pyarrow": None, "setuptools": None}
    text, good = doctor.report(today)
    assert good
    assert "numpy 2 breaks RecBole's Config" in text
    assert "pandas 3" in text


def test_exit_code(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "installed", lambda: GOOD)
    assert cli.main(["doctor"]) == 0
    monkeypatch.setattr(doctor, "installed", lambda: {**GOOD, "recbole": None})
    assert cli.main(["doctor"]) == 1
    assert "RecBole is not installed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "parsed"), [("2.13.0+cpu", (2, 13, 0)), ("3.0.dev1", (3, 0, 1)), (None, None), ("84", (84,))]
)
def test_versions_are_parsed(text, parsed):
    assert doctor.parse(text) == parsed
