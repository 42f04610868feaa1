"""Import of tables: what is guessed, converted, dropped and written, against pandas and values by hand."""

from __future__ import annotations

import csv
import gzip
import json
import lzma
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import recbole_diffusion
from recbole_diffusion import cli, quick_start
from recbole_diffusion.data.importing import importer, names, sources, times
from recbole_diffusion.data.importing.coded import code
from recbole_diffusion.data.importing.request import Request
from recbole_diffusion.data.importing.table import Table
from recbole_diffusion.data.stored import exporting, files

PLAIN = "user_id,item_id,rating,timestamp\nu1,a,5,100\nu1,b,3,200\nu2,a,4,300\nu2,c,1,400\nu3,a,2,500\n"


def inter(name="shop", folder="dataset", kind="inter"):
    """The written file: its header, and its rows as lists of text."""
    head, *rows = Path(folder, name, f"{name}.{kind}").read_text(encoding="utf-8").split("\n")[:-1]
    return head.split("\t"), [row.split("\t") for row in rows]


def imported(text, form=sources.RECOGNISED, file="table.csv", items=None, **request):
    Path(file).write_bytes(text if isinstance(text, bytes) else text.encode())
    return importer.import_file(file, Request(**{"name": "shop", **request}), form, items)


def refused(text, line, form=sources.RECOGNISED, **request):
    with pytest.raises(ValueError, match=line) as error:
        imported(text, form, **request)
    assert "\n" not in str(error.value)
    assert not Path("dataset", "shop").exists()


# Ids


STRANGE = [
    "007",
    "1e15",
    "12.0",
    "a,b",
    'say "hi"',
    "two  spaces",
    " lead",
    "Zoë 李雷",
    "NA",
    "x\ty",
    "line\nbreak",
    "#1",
    "'",
    "=1",
]


