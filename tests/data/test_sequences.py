"""Sequential data: one row per user, the past masked, both sides of padding, defaults that hold."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import HEADER, write_inter
from recbole.data.interaction import Interaction

from recbole_diffusion import quick_start
from recbole_diffusion.data import pipeline
from recbole_diffusion.data.pairs import sequence_pairs
from recbole_diffusion.model.sequential_recommender.cddrec import left_padded
from recbole_diffusion.support import yaml_files
from recbole_diffusion.training.fit import make_trainer

QUICK = {"hidden_size": 8, "n_heads": 2, "n_layers": 1, "MAX_ITEM_LIST_LENGTH": 4, "inner_size": 8}


@pytest.fixture
def loaded(settings, tmp_path):
    """Six users with 4 to 9 items: ``loaded(model, **settings)`` gives config, dataset, loaders, sequences by user."""
    sequences = {f"u{n}": [f"i{n * 3 + place}" for place in range(n)] for n in range(4, 10)}
    rows = [(u, i, 5, place) for u, items in sequences.items() for place, i in enumerate(items)]
    write_inter(tmp_path / "dataset", "ladder", rows, HEADER)

    def load(model, **more):
        config = quick_start.configure(model, "ladder", config_dict={**settings, **QUICK, **more})
        dataset, loaders = quick_start.prepare(config)
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


def test_an_answer_that_comes_again_is_masked_and_said(settings, tmp_path):
    """To spare it would give it away: it would be the only item of the past among the candidates."""
    rows = [("u1", item, 5, place) for place, item in enumerate("abcab")] + [("u2", i, 5, 9) for i in "abcde"]
    write_inter(tmp_path / "dataset", "again", rows, HEADER)
    keys = {"mask_history": True, "topk": [2], "valid_metric": "NDCG@2"}
    config = quick_start.configure("DiffuRec", "again", config_dict={**settings, **QUICK, **keys})
    _, loaders = quick_start.prepare(config)
    part = loaders[2]._dataset
    interaction, (rows, items), _, _ = next(iter(loaders[2]))
    row = tokens(part, "user_id", interaction["user_id"]).index("u1")
    assert {*tokens(part, "item_id", items[rows == row])} == {"a", "b", "c"}
    assert any("1 of 2 answers of the test split are items that the user had" in note for note in config.notes)


def test_what_is_masked_is_not_recommended(loaded):
    result = {}
    for masked in (False, True):
        config, _, loaders, _ = loaded("DiffuRec", mask_history=masked, epochs=0)
        model = quick_start.build_model(config, loaders)
        trainer = make_trainer(config, model)
        width = model.n_items
        model.full_sort_predict = lambda rows, n=width: torch.zeros(len(rows), n).scatter_(1, rows["item_id_list"], 1.0)
        trainer.eval_collector.data_collect(loaders[0])
        scored = next(iter(trainer._scored(loaders[2])))
        result[masked] = float(scored[1].max())
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
    _, loaders = quick_start.prepare(config)
    assert len(loaders[0]._dataset) == (4 if model == "DiffuRec" else 3)
    part = loaders[2]._dataset
    interaction, (rows, items), _, _ = next(iter(loaders[2]))
    row = tokens(part, "user_id", interaction["user_id"]).index("u1")
    assert {*tokens(part, "item_id", items[rows == row])} == {"a", "b", "c", "d", "e"}
    quick_start.run(model, "split", config_dict={**settings, **QUICK, **keys}, saved=False)
    with (folder / "split.test.inter").open("a") as file:
        file.write("u3\t\ta\n")
    with pytest.raises(
        ValueError,
        match=r"split\.test\.inter: line 4, column 'item_id_list': no earlier items, which",
    ):
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
    some = ", ".join(sorted(file.stem for file in (yaml_files.properties() / "quick").glob("*.yaml")))
    with pytest.raises(ValueError, match=f"SASRec is not there; allowed: quick, for {some}"):
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
    _, net, _, loaders = built("CDDRec", hidden_size=8, n_heads=2, inner_size=8, steps=2, cl_weight=0.0)
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
    _, net, _, loaders = built("DiffuRec", hidden_size=8, n_heads=2, n_layers=1, steps=3, noise_schedule="sqrt")
    rows = loaders[2]._dataset.inter_feat[torch.tensor([0, 0, 1, 0, 1])]
    seen = []
    states = net.states
    monkeypatch.setattr(net, "states", lambda s, n: seen.append(len(s)) or states(s, n))
    net.eval()
    net.predict(Interaction({**rows.interaction, "item_id": torch.tensor([1, 2, 3, 4, 5])}))
    assert seen == [2]


def test_later_rows_of_a_split_mask_nothing_of_earlier_ones(loaded):
    """A split by time leaves several rows of a user for test: each row's past is its own."""
    times = {"split": {"TS": [0.4, 0.2, 0.4]}, "order": "TO", "mode": "full"}
    _, _, loaders, sequences = loaded("SASRec", mask_history=True, train_neg_sample_args=None, eval_args=times)
    part, several = loaders[2]._dataset, 0
    for interaction, (rows, items), _, _ in loaders[2]:
        users, answers = (tokens(part, key, interaction[key]) for key in ("user_id", "item_id"))
        several += len(users) - len(set(users))
        for row, (user, answer) in enumerate(zip(users, answers)):
            place = sequences[user].index(answer)
            masked = {*tokens(part, "item_id", items[rows == row])}
            assert masked <= set(sequences[user][:place])
            assert masked >= set(sequences[user][:place][-4:])
    assert several > 0


