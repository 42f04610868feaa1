"""The same thing has one name in all models; the former names still work, from every source."""

from __future__ import annotations

from pathlib import Path

import pytest

from recbole_diffusion import load, registry, run
from recbole_diffusion.quick_start import configure
from recbole_diffusion.settings import former_names
from recbole_diffusion.support import yaml_files

FORMER = {"infer_steps": "inference_steps", "mean_type": "prediction_type", "diffusion_steps": "steps"}


@pytest.mark.parametrize("model", sorted(registry.specs()))
def test_every_model_has_todays_names_only(model):
    keys = yaml_files.load_yaml(registry.specs()[model].defaults)
    assert not {*keys} & {*FORMER}
    renamed = former_names.current_names(registry.specs()[model].defaults)  # also names of official codes
    assert all(FORMER.get(former, key) == key for former, key in renamed.items())
    assert {*renamed.values()} <= {*keys}


@pytest.mark.parametrize(
    ("model", "former", "value"),
    [("DiffRec", "infer_steps", 3), ("DDRM", "mean_type", "eps"), ("DiffuRec", "diffusion_steps", 7)],
)
def test_a_former_name_sets_todays_key(settings, model, former, value):
    by_former, by_key = (
        configure(model, "board", config_dict={**settings, key: value}) for key in (former, FORMER[former])
    )
    assert by_former[FORMER[former]] == value
    assert by_former.plain() == by_key.plain()
    assert by_former.notes == by_key.notes  # no word of an unknown key
    assert former not in by_former.plain()


def test_the_command_line_wins_over_a_file_by_any_name(settings):
    Path("old.yaml").write_text("infer_steps: 5\n")
    Path("new.yaml").write_text("inference_steps: 5\n")
    for file, key in (("old.yaml", "inference_steps"), ("new.yaml", "infer_steps")):
        config = configure("DiffRec", "board", [file], {**settings, key: 2})
        assert config["inference_steps"] == 2
        assert [line for line in config.overridden if line.startswith("inference_steps=2")]


def test_two_names_with_two_values_are_refused(settings):
    with pytest.raises(ValueError, match="inference_steps=2 and infer_steps=3 are one setting"):
        configure("DiffRec", "board", config_dict={**settings, "infer_steps": 3, "inference_steps": 2})
    config = configure("DiffRec", "board", config_dict={**settings, "infer_steps": 3, "inference_steps": 3})
    assert config["inference_steps"] == 3


def test_recboles_own_model_keeps_its_keys(settings):
    config = configure("recbole:DiffRec", "board", config_dict={**settings, "mean_type": "eps"})
    assert config["mean_type"] == "eps"


def test_a_checkpoint_with_former_names_is_the_same_model(settings):
    import torch

    small = {**settings, "epochs": 1, "dims": [8], "steps": 4}
    file = run("DiffRec", "board", config_dict={**small, "inference_steps": 2, "prediction_type": "eps"})["checkpoint"]
    state = torch.load(file, weights_only=True)
    for former in ("infer_steps", "mean_type"):
        state["config"][former] = state["config"].pop(FORMER[former])
    torch.save(state, "old.pth")
    new, old = load(file), load("old.pth")
    assert old.config.plain() == new.config.plain()
    batch = next(iter(new.test_data))[0]
    assert torch.equal(old.model.full_sort_predict(batch), new.model.full_sort_predict(batch))
