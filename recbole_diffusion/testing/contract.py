"""What every model must do, as a class of tests. One training serves most of them."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction

from recbole_diffusion import quick_start, registry
from recbole_diffusion.compat import repairs
from recbole_diffusion.model import hooks
from recbole_diffusion.settings import schema
from recbole_diffusion.settings.config import Config
from recbole_diffusion.support import yaml_files
from recbole_diffusion.testing.board import ITEMS, SETTINGS, USERS, write_board
from recbole_diffusion.testing.building import build, noisy, quick, taken, trainer_of, users_of
from recbole_diffusion.training import checkpoint

#: Users of 64 whose best unseen item must be one of their own parity.
RIGHT = 62
#: Keys that the settings read, and not the model: the type of the loss decides whether negatives are drawn.
_READ_BY_SETTINGS = {"loss_type"}
#: Settings that decide which model lies under the one that is tested.
_OF_A_BASE = ("base_model", "base_config", "pretrain")


def _once_per_class(function: Callable[..., Any]) -> Any:
    """A class-scoped fixture of a class. Python 3.9's classmethods have no name, and its pytest takes plain methods."""
    method: Any = classmethod(function) if sys.version_info >= (3, 10) else function
    return pytest.fixture(scope="class")(method)


class Trained(NamedTuple):
    """A run with the quick settings, and its checkpoint, loaded."""

    result: dict[str, Any]
    config: Any
    model: Any
    dataset: Any
    loaders: tuple[Any, Any, Any]