def test_one_split_for_all_sequential_models(loaded):
    """The same counts and hash, though CDDRec trains on fewer rows."""
    found = [loaded(model, train_neg_sample_args=None) for model in ("SASRec", "DiffuRec", "CDDRec")]
    described = [pipeline.describe(each[1], each[2]) for each in found]
    assert described[0] == described[1] == described[2]


def test_saved_loaders_take_the_mask_of_the_run_that_loads_them(loaded):
    loaded("CDDRec", save_dataloaders=True)
    file = str(next(Path("saved").glob("*dataloader*")))
    for masked in (True, False):
        loaders = loaded("CDDRec", dataloaders_save_path=file, mask_history=masked)[2]
        assert (loaders[2].seen_items is not None) == masked


def test_the_longest_row_is_kept_wherever_it_stands(settings, tmp_path):
    folder = tmp_path / "dataset" / "split"
    folder.mkdir(parents=True)
    header = "user_id:token\titem_id_list:token_seq\titem_id:token\n"
    for name, rows in {
        "train": ["u1\ta b c\td", "u1\ta\tb"],
        "valid": ["u1\tb c d\te"],
        "test": ["u1\tc d e\tf"],
    }.items():
        (folder / f"split.{name}.inter").write_text(header + "".join(row + "\n" for row in rows))
    keys = {"load_col": {"inter": ["user_id", "item_id_list", "item_id"]}, "alias_of_item_id": ["item_id_list"]}
    keys |= {"benchmark_filename": ["train", "valid", "test"], "topk": [1], "valid_metric": "NDCG@1"}
    _, loaders = quick_start.prepare(
        quick_start.configure("CDDRec", "split", config_dict={**settings, **QUICK, **keys})
    )
    assert loaders[0]._dataset.inter_feat["item_length"].tolist() == [3]


def test_a_data_set_is_saved_and_its_class_leaves_recboles_module(loaded):
    import recbole.data.dataset as datasets

    dataset = loaded("CDDRec", save_dataset=True)[1]
    assert type(dataset).__name__ == "UserSequenceDataset"
    assert list(Path("saved").glob("ladder*.pth"))
    assert not hasattr(datasets, "CDDRecDataset")


