"""The training loop, the best model, checkpoints and what may load them."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from counting_model import Counting

from recbole_diffusion import quick_start, registry, run
from recbole_diffusion.compat import repairs
from recbole_diffusion.support import trusted_files, yaml_files
from recbole_diffusion.training import checkpoint
from recbole_diffusion.training.checkpoint import UntrustedFile
from recbole_diffusion.training.trainer import Training, trainer_class

QUICK = {"steps": 3, "dims": [16], "stopping_step": 99}


def trainer_of(built, model="DiffRec", **more):
    config, net, _, loaders = built(model, **{**(QUICK if model == "DiffRec" else {}), **more})
    return trainer_class(registry.get_trainer(config["MODEL_TYPE"], model, model))(config, net), loaders


def scripted(trainer, scores, monkeypatch):
    """Let validation return these scores one after another; the epoch's number is written into a weight."""
    epochs = iter(range(len(scores)))

    def train(data, epoch, **_):
        with torch.no_grad():
            next(trainer.model.parameters()).fill_(float(epoch))
        return 0.0

    def evaluate(*_, **__):
        trainer.evaluation = {"users": 1, "seconds": 1.0}
        return {"ndcg@10": scores[next(epochs)]}

    monkeypatch.setattr(trainer, "_train_epoch", train)
    monkeypatch.setattr(trainer, "evaluate", evaluate)


@pytest.mark.parametrize(("ties", "best"), [(False, 2), (True, 4)])
def test_a_tie_is_no_gain_unless_asked_for(ties, best, built, monkeypatch):
    trainer, loaders = trainer_of(built, tie_is_better=ties, stopping_step=10, epochs=5)
    scripted(trainer, [0.1, 0.5, 0.2, 0.5, 0.4], monkeypatch)
    trainer.fit(*loaders[:2], saved=False, verbose=False)
    assert [row["epoch"] for row in trainer.epochs_done if row["best"]][-1] == best


def test_training_stops_when_the_patience_is_used_up(built, monkeypatch):
    trainer, loaders = trainer_of(built, stopping_step=2, epochs=50)
    scripted(trainer, [0.5, *[0.1] * 49], monkeypatch)
    seen = []
    trainer.fit(*loaders[:2], saved=False, verbose=False, callback_fn=lambda epoch, score: seen.append(score))
    assert seen == [0.5, 0.1, 0.1, 0.1]  # RecBole's count: stop once it exceeds stopping_step


@pytest.mark.parametrize("saved", [True, False])
def test_the_model_tested_is_the_best_one_with_and_without_a_file(saved, built, monkeypatch):
    trainer, loaders = trainer_of(built, epochs=4)
    original = trainer.evaluate
    scripted(trainer, [0.1, 0.5, 0.2, 0.3], monkeypatch)
    best, _ = trainer.fit(*loaders[:2], saved=saved, verbose=False)
    monkeypatch.setattr(trainer, "evaluate", original)
    trainer.evaluate(loaders[2], load_best_model=saved)
    assert best == 0.5
    assert float(next(trainer.model.parameters()).detach().flatten()[0]) == 1.0


def test_a_smaller_is_better_metric(built, monkeypatch):
    trainer, loaders = trainer_of(built, epochs=3)
    trainer.valid_metric_bigger, trainer.best_valid_score = False, float("inf")
    scripted(trainer, [0.5, 0.1, 0.2], monkeypatch)
    assert trainer.fit(*loaders[:2], saved=False, verbose=False)[0] == 0.1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_stop_the_evaluation(value, built):
    trainer, loaders = trainer_of(built)
    with torch.no_grad():
        trainer.model.diffusion.denoiser.output.bias[3] = value
    with pytest.raises(ValueError, match="not finite; try a smaller learning_rate"):
        trainer.evaluate(loaders[1], load_best_model=False)


def test_every_trainer_of_recbole_gets_the_same_repairs_once():
    from recbole.trainer import NCLTrainer, Trainer, XGBoostTrainer

    mixed = trainer_class(NCLTrainer)
    assert issubclass(mixed, Training)
    assert issubclass(mixed, NCLTrainer)
    assert mixed is trainer_class(NCLTrainer) is trainer_class(mixed)
    assert trainer_class(Trainer).__name__ == "Trainer"
    assert trainer_class(XGBoostTrainer) is XGBoostTrainer


