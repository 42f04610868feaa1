"""Search spaces: what files mean, what is drawn, and that every shipped value is one that its model takes."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_diffusion.experiment.space import search_space
from recbole_diffusion.experiment.space.search_space import Choice, Interval, Space, canonical_json, parse
from recbole_diffusion.support import yaml_files

MODELS = search_space.available()


def space(**entries) -> Space:
    return parse(entries, "space.yaml")


def test_every_kind():
    found = space(
        a={"choice": [[64], None, True, 1, 1.0]},
        b={"uniform": [0, 1]},
        c={"loguniform": [1e-4, 1e-2]},
        d={"quniform": [0.1, 0.5, 0.1]},
        e={"quniform": [3, 10, 2]},
        f={"randint": [1, 3]},
    ).dimensions
    assert found["a"].values == ([64], None, True, 1, 1.0)
    assert [type(value) for value in found["a"].values] == [list, type(None), bool, int, float]
    assert found["b"] == Interval(0.0, 1.0)
    assert found["c"] == Interval(1e-4, 1e-2, log=True)
    assert found["d"].values == (0.1, 0.2, 0.3, 0.4, 0.5)  # decimals, not 0.30000000000000004
    assert found["e"].values == (4, 6, 8, 10)  # multiples, as RecBole rounds, but within the bounds
    assert found["f"].values == (1, 2, 3)
    assert all(isinstance(value, int) for value in (*found["e"].values, *found["f"].values))


def test_recbole_file():
    """RecBole's own example, and one of each other kind."""
    Path("hyper.test").write_text(
        "learning_rate loguniform -8,0\n"
        "embedding_size choice [64,96,128]\n"
        "\n"
        "mlp_hidden_size choice ['[64,64,64]','[128,128]']\n"
        "# a comment\n"
        "dropout_prob uniform 0.1, 0.5\n"
        "n_layers quniform 1,4,1\n"
    )
    found = search_space.load("hyper.test").dimensions
    assert found["learning_rate"].low == pytest.approx(3.3546e-4, rel=1e-4)  # e^-8
    assert found["learning_rate"].high == 1.0
    assert found["learning_rate"].log
    assert found["embedding_size"].values == (64, 96, 128)
    assert found["mlp_hidden_size"].values == ([64, 64, 64], [128, 128])
    assert found["dropout_prob"] == Interval(0.1, 0.5)
    assert found["n_layers"].values == (1, 2, 3, 4)
    assert search_space.load(Path("hyper.test")) == search_space.load("hyper.test")


def test_recbole_file_means_what_hyperopt_makes_of_it():
    """RecBole hands the two numbers to hp.loguniform."""
    pyll = pytest.importorskip("hyperopt.pyll.stochastic")
    hp = pytest.importorskip("hyperopt").hp
    import numpy as np

    theirs = [pyll.sample(hp.loguniform("x", -8, 0), np.random.RandomState(seed)) for seed in range(200)]
    Path("a.hyper").write_text("x loguniform -8,0\n")
    (ours,) = search_space.load("a.hyper").dimensions.values()
    assert ours.low <= min(theirs) < ours.low * 1.2
    assert ours.high * 0.8 < max(theirs) <= ours.high


def test_grid_and_places():
    found = space(a={"choice": ["x", "y"]}, b={"choice": [1, 2, 3]})
    assert found.size == 6
    expected = [{"a": a, "b": b} for a in "xy" for b in (1, 2, 3)]
    assert list(found.grid()) == expected
    assert [found.at(place) for place in range(6)] == expected
    assert list(found.at(4)) == ["a", "b"]
    assert space(a={"choice": [1]}, b={"uniform": [0, 1]}).size is None


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_each_place_is_another_point(lengths):
    found = Space({f"k{i}": Choice(tuple(range(n))) for i, n in enumerate(lengths)}, "s")
    points = [canonical_json(found.at(place)) for place in range(found.size)]
    assert len(set(points)) == found.size == math.prod(lengths)
    assert points == [canonical_json(point) for point in found.grid()]


