"""Sequential data: one row per user, the past masked, both sides of padding, defaults that hold."""

from __future__ import annotations

import pytest
import torch
from conftest import HEADER, write_inter
from recbole.data.interaction import Interaction

from recbole_diffusion import quick_start
from recbole_diffusion.model.history import sequence_pairs
from recbole_diffusion.model.sequential_recommender.cddrec import left_padded

QUICK = {"hidden_size": 8, "n_heads": 2, "n_layers": 1, "MAX_ITEM_LIST_LENGTH": 4, "inner_size": 8}


@pytest.fixture
def loaded(settings, tmp_path):
    """Six users with 4 to 9 items: ``loaded(model, **settings)`` gives config, dataset, loaders, sequences by user."""
    sequences = {f"u{n}": [f"i{n * 3 + place}" for place in range(n)] for n in range(4, 10)}
    rows = [(u, i, 5, place) for u, items in sequences.items() for place, i in enumerate(items)]
    write_inter(tmp_path / "dataset", "ladder", rows, HEADER)

    def load(model, **more):
        config = quick_start.configure(model, "ladder", config_dict={**settings, **QUICK, **more})
        dataset, loaders = quick_start._prepare(config)
        return config, dataset, loaders, sequences

    return load


def tokens(part, field, ids):
    return [str(token) for token in part.field2id_token[field][ids.tolist()]]


def test_one_training_row_per_user_that_holds_the_others(loaded):
    _, _, loaders, sequences = loaded("CDDRec")
    part = loaders[0]._dataset
    found = {}
    for number in range(len(part.inter_feat)):
        row = part.inter_feat[torch.tensor([number])]
        user = tokens(part, "user_id", row["user_id"].view(-1))[0]
        items = row["item_id_list"][0, : int(row["item_length"])]
        found[user] = tokens(part, "item_id", items), tokens(part, "item_id", row["item_id"].view(-1))[0]
    assert found == {user: (items[:-3][-4:], items[-3]) for user, items in sequences.items()}


def test_validation_and_test_and_the_split_are_recboles(loaded):
    theirs, ours = loaded("SASRec", train_neg_sample_args=None)[2], loaded("CDDRec")[2]
    for phase in (1, 2):
        a, b = (each[phase]._dataset.inter_feat for each in (theirs, ours))
        assert torch.equal(a["item_id_list"], b["item_id_list"])
        assert torch.equal(a["item_id"], b["item_id"])


def test_pairs_of_training_have_the_first_items(loaded):
    _, _, loaders, sequences = loaded("CDDRec")
    part = loaders[0]._dataset
    pairs = sequence_pairs(part)
    found = {}
    for user, item in zip(tokens(part, "user_id", pairs[:, 0]), tokens(part, "item_id", pairs[:, 1])):
        found.setdefault(user, set()).add(item)
    assert found == {user: set(items[:-2]) for user, items in sequences.items()}


@pytest.mark.parametrize("model", ["CDDRec", "DiffuRec", "SASRec"])
@pytest.mark.parametrize("phase", [1, 2])
def test_the_past_is_masked_and_the_answer_is_not(model, phase, loaded):
    """All of it, though the sequence holds four items only; the same for RecBole's models."""
    _, _, loaders, sequences = loaded(model, mask_history=True, train_neg_sample_args=None)
    part = loaders[phase]._dataset
    masked = {}
    for interaction, (rows, items), _, _ in loaders[phase]:
        users = tokens(part, "user_id", interaction["user_id"])
        for row, item in zip(rows.tolist(), tokens(part, "item_id", items)):
            masked.setdefault(users[row], set()).add(item)
    cut = 2 if phase == 1 else 1
    assert masked == {user: set(items[:-cut]) for user, items in sequences.items()}


def test_an_item_that_comes_again_stays_an_answer(settings, tmp_path):
    rows = [("u1", item, 5, place) for place, item in enumerate("abcab")] + [("u2", i, 5, 9) for i in "abcde"]
    write_inter(tmp_path / "dataset", "again", rows, HEADER)
    keys = {"mask_history": True, "topk": [2], "valid_metric": "NDCG@2"}
    config = quick_start.configure("DiffuRec", "again", config_dict={**settings, **QUICK, **keys})
    _, loaders = quick_start._prepare(config)
    part = loaders[2]._dataset
    interaction, (rows, items), _, _ = next(iter(loaders[2]))
    row = tokens(part, "user_id", interaction["user_id"]).index("u1")
    assert sorted(tokens(part, "item_id", items[rows == row])) == ["a", "c"]


