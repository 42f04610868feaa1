"""Contract tests of a model's keys, search space, hooks and card."""

from __future__ import annotations

from typing import Any

import pytest

from recbole_diffusion import quick_start, registry
from recbole_diffusion.model import hooks
from recbole_diffusion.settings import schema
from recbole_diffusion.settings.config import Config
from recbole_diffusion.support import yaml_files
from recbole_diffusion.testing.building import build, trainer_of
from recbole_diffusion.testing.model_case import ModelCase, Trained

#: Keys that the configuration reads rather than the model: ``loss_type`` decides whether RecBole draws negatives.
_READ_BY_CONFIGURATION = {"loss_type"}
#: Keys that choose the pretrained model under the tested one.
_PRETRAINED_MODEL_KEYS = ("base_model", "base_config", "pretrain")


class SettingsTests(ModelCase):
    """Every key has a rule and is read; hooks and card agree with the model."""

    def test_each_key_has_a_rule_that_its_default_keeps(self) -> None:
        spec = registry.find_spec(self.model)
        assert spec is not None, f"{self.model} has no ModelSpec"
        for key, entry in schema.read_keys(spec.defaults).items():
            assert entry.rule, f"{key} has no rule: a comment '# (allowed values) meaning'"
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
        read_keys: set[str] = set()
        original_getitem = Config.__getitem__

        def recording_getitem(config: Config, key: str) -> Any:
            read_keys.add(key)
            return original_getitem(config, key)

        monkeypatch.setattr(Config, "__getitem__", recording_getitem)
        spec = registry.find_spec(self.model)
        assert spec is not None
        unread = {*yaml_files.load_yaml(spec.defaults)} - _READ_BY_CONFIGURATION
        for settings in [{}, *self.noisy_settings()]:
            config, model, *_ = build(self.model, {**keys, **settings})
            trainer_of(config, model)
            unread -= read_keys
            if not unread:
                break
        assert not unread, f"keys that neither the model nor its trainer reads: {', '.join(sorted(unread))}"

    def test_settings_survive_a_round_trip(self, keys: dict[str, Any]) -> None:
        config = quick_start.configure(self.model, "board", config_dict=keys)
        reloaded = quick_start.configure(config_dict=config.plain())
        assert reloaded.plain() == config.plain()
        assert {key: reloaded[key] for key in keys} == {key: config[key] for key in keys}

    def test_hooks_are_spelt_right_and_have_allowed_values(self, trained: Trained) -> None:
        hooks.check(type(trained.model))
        hooks.averages(trained.model)
        nfe = hooks.of(trained.model).nfe
        assert nfe is None or nfe >= 0

    def test_the_number_of_network_calls_is_that_of_the_card(self, keys: dict[str, Any]) -> None:
        spec = registry.find_spec(self.model)
        if spec is None or spec.card is None or spec.card.nfe is None:
            pytest.skip("the card states no nfe")
        quick_keys = self.quick_settings()
        default = {key: value for key, value in keys.items() if key not in quick_keys or key in _PRETRAINED_MODEL_KEYS}
        assert hooks.of(build(self.model, default).model).nfe == spec.card.nfe.default
