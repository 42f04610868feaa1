"""RecBole's traps that no other test file covers; docs/recbole.md names the test of each.

Where a trap is only documented, its test shows that RecBole still has it, so that the page stays true.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import HEADER, write_inter

from recbole_diffusion import quick_start, run
from recbole_diffusion.compat import repairs
from recbole_diffusion.data import pipeline
from recbole_diffusion.testing import contract

QUICK = {"epochs": 1, "steps": 3, "dims": [16]}
LATEST = {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"}


def test_argv_is_not_read(settings, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["pytest", "--epochs=77", "--cov=x", "--foo=1/0"])
    config = quick_start.configure("DiffRec", "board", config_dict=settings)
    assert config["epochs"] == 300
    assert config["cov"] is None


def test_strings_are_not_evaluated(settings):
    config = quick_start.configure("DiffRec", "board", config_dict={**settings, "wandb_project": "os.sys.exit(3)"})
    assert config["wandb_project"] == "os.sys.exit(3)"


def test_cuda_visible_devices_is_left_alone(settings, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    config = quick_start.configure("DiffRec", "board", config_dict={**settings, "gpu_id": "0"})
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"
    assert config["device"].type in {"cpu", "cuda"}


def test_use_gpu_false_and_an_empty_gpu_id_mean_the_cpu(settings, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for more in ({"use_gpu": False}, {"gpu_id": ""}):
        assert quick_start.configure("DiffRec", "board", config_dict={**settings, **more})["device"].type == "cpu"
    config = quick_start.configure("DiffRec", "board", config_dict={**settings, "gpu_id": "1"})
    assert config["device"] == torch.device("cuda", 1)
    with pytest.raises(ValueError, match=r"gpu_id='2' is not allowed; allowed: 0\.\.1"):
        quick_start.configure("DiffRec", "board", config_dict={**settings, "gpu_id": 2})


def test_valid_metric_is_checked_before_the_first_epoch(settings):
    for name in ("NDCG@7", "NDCG", "AUC@10"):
        with pytest.raises(ValueError, match=f"valid_metric='{name}' is not measured"):
            quick_start.configure("DiffRec", "board", config_dict={**settings, "valid_metric": name})


def test_argument_lists_of_recbole_are_not_changed(settings):
    from recbole.utils import dataset_arguments

    before = list(dataset_arguments)
    quick_start.configure("DiffRec", "ml-100k")
    assert dataset_arguments == before


def test_each_run_has_its_own_log_file_and_checkpoint(settings):
    one, two = (run("DiffRec", "board", config_dict={**settings, **QUICK, "state": "INFO"}) for _ in range(2))
    logs = [Path(each["folder"], "run.log") for each in (one, two)]
    assert all("best" in log.read_text() or "training" in log.read_text() for log in logs)
    assert "\x1b" not in logs[0].read_text()
    assert one["checkpoint"] != two["checkpoint"]
    assert one["folder"] != two["folder"]


def test_the_same_seed_gives_the_same_result_in_one_process(settings):
    one, two = (run("DiffRec", "board", config_dict={**settings, **QUICK, "epochs": 3}) for _ in range(2))
    assert one["test_result"] == two["test_result"]
    other = run("DiffRec", "board", config_dict={**settings, **QUICK, "epochs": 3, "seed": 1})
    assert other["test_result"] != one["test_result"]


def test_evaluating_more_often_does_not_change_training(settings):
    quick = {**settings, **QUICK, "epochs": 4, "sampling_noise": True}
    often = run("DiffRec", "board", config_dict={**quick, "eval_step": 1, "save_last_every": 4})
    once = run("DiffRec", "board", config_dict={**quick, "eval_step": 4, "save_last_every": 4})
    one, two = (
        torch.load(each["checkpoint"].replace(".pth", "-last.pth"), weights_only=True)["state_dict"]
        for each in (often, once)
    )
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_flops_are_not_counted_so_that_a_model_without_predict_runs(settings, monkeypatch):
    """RecBole's run counts FLOPs first, which needs predict(), copies the model and draws from the random state."""
    from recbole.model.general_recommender.bpr import BPR

    expected = run("BPR", "board", config_dict={**settings, "epochs": 1})["test_result"]
    monkeypatch.setattr(BPR, "predict", lambda *_: pytest.fail("predict() was called"))
    assert run("BPR", "board", config_dict={**settings, "epochs": 1})["test_result"] == expected


def test_input_at_test_is_train_only_unless_asked_for(built):
    """And never the test items themselves, which RecBole's ``used_ids`` hold at test."""
    _, model, _, (_, valid, test) = built("DiffRec", **QUICK, test_input="train+valid")
    model.eval()
    fed = []
    original = model.denoise
    model.denoise = lambda rows, generator=None: fed.append(rows.dense()) or original(rows, generator)
    users = {"user_id": torch.arange(1, 65)}
    train_rows = model.history.rows(users["user_id"])

    def evaluate(phase, loader):
        model.begin_evaluation(phase, lambda: pipeline.valid_pairs(loader))
        model.full_sort_predict(users)
        return fed[-1]

    expected = train_rows.clone()
    for user, item in pipeline.pairs(valid):
        expected[user - 1, item - 1] = 1
    assert torch.equal(evaluate("valid", valid), train_rows)
    assert torch.equal(evaluate("test", test), expected)
    assert not torch.equal(expected, train_rows)
    for user, item in pipeline.pairs(test):
        assert expected[user - 1, item - 1] == 0
    model.test_input = "train"
    assert torch.equal(evaluate("test", test), train_rows)