def test_a_trainer_with_several_optimisers_resumes_all_of_them(settings):
    quick = {**settings, "hidden_dimension": 8, "latent_dimension": 8, "stopping_step": 99}
    whole = run("RecVAE", "board", config_dict={**quick, "epochs": 4})
    half = run("RecVAE", "board", config_dict={**quick, "epochs": 2})
    rest = run("RecVAE", "board", config_dict={**quick, "epochs": 4}, resume=half["checkpoint"])
    assert len(checkpoint.read(half["checkpoint"])["parts"]) == 2
    assert rest["test_result"] == whole["test_result"]


def test_resume_leaves_its_file_alone_and_takes_its_settings(settings):
    half = run("DiffRec", "board", config_dict={**settings, **QUICK, "epochs": 2})
    before = Path(half["checkpoint"]).read_bytes()
    rest = run(resume=half["checkpoint"], config_dict={"epochs": 3})
    assert rest["checkpoint"] != half["checkpoint"]
    assert Path(half["checkpoint"]).read_bytes() == before
    assert quick_start.load(rest["checkpoint"]).config["dims"] == [16]


def test_resuming_a_finished_run_changes_nothing(settings):
    done = run("DiffRec", "board", config_dict={**settings, **QUICK, "epochs": 2})
    again = run(resume=done["checkpoint"])
    assert again["test_result"] == done["test_result"]


def test_resume_refuses_another_model_and_other_shapes(settings):
    done = run("DiffRec", "board", config_dict={**settings, **QUICK, "epochs": 1})
    with pytest.raises(ValueError, match="is of model DiffRec, not of MultiVAE"):
        run("MultiVAE", "board", config_dict=dict(settings), resume=done["checkpoint"])
    with pytest.raises(ValueError, match="does not fit the model: size mismatch"):
        run(resume=done["checkpoint"], config_dict={"dims": [8], "epochs": 3})


def test_the_last_file_needs_its_best_one(settings):
    own = {"epochs": 2, "save_last_every": 1, "train_batch_size": 16}  # the second epoch is not the best one
    done = run("DiffRec", "board", config_dict={**settings, **QUICK, **own})
    last = done["checkpoint"].replace(".pth", "-last.pth")
    os.rename(done["checkpoint"], "elsewhere.pth")
    with pytest.raises(ValueError, match="needs its best weights beside it"):
        run(resume=last, config_dict={"epochs": 3})


def test_resuming_without_a_file_still_tests_the_best_epoch(settings, monkeypatch):
    half = run("DiffRec", "board", config_dict={**settings, **QUICK, "epochs": 2})
    monkeypatch.setattr(Training, "_improves", lambda self, score: False)  # nothing after the resume is better
    rest = run(resume=half["checkpoint"], config_dict={"epochs": 4}, saved=False)
    assert rest["test_result"] == half["test_result"]
    assert len(list(Path("saved").iterdir())) == 1


def test_a_run_without_a_file_writes_none(settings):
    result = run("DiffRec", "board", config_dict={**settings, **QUICK, "epochs": 2}, saved=False)
    assert result["checkpoint"] is None
    assert not list(Path("saved").glob("*"))


class Payload:
    """Unpickling this leaves a file: what a checkpoint from elsewhere could do."""

    def __reduce__(self):
        return (os.mkdir, ("ran",))


def test_a_file_with_objects_runs_nothing_unless_trusted():
    torch.save({"config": Payload(), "state_dict": {}}, "theirs.pth")
    with pytest.raises(UntrustedFile, match=r"trust=True \(--trust-checkpoint\)"):
        checkpoint.read("theirs.pth")
    assert not Path("ran").exists()
    checkpoint.read("theirs.pth", trust=True)
    assert Path("ran").exists()


def test_what_this_run_wrote_may_hold_anything_until_it_is_changed(tmp_path):
    file = tmp_path / "x.pth"
    checkpoint.write({"value": {1, 2}, "object": Path("a")}, file)
    assert checkpoint.read(file)["object"] == Path("a")
    torch.save({"config": Payload()}, file)
    with pytest.raises(UntrustedFile):
        checkpoint.read(file)
    assert not Path("ran").exists()


def test_a_failed_write_keeps_the_old_file(tmp_path):
    file = tmp_path / "x.pth"
    checkpoint.write({"value": 1}, file)
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        checkpoint.write({"value": lambda: 1}, file)
    assert checkpoint.read(file)["value"] == 1
    assert [each.name for each in tmp_path.iterdir() if "x.pth" in each.name] == ["x.pth"]