@pytest.mark.processes
def test_a_sequential_model_of_recboles_does_not_slow_down_what_follows():
    """RecBole's SINE turns autograd's anomaly mode on at its import."""
    code = "import torch; from recbole_diffusion import registry; registry.get_model('SASRec')\n"
    code += "print(torch.is_anomaly_enabled())\nimport recbole.model.sequential_recommender.sine\n"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split()[-1] == "False"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"aug_ops": []}, "aug_ops=.* allowed: a list of some of reorder, mask, crop"),
        ({"aug_ops": [["reorder"]]}, "aug_ops=.* is not allowed"),
        ({"beta_end": 2.0}, "beta_end=2.0 is not allowed"),
        ({"hidden_size": 9}, "hidden_size=9 is not allowed; allowed: multiples of n_heads=2"),
    ],
)
def test_slips_of_cddrec_are_named(keys, message, built):
    with pytest.raises(ValueError, match=message):
        built("CDDRec", **{**QUICK, **keys})


def test_slips_of_diffurec_are_named(built):
    with pytest.raises(ValueError, match="inference_steps=9 is not allowed; allowed: at most 4"):
        built("DiffuRec", **QUICK, steps=4, noise_schedule="sqrt", inference_steps=9)
    with pytest.raises(ValueError, match="hidden_size=9"):
        built("DiffuRec", **{**QUICK, "hidden_size": 9})


def states(net, loaders):
    return net.states(*net.sequences(loaders[2]._dataset.inter_feat[:6]))


def test_what_the_keys_of_diffurecs_inference_do(built):
    few = {**QUICK, "steps": 4, "noise_schedule": "sqrt"}
    net, loaders = (built("DiffuRec", **few, lambda_uncertainty=0.5)[i] for i in (1, 3))
    net.eval()
    found = {}
    with torch.no_grad():
        found["chain"] = states(net, loaders)
        net.eval_seed += 1
        found["other seed"] = states(net, loaders)
        net.eval_seed -= 1
        for count, eta in ((4, 0.0), (2, 1.0), (2, 0.0), (1, 1.0)):
            net.reverse = net.process.ddim_steps(count, eta)
            found[count, eta] = states(net, loaders)
            inference = {"inference_steps": count, "inference_eta": eta}
            net.solver = built("DiffuRec", **few, **inference, lambda_uncertainty=0.5)[1].solver
            assert torch.equal(states(net, loaders), found["chain"] if count == 4 else found[count, eta])
            assert net.nfe == count
        net.lambda_std = 0.1
        found["lambda_std"] = states(net, loaders)
    distinct = list(found.values())
    for number, one in enumerate(distinct):
        for two in distinct[number + 1 :]:
            assert (one - two).abs().max() > 1e-5
    _, given, *_ = built("DiffuRec", **few, lambda_std=0.25)
    assert (given.lambda_mean, given.lambda_std) == (0.001, 0.25)
    _, none, *_ = built("DiffuRec", **few, lambda_uncertainty=0.0)
    assert none.nfe == 1
    assert none.draw(none._pack(torch.tensor([[1, 2]]), torch.tensor([2]))) is None
    assert torch.isfinite(none.calculate_loss(next(iter(built("DiffuRec", **few)[3][0]))))


def test_the_layout_of_sequences_changes_no_score_and_no_loss(built):
    """Without dropout and noise the loss is the same; with the chain's noise, shared by all rows, the scores are."""
    few = {**QUICK, "steps": 2, "noise_schedule": "sqrt", "emb_dropout_prob": 0.0, "hidden_dropout_prob": 0.0}
    losses, scores, sizes = [], [], []
    for layout in ("packed", "padded"):
        _, net, _, loaders = built("DiffuRec", **few, lambda_uncertainty=0.0, sequence_layout=layout)
        batch = next(iter(loaders[0]))
        sizes.append(len(net._pack(*net.sequences(batch)).items))
        losses.append(net.calculate_loss(batch).detach())
        _, net, _, loaders = built("DiffuRec", **few, lambda_uncertainty=0.5, sequence_layout=layout)
        scores.append(states(net.eval(), loaders).detach())
    assert sizes[0] < sizes[1] == len(batch) * net.max_seq_length
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*scores, rtol=1e-4, atol=1e-5)
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    _, net, _, _ = built("DiffuRec", **few)
    assert (net.layout(cpu), net.layout(gpu)) == ("packed", "padded")
    _, net, _, _ = built("DiffuRec", **few, mask_mode="official", sequence_layout="packed")
    assert net.layout(cpu) == "padded"