def test_what_the_network_sees_at_test_changes_the_result(settings):
    quick = {**settings, **QUICK, "epochs": 30, "learning_rate": 0.01}
    one = run("DiffRec", "board", config_dict=quick)
    two = run("DiffRec", "board", config_dict={**quick, "test_input": "train+valid"})
    assert one["best_valid_result"] == two["best_valid_result"]
    assert one["test_result"] != two["test_result"]


def test_train_and_valid_are_masked_at_test_and_train_at_valid(built):
    _, _, _, (train, valid, test) = built("DiffRec", **QUICK)
    known = {phase: set(map(tuple, pipeline.pairs(loader))) for phase, loader in zip("tvx", (train, valid, test))}
    for loader, expected in ((valid, known["t"]), (test, known["t"] | known["v"])):
        masked = set()
        for users, (rows, items), _, _ in loader:
            ids = users["user_id"][rows]
            masked |= {(int(user), int(item)) for user, item in zip(ids, items)}
        evaluated = {int(user) for user in loader.uid_list}
        assert masked == {pair for pair in expected if pair[0] in evaluated}


def test_sequential_models_see_the_validation_item_and_nothing_is_masked(built):
    """Only documented: in one table general models see train and are masked, sequential ones are not."""
    more = {"train_neg_sample_args": None, "MAX_ITEM_LIST_LENGTH": 20, "eval_args": LATEST}
    _, _, _, (_, valid, test) = built("SASRec", **more)
    last = {int(user): int(item) for user, item in pipeline.pairs(valid)}
    for rows, history, _, _ in test:
        assert history is None
        for user, items in zip(rows["user_id"].tolist(), rows["item_id_list"].tolist()):
            assert last[user] in items


def test_default_splits_of_general_and_sequential_models_differ(settings):
    """Only documented: set eval_args for both."""
    general = quick_start.configure("BPR", "board", config_dict=settings)["eval_args"]
    sequential = quick_start.configure("SASRec", "board", config_dict={**settings, "train_neg_sample_args": None})
    assert (general["split"], general["order"]) == ({"RS": [0.8, 0.1, 0.1]}, "RO")
    assert sequential["eval_args"]["split"] == {"LS": "valid_and_test"}


def test_a_split_by_time_needs_the_order_of_time(settings):
    wrong = {"split": {"TS": [0.8, 0.1, 0.1]}, "order": "RO"}
    with pytest.raises(ValueError, match="allowed: order: TO"):
        quick_start.configure("BPR", "board", config_dict={**settings, "eval_args": wrong})
    with pytest.raises(ValueError, match=r"would let a sequential model train on later rows; allowed: order: TO"):
        quick_start.configure("SASRec", "board", config_dict={**settings, "eval_args": {"order": "RO"}})


def test_threshold_only_makes_a_label_column(settings):
    config = quick_start.configure("BPR", "board", config_dict={**settings, "threshold": {"rating": 4}})
    assert any("every row stays a positive" in note for note in config.notes)


def test_sampled_evaluation_draws_the_same_negatives_each_time(built):
    from recbole_diffusion.training.trainer import trainer_class

    seen = []
    mode = {"split": {"RS": [8, 1, 1]}, "mode": "uni5"}
    for more in ({}, {"fixed_eval_negatives": False}):
        config, model, _, (_, valid, _) = built("DiffRec", **QUICK, eval_args=mode, **more)
        trainer = trainer_class(__import__("recbole.trainer", fromlist=["Trainer"]).Trainer)(config, model)
        asked = []
        original = model.predict
        model.predict = lambda rows, original=original, asked=asked: asked.append(rows["item_id"]) or original(rows)
        for _ in range(2):
            np.random.rand(3)  # whatever was drawn before
            trainer.evaluate(valid, load_best_model=False)
        half = len(asked) // 2
        seen.append(torch.equal(torch.cat(asked[:half]), torch.cat(asked[half:])))
    assert seen == [True, False]


def test_sampled_evaluation_is_announced_as_such(settings):
    config = quick_start.configure("DiffRec", "board", config_dict={**settings, "eval_args": {"mode": "uni20"}})
    assert any("sampled evaluation can rank models differently" in note for note in config.notes)


def test_a_seed_changes_a_random_split_and_leaves_one_in_time(built):
    """Only documented: for error bars over seeds fix the split by time or by files."""

    def split(**more):
        return pipeline.pairs(built("DiffRec", **QUICK, **more)[3][2]).tolist()

    assert split(seed=1) != split(seed=2)
    assert split(seed=1, eval_args=LATEST) == split(seed=2, eval_args=LATEST)


