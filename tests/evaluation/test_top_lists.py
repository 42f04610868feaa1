"""Ranked lists as arrays, rows and frames."""

from __future__ import annotations

import numpy as np
import pytest

from recbole_diffusion.evaluation.top_lists import TopLists, concatenate

NAMES = np.array(["", "tea", "cup", "pot"])


def lists() -> TopLists:
    return TopLists(
        np.array(["ann", "007"]),
        np.array([[3, 1], [2, 0]], dtype=np.int32),
        NAMES,
        np.array([[0.5, 0.25], [1.5, np.nan]], dtype=np.float32),
    )


def test_frame_has_a_row_per_item_and_none_for_an_empty_place() -> None:
    frame = lists().frame()
    assert list(frame.columns) == ["user", "item", "rank", "score"]
    assert frame.values.tolist() == [["ann", "pot", 1, 0.5], ["ann", "tea", 2, 0.25], ["007", "cup", 1, 1.5]]


def test_cut_keeps_the_first_places() -> None:
    assert lists().cut(1).items.tolist() == [[3], [2]]
    with pytest.raises(ValueError, match="k=3 is not allowed"):
        lists().cut(3)


def test_concatenate_joins_users_and_refuses_another_catalogue() -> None:
    joined = concatenate([lists(), lists()._replace(users=np.array(["bob", "cid"]))])
    assert joined.users.tolist() == ["ann", "007", "bob", "cid"]
    assert joined.items.tolist() == [[3, 1], [2, 0], [3, 1], [2, 0]]
    with pytest.raises(ValueError, match="different names of items"):
        concatenate([lists(), lists()._replace(names=np.array(["", "tea", "pot", "cup"]))])