def test_padded_places_have_noise_of_their_own_in_official_mode(built):
    """On the left they are the oldest places; one draw for all of them would be another law."""
    few = {**QUICK, "steps": 2, "noise_schedule": "sqrt", "mask_mode": "official", "lambda_uncertainty": 0.5}
    _, net, _, _ = built("DiffuRec", **few)
    seen = []
    net.eval()
    approximate = net.approximate
    net.approximate = lambda packed, tokens, x, t, spread: (
        seen.append(spread) or approximate(packed, tokens, x, t, spread)
    )
    net.states(torch.tensor([[5, 6, 0, 0]]), torch.tensor([2]))
    assert len(torch.unique(seen[0], dim=0)) == 4


def test_dropout_of_diffurec_is_where_the_paper_has_it(built):
    """Each kind alone changes the loss in training: on embeddings, and four times in a block."""
    for keys in (
        {"emb_dropout_prob": 0.5, "hidden_dropout_prob": 0.0},
        {"emb_dropout_prob": 0.0, "hidden_dropout_prob": 0.5},
    ):
        _, net, _, loaders = built("DiffuRec", **QUICK, **keys, lambda_uncertainty=0.0)
        batch = next(iter(loaders[0]))
        assert net.calculate_loss(batch) != net.calculate_loss(batch)
    _, net, _, loaders = built(
        "DiffuRec", **QUICK, emb_dropout_prob=0.0, hidden_dropout_prob=0.5, lambda_uncertainty=0.0
    )
    block = net.approximator.blocks[0]
    x, packed = torch.ones(4, 8), net._pack(torch.tensor([[1, 2, 3, 4]]), torch.tensor([4]))
    for parameter in (*block.out.parameters(), *block.narrow.parameters()):
        torch.nn.init.zeros_(parameter)
    drawn = block.train()(x, packed)  # nothing but the residual: the third dropout alone
    assert set(drawn.flatten().tolist()) == {0.0, 2.0}


def test_dropout_of_cddrecs_decoder(built):
    _, net, _, _ = built("CDDRec", **QUICK, attn_dropout_prob=0.5)
    decoder = net.decoder.train()
    for parameter in (*decoder.narrow.parameters(),):
        torch.nn.init.zeros_(parameter)
    x = torch.zeros(200, 8)
    step_bias = torch.arange(1.0, 9.0)
    drawn = decoder(x, step_bias)  # the step's vector is dropped coordinate by coordinate, row by row
    assert len(torch.unique(drawn, dim=0)) > 50
    torch.nn.init.normal_(decoder.narrow.weight)
    decoder.p = 0.0
    assert len(torch.unique(decoder(x, step_bias), dim=0)) == 1


def test_noise_at_inference_of_cddrec(built):
    _, net, _, loaders = built("CDDRec", **QUICK, steps=3, beta_end=0.5, eval_noise=True)
    net.eval()
    with torch.no_grad():
        noisy = states(net, loaders)
        net.eval_noise = False
        added = noisy - states(net, loaders)
        noise = torch.randn(8, generator=torch.Generator().manual_seed(42))
    torch.testing.assert_close(added, (net.noise_std[0] * noise).expand(6, -1), rtol=1e-4, atol=1e-5)
    assert net.noise_std[0] != net.noise_std[-1]


