"""``data check`` and ``data describe``, and the line of a run about the rows that were lost in loading."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import SMALL, write_inter

from recbole_diffusion import cli, quick_start
from recbole_diffusion.data.account import Account, rows_line
from recbole_diffusion.training.run_result import result_table

HEADER = "user_id:token item_id:token rating:float timestamp:float"
ROWS = [(f"u{u}", f"i{(u + n) % 9}", n + 1, 100 * n + u) for u in range(6) for n in range(5)]


@pytest.fixture(autouse=True)
def _shop(tmp_path):
    write_inter(tmp_path / "dataset", "shop", ROWS, HEADER)


def test_rows_that_are_lost_are_counted_by_reason():
    account = Account()
    account.record_file("a.inter", 1200)
    account.record_file("a.item", 9)
    assert rows_line(account.plain()) == "a.inter 1,200 rows; 0 lost in loading"
    account.record_dropped("no item_id in a.inter", 3, False)
    account.record_dropped("rm_dup_inter='last'", 2, True)
    expected = "a.inter 1,200 rows; 5 lost in loading (3 no item_id in a.inter; 2 rm_dup_inter='last')"
    assert rows_line(account.plain()) == expected


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({}, "data: shop.inter 30 rows; 0 lost in loading"),
        (
            {"val_interval": {"rating": "[3,inf)"}},
            "data: shop.inter 30 rows; 12 lost in loading (12 val_interval={'rating': '[3,inf)'})",
        ),
    ],
)
def test_a_run_prints_them(keys, line):
    settings = {**SMALL, "topk": 1, "valid_metric": "NDCG@1", "epochs": 1, "state": "ERROR", **keys}
    result = quick_start.run("BPR", "shop", config_dict=settings, saved=False)
    assert line in result_table(result).split("\n")


def test_a_sound_data_set(capsys):
    assert cli.main(["data", "check", "shop"]) == 0
    out = capsys.readouterr().out
    assert out == "shop.inter 30 rows; 0 lost in loading\n  6 users, 9 items, 30 interactions\n"


def test_rows_that_no_setting_drops_end_with_code_1(capsys):
    with open("dataset/shop/shop.inter", "a") as file:
        file.write("u9\t\t3\t900\nu9\ti1\t3\t\n")
    assert cli.main(["data", "check", "shop"]) == 1
    out = capsys.readouterr().out
    assert "shop.inter 32 rows; 2 lost in loading (1 no item_id in shop.inter" in out
    assert "1 no time (timestamp) in shop.inter" in out


def test_a_fault_of_the_file_ends_with_code_2(capsys):
    Path("dataset/shop/shop.inter").write_text("user_id:token\titem_id:token\tprice:float\na\tb\tcheap\n")
    assert cli.main(["data", "check", "shop"]) == 2
    assert "line 2, column 'price': 'cheap' is no number" in capsys.readouterr().err


def test_every_column_is_read_and_settings_hold(capsys):
    words = ["data", "check", "shop", "--val_interval={rating: '[3,inf)'}"]
    assert cli.main(words) == 0
    assert "12 lost in loading (12 val_interval" in capsys.readouterr().out
    Path("dataset/shop/shop.item").write_text("item_id:token\tprice:float\ni0\tx\n")
    assert cli.main(["data", "check", "shop"]) == 2


def test_a_file_that_was_changed_after_the_import_is_named(capsys):
    Path("t.csv").write_text("user_id,item_id\n" + "".join(f"{row[0]},{row[1]}\n" for row in ROWS))
    assert cli.main(["data", "import", "t.csv", "--name=made"]) == 0
    assert cli.main(["data", "check", "made"]) == 0
    assert "warning: made.inter" not in capsys.readouterr().out
    with open("dataset/made/made.inter", "a") as file:
        file.write("u9\ti1\n")
    assert cli.main(["data", "check", "made"]) == 0
    assert "warning: made.inter is not the file that the card describes" in capsys.readouterr().out
    assert cli.main(["data", "describe", "made"]) == 0
    assert "warning: made.inter is not the file that the card describes" in capsys.readouterr().out


def test_the_description_as_json(capsys):
    assert cli.main(["data", "describe", "shop", "--json"]) == 0
    description = json.loads(capsys.readouterr().out)
    counts = description["counts"]["shop.inter"]
    assert (counts["users"], counts["items"], counts["interactions"]) == (6, 9, 30)
    assert counts["per_user"] == {"min": 5, "median": 5.0, "mean": 5.0, "max": 5}
    assert description["columns"]["shop.inter"] == HEADER.split()
    assert description["card"] is None