def test_strange_ids_are_read_back_exactly_by_a_run(capsys):
    with open("table.csv", "w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerow(["userId", "asin", "overall", "when?"])
        writer.writerows([name, f"{name}/{place}", place, 0] for name in STRANGE for place in range(3))
    result = importer.import_file("table.csv", Request("shop"))
    config = quick_start.configure("BPR", "shop", config_dict={"load_col": None, "state": "ERROR"})
    dataset, _ = quick_start.prepare(config)
    tokens = dataset.field2id_token["user_id"][1:].tolist()
    originals = result.card["renamed"]["user_id"]
    assert [originals.get(token, token) for token in tokens] == STRANGE
    assert originals == {"x\\ty": "x\ty", "line\\nbreak": "line\nbreak"}
    assert len(dataset.inter_feat) == len(STRANGE) * 3
    assert any("'NA'" in note and "--missing=NA" in note for note in result.card["notes"])


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_digits_stay_the_text_that_they_are(suffix):
    """pandas 3.1 turns text of digits into numbers where its type is category."""
    ids = ["007", "7", "10", "1e3", "0x1F", "1_000", "+5", "5.50", "True"]
    rows = [{"user_id": name, "item_id": f"0{place}"} for place, name in enumerate(ids)]
    texts = {".csv": pd.DataFrame(rows).to_csv(index=False), ".jsonl": "".join(json.dumps(row) + "\n" for row in rows)}
    imported(texts[suffix], file=f"t{suffix}")
    assert inter()[1] == [[name, f"0{place}"] for place, name in enumerate(ids)]
    imported("user_id,item_id\n007,01\n010,02\n", overwrite=True)
    assert inter()[1] == [["007", "01"], ["010", "02"]]


def test_a_name_that_a_replacement_would_join_with_another_is_refused():
    refused('user_id,item_id\n"a\tb",x\na\\tb,y\n', r"'a\\tb' must be written as 'a\\\\tb', which is another id")


def test_recboles_name_for_padding_is_replaced():
    assert imported("user_id,item_id\nu,[PAD]\nu,b\n").card["renamed"] == {"item_id": {"\\[PAD]": "[PAD]"}}


@pytest.mark.parametrize(
    ("ids", "written"),
    [
        ([12.0, None, 7.0], ["12", "7"]),
        ([12, 10**15, 7], ["12", "1000000000000000", "7"]),
        (["12.0", "", "7.0"], ["12", "7"]),  # written by pandas, whose column became float
        (["12.0", "7", "8"], ["12.0", "7", "8"]),
        (["1e15", "007", "7"], ["1e15", "007", "7"]),
        (pd.array([2**60 + 1, None, 3], dtype="Int64"), [str(2**60 + 1), "3"]),
        (pd.Categorical(["b", "a", "b"]), ["b", "a", "b"]),
    ],
)
def test_ids_of_every_type(ids, written):
    result = recbole_diffusion.from_frame(pd.DataFrame({"user_id": ids, "item_id": ["x", "y", "z"]}), "shop")
    assert [row[0] for row in inter()[1]] == written
    lost = 3 - len(written)
    assert [step["rows"] for step in result.card["steps"]] == ([lost] if lost else [])


@pytest.mark.parametrize(
    ("ids", "line"),
    [
        ([1.5, 2.0], r"row 1, column 'user_id': 1\.5 is no id"),
        ([2.0**60, 2.0], "too large for a float, so that digits may be lost"),
        ([True, False], "'True' is a bool and no id"),
        (["a", "b" * 5000], "row 2, column 'user_id': an id of 5000 characters; allowed: 4096"),
        (["a", "\ud800"], "holds half of a character"),
    ],
)
def test_values_that_are_no_ids_are_refused(ids, line):
    with pytest.raises(ValueError, match=line):
        recbole_diffusion.from_frame(pd.DataFrame({"user_id": ids, "item_id": ["x", "y"]}), "shop")
    assert not Path("dataset/shop").exists()


# Columns


@pytest.mark.parametrize(
    ("head", "columns"),
    [
        ("userId,movieId,rating,timestamp", "0123"),
        ("reviewerID,asin,overall,unixReviewTime", "0123"),
        ("asin,reviewerID,overall,unixReviewTime", "1023"),
        ("user_id:token,item_id:token,rating:float,timestamp:float", "0123"),
        ("business_id,user_id,stars,date", "1023"),
        ("session_id,product_id,weight,ts", "0123"),
        ("user_id,session_id,item_id,created_at", "02-3"),
        ("uid,track_id,plays,event_time", "0123"),
        ("Customer ID,SKU,Score,Date", "0123"),
    ],
)
def test_columns_are_guessed_by_the_names_of_public_data(head, columns):
    result = imported(f"{head}\nu1,i1,3,4\n")
    written = head.replace(":token", "").replace(":float", "").split(",")
    fields = ("user_id", "item_id", "rating", "timestamp")
    expected = {field: written[int(place)] for field, place in zip(fields, columns) if place != "-"}
    assert {field: entry["from"] for field, entry in result.card["columns"].items()} == expected
    assert all(f"from {name!r} (guessed)" in result.summary() for name in expected.values())


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("user_id,asin,parent_asin\nu,a,b\n", "asin, parent_asin may each be the item; give --item=asin or --item=par"),
        ("user_id,item_id,rating,stars\nu,a,1,2\n", r"give --rating=rating or --rating=stars \(or --rating=none\)"),
        (
            "user_id,thing\nu,a\n",
            "no column has a known name for the item; give --item=COLUMN; columns: user_id, thing",
        ),
        ("1,2,3,4\n1,3,3,4\n", "has no known names of columns; .* e.g. --user=1 --item=2 --rating=3 --time=4"),
    ],
)
def test_what_cannot_be_guessed_is_asked_for(text, line):
    refused(text, line)