class ContractTests:
    """The contract of one model; a subclass whose name begins with ``Test`` names the model.

    Attributes:
        model: what ``--model`` takes; it has a spec, from an entry point or ``register_model``.
        quick: settings with which it learns the checkerboard; None: those of its card.
        noisy: settings on top of them that bring noise to inference; None: those of its card.
    """

    model: str
    quick: Optional[dict[str, Any]] = None
    noisy: Optional[list[dict[str, Any]]] = None

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """One case for each of the noisy settings."""
        if "more" in metafunc.fixturenames:
            more = noisy(self.model) if self.noisy is None else self.noisy
            metafunc.parametrize("more", [{}, *more], ids=str)

    @_once_per_class
    def folder(cls, tmp_path_factory: Any) -> Path:
        """The class's own folder, with the data and everything that the runs write."""
        folder: Path = tmp_path_factory.mktemp(cls.model)
        write_board(folder / "dataset")
        return folder

    @_once_per_class
    def keys(cls, folder: Path) -> dict[str, Any]:
        """The settings of all tests; pretrained models are shared by them, in ``checkpoint_dir``."""
        places = {"data_path": "dataset", "checkpoint_dir": "saved", "output_dir": "outputs"}
        own = quick(cls.model) if cls.quick is None else cls.quick
        return {**SETTINGS, **{key: str(folder / name) for key, name in places.items()}, "stopping_step": 60, **own}

    @_once_per_class
    def trained(cls, keys: dict[str, Any]) -> Trained:
        """The one training of the class. Tests leave its model as it is."""
        result = quick_start.run(cls.model, "board", config_dict=keys)
        config, model, dataset, *loaders = quick_start.load(result["checkpoint"])
        return Trained(result, config, model, dataset, tuple(loaders))

    @pytest.fixture(autouse=True)
    def _own_folder(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["pytest"])
        repairs.apply()  # whatever another test has taken back

    # Settings

    def test_each_key_has_a_rule_that_its_default_keeps(self) -> None:
        spec = registry.find_spec(self.model)
        assert spec is not None, f"{self.model} has no ModelSpec"
        for key, entry in schema.read_keys(spec.defaults).items():
            assert entry.rule, f"{key} has no rule: a comment '# (what is allowed) meaning'"
            assert entry.meaning, f"{key} has no meaning behind its rule"
            assert schema.check_key(key, entry.default, entry.rule, entry.default) == entry.default

    def test_the_search_space_holds_allowed_values(self) -> None:
        spec = registry.find_spec(self.model)
        assert spec is not None
        file = yaml_files.properties() / "hyper" / f"{self.model}.yaml"
        if not file.is_file():
            pytest.skip(f"{self.model} has no search space")
        known, space = schema.read_keys(spec.defaults), yaml_files.load_yaml(file)
        assert set(space) <= {*known, "learning_rate"}
        for key, entry in space.items():
            for value in entry.get("choice", []) if key in known else []:
                schema.check_key(key, value, known[key].rule, known[key].default)

    def test_each_key_is_read(self, keys: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        read: set[str] = set()
        get = Config.__getitem__

        def recorded(config: Config, key: str) -> Any:
            read.add(key)
            return get(config, key)

        monkeypatch.setattr(Config, "__getitem__", recorded)
        spec = registry.find_spec(self.model)
        assert spec is not None
        unread = {*yaml_files.load_yaml(spec.defaults)} - _READ_BY_SETTINGS
        for more in [{}, *(noisy(self.model) if self.noisy is None else self.noisy)]:
            config, model, *_ = build(self.model, {**keys, **more})
            trainer_of(config, model)
            unread -= read
            if not unread:
                break
        assert not unread, f"keys that neither the model nor its trainer reads: {', '.join(sorted(unread))}"

    def test_settings_survive_a_round_trip(self, keys: dict[str, Any]) -> None:
        config = quick_start.configure(self.model, "board", config_dict=keys)
        again = quick_start.configure(config_dict=config.plain())
        assert again.plain() == config.plain()
        assert {key: again[key] for key in keys} == {key: config[key] for key in keys}

    # Hooks

    def test_hooks_are_spelt_right_and_have_allowed_values(self, trained: Trained) -> None:
        hooks.check(type(trained.model))
        hooks.averages(trained.model)
        calls = hooks.of(trained.model).nfe
        assert calls is None or calls >= 0

    def test_the_number_of_network_calls_is_that_of_the_card(self, keys: dict[str, Any]) -> None:
        spec = registry.find_spec(self.model)
        if spec is None or spec.card is None or spec.card.nfe is None:
            pytest.skip("the card states no nfe")
        own = quick(self.model) if self.quick is None else self.quick
        default = {key: value for key, value in keys.items() if key not in own or key in _OF_A_BASE}
        assert hooks.of(build(self.model, default).model).nfe == spec.card.nfe.default

    # Learning

    def test_the_loss_is_finite_and_falls(self, trained: Trained) -> None:
        losses = [row["train_loss"] for row in trained.result["epochs"]]
        assert np.isfinite(losses).all()
        assert losses[-1] < 0.8 * losses[0]

    def test_the_checkerboard_is_learnt(self, trained: Trained) -> None:
        """Of a user's unseen items one of their own parity must come first."""
        asked = users_of(trained.loaders, USERS)
        scores = trained.model.full_sort_predict(asked).view(USERS, -1)[:, 1:]
        best = scores.masked_fill(_seen(trained, asked), -torch.inf).argmax(1) + 1
        names = trained.dataset.field2id_token
        users = [int(token[1:]) for token in names["user_id"][asked["user_id"]]]
        items = [int(token[1:]) for token in names["item_id"][best]]
        right = sum(user % 2 == item % 2 for user, item in zip(users, items))
        assert right >= RIGHT, f"{right} of {USERS} users are given an item of their parity"

    # Scores

    def test_scores_have_the_right_shape_and_predict_is_their_gather(self, trained: Trained) -> None:
        asked, width = users_of(trained.loaders), trained.dataset.item_num
        full = trained.model.full_sort_predict(asked).view(-1, width)
        assert full.shape == (8, width)
        rows, items = torch.tensor([2, 2, 0, 7, 2]), torch.tensor([1, 2, 5, 7, 1])
        pairs = taken(asked, rows)
        pairs.update(Interaction({trained.model.ITEM_ID: items}))
        torch.testing.assert_close(trained.model.predict(pairs), full[rows, items])

    def test_scores_do_not_depend_on_the_batch_nor_on_the_call(self, keys: dict[str, Any], more: Any) -> None:
        built = build(self.model, {**keys, **more})
        model = built.model.eval()
        asked = users_of(built.loaders)
        whole = model.full_sort_predict(asked).view(8, -1).clone()
        again = model.full_sort_predict(asked).view(8, -1)
        assert torch.equal(whole, again)
        again[:] = 0  # RecBole writes -inf into what a model returns
        some = model.full_sort_predict(taken(asked, torch.tensor([4, 1]))).view(2, -1)
        torch.testing.assert_close(some, whole[[4, 1]], rtol=1e-4, atol=1e-5)

    def test_the_padding_item_is_never_recommended(self, trained: Trained) -> None:
        scores = trained.model.full_sort_predict(users_of(trained.loaders, USERS)).view(USERS, -1)
        assert (scores.argmax(1) > 0).all()

    def test_one_row_per_user_trains_no_padding_user(self, trained: Trained) -> None:
        spec, train = registry.find_spec(self.model), trained.loaders[0]
        by_user = spec is not None and (spec.loader == "user" or str(spec.dataset).endswith(":UserSequenceDataset"))
        if not by_user:
            pytest.skip("the model trains on interactions")
        users = torch.cat([batch[trained.model.USER_ID] for batch in train])
        assert users.min() > 0
        assert len(users) == len(users.unique()) == len(train._dataset.inter_feat["user_id"].unique())

    # Evaluation

    def test_two_evaluations_agree_and_leave_the_random_state(self, trained: Trained) -> None:
        trainer = _ready(trained)
        before = torch.get_rng_state()
        first = trainer.evaluate(trained.loaders[2], load_best_model=False)
        assert torch.equal(before, torch.get_rng_state())
        assert trainer.evaluate(trained.loaders[2], load_best_model=False) == first == trained.result["test_result"]

    @pytest.mark.parametrize("mode", ["uni20", "pop20"])
    def test_sampled_evaluation_ranks_as_the_full_scores(
        self, mode: str, trained: Trained, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Recall of the sampled candidates, computed again from ``full_sort_predict``."""
        arguments = {**trained.config["eval_args"], "mode": mode}
        loaded = quick_start.load(trained.result["checkpoint"], config_dict={"eval_args": arguments})
        trainer = _ready(Trained({}, *loaded[:3], loaded[3:]))
        batches: list[Any] = []
        score = trainer._neg_sample_batch_eval

        def recorded(batch: Any) -> Any:
            batches.append(batch)
            return score(batch)

        monkeypatch.setattr(trainer, "_neg_sample_batch_eval", recorded)
        result = trainer.evaluate(loaded.test_data, load_best_model=False)
        users = [user for batch in batches for user in _ranked(loaded.model, batch)]
        assert len(users) == len(loaded.test_data._dataset.inter_feat["user_id"].unique())
        assert all(len(ranking) > len(positives) for ranking, positives in users)
        for k in trained.config["topk"]:
            hits = [len(positives & {*ranking[:k]}) / len(positives) for ranking, positives in users]
            assert result[f"recall@{k}"] == pytest.approx(np.mean(hits), abs=1e-6)

    # Copies, files, resuming

    def test_a_copy_scores_the_same_and_its_training_leaves_the_original(self, trained: Trained) -> None:
        """RecBole copies a model to count its operations."""
        asked = users_of(trained.loaders)
        before = trained.model.full_sort_predict(asked).clone()
        twin = copy.deepcopy(trained.model)
        assert torch.equal(twin.full_sort_predict(asked), before)
        twin.train()
        losses = twin.calculate_loss(next(iter(trained.loaders[0])))
        torch.stack([*losses] if isinstance(losses, tuple) else [losses]).sum().backward()
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter -= 0 if parameter.grad is None else 0.1 * parameter.grad.sign()
        twin.eval()
        assert not torch.equal(twin.full_sort_predict(asked), before)
        assert torch.equal(trained.model.full_sort_predict(asked), before)

    def test_a_saved_model_is_loaded_with_the_same_scores(self, trained: Trained) -> None:
        plain = torch.load(trained.result["checkpoint"], weights_only=True)
        assert plain["format"] == checkpoint.FORMAT
        again = quick_start.load(trained.result["checkpoint"])
        _same(again.model.state_dict(), trained.model.state_dict())
        asked = users_of(trained.loaders)
        assert torch.equal(again.model.full_sort_predict(asked), trained.model.full_sort_predict(asked))

    def test_resume_is_bit_for_bit(self, keys: dict[str, Any]) -> None:
        """1 + 1 epochs equal 2: weights, buffers, moments, losses, metrics; from the best and from the last file."""
        decay = {"lr_decay_step": 1, "lr_decay_gamma": 0.5}
        common = {**keys, **decay, "save_last_every": 1, "stopping_step": 99}
        whole = quick_start.run(self.model, "board", config_dict={**common, "epochs": 2})
        half = quick_start.run(self.model, "board", config_dict={**common, "epochs": 1})
        for file in (half["checkpoint"], _last(half)):
            torch.rand(17)
            rest = quick_start.run(self.model, "board", config_dict={**common, "epochs": 2}, resume=file)
            assert rest["test_result"] == whole["test_result"]
            assert rest["best_valid_result"] == whole["best_valid_result"]
            one, two = (checkpoint.read(_last(result)) for result in (whole, rest))
            for part in ("state_dict", "optimizer", "random", "train_loss_dict"):
                _same(one[part], two[part])


def _last(result: dict[str, Any]) -> str:
    """The file of the last epoch."""
    return str(result["checkpoint"]).replace(".pth", "-last.pth")


def _ready(trained: Trained) -> Any:
    """A trainer that has seen the training data, as after a training."""
    trainer = trainer_of(trained.config, trained.model)
    trainer._collect_of(trained.loaders[0])
    return trainer


def _seen(trained: Trained, asked: Interaction) -> torch.Tensor:
    """Items that are part of what is scored, (B, n_items - 1): the sequence, or the user's training rows."""
    seen = torch.zeros(len(asked), ITEMS + 1, dtype=torch.bool)
    if trained.loaders[2].is_sequential:
        return seen.scatter_(1, asked[trained.model.ITEM_SEQ], True)[:, 1:]
    rows = trained.loaders[0]._dataset.inter_feat
    place = {int(user): number for number, user in enumerate(asked["user_id"])}
    for user, item in zip(rows["user_id"].tolist(), rows["item_id"].tolist()):
        if user in place:
            seen[place[user], item] = True
    return seen[:, 1:]


def _ranked(model: Any, batch: Any) -> list[tuple[list[int], set[int]]]:
    """Each user's sampled candidates, best first by ``full_sort_predict``, and those that are positives."""
    interaction, row, positive_row, positive_item = batch
    row, positive_row = torch.as_tensor(row), torch.as_tensor(positive_row)
    items, found = interaction[model.ITEM_ID], []
    for number in range(int(row.max()) + 1):
        mine = (row == number).nonzero().squeeze(1)
        scores = model.full_sort_predict(taken(interaction, mine[:1])).flatten()
        candidates = {*items[mine].tolist()}
        ranking = sorted(candidates, key=lambda item: -float(scores[item]))
        found.append((ranking, {*torch.as_tensor(positive_item)[positive_row == number].tolist()}))
    return found


def _same(one: Any, two: Any) -> None:
    """Equal in every number, whatever holds them."""
    if isinstance(one, dict):
        assert one.keys() == two.keys()
        for key in one:
            _same(one[key], two[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(two)
        for mine, other in zip(one, two):
            _same(mine, other)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, two)
    else:
        assert one == two