@pytest.mark.parametrize("content", [b"", b"words", pickle.dumps({"a": 1})], ids=["empty", "words", "pickle"])
def test_files_that_are_no_checkpoints(content, tmp_path):
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.pth"):
        run(resume=tmp_path / "x.pth")


def test_recboles_own_checkpoint_loads_when_trusted(settings, numpy_restored):
    """A file of RecBole's, with its pickled Config, from another process: refused, then loaded on trust."""
    repairs.apply()
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.trainer import Trainer
    from recbole.utils import get_model, init_seed

    config = Config("BPR", "board", config_dict={**settings, "epochs": 1})
    init_seed(config["seed"], True)
    loaders = data_preparation(config, create_dataset(config))
    net = get_model("BPR")(config, loaders[0]._dataset)
    trainer = Trainer(config, net)
    trainer.fit(*loaders[:2], verbose=False)
    trusted_files._trusted.clear()
    with pytest.raises(UntrustedFile):
        quick_start.load(trainer.saved_model_file)
    loaded = quick_start.load(trainer.saved_model_file, trust=True)
    assert torch.equal(loaded.model.user_embedding.weight, net.user_embedding.weight)
    assert loaded.config["device"] == torch.device("cpu")


def test_itemknn_is_tested_from_the_file_that_the_run_wrote_and_needs_trust_later(settings):
    result = run("ItemKNN", "board", config_dict=dict(settings))
    assert result["test_result"]["recall@10"] > 0.5
    trusted_files._trusted.clear()
    with pytest.raises(UntrustedFile):
        quick_start.load(result["checkpoint"])
    quick_start.load(result["checkpoint"], trust=True)


@pytest.mark.parametrize("model", ["MultiVAE", "recbole:DiffRec", "SASRec"])
def test_recboles_models_resume_with_what_they_count_outside_their_state(model, settings):
    """MultiVAE counts its annealing and RecBole's DiffRec the losses of each step in plain attributes."""
    quick = {**settings, "stopping_step": 99, "save_last_every": 1, "MAX_ITEM_LIST_LENGTH": 5}
    quick |= {"train_batch_size": 64, "hidden_size": 16, "inner_size": 16}
    whole = run(model, "board", config_dict={**quick, "epochs": 4})
    half = run(model, "board", config_dict={**quick, "epochs": 2})
    rest = run(resume=half["checkpoint"].replace(".pth", "-last.pth"), config_dict={"epochs": 4})
    one, two = (checkpoint.read(each["checkpoint"].replace(".pth", "-last.pth")) for each in (whole, rest))
    assert all(torch.equal(one["state_dict"][key], two["state_dict"][key]) for key in one["state_dict"])
    assert one["train_loss_dict"] == two["train_loss_dict"]
    assert rest["test_result"] == whole["test_result"]


def test_other_parameters_and_the_patience_are_resumed(settings, monkeypatch):

    monkeypatch.setattr(Training, "_improves", lambda self, score: not self.epochs_done)  # only the first epoch
    keys = yaml_files.load_yaml(yaml_files.properties() / "model" / "DiffRec.yaml")
    quick = {**keys, **settings, **QUICK, "stopping_step": 3, "save_last_every": 1}
    whole = run(Counting, "board", config_dict={**quick, "epochs": 20})
    half = run(Counting, "board", config_dict={**quick, "epochs": 3})
    rest = run(resume=half["checkpoint"].replace(".pth", "-last.pth"), config_dict={"epochs": 20})
    assert whole["timing"]["epochs"] == rest["timing"]["epochs"] == 5  # the best and four without a gain
    one, two = (checkpoint.read(each["checkpoint"].replace(".pth", "-last.pth")) for each in (whole, rest))
    assert one["other_parameter"] == two["other_parameter"]


def test_a_last_file_from_before_the_first_validation_resumes(settings):
    quick = {**settings, **QUICK, "eval_step": 4, "save_last_every": 1}
    whole = run("DiffRec", "board", config_dict={**quick, "epochs": 4})
    rest = run(resume=interrupted(quick), config_dict={"epochs": 4})
    assert rest["test_result"] == whole["test_result"]


def interrupted(quick):
    """Two epochs of a run that validates every four."""
    config = quick_start.configure("DiffRec", "board", config_dict={**quick, "epochs": 4})
    from recbole.utils import init_seed

    init_seed(config["seed"], True)
    _, loaders = quick_start.prepare(config)
    trainer = trainer_class(registry.get_trainer(config["MODEL_TYPE"], "DiffRec", "DiffRec"))(
        config, quick_start.build_model(config, loaders)
    )
    trainer.epochs = 2
    trainer.fit(*loaders[:2], verbose=False)
    return trainer.last_file