def test_sample_has_no_repeats_and_the_same_beginning():
    found = space(a={"choice": list(range(7))}, b={"choice": list(range(5))})
    few, many = found.sample(5, seed=3), found.sample(20, seed=3)
    assert many[:5] == few
    assert len({canonical_json(each) for each in many}) == 20
    assert found.sample(5, seed=4) != few
    everything = found.sample(1000, seed=3)
    assert sorted(map(canonical_json, everything)) == sorted(map(canonical_json, found.grid()))


def test_equal_values_are_one():
    found = space(a={"choice": [0.1, 0.1, 0.1]}, b={"uniform": [2, 2]}, c={"loguniform": [3, 3]})
    assert found.size == 1
    assert found.sample(9, seed=0) == [{"a": 0.1, "b": 2.0, "c": 3.0}]


def test_continuous_draws():
    found = space(a={"loguniform": [1e-4, 1e-2]}, b={"uniform": [-1, 3]}, c={"choice": ["x", "y", "z"]})
    draws = found.sample(3000, seed=1)
    a, b = sorted(each["a"] for each in draws), sorted(each["b"] for each in draws)
    assert 1e-4 <= a[0] < a[-1] <= 1e-2
    assert -1 <= b[0] < b[-1] <= 3
    assert math.log10(a[1500]) == pytest.approx(-3, abs=0.06)  # half of the draws below the geometric mean
    assert b[1500] == pytest.approx(1, abs=0.12)
    assert [sum(each["c"] == kind for each in draws) / 3000 for kind in "xyz"] == pytest.approx([1 / 3] * 3, abs=0.04)
    assert found.sample(5, seed=1) == draws[:5]


def test_fix_and_plain():
    found = space(a={"choice": [None, [1]]}, b={"loguniform": [0.1, 1]}, c={"uniform": [0, 2]})
    assert list(found.without(["b", "unknown"]).dimensions) == ["a", "c"]
    assert parse(found.to_entries(), "space.yaml") == found


def test_points_of_a_search_and_back():
    found = space(a={"choice": [True, 1, None, [2]]}, b={"uniform": [0, 2]}, c={"choice": [1, 2, 4]})
    for value, place in ((True, 0), (1, 1), (None, 2), ([2], 3)):
        point = found.encode({"a": value, "b": 1, "c": 4})
        assert point == {"a": place, "b": 1.0, "c": 2}
        assert found.decode(point)["a"] == value
        assert type(found.decode(point)["a"]) is type(value)
    for outside in ({"a": 2, "b": 1, "c": 1}, {"a": 1, "b": 2.5, "c": 1}):
        with pytest.raises(ValueError, match="2"):
            found.encode(outside)


def test_domains_of_ray():
    tune = SimpleNamespace(**{kind: lambda *args, kind=kind: (kind, *args) for kind in ("choice", "randint")})
    tune.uniform, tune.loguniform = (lambda low, high: ("uniform", low, high)), (lambda low, high: ("log", low, high))
    found = space(
        a={"choice": ["x", "y"]},
        b={"choice": [1, 5, 9]},
        c={"choice": [9, 1]},
        d={"uniform": [0, 1]},
        e={"loguniform": [1, 2]},
        f={"choice": [3]},
    ).to_ray(tune)
    assert found == {
        "a": ("choice", [0, 1]),
        "b": ("randint", 0, 3),  # numbers in their order
        "c": ("choice", [0, 1]),
        "d": ("uniform", 0.0, 1.0),
        "e": ("log", 1.0, 2.0),
        "f": ("choice", [0]),
    }


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"chioce": [1]}, "did you mean choice?"),
        ({"normal": [1]}, "choice | uniform | loguniform | quniform | randint"),
        ([1, 2], "allowed: one of"),
        ({}, "allowed: one of"),
        ({"choice": [1], "uniform": [0, 1]}, "allowed: one of"),
        ({"choice": []}, "with a value at least"),
        ({"choice": 3}, "with a value at least"),
        ({"uniform": [2, 1]}, "low is above high; allowed: [1, 2]"),
        ({"uniform": [1]}, "{uniform: [low, high]} with numbers"),
        ({"uniform": [0, float("inf")]}, "with numbers"),
        ({"uniform": [False, True]}, "with numbers"),
        ({"loguniform": [0, 1]}, "allowed: low > 0"),
        ({"quniform": [0, 1]}, "[low, high, step]"),
        ({"quniform": [0, 1, 0]}, "step > 0"),
        ({"quniform": [1, 2, 5]}, "no multiple of 5"),
        ({"quniform": [0, 1, 1e-9]}, "or uniform"),
        ({"randint": [1, 2.5]}, "whole numbers"),
    ],
)
def test_a_wrong_entry_is_one_line(entry, message):
    with pytest.raises(ValueError, match=r"^space\.yaml: learning_rate=.*$") as caught:
        space(learning_rate=entry)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rate choice\n", "key kind values"),
        ("learning_rate choice [1,\n", "Python's literals"),
        ("learning_rate choice __import__('os').getcwd()\n", "Python's literals"),
        ("learning_rate loguniform -8\n", "[low, high]"),
        ("learning_rate loguniform 0,-8\n", "low is above high"),
        ("learning_rate normal 1,2\n", "allowed: one of"),
        ("\n# nothing\n", "holds no key"),
    ],
)
def test_a_wrong_line_of_a_recbole_file(text, message):
    Path("a.hyper").write_text(text)
    with pytest.raises(ValueError, match=r"a\.hyper") as caught:
        search_space.load("a.hyper")
    assert message in str(caught.value)


