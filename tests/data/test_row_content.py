"""The same pairs with other times, labels or features are other data: a resume is refused, a load is noted."""

from __future__ import annotations

import random

import pytest
import torch

from recbole_diffusion import load, quick_start, run
from recbole_diffusion.data import row_content
from recbole_diffusion.training import checkpoint

LEAVE_ONE_OUT = {"eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"}}
QUICK = {"epochs": 1, "train_batch_size": 64, "show_progress": False, "state": "ERROR", "data_path": "dataset"}
DIFFREC = {"dims": [8], "steps": 2}
TDIFFREC = {**LEAVE_ONE_OUT, **DIFFREC}
GRU = {**LEAVE_ONE_OUT, "train_neg_sample_args": None, "hidden_size": 8, "embedding_size": 8, "mask_history": True}
COLUMNS = ("user_id:token", "item_id:token", "rating:float", "timestamp:float")


def rows_of(seed=0):
    """12 users with 6 items each, all times different: (user, item, rating, time)."""
    draw = random.Random(seed)
    return [
        (f"u{u}", f"i{item}", 1 + (u * item) % 5, 1000 * u + place)
        for u in range(12)
        for place, item in enumerate(draw.sample(range(15), 6))
    ]


def write(rows, folder, items=None):
    folder = folder / "dataset" / "d"
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(COLUMNS), *("\t".join(map(str, row)) for row in rows)]
    (folder / "d.inter").write_text("\n".join(lines) + "\n")
    if items is not None:
        (folder / "d.item").write_text("item_id:token\tgenre:token\n" + "".join(f"i{n}\t{g}\n" for n, g in items))


def with_history_turned_round(rows):
    """The first four of each user in the opposite order of time; the held-out ones stay the last two."""
    turned = []
    for start in range(0, len(rows), 6):
        head, tail = rows[start : start + 4], rows[start + 4 : start + 6]
        turned += [(*row[:3], other[3]) for row, other in zip(head, head[::-1])] + tail
    return turned


@pytest.mark.parametrize(
    ("model", "settings", "column"),
    [("GRU4Rec", GRU, "inter.item_id_list"), ("TDiffRec", TDIFFREC, "inter.time_rank")],
)
def test_other_times_are_another_history(model, settings, column, tmp_path):
    """The split and its hash are the same: no row changes its part."""
    write(rows_of(), tmp_path)
    done = run(model, "d", config_dict={**QUICK, **settings})
    write(with_history_turned_round(rows_of()), tmp_path)
    fresh = run(model, "d", config_dict={**QUICK, **settings}, saved=False)
    assert fresh["data"]["split_sha256"] == done["data"]["split_sha256"]
    with pytest.raises(ValueError, match=rf"was trained on other values of {column} in the same split: .* put the f"):
        run(resume=done["checkpoint"], config_dict={"epochs": 2})
    (note,) = load(done["checkpoint"]).config.notes
    assert note.endswith(f"other values of {column} in the same split: the data's files are not those of then")


@pytest.mark.parametrize(("model", "settings"), [("GRU4Rec", GRU), ("TDiffRec", TDIFFREC)])
def test_lines_in_another_order_and_later_times_are_the_same_history(model, settings, tmp_path):
    write(rows_of(), tmp_path)
    done = run(model, "d", config_dict={**QUICK, **settings})
    rows = [(*row[:3], row[3] + 10**6) for row in rows_of()]
    random.Random(1).shuffle(rows)
    write(rows, tmp_path)
    again = run(resume=done["checkpoint"], config_dict={"epochs": 1}, saved=False)
    assert again["warnings"] == []
    assert again["test_result"] == done["test_result"]


def test_times_do_not_matter_to_a_model_that_reads_none(tmp_path):
    write(rows_of(), tmp_path)
    done = run("DiffRec", "d", config_dict={**QUICK, **LEAVE_ONE_OUT, **DIFFREC})
    write(with_history_turned_round(rows_of()), tmp_path)
    assert run(resume=done["checkpoint"], saved=False)["test_result"] == done["test_result"]
    assert load(done["checkpoint"]).config.notes == []