def test_ml_100k_can_be_read_from_data_path(tmp_path):
    write_inter(tmp_path / "dataset", "ml-100k", [("a", "b", 1, 2)], HEADER)
    own = quick_start.configure("DiffRec", "ml-100k", config_dict={"data_path": "dataset"})
    assert own["data_path"] == str(Path("dataset") / "ml-100k")
    assert (
        "dataset_example"
        in quick_start.configure("DiffRec", "ml-100k", config_dict={"data_path": "recbole"})["data_path"]
    )


def test_a_checkpoint_opens_on_another_device_and_with_another_data_path(settings, tmp_path):
    from recbole_diffusion import load

    result = run("DiffRec", "board", config_dict={**settings, **QUICK})
    os.rename("dataset", "moved")
    loaded = load(result["checkpoint"], config_dict={"data_path": "moved", "gpu_id": "7"})
    assert loaded.config["device"].type == "cpu"
    assert loaded.dataset.item_num == 41


def test_a_dense_history_is_not_built(built):
    """RecBole's mixin holds (users, longest history) ids and values; ours the interactions only."""
    _, model, _, (train, _, _) = built("DiffRec", **QUICK)
    held = sum(buffer.numel() for buffer in model.history.buffers())
    assert held == 2 * len(train._dataset) + 65 + 1


def test_recboles_interactions_index_through_lists():
    """Only documented: an index array becomes a Python list, once per field."""
    from recbole.data.interaction import Interaction

    class Column(torch.Tensor):
        asked: list = []

        def __getitem__(self, index):
            Column.asked.append(type(index))
            return super().__getitem__(index)

    repairs.apply()
    Interaction({"a": torch.arange(4).as_subclass(Column)})[np.array([0, 1])]
    assert Column.asked == [list]


def test_sequential_augmentation_expands_every_loaded_column(built):
    """Only documented: load no more columns than the model needs."""
    _, _, dataset, _ = built("SASRec", train_neg_sample_args=None, MAX_ITEM_LIST_LENGTH=7)
    assert dataset.inter_feat["rating_list"].shape == dataset.inter_feat["item_id_list"].shape
    assert dataset.inter_feat["item_id_list"][0, 1:].sum() == 0  # padded on the right


def test_recboles_tuning_objective_reports_the_test_result():
    """Only documented, until our own tuning is here: RecBole's Ray objective hands the test result to the search."""
    import inspect

    assert "tune.report(**test_result)" in inspect.getsource(repairs.quick_start_module().objective_function)


def test_several_processes_average_by_batches():
    """Only documented: with nproc > 1 RecBole weighs each process's metrics by len(batch tuple), not by users."""
    import inspect

    from recbole.trainer import Trainer

    assert "num_sample += len(batched_data)" in inspect.getsource(Trainer.evaluate)


def test_tensorboard_is_always_written(settings):
    """To the folder of the run. RecBole writes log_tensorboard/ to the working folder, whatever the settings are."""
    result = run("DiffRec", "board", config_dict={**settings, **QUICK})
    assert list(Path(result["folder"], "tensorboard").glob("events.out.tfevents.*"))
    assert not Path("log_tensorboard").exists()
    assert not Path("log").exists()


def test_fearec_with_one_layer_divides_by_zero(built):
    """The line names the setting: give FEARec n_layers >= 2."""
    with pytest.raises(ValueError, match="FEARec cannot be built with n_layers=1: integer division or modulo by zero"):
        built("FEARec", n_layers=1, train_neg_sample_args=None)


def test_dgcf_cannot_draw_its_correlation_samples_from_few_batches(built):
    """Only documented: it draws as many users as items; with few batches an epoch that is more than there are."""
    _, model, _, loaders = built("DGCF", n_factors=2, train_batch_size=4096)
    with pytest.raises(ValueError, match="Sample larger than population"):
        model.calculate_loss(next(iter(loaders[0])))


def test_every_row_of_the_page_names_a_test_that_exists():
    root = Path(__file__).parents[1]
    page = (root.parent / "docs" / "recbole.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith(("| trap", "| ---"))]
    assert len(rows) >= 40
    contract_files = sorted(Path(contract.__file__).parent.glob("contract_*.py"))
    contract_suite = "".join(file.read_text(encoding="utf-8") for file in contract_files)
    for row in rows:
        named = re.findall(r"`(test_\w+)\.py::(test_\w+)`", row)
        assert named, row
        for module, test in named:
            text = next(root.rglob(f"{module}.py")).read_text(encoding="utf-8")
            text += contract_suite if module == "test_contract" else ""
            assert f"def {test}(" in text, row


def test_logging_of_a_run_ends_with_it(settings):
    before = list(logging.getLogger().handlers)
    run("DiffRec", "board", config_dict={**settings, **QUICK})
    assert logging.getLogger().handlers == before