@pytest.mark.parametrize(
    ("request_", "line"),
    [
        ({"user": "usr_id"}, "--user='usr_id': table.csv has no such column; did you mean 'user_id'"),
        ({"user": "item_id"}, "no column has a known name for the item; give --item=COLUMN"),
        ({"user": "user_id", "item": "user_id"}, "--user and --item are both 'user_id'"),
        ({"positive": "rating ~ 4"}, "--positive='rating ~ 4' is not allowed; allowed: 'rating >= 4'"),
        ({"positive": "ratng >= 4"}, "--positive='ratng': table.csv has no such column; did you mean 'rating'"),
        ({"positive": "rating >= good"}, "holds numbers, 'good' is none"),
        ({"positive": "user_id >= 4"}, "'u1' is no number; use == or !="),
        ({"positive": "user_id == u9"}, "--positive names the value 'u9', which is in no row; in it: u1, u2, u3"),
        ({"positive": "rating > 5"}, "no row of 5 is left .* 5 not rating > 5"),
        ({"min_user": 4}, "no row of 5 is left"),
        ({"drop_duplicates": "all"}, r"--drop-duplicates=all is not allowed; allowed: last \| first \| none"),
        ({"time_unit": "min"}, r"--time-unit=min is not allowed; allowed: s \| ms"),
        ({"name": "a/b"}, "--name=a/b is not allowed"),
        ({"name": "../b"}, "is not allowed"),
        ({"columns": ["colour"]}, "--columns='colour': table.csv has no such column"),
    ],
)
def test_options_that_are_not_right(request_, line):
    refused(PLAIN, line, **request_)


# Times


@pytest.mark.parametrize(
    ("texts", "seconds", "read_as"),
    [
        (["978300760", "978302109"], ["978300760", "978302109"], "seconds since 1970"),
        (["1588615855070", "1588615855071"], ["1588615855.07", "1588615855.071"], "milliseconds since 1970"),
        (["1588615855070001"], ["1588615855.070001"], "microseconds"),
        (["1588615855070000001"], ["1588615855.070000001"], "nanoseconds"),
        (["1", "20", "300"], ["1", "20", "300"], "numbers, written as they are"),
        (["1.50", "2"], ["1.5", "2"], "numbers"),
        (["2024-01-31"], ["1706659200"], "ISO dates without a time zone"),
        (
            ["2024-01-31T12:00:00Z", "2024-01-31 12:00:00.250+02:00"],
            ["1706702400", "1706695200.25"],
            "with a time zone",
        ),
        (["31/01/2024", "01/02/2024"], ["1706659200", "1706745600"], "%d/%m/%Y"),
        (["01/31/2024 12:00", "02/01/2024 00:00"], ["1706702400", "1706745600"], "%m/%d/%Y %H:%M"),
        (["09 13, 2012"], ["1347494400"], "%m %d, %Y"),
        (["Sep 13, 2012"], ["1347494400"], "%b %d, %Y"),
        (["Fri Jan 31 12:00:00 +0000 2024".replace("Fri", "Wed")], ["1706702400"], "%a %b %d"),
    ],
)
def test_times_become_seconds(texts, seconds, read_as):
    table = Table("t", "", {"time": code(texts)}, rows=len(texts))
    read = times.to_times(table, "time")
    assert read.column.filled().tolist() == seconds
    assert read_as in read.read_as


@pytest.mark.parametrize(
    ("texts", "line"),
    [
        (["01/02/2024"], r"can be read in several ways; give --time-format='%d/%m/%Y' or --time-format='%m/%d/%Y'"),
        (["20240131", "20240201"], "may be a date or a number; give --time-format=%Y%m%d, or --time-unit=s"),
        (["0", "1588615855070"], "which no one unit explains; give --time-unit=s, ms, us or ns"),
        (["2024-01-31", "1706659200"], "is no time in a known form"),
        (["2024-02-31"], "is no date of the calendar"),
        (["2024-01-31T12:00:00Z", "2024-01-31T12:00:00"], "has a time zone and .* has none"),
        (["yesterday"], r"row 1, column 'time': 'yesterday' is no time in a known form"),
    ],
)
def test_times_that_are_not_clear_are_refused(texts, line):
    table = Table("t", "", {"time": code(texts)}, rows=len(texts))
    with pytest.raises(ValueError, match=line):
        times.to_times(table, "time")


def test_units_and_forms_can_be_given():
    table = Table("t", "", {"time": code(["0", "1588615855070"]), "day": code(["01/02/2024"])}, rows=2)
    assert times.to_times(table, "time", "ms").column.filled().tolist() == ["0", "1588615855.07"]
    assert times.to_times(table, "time", "raw").column.filled().tolist() == ["0", "1588615855070"]
    assert times.to_times(table, "day", form="%m/%d/%Y").column.filled().tolist() == ["1704153600"]


