"""Intervals and the columns that filters name: what is read, what is refused, and which rows are left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import HEADER, write_inter

from recbole_diffusion import quick_start, run
from recbole_diffusion.data import pipeline
from recbole_diffusion.settings import intervals

ROWS = [(f"u{n % 6}", f"i{n % 11}", 1 + n % 5, 1000 + n) for n in range(60)]
QUIET = {"show_progress": False, "state": "ERROR", "data_path": "dataset"}


@pytest.fixture(autouse=True)
def _rated(tmp_path: Path) -> None:
    """60 rows, 12 of each rating from 1 to 5; users with an age, items with a class."""
    write_inter(tmp_path / "dataset", "rated", ROWS, HEADER)
    ages = "".join(f"u{n}\t{20 + n}\n" for n in range(6))
    (tmp_path / "dataset" / "rated" / "rated.user").write_text("user_id:token\tage:float\n" + ages)
    kinds = "".join(f"i{n}\t{'ab'[n % 2]}\t{n}\n" for n in range(11))
    (tmp_path / "dataset" / "rated" / "rated.item").write_text("item_id:token\tkind:token\tyear:token\n" + kinds)


def configured(model: str = "BPR", **settings: Any) -> Any:
    return quick_start.configure(model, "rated", config_dict={**QUIET, **settings})


def rows(**settings: Any) -> int:
    """How many interactions are left after the filters."""
    return len(pipeline.create_dataset(configured(**settings)).inter_feat)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("[5,inf)", "[5,inf)"),
        ("[5,Inf)", "[5,inf)"),
        ("[0,INF)", "[0,inf)"),
        ("[5,infinity)", "[5,inf)"),
        ("(-Infinity, 3.5]", "(-inf,3.5]"),
        (" [ 5 , 10.0 ] ", "[5,10]"),
        ("[1e3,2_000]", "[1000,2000]"),
        ("[0,2];[4,5]", "[0,2];[4,5]"),
        ("[0,2] ; (4,5]", "[0,2];(4,5]"),
        ([5, 10], "[5,10]"),
        ([0.5, float("inf")], "[0.5,inf]"),
        (["[0,2]", "[4,5]"], "[0,2];[4,5]"),
        ("[978300760.25,inf)", "[978300760.25,inf)"),
        ("[5,5]", "[5,5]"),
    ],
)
def test_intervals_as_people_write_them(written, read):
    assert intervals.normalise(written) == read
    assert configured(user_inter_num_interval=written)["user_inter_num_interval"] == read


@pytest.mark.parametrize(
    "wrong",
    [
        5,
        4.0,
        ">=4",
        "4",
        "[4;5]",
        "4,5",
        "[5,4]",
        "[4,inf",
        "(4,)",
        "(,4)",
        "(5,5]",
        "[5,5)",
        "[a,b]",
        "[1,2,3]",
        " ",
        "[nan,5]",
        "[0,2];",
        "[0,2],[4,5]",
        "inf",
        True,
        [5],
        [5, 6, 7],
        [],
        {"a": 1},
        "[inf,inf)",
    ],
    ids=repr,
)
def test_what_is_no_interval_is_refused_with_an_example(wrong):
    with pytest.raises(ValueError, match=r"user_inter_num_interval=.* is not allowed; .*e\.g\. '\[4,inf\)'") as error:
        configured(user_inter_num_interval=wrong)
    assert "\n" not in str(error.value)
    for key in ("item_inter_num_interval", "entity_kg_num_interval", "relation_kg_num_interval"):
        with pytest.raises(ValueError, match=key):
            configured(**{key: wrong})


@pytest.mark.parametrize(
    "wrong",
    [4, ">=4", "4", "[4;5]", "4,5", "[5,4]", "[4,inf", "(4,)", [3, 4, 5], ["a"], [5, 4], [], None, {"a": 1}, [[4, 5]]],
    ids=repr,
)
def test_a_filter_of_numbers_that_cannot_be_read_is_refused(wrong):
    with pytest.raises(ValueError, match=r"val_interval\.rating=.* is not allowed.*an interval, e\.g\. '\[4,inf\)'"):
        configured(val_interval={"rating": wrong})


@pytest.mark.parametrize("wrong", ["[4,inf)", 4, ["rating"]], ids=repr)
def test_a_filter_without_its_column_is_refused(wrong):
    with pytest.raises(
        ValueError, match=r"val_interval=.*allowed: a column with an interval, e\.g\. \{rating: '\[4,inf"
    ):
        configured(val_interval=wrong)


@pytest.mark.parametrize(
    ("interval", "kept"),
    [
        ("[4,inf)", {4, 5}),
        ("(4,Infinity)", {5}),
        ("[ 1 , 2 ];(4,5]", {1, 2, 5}),
        (["[1,2]", "[5,5]"], {1, 2, 5}),
        ([4, 5], {4, 5}),
        ([1, 5], {1, 2, 3, 4, 5}),
        ("[2,2]", {2}),
    ],
)
def test_the_rows_that_a_filter_keeps(interval, kept):
    """12 rows of each rating; the column is loaded though load_col leaves it out."""
    assert rows(val_interval={"rating": interval}) == 12 * len(kept)
    assert rows(val_interval={"rating": interval}, load_col=None) == 12 * len(kept)
    assert rows(val_interval={"rating": interval}, load_col={"inter": "*"}) == 12 * len(kept)


def test_filters_of_names_take_lists():
    """Items 0, 2, 4, ... are of kind a; u0 and u3 have ten rows each; years of type token are names."""
    assert rows(val_interval={"user_id": ["u0", "u3"]}) == 20
    assert rows(val_interval={"kind": ["a"]}) == sum(n % 11 % 2 == 0 for n in range(60))
    assert rows(val_interval={"year": [0, 7]}) == sum(n % 11 in (0, 7) for n in range(60))
    assert rows(val_interval={"age": "[23,inf)"}) == 30
    with pytest.raises(ValueError, match=r"user_id:token holds names; allowed: a list"):
        configured(val_interval={"user_id": "[4,inf)"})
    with pytest.raises(
        ValueError, match=r"val_interval names the column 'rate', .* user_id \(\.inter\).*age \(\.user\)"
    ):
        configured(val_interval={"rate": "[4,inf)"})
    with pytest.raises(ValueError, match=r"val_interval names the column 'rating', which unload_col.inter leaves out"):
        configured(val_interval={"rating": "[4,inf)"}, load_col=None, unload_col={"inter": ["rating"]})


def test_a_column_that_a_filter_needs_is_no_feature_of_the_model():
    """Without unused_col, FM would learn from the rating that the label was made of, and from the age."""
    keys = {"eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "mode": "labeled"}, "threshold": {"rating": 3}}
    filtered = configured("FM", **keys, val_interval={"timestamp": "[1001,inf)", "age": "[20,24]"})
    assert filtered["load_col"]["user"] == ["user_id", "age"]
    dataset, loaders = quick_start.prepare(filtered)
    plain, _ = quick_start.prepare(configured("FM", **keys))
    assert {*loaders[0]._dataset.inter_feat.columns} == {*plain.inter_feat.columns} == {"user_id", "item_id", "label"}
    assert [*loaders[0]._dataset.user_feat.columns] == ["user_id"]
    assert len(dataset.inter_feat) == sum(n % 6 <= 4 for n in range(1, 60))


def test_an_interval_without_quotes_in_yaml_is_named(tmp_path):
    for line, hint in (("user_inter_num_interval: [5,inf)", "user_inter_num_interval: [5,inf)"), ("a: [1", None)):
        (tmp_path / "a.yaml").write_text(f"epochs: 1\n{line}\n")
        with pytest.raises(ValueError, match=r"a\.yaml' is not yaml \(line \d\)") as error:
            quick_start.configure("BPR", "rated", config_file_list=[tmp_path / "a.yaml"])
        assert ("written in quotes" in str(error.value)) == (hint is not None)
        assert hint is None or hint in str(error.value)
    (tmp_path / "a.yaml").write_text("user_inter_num_interval: [9, 10]\nload_col: None\n")
    config = quick_start.configure("BPR", "rated", config_file_list=[tmp_path / "a.yaml"], config_dict=QUIET)
    assert (config["user_inter_num_interval"], config["load_col"]) == ("[9,10]", None)
    assert len(pipeline.create_dataset(config).inter_feat) == 60


def test_the_filter_of_a_run_is_that_of_its_own_file():
    first = run(
        "Pop", "rated", config_dict={**QUIET, "val_interval": {"rating": [4, 5]}, "topk": [3], "valid_metric": "MRR@3"}
    )
    again = run(config_file_list=[first["folder"] + "/config.yaml"], saved=False)
    assert again["data"] == first["data"]
    assert again["data"]["train"] + again["data"]["valid"] + again["data"]["test"] == 24