def test_files_that_are_not_there():
    with pytest.raises(ValueError, match=r"'gone\.yaml' cannot be read"):
        search_space.load("gone.yaml")
    with pytest.raises(ValueError, match=r"'gone\.hyper' cannot be read"):
        search_space.load("gone.hyper")
    Path("empty.yaml").write_text("# nothing\n")
    with pytest.raises(ValueError, match=r"empty\.yaml holds no key"):
        search_space.load("empty.yaml")


def test_models_without_a_space():
    with pytest.raises(ValueError, match=r"no search space for NGCF; give one with --space=FILE"):
        search_space.load("NGCF")
    with pytest.raises(ValueError, match="did you mean"):
        search_space.load("LightGNC")
    # RecBole's models of our models' names have other keys
    with pytest.raises(ValueError, match="no search space for recbole:DiffRec"):
        search_space.load("recbole:DiffRec")
    from recbole.model.general_recommender.diffrec import DiffRec

    with pytest.raises(ValueError, match="no search space for DiffRec"):
        search_space.load(DiffRec)
    assert search_space.load("recbole:LightGCN") == search_space.load("LightGCN")
    assert search_space.load("recbole_diffusion.model.general_recommender.diffrec:DiffRec").dimensions


@pytest.mark.parametrize("name", MODELS)
def test_every_shipped_value_is_one_that_the_model_takes(name, settings):
    found = search_space.load(name)
    found.check(name, "board", settings)
    assert found.size is None or found.size >= 10
    assert all(canonical_json(value) for each in found.dimensions.values() for value in each.probes)
    first = (yaml_files.properties() / "hyper" / f"{name}.yaml").read_text().splitlines()[0]
    assert first.startswith("# Search space of ")


def test_every_model_of_ours_has_a_space():
    assert {file.stem for file in (yaml_files.properties() / "model").glob("*.yaml")} <= set(MODELS)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"learnin_rate": {"choice": [1e-3]}}, "did you mean learning_rate?"),
        ({"steps": {"choice": [5, 0]}}, "steps=0 is not allowed; allowed: int >= 1"),
        ({"steps": {"uniform": [1, 10]}}, "allowed: int >= 1"),  # 1 and 10 would do, what lies between does not
        ({"dropout_prob": {"uniform": [0, 1]}}, "dropout_prob=1"),  # the upper bound itself
        ({"seed": {"choice": [1, 2]}}, "changes what is measured"),
        ({"topk": {"choice": [[5], [10]]}}, "changes what is measured"),
    ],
)
def test_a_space_that_the_model_refuses(entries, message, settings):
    with pytest.raises(ValueError, match=r"^space\.yaml: .*$") as caught:
        parse(entries, "space.yaml").check("DiffRec", "board", settings)
    assert message in str(caught.value)


def test_reading_a_space_imports_no_torch_and_no_ray():
    code = "import sys, recbole_diffusion.experiment.space.search_space as s; s.load('DiffRec'); "
    code += "print(sorted({'torch', 'ray', 'recbole'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