@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
def test_dates_of_pandas(zone):
    dates = pd.Series(
        pd.to_datetime(
            ["2024-01-31 12:00:00", None, "2024-01-31 12:00:00.5"],
            format="mixed" if int(pd.__version__[0]) > 1 else None,
        )
    )
    dates = dates if zone is None else dates.dt.tz_localize(zone)
    recbole_diffusion.from_frame(pd.DataFrame({"user": list("abc"), "item": list("xyz"), "date": dates}), "shop")
    shift = 3600 if zone == "Europe/Berlin" else 0
    assert [row[2] for row in inter()[1]] == [str(1706702400 - shift), f"{1706702400 - shift}.5"]


# Rows


FRAME = pd.DataFrame(
    {
        "user_id": np.random.default_rng(3).integers(0, 30, 400).astype(str),
        "item_id": np.random.default_rng(4).integers(0, 40, 400).astype(str),
        "rating": np.random.default_rng(5).choice([1.0, 2.5, 4.0, 5.0], 400),
        "timestamp": np.random.default_rng(6).integers(10**9, 10**9 + 50, 400),
        "event": np.random.default_rng(7).choice(["view", "buy"], 400),
    }
)


def written_frame():
    head, rows = inter()
    frame = pd.DataFrame(rows, columns=[entry.partition(":")[0] for entry in head])
    return frame.assign(rating=frame["rating"].astype(float), timestamp=frame["timestamp"].astype(int))


@pytest.mark.parametrize(
    ("positive", "query"),
    [
        ("rating >= 4", "rating >= 4"),
        ("rating>2.5", "rating > 2.5"),
        ("rating == 2.5", "rating == 2.5"),
        ("rating != 5", "rating != 5"),
        ("rating <= 2", "rating <= 2"),
        ("rating < 4 and event == buy", "rating < 4 and event == 'buy'"),
        ("rating between 2 and 4.5", "2 <= rating <= 4.5"),
        ("event != 'view' and rating between 1 and 4", "event != 'view' and 1 <= rating <= 4"),
        ("time >= 1000000020", "timestamp >= 1000000020"),
        ("timestamp >= 1000000020 and user_id == 3", "timestamp >= 1000000020 and user_id == '3'"),
    ],
)
def test_positive_rows_are_those_of_pandas(positive, query):
    result = recbole_diffusion.from_frame(FRAME, "shop", positive=positive)
    expected = FRAME.query(query)[["user_id", "item_id", "rating", "timestamp"]].reset_index(drop=True)
    pd.testing.assert_frame_equal(written_frame(), expected, check_dtype=False)
    assert result.card["steps"] == [
        {"reason": f"not {positive}", "rows": len(FRAME) - len(expected), "requested": True}
    ]


@pytest.mark.parametrize("keep", ["first", "last"])
def test_one_row_of_a_pair_stays_by_time_and_place(keep):
    recbole_diffusion.from_frame(FRAME, "shop", drop_duplicates=keep)
    order = FRAME.sort_values("timestamp", kind="stable")
    expected = order.drop_duplicates(["user_id", "item_id"], keep=keep).sort_index().drop(columns="event")
    assert len(expected) < len(FRAME)
    pd.testing.assert_frame_equal(written_frame(), expected.reset_index(drop=True), check_dtype=False)


def test_without_it_repeated_pairs_stay_and_are_counted():
    result = recbole_diffusion.from_frame(FRAME, "shop")
    repeated = int(FRAME.duplicated(["user_id", "item_id"]).sum())
    assert any(note.startswith(f"{repeated} rows repeat an earlier (user, item) pair") for note in result.card["notes"])
    assert result.card["counts"]["pairs"] == 400 - repeated