def test_what_is_masked_is_not_recommended(loaded):
    result = {}
    for masked in (False, True):
        config, _, loaders, _ = loaded("DiffuRec", mask_history=masked, epochs=0)
        model = quick_start._build_model(config, loaders)
        trainer = quick_start.trainer_class(
            quick_start.registry.get_trainer(config["MODEL_TYPE"], "DiffuRec", "DiffuRec")
        )
        trainer = trainer(config, model)
        width = model.n_items
        model.full_sort_predict = lambda rows, n=width: torch.zeros(len(rows), n).scatter_(1, rows["item_id_list"], 1.0)
        trainer.eval_collector.data_collect(loaders[0])
        scored = next(iter(trainer._scored(loaders[2])))
        history = scored[1].gather(1, scored[0]["item_id_list"]) if hasattr(scored[0], "interaction") else scored[1]
        result[masked] = float(history.max())
    assert result[False] == 1.0
    assert result[True] < 1.0


@pytest.mark.parametrize("model", ["DiffuRec", "CDDRec"])
def test_pre_split_sequences(model, settings, tmp_path):
    """benchmark_filename: rows as they were written, longer ones too; the past from what the rows hold."""
    folder = tmp_path / "dataset" / "split"
    folder.mkdir(parents=True)
    header = "user_id:token\titem_id_list:token_seq\titem_id:token\n"
    parts = {
        "train": [("u1", "a b", "c"), ("u1", "a b c", "d"), ("u2", "b", "e"), ("u3", "a b c d e", "f")],
        "valid": [("u1", "b c d", "e")],
    }
    parts["test"] = [("u1", "c d e", "f"), ("u2", "b e", "a")]
    for name, rows in parts.items():
        (folder / f"split.{name}.inter").write_text(header + "".join("\t".join(row) + "\n" for row in rows))
    keys = {"load_col": {"inter": ["user_id", "item_id_list", "item_id"]}, "alias_of_item_id": ["item_id_list"]}
    keys |= {"benchmark_filename": ["train", "valid", "test"], "mask_history": True, "epochs": 1}
    with pytest.raises(ValueError, match="more than the 6 items"):
        quick_start.run(model, "split", config_dict={**settings, **keys})
    keys |= {"topk": [1, 2], "valid_metric": "NDCG@2"}
    config = quick_start.configure(model, "split", config_dict={**settings, **QUICK, **keys})
    _, loaders = quick_start._prepare(config)
    assert len(loaders[0]._dataset) == (4 if model == "DiffuRec" else 3)
    part = loaders[2]._dataset
    interaction, (rows, items), _, _ = next(iter(loaders[2]))
    row = tokens(part, "user_id", interaction["user_id"]).index("u1")
    assert sorted(tokens(part, "item_id", items[rows == row])) == ["a", "b", "c", "d", "e"]
    quick_start.run(model, "split", config_dict={**settings, **QUICK, **keys}, saved=False)


def test_the_models_own_length_holds_against_recboles_files():
    """RecBole's sample.yaml and ml-100k.yaml say 50 for every model."""
    assert quick_start.configure("CDDRec", "ml-100k")["MAX_ITEM_LIST_LENGTH"] == 20
    assert quick_start.configure("CDDRec", "other")["MAX_ITEM_LIST_LENGTH"] == 20
    own = quick_start.configure("CDDRec", "ml-100k", config_dict={"MAX_ITEM_LIST_LENGTH": 7})
    assert own["MAX_ITEM_LIST_LENGTH"] == 7


def test_random_order_is_refused_with_the_way_out(settings):
    with pytest.raises(ValueError, match=r"eval_args.order='RO' would let .* allowed: order: TO"):
        quick_start.configure("DiffuRec", "board", config_dict={"eval_args": {"split": {"LS": "valid_and_test"}}})