def test_labels_and_features_are_compared(tmp_path):
    genres = [(n, "ab"[n % 2]) for n in range(15)]
    write(rows_of(), tmp_path, genres)
    keys = {
        **QUICK, "embedding_size": 4, "threshold": {"rating": 3}, "train_neg_sample_args": None, "metrics": ["AUC"],
        "valid_metric": "AUC", "load_col": {"inter": ["user_id", "item_id", "rating"], "item": ["item_id", "genre"]},
        "eval_args": {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "RO", "mode": "labeled"},
    }  # fmt: skip
    done = run("FM", "d", config_dict=keys)
    with pytest.raises(
        ValueError, match=r"other values of inter.label in .*: threshold={'rating': 3.0}, now {'rating'"
    ):
        run(resume=done["checkpoint"], config_dict={"threshold": {"rating": 5}})
    write(rows_of(), tmp_path, [(0, "b"), *genres[1:]])
    with pytest.raises(ValueError, match=r"other values of item.genre in the same split: the data's files are not"):
        run(resume=done["checkpoint"], config_dict={"epochs": 2})
    write(rows_of(), tmp_path, genres[::-1])
    assert run(resume=done["checkpoint"], saved=False)["test_result"] == done["test_result"]


def test_a_checkpoint_without_hashes_of_columns_is_taken(tmp_path):
    write(rows_of(), tmp_path)
    done = run("TDiffRec", "d", config_dict={**QUICK, **TDIFFREC})
    state = checkpoint.read(done["checkpoint"])
    assert {*state.pop("columns")} == {"inter.time_rank"}
    torch.save(state, "old.pth")
    write(with_history_turned_round(rows_of()), tmp_path)
    assert run(resume="old.pth", saved=False)["warnings"] == []


def test_a_hash_changes_with_one_value_only(tmp_path):
    """Lists by their order, tokens by name, numbers by value."""

    def hashes(rows):
        write(rows, tmp_path)
        keys = {**QUICK, **GRU, "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]}}
        config = quick_start.configure("GRU4Rec", "d", config_dict=keys)
        dataset, loaders = quick_start.prepare(config)
        return row_content.digests(dataset, loaders)

    first, rows = hashes(rows_of()), rows_of()
    assert {"inter.item_id_list", "inter.rating", "inter.rating_list"} <= {*first}
    rows[7] = (*rows[7][:2], 9, rows[7][3])
    assert row_content.differing(first, hashes(rows)) == ["inter.rating", "inter.rating_list"]
    rows = rows_of()
    rows[6], rows[7] = (*rows[6][:3], rows[7][3]), (*rows[7][:3], rows[6][3])
    assert "inter.item_id_list" in row_content.differing(first, hashes(rows))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"valid_metric": "NDCG@10"}, r"valid_metric='mrr@10', now 'ndcg@10'"),
        ({"eval_args": {**LEAVE_ONE_OUT["eval_args"], "mode": "uni5"}}, r"eval_args.mode='full', now 'uni5'"),
        ({"metric_decimal_place": 6}, r"metric_decimal_place=4, now 6"),
    ],
)
def test_a_resume_by_another_measure_is_refused(change, why, tmp_path):
    """The best score so far is of one measure, those of the epochs to come of the other."""
    write(rows_of(), tmp_path)
    done = run("DiffRec", "d", config_dict={**QUICK, **LEAVE_ONE_OUT, **DIFFREC})
    with pytest.raises(ValueError, match=rf"has chosen its best epoch by another measure: {why}; .* to resume, or st"):
        run(resume=done["checkpoint"], config_dict={**change, "epochs": 2})
    assert load(done["checkpoint"], config_dict=change).config["valid_metric"]