@pytest.mark.parametrize(("min_user", "min_item"), [(9, 6), (0, 9), (14, 0), (11, 0), (9, 7)])
def test_the_core_is_the_fixed_point(min_user, min_item):
    result = recbole_diffusion.from_frame(FRAME, "shop", min_user=min_user, min_item=min_item)
    rows = FRAME
    while True:
        users, items = (
            rows["user_id"].map(rows["user_id"].value_counts()),
            rows["item_id"].map(rows["item_id"].value_counts()),
        )
        fewer = rows[(users >= min_user) & (items >= min_item)]
        if len(fewer) == len(rows):
            break
        rows = fewer
    pd.testing.assert_frame_equal(written_frame(), rows.drop(columns="event").reset_index(drop=True), check_dtype=False)
    assert 0 < len(rows) < 400
    assert result.card["steps"][-1]["rows"] == 400 - len(rows)


def test_rows_without_a_value_are_dropped_and_counted_in_order():
    text = "user,item,rating,ts\n,a,1,1\nu,,1,1\nu,a,,1\nu,b,NaN,\nu,c,1,\nu,d,4,2\n ,e,4,2\nNULL,f,4,3\n"
    result = imported(text, missing=frozenset({"NULL"}))
    assert [(step["reason"], step["rows"]) for step in result.card["steps"]] == [
        ("no user (user)", 3),
        ("no item (item)", 1),
        ("no rating (rating)", 2),
        ("no time (ts)", 1),
    ]
    assert inter()[1] == [["u", "d", "4", "2"]]
    assert not any(step["requested"] for step in result.card["steps"])


# Forms of the same table


def test_every_form_of_a_table_gives_the_same_file():
    frame = pd.read_csv(pd.io.common.StringIO(PLAIN), dtype={"rating": float})
    lines = [dict(zip(PLAIN.split("\n")[0].split(","), row.split(","))) for row in PLAIN.split("\n")[1:-1]]
    typed = [{**line, "rating": float(line["rating"]), "timestamp": int(line["timestamp"])} for line in lines]
    forms = {
        "a.csv": PLAIN.encode(),
        "b.csv": b"\xef\xbb\xbf" + PLAIN.replace("\n", "\r\n").encode(),
        "c.tsv": PLAIN.replace(",", "\t").encode(),
        "d.dat": PLAIN.replace(",", "::").encode(),
        "e.csv": PLAIN.replace(",", ";").encode(),
        "f.txt": PLAIN.replace(",", " ").encode(),
        "g.csv": PLAIN.encode("utf-16"),
        "h.csv.gz": gzip.compress(PLAIN.encode()),
        "i.csv.xz": lzma.compress(PLAIN.encode()),
        "j.jsonl": "".join(json.dumps(line) + "\n" for line in typed).encode(),
    }
    imported(PLAIN)
    expected = inter()
    for file, content in forms.items():
        imported(content, file=file, overwrite=True)
        assert inter() == expected, file
    recbole_diffusion.from_frame(frame, "shop", overwrite=True)
    assert inter() == expected