def test_preset(settings):
    quick = quick_start.configure("DiffuRec", "board", config_dict={"preset": "quick"})
    assert (quick["hidden_size"], quick["n_layers"], quick["inference_steps"]) == (64, 2, 1)
    own = quick_start.configure("DiffuRec", "board", config_dict={"preset": "quick", "n_layers": 3})
    assert (own["hidden_size"], own["n_layers"]) == (64, 3)
    assert quick_start.configure(config_dict=own.plain()).plain() == own.plain()
    with pytest.raises(ValueError, match="SASRec is not there; allowed: quick, for CDDRec, DiffuRec"):
        quick_start.configure("SASRec", "board", config_dict={"preset": "quick", "train_neg_sample_args": None})
    with pytest.raises(ValueError, match="preset='big'"):
        quick_start.configure("DiffuRec", "board", config_dict={"preset": "big"})


@pytest.mark.parametrize("model", ["DiffuRec", "CDDRec"])
def test_the_last_position_sees_what_it_may(model, built):
    """CDDRec: a later item changes no earlier prediction. DiffuRec: the order of the earlier items does not matter."""
    _, net, _, _ = built(model, hidden_size=8, n_heads=2, n_layers=2, inner_size=8, MAX_ITEM_LIST_LENGTH=6)
    net.eval()
    sequence, length = torch.tensor([[3, 1, 4, 2, 0, 0]]), torch.tensor([4])
    state = net.states(sequence, length)
    if model == "DiffuRec":
        net.lambda_std = 0.0
        state = net.states(sequence, length)
        torch.testing.assert_close(net.states(torch.tensor([[4, 3, 1, 2, 0, 0]]), length), state, rtol=1e-4, atol=1e-5)
        assert (net.states(torch.tensor([[3, 1, 2, 4, 0, 0]]), length) - state).abs().max() > 1e-3
    else:
        states = net.encode(left_padded(sequence, length))
        other = net.encode(left_padded(torch.tensor([[3, 1, 4, 9, 0, 0]]), length))
        torch.testing.assert_close(states[:, 2:5], other[:, 2:5])
        assert (states[:, 5] - other[:, 5]).abs().max() > 1e-3


def test_default_cddrec_rows_do_not_learn_from_each_other(built):
    """Each user's loss alone, on the same draws, adds up to the batch's: no attention across users."""
    _, net, _, loaders = built("CDDRec", hidden_size=8, n_heads=2, inner_size=8, diffusion_steps=2, cl_weight=0.0)
    net.eval()
    batch = net.batch(next(iter(loaders[0])))
    whole = net.encode(batch.items)
    for row in range(3):
        torch.testing.assert_close(net.encode(batch.items[row : row + 1]), whole[row : row + 1], rtol=1e-4, atol=1e-5)


def test_targets_and_negatives_stand_under_their_items(built):
    _, net, _, loaders = built("CDDRec", hidden_size=8, n_heads=2, inner_size=8, MAX_ITEM_LIST_LENGTH=6)
    asked = next(iter(loaders[0]))
    batch = net.batch(asked)
    pairs = {tuple(pair) for pair in sequence_pairs(loaders[0]._dataset).tolist()}
    for row, user in enumerate(asked["user_id"].tolist()):
        length = int(asked["item_length"][row])
        assert torch.equal(
            batch.target[row, -length:-1], batch.items[row, 1 - length :] if length > 1 else batch.items[row, :0]
        )
        assert batch.target[row, -1] == asked["item_id"][row]
        assert (batch.target[row, :-length] == 0).all()
        assert not any((user, item) in pairs for item in batch.negative[row, -length:].tolist())


def test_predictions_of_pairs_go_through_the_network_once(built, monkeypatch):
    _, net, _, loaders = built(
        "DiffuRec", hidden_size=8, n_heads=2, n_layers=1, diffusion_steps=3, noise_schedule="sqrt"
    )
    rows = loaders[2]._dataset.inter_feat[torch.tensor([0, 0, 1, 0, 1])]
    seen = []
    states = net.states
    monkeypatch.setattr(net, "states", lambda s, n: seen.append(len(s)) or states(s, n))
    net.eval()
    net.predict(Interaction({**rows.interaction, "item_id": torch.tensor([1, 2, 3, 4, 5])}))
    assert seen == [2]