@pytest.mark.parametrize("mode", ["valid", "all"])
def test_places_in_the_losses_of_cropped_rows(mode, built):
    _, net, _, loaders = built("CDDRec", **QUICK, aug_ops=["crop"], cross_view=mode)
    batch = net.batch(next(iter(loaders[0])))
    positions = net.loss_positions(batch)
    real, seen = batch.items.flatten() > 0, batch.second_view.flatten() > 0
    assert seen.sum() < real.sum()
    count = len(real) if mode == "all" else int(real.sum())
    assert len(positions.predicted) == count
    assert torch.equal(positions.predicted[positions.with_target], real.nonzero().squeeze(1))
    assert torch.equal(positions.second_weight, seen[real].float())
    assert len(positions.cross_view) == (count if mode == "all" else int((real & seen).sum()))
    assert torch.isfinite(net.loss(batch))


@pytest.mark.parametrize(
    "keys", [{}, {"cross_view": "all"}, {"aug_ops": ["crop"]}, {"infonce": "exact"}, {"aug_weight": "item_id"}]
)
def test_cddrecs_masks_give_the_losses_of_the_selected_positions(keys, built, monkeypatch):
    """What a GPU does instead of waiting for the number of positions: the same loss and gradients, in eval mode."""
    _, net, _, loaders = built("CDDRec", **QUICK, steps=3, **keys)
    net = net.double().eval()
    batch = net.batch(next(iter(loaders[0])))
    is_item, every = batch.items.flatten() > 0, batch.items.numel()
    drawn = [net.draw(*[torch.empty(every, 8, dtype=torch.float64)] * 2) for _ in range(3)]
    rows = torch.ones_like(is_item) if net.all_cross_view else is_item

    def selected(noise):
        return noise._replace(first=noise.first[rows], second=noise.second[rows], target=noise.target[is_item])

    results = []
    for masks in (False, True):
        monkeypatch.setattr(net, "masks_positions", lambda device, masks=masks: masks)
        monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
        loss = net.loss(batch, drawn if masks else [selected(noise) for noise in drawn])
        results.append([loss, *torch.autograd.grad(loss, list(net.parameters()), allow_unused=True)])
    for one, other in zip(*results):
        torch.testing.assert_close(one, other)


def test_weights_of_cddrecs_losses(built):
    """Each is what its key says; without the second view and InfoNCE only the first logistic loss is left."""
    _, net, _, loaders = built("CDDRec", **QUICK, steps=2, cd_aug_weight=0.0, cl_weight=0.0)
    net.eval()
    batch = net.batch(next(iter(loaders[0])))
    drawn = [net.draw(*[torch.empty(int((batch.items > 0).sum()), 8)] * 2) for _ in range(2)]
    positions = net.loss_positions(batch)
    first, second = (net.encode(each).flatten(0, 1)[positions.predicted] for each in (batch.items, batch.second_view))
    target, negative = (
        net.item_embedding(each.flatten()[positions.predicted]) for each in (batch.target, batch.negative)
    )
    items, step_bias = (target, negative), net.decoder.step_bias()
    parts = [net.step_losses(t, positions, first, second, *items, step_bias[t], drawn[t]) for t in range(2)]
    for second_share, contrast in ((0.0, 0.0), (0.5, 0.2)):
        net.cd_aug_weight, net.cl_weight = second_share, contrast
        expected = sum(
            (p.logistic + second_share * p.logistic_second + contrast * (p.in_view + p.cross_view)) / (t + 1)
            for t, p in enumerate(parts)
        )
        torch.testing.assert_close(net.loss(batch, drawn), expected)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_low_temperatures_do_not_end_in_nan(temperature, built):
    _, net, _, loaders = built("CDDRec", **QUICK, temperature=temperature)
    for _ in range(3):
        loss = net.calculate_loss(next(iter(loaders[0])))
        loss.backward()
        assert torch.isfinite(loss)
        assert all(each.grad is None or torch.isfinite(each.grad).all() for each in net.parameters())


def test_sampled_evaluation_says_that_nothing_is_masked(settings):
    args = {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "uni20"}
    config = quick_start.configure("CDDRec", "board", config_dict={**settings, "eval_args": args})
    assert any("mask_history has no effect in sampled evaluation" in note for note in config.notes)