@pytest.mark.parametrize("library", ["pyarrow", "parquet", "polars", "interchange"])
def test_frames_of_other_libraries(library):
    frame = pd.DataFrame({"user_id": ["u1", None, "u2"], "item_id": pd.array([2**60 + 1, 3, None], dtype="Int64")})
    pyarrow = pytest.importorskip("pyarrow", reason="pip install pyarrow")
    table = pyarrow.Table.from_pandas(frame)
    if library == "parquet":
        import pyarrow.parquet

        pyarrow.parquet.write_table(table, "t.parquet")
        importer.import_file("t.parquet", Request("shop"))
    elif library == "pyarrow":
        recbole_diffusion.from_frame(table, "shop")
    elif library == "polars":
        polars = pytest.importorskip("polars", reason="pip install polars")
        recbole_diffusion.from_frame(
            polars.DataFrame({"user_id": ["u1", None, "u2"], "item_id": [2**60 + 1, 3, None]}), "shop"
        )
    else:

        class Exchanged:
            def __dataframe__(self, *args, **kwargs):
                return pd.DataFrame({"user_id": ["u1", "u3"], "item_id": [2**60 + 1, 5]}).__dataframe__(*args, **kwargs)

        recbole_diffusion.from_frame(Exchanged(), "shop")
        assert inter()[1] == [["u1", str(2**60 + 1)], ["u3", "5"]]
        return
    assert inter()[1] == [["u1", str(2**60 + 1)]]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"", "is empty"),
        (b"user_id,item_id\nu,a\nv\n", "row 2: has fewer cells than the 2 columns"),
        (b"user_id,item_id\nu,a\nv,b,c\n", "Expected 2 fields in line 3, saw 3"),
        (b"user_id,item_id\nu,a,b\nv,b,c\n", "the first row has 3 cells and the line of names 2"),
        (b"user_id,item_id\n", "has no rows below the names"),
        (b"user_id,item_id,item_id\nu,a,b\n", "names the column 'item_id' 2 times"),
        (b"user_id,item_id\nu\xe9,a\n", "line 2: byte 0xe9 is not utf-8; give its encoding, e.g. --encoding=latin-1"),
        (b'user_id\titem_id\n"u"\ta\n', "cells between tabs are in quotes; give --quotes=yes"),
        (b"<html>", "is HTML or XML; download the file itself"),
        (b"{'user_id': 'u'}\n", "line 1 is no json object .* it is text of Python, not json"),
        (b"[{}, 1]", "entry 2 of its list is no json object"),
        (b"[{}", "is no json"),
        (b"onlyonecolumn\nx\n", "no delimiter was recognised"),
        (b"user_id,item_id,rating\nu,a,good\n", "row 1, column 'rating': 'good' is no finite number"),
        (b"user_id,item_id,rating\nu,a,1\nu,b,inf\n", "row 2, column 'rating': 'inf' is no finite number"),
        (b"\x1f\x8b\x08", "cannot be unpacked"),
        (b"PAR1xx", "cannot be read as parquet|needs pyarrow"),
    ],
)
def test_files_that_cannot_be_read(text, line):
    refused(text, line)


@pytest.mark.parametrize("text", ["\n\nuser,item\na,b\nc,d\n", "\nuser::item\na::b\nc::d\n", "user,item\ra,b\rc,d\r"])
def test_empty_first_lines_and_old_line_breaks_make_no_row(text):
    imported(text)
    assert inter() == (["user_id:token", "item_id:token"], [["a", "b"], ["c", "d"]])


def test_long_cells_and_characters_that_are_no_line_break():
    imported(f'user,item,review\na,b,"{"x," * 100_000}"\nc,d,-\n')
    assert inter()[1] == [["a", "b"], ["c", "d"]]
    imported("user\titem\na\x85x\tb\nc\td\n", name="next_line")
    assert inter("next_line")[1] == [["a\x85x", "b"], ["c", "d"]]
    assert csv.field_size_limit() == 131_072


def test_latin_1_and_quotes_and_headers_that_are_given():
    imported("user_id,item_id\nué,a\n".encode("latin-1"), sources.Form(encoding="latin-1"))
    assert inter()[1] == [["ué", "a"]]
    imported('user_id\titem_id\n"u"\ta\n', sources.Form(quotes=True), overwrite=True)
    assert inter()[1] == [["u", "a"]]
    imported('user_id\titem_id\n"u"\ta\n', sources.Form(quotes=False), overwrite=True)
    assert inter()[1] == [['"u"', "a"]]
    imported("1::10::5::978300760\n2::10::3::978300761\n", user="1", item="2", rating="3", time="4", overwrite=True)
    assert inter()[1] == [["1", "10", "5", "978300760"], ["2", "10", "3", "978300761"]]


# What is written


def test_an_existing_data_set_stays_unless_it_is_to_be_replaced():
    imported(PLAIN)
    before = inter()
    with pytest.raises(ValueError, match=r"holds a data set of that name \(shop.inter\); --overwrite replaces it"):
        imported("user_id,item_id\nx,y\n")
    with pytest.raises(ValueError, match="is no finite number"):
        imported("user_id,item_id,rating\nx,y,z\n", overwrite=True)
    assert inter() == before
    assert [path.name for path in Path("dataset").iterdir()] == ["shop"]


