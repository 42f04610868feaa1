"""The order of lines: where it does not matter, each permutation gives the same hash of the split; else the rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import HEADER, SMALL, write_inter
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_diffusion import quick_start
from recbole_diffusion.data import pipeline

USERS, EACH = 6, 5
#: (user, item, rating, time): no two times of a user are equal.
ROWS = [(f"u{u}", f"i{(u + 3 * n) % 11}", 5.0, 100 + 10 * n + u) for u in range(USERS) for n in range(EACH)]
PARTS = {part: [row for row in ROWS if (row[3] - 100) // 10 in places] for part, places in
         (("train", (0, 1, 2)), ("valid", (3,)), ("test", (4,)))}  # fmt: skip
LEAVE_ONE_OUT = {"split": {"LS": "valid_and_test"}, "order": "TO"}
BY_TIME = {"split": {"RS": [3, 1, 1]}, "order": "TO"}
AT_RANDOM = {"split": {"RS": [3, 1, 1]}, "order": "RO"}
#: Model, settings.
FREE = [
    ("DiffRec", {"eval_args": LEAVE_ONE_OUT}),
    ("DiffuRec", {"eval_args": LEAVE_ONE_OUT}),
    ("TDiffRec", {"eval_args": BY_TIME}),
    ("DiffRec", {"eval_args": {"split": {"TS": [0.6, 0.2, 0.2]}, "order": "TO"}}),
    (
        "DiffRec",
        {"eval_args": LEAVE_ONE_OUT, "user_inter_num_interval": "[5,inf)", "item_inter_num_interval": "[2,inf)"},
    ),
]


def split_hash(files: dict[str, list[tuple[Any, ...]]], model: str, more: dict[str, Any]) -> str:
    """The hash of the split of a data set, whose files are given by the middle of their names."""
    for part, rows in files.items():
        write_inter(Path("dataset"), "d", rows, HEADER)
        Path("dataset/d/d.inter").rename(f"dataset/d/d{part}.inter")
    config = quick_start.configure(model, "d", config_dict={**SMALL, **more})
    return str(pipeline.describe(*quick_start.prepare(config))["split_sha256"])


@pytest.mark.parametrize(("model", "more"), FREE, ids=str)
@settings(max_examples=8)
@given(rows=st.permutations(ROWS))
def test_any_order_gives_the_same_split(model, more, rows):
    assert split_hash({"": rows}, model, more) == split_hash({"": ROWS}, model, more)


@settings(max_examples=8)
@given(data=st.data())
def test_any_order_in_each_part_of_split_files(data):
    parts = {f".{part}": data.draw(st.permutations(rows)) for part, rows in PARTS.items()}
    more = {"benchmark_filename": ["train", "valid", "test"]}
    expected = split_hash({f".{part}": rows for part, rows in PARTS.items()}, "DiffRec", more)
    assert split_hash(parts, "DiffRec", more) == expected
    moved = {**parts, ".valid": [*parts[".valid"], parts[".test"][0]], ".test": parts[".test"][1:]}
    assert split_hash(moved, "DiffRec", more) != expected


@settings(max_examples=8)
@given(rows=st.permutations(ROWS))
def test_equal_times_keep_the_order_of_the_file(rows):
    """The rule for ties: of equal times the later line is the later interaction, so the last line is held out."""
    tied = [(user, item, rating, 7) for user, item, rating, _ in rows]
    last = {user: item for user, item, *_ in tied}
    untied = [(user, item, rating, place) for place, (user, item, rating, _) in enumerate(tied)]
    assert split_hash({"": tied}, "DiffRec", {"eval_args": LEAVE_ONE_OUT}) == split_hash(
        {"": untied}, "DiffRec", {"eval_args": LEAVE_ONE_OUT}
    )
    config = quick_start.configure("DiffRec", "d", config_dict={**SMALL, "eval_args": LEAVE_ONE_OUT})
    dataset, (_, _, test) = quick_start.prepare(config)
    tokens = dataset.field2id_token
    users, items = pipeline.pairs(test).T
    assert dict(zip(tokens["user_id"][users], tokens["item_id"][items])) == last


def test_a_random_split_depends_on_the_order_and_its_hash_says_so():
    """RecBole draws from the lines: the same seed in another order is another split, which is never taken for it."""
    more = {"eval_args": AT_RANDOM}
    assert split_hash({"": ROWS}, "DiffRec", more) == split_hash({"": ROWS}, "DiffRec", more)
    assert split_hash({"": ROWS}, "DiffRec", more) != split_hash({"": ROWS[::-1]}, "DiffRec", more)
