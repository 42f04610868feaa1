"""A published setting on data that are split by user, beside its baseline."""

from __future__ import annotations

import numpy as np
import pytest

from recbole_diffusion import cli
from recbole_diffusion.experiment import reproduce

SETTING = reproduce.Setting(
    "PreferDiff",
    "tiny_users",
    {"items": 12, "train_rows": 40, "valid_rows": 10, "test_rows": 10},
    {
        "hidden_size": 8, "steps": 10, "inference_steps": 3, "ddim_grid": "official", "epochs": 1,
        "train_batch_size": 16, "valid_metric": "Recall@5", "metrics": ["Recall"], "topk": [5],
        "metric_decimal_place": 4, "state": "error", "show_progress": False,
    },
    {"paper, unverified": {"source": "memory", "metrics": {"recall@5": 0.5}}},
    {"split by user": {"Transitions": {}}},
)  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Users walk in a circle of 12 items: the next item of an item is always the same, so that counts know it."""
    monkeypatch.setattr(reproduce, "load_setting", lambda model, name: SETTING)
    draw = np.random.default_rng(0)
    for part, users in (("train", 40), ("valid", 10), ("test", 10)):
        starts, lengths = draw.integers(12, size=users), draw.integers(4, 8, size=users)
        walks = [[(start + step) % 12 + 1 for step in range(length)] for start, length in zip(starts, lengths)]
        (tmp_path / f"{part}_data.txt").write_text("\n".join(" ".join(map(str, walk)) for walk in walks) + "\n")
    return tmp_path


def test_the_setting_and_its_baseline(folder):
    rows = {row.label: row for row in reproduce.reproduce("PreferDiff", "tiny_users", folder, seeds=(1,))}
    assert list(rows) == ["paper, unverified", "ours, seed 1 (one seed)", "Transitions {}"]
    assert rows["Transitions {}"].metrics["recall@5"] >= 0.8  # of chance: 5 of 12
    assert rows["ours, seed 1 (one seed)"].cost["epochs"] == 1
    assert rows["paper, unverified"].metrics == {"recall@5": 0.5}


def test_other_data_and_protocols_are_refused(folder):
    with pytest.raises(ValueError, match=r"protocol='official' is not allowed; allowed: split by user"):
        reproduce.reproduce("PreferDiff", "tiny_users", folder, protocol="official")
    file = folder / "train_data.txt"
    file.write_text(file.read_text() + "1 2 3\n")
    with pytest.raises(ValueError, match=r"is not tiny_users: train_rows 41 instead of 40"):
        reproduce.reproduce("PreferDiff", "tiny_users", folder)


def test_the_command(folder, capsys):
    words = ["reproduce", "PreferDiff", "tiny_users", f"--data={folder}", "--seeds=1", "--epochs=0"]
    assert cli.main(words) == 0
    printed = capsys.readouterr().out
    assert (
        "protocol split by user (the users of the validation and of the test part are not in the train part" in printed
    )
    assert "paper, unverified: memory." in printed