def test_no_file_of_the_replaced_data_set_is_left():
    imported(PLAIN, items=None)
    Path("dataset/shop/shop.item").write_text("item_id:token\na\n")
    Path("dataset/shop/shop.train.inter").write_text("user_id:token\titem_id:token\na\tb\n")
    imported("user_id,item_id\nx,y\n", overwrite=True)
    assert sorted(path.name for path in Path("dataset/shop").iterdir()) == [
        "shop.card.json",
        "shop.card.md",
        "shop.inter",
    ]


def test_titles_and_genres_of_the_items():
    Path("movies.dat").write_text(
        "b::Toy Story (1995)::Animation|Children's\na::Tab\tand more::Film Noir\nz::No one::Drama\na::again::x\n"
    )
    result = imported(PLAIN, items="movies.dat", item_id="1", item_columns=["2", "3:token_seq"])
    assert inter(kind="item") == (
        ["item_id:token", "2:token", "3:token_seq"],
        [["a", "Tab and more", "Film_Noir"], ["b", "Toy Story (1995)", "Animation Children's"], ["c", "", ""]],
    )
    notes = " ".join(result.card["notes"])
    for text in ("1 item without a row", "1 item without interactions left out", "1 row with the id of an earlier row"):
        assert text in notes
    keys = {"load_col": None, "state": "ERROR", "topk": 1, "valid_metric": "NDCG@1"}
    dataset, _ = quick_start.prepare(quick_start.configure("BPR", "shop", config_dict=keys))
    assert len(dataset.inter_feat) == 5  # RecBole would drop the row of c, which has no line
    assert dataset.item_num == 4


def test_other_columns_and_their_types():
    text = "user_id,item_id,price,zip,city,tags\nu,a,1.50,02139,New York,x|y z\nv,b,,10001,,\n"
    imported(text, columns=["*"])
    assert inter() == (
        ["user_id:token", "item_id:token", "price:float", "zip:token", "city:token", "tags:token_seq"],
        [["u", "a", "1.5", "02139", "New York", "x y_z"], ["v", "b", "", "10001", "", ""]],
    )
    imported(text, columns=["price:token"], overwrite=True)
    assert inter()[1][0] == ["u", "a", "1.50"]


def test_the_card_counts_what_is_in_the_file():
    card = recbole_diffusion.from_frame(FRAME, "shop", positive="rating >= 2.5", min_user=3).card
    frame = written_frame()
    counts = card["counts"]
    users, items = frame["user_id"].value_counts(), frame["item_id"].value_counts()
    assert (counts["users"], counts["items"], counts["interactions"]) == (len(users), len(items), len(frame))
    pairs = len(frame.drop_duplicates(["user_id", "item_id"]))
    assert counts["density"] == pytest.approx(pairs / len(users) / len(items))
    for kind, sizes in (("per_user", users), ("per_item", items)):
        assert counts[kind] == pytest.approx(
            {"min": sizes.min(), "median": sizes.median(), "mean": sizes.mean(), "max": sizes.max()}
        )
    assert counts["ratings"]["counts"] == {
        "2.5": 0 + (frame.rating == 2.5).sum(),
        "4": (frame.rating == 4).sum(),
        "5": (frame.rating == 5).sum(),
    }
    assert (counts["time"]["first"], counts["time"]["last"]) == (frame.timestamp.min(), frame.timestamp.max())
    assert counts["time"]["first_date"] == pd.Timestamp(frame.timestamp.min(), unit="s").isoformat() + "Z"
    assert card["source"]["rows"] == len(frame) + sum(step["rows"] for step in card["steps"])
    stored = files.find("shop")
    assert stored.card["files"] == {"shop.inter": files.sha256(stored.inter)}
    assert "## Rows" in Path("dataset/shop/shop.card.md").read_text()


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=6).filter(
    lambda name: name.strip()
)
ROWS = st.lists(
    st.tuples(NAMES, NAMES, st.sampled_from([1.0, 2.5, 5.0]), st.sampled_from([0, 10**9, 10**9 + 0.125])),
    min_size=1,
    max_size=6,
)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".csv.gz", ".parquet"])
@settings(max_examples=12)  # of each format
@given(rows=ROWS)
def test_import_export_import_is_the_identity(suffix, rows):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="pip install pyarrow")
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp"])
    escaped = [{names.escape(row[place]): row[place] for row in rows} for place in (0, 1)]
    assume(all(row[place] == escaped[place][names.escape(row[place])] for row in rows for place in (0, 1)))
    first = recbole_diffusion.from_frame(frame, "first", time_unit="raw", overwrite=True)
    exporting.export(files.find("first"), Path(f"out{suffix}"))
    second = importer.import_file(f"out{suffix}", Request("second", time_unit="raw", overwrite=True))
    assert inter("second") == inter("first")
    assert second.card["renamed"] == first.card["renamed"]
    originals = first.card["renamed"].get("user_id", {})
    if not all(name.endswith(".0") for name in frame["user_id"]):
        assert [originals.get(row[0], row[0]) for row in inter("second")[1]] == frame["user_id"].tolist()