def test_a_renamed_last_file_is_not_taken_for_the_best(settings, monkeypatch):
    monkeypatch.setattr(Training, "_improves", lambda self, score: not self.epochs_done)
    done = run("DiffRec", "board", config_dict={**settings, **QUICK, "epochs": 3, "save_last_every": 1})
    last = done["checkpoint"].replace(".pth", "-last.pth")
    os.rename(last, "saved/renamed.pth")
    again = run(resume="saved/renamed.pth")
    assert again["test_result"] == done["test_result"]
    os.rename(done["checkpoint"], "elsewhere.pth")
    with pytest.raises(ValueError, match="needs its best weights beside it"):
        run(resume="saved/renamed.pth")


def test_recboles_models_keep_recboles_optimiser(built):
    ours, _ = trainer_of(built)
    theirs, _ = trainer_of(built, model="BPR")
    assert not theirs.optimizer.defaults.get("fused")
    if tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 4):
        assert ours.optimizer.defaults["fused"] is True


@pytest.mark.parametrize("name", ["BPR", "DiffRec"])
def test_the_learning_rate_decays_by_epochs(name, settings):
    """For RecBole's models too; the rate of each epoch is in the report, the schedule in the checkpoint."""
    more = {"epochs": 5, "learning_rate": 0.01, "lr_decay_step": 2, "lr_decay_gamma": 0.5, "save_last_every": 1}
    result = quick_start.run(name, "board", config_dict={**settings, **more})
    state = checkpoint.read(result["checkpoint"].replace(".pth", "-last.pth"))
    rates = [row["learning_rate"] for row in state["epochs_done"]]
    assert rates == pytest.approx([0.01, 0.01, 0.005, 0.005, 0.0025])
    assert state["parts"]["lr_scheduler"]["last_epoch"] == 5
    plain = quick_start.run(name, "board", config_dict={**settings, "epochs": 2, "save_last_every": 1})
    assert "lr_scheduler" not in checkpoint.read(plain["checkpoint"].replace(".pth", "-last.pth"))["parts"]


def test_a_resumed_run_takes_the_schedule_that_it_is_given(settings):
    """None, another one, or one that the interrupted run had not: epochs are counted from the first."""
    quick = {**settings, "learning_rate": 0.08, "epochs": 2, "save_last_every": 1, "stopping_step": 99}
    for before, after, expected in ((2, None, [0.04, 0.04]), (2, 3, [0.04, 0.02]), (None, 3, [0.08, 0.04])):
        half = run("BPR", "board", config_dict={**quick, "lr_decay_step": before, "lr_decay_gamma": 0.5})
        last = half["checkpoint"].replace(".pth", "-last.pth")
        more = {**quick, "epochs": 4, "lr_decay_step": after, "lr_decay_gamma": 0.5}
        rest = run("BPR", "board", config_dict=more, resume=last)
        rows = checkpoint.read(rest["checkpoint"].replace(".pth", "-last.pth"))["epochs_done"]
        assert [row["learning_rate"] for row in rows][2:] == pytest.approx(expected)


@pytest.mark.parametrize(("model", "epochs"), [("EASE", 1), ("DiffRec", 3)])
def test_a_training_shorter_than_eval_step_is_validated_at_its_end(settings, model, epochs):
    """RecBole's loop would never validate it, and then find no best model to test."""
    more = {"epochs": epochs, "eval_step": 5, **({"steps": 3, "dims": [8]} if model == "DiffRec" else {})}
    for saved in (True, False):
        result = run(model, "board", config_dict={**settings, **more}, saved=saved)
        assert result["best_valid_score"] > 0
        assert result["timing"]["best_epoch"] == epochs
        assert sum("score" in row for row in result["epochs"]) == 1


def test_network_calls_are_those_of_the_model(settings):
    more = {**settings, "epochs": 1, "state": "ERROR"}
    calls = {}
    for model, own in (("EASE", {}), ("BPR", {}), ("recbole:DiffRec", {"steps": 4, "dims_dae": [8]})):
        calls[model] = run(model, "board", config_dict={**more, **own}, saved=False)["timing"][
            "denoiser_calls_per_user"
        ]
    assert calls == {"EASE": 0, "BPR": 1, "recbole:DiffRec": 4}