def test_an_export_with_iso_dates_is_read_to_the_same_times():
    imported("user_id,item_id,ts\nu,a,978300760\nu,b,978300761.25\n")
    exporting.export(files.find("shop"), Path("out.csv"), "iso")
    assert Path("out.csv").read_text().split("\n")[1:3] == ["u,a,2000-12-31T22:12:40Z", "u,b,2000-12-31T22:12:41.25Z"]
    importer.import_file("out.csv", Request("again"))
    assert inter("again") == inter()


# The command


@pytest.mark.parametrize("seconds", ["-1.5", "-0.25", "-86400", "1.5", "0"])
def test_an_exported_date_is_the_time(seconds):
    imported(f"user,item,time\na,b,{seconds}\n", name="one", time_unit="s")
    exporting.export(files.find("one"), Path("iso.csv"), "iso")
    date = Path("iso.csv").read_text().split("\n")[1].split(",")[2]
    assert (pd.Timestamp(date) - pd.Timestamp(0, tz="UTC")).total_seconds() == float(seconds)


def test_a_csv_becomes_a_data_set_that_a_run_finds(capsys):
    rows = [f"u{u},i{(u + n) % 12},{1 + n % 5},2024-01-{1 + n:02d}" for u in range(12) for n in range(6)]
    Path("r.csv").write_text("\n".join(["userId,movieId,rating,date", *rows]) + "\n")
    assert cli.main(["data", "import", "r.csv", "--name=shop", "--positive=rating >= 2", "--min-user=3"]) == 0
    out = capsys.readouterr().out
    assert "r.csv: 72 rows (text separated by ',', names in the first line)" in out
    assert "  user_id    from 'userId' (guessed)\n" in out
    assert (
        "  timestamp  from 'date' (guessed), ISO dates without a time zone, written in seconds since 1970 (UTC)" in out
    )
    assert "  24 dropped: not rating >= 2\n" in out
    assert "12 users, 12 items, 48 interactions" in out
    words = ["run", "--model=DiffRec", "--dataset=shop", "--epochs=1", "--topk=2", "--valid_metric=NDCG@2", "--no-save"]
    assert cli.main([*words, "--state=ERROR"]) == 0
    assert "data: shop.inter 48 rows; 0 lost in loading" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["data", "imprt", "x"], "unknown subcommand 'imprt' of data; subcommands: import, describe"),
        (["data", "import", "no.csv", "--name=a"], "no.csv cannot be read: No such file"),
        (
            ["data", "import", "no.csv", "--name=a", "--usr=x"],
            "--usr is not an option of data import; did you mean --user",
        ),
        (
            ["data", "import", "no.csv", "--name=a", "--header=maybe"],
            "--header=maybe is not allowed; allowed: yes or no",
        ),
        (["data", "describe", "nothing"], "dataset='nothing' is not in dataset"),
        (["data", "export", "ml-100k", "--out=a.xlsx"], "--out=a.xlsx: the name must end with .csv"),
        (["data", "export", "ml-100k", "--out=a.csv", "--times=local"], "--times=local is not allowed"),
    ],
)
def test_mistakes_end_with_one_line(words, line, capsys):
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("name", ["import", "describe", "check", "export", "split", "list", "fetch"])
def test_every_subcommand_has_help(name, capsys):
    assert cli.main(["data", name, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: recbole-diffusion data {name}")
    assert max(map(len, text.splitlines())) <= 120
