"""``--seeds`` means the same everywhere; misspelt options of compare and tune are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from recbole_diffusion import cli
from recbole_diffusion.cli import option_names
from recbole_diffusion.cli.seeds import seeds_of
from recbole_diffusion.experiment import reproduce

pytestmark = pytest.mark.usefixtures("no_plots")


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("3", [1, 2, 3]), ("1", [1]), ("7,8", [7, 8]), ("7,", [7]), ("[7]", [7]), ("[2, 0]", [2, 0]), (" 2 ", [1, 2])],
)
def test_a_number_of_seeds_or_a_list(text, seeds):
    assert seeds_of(text) == seeds


@pytest.mark.parametrize("text", ["0", "-3", "a", "", "1.5", "3,3", "-1,2", "1;2", "[]", ",", "99999999999,"])
def test_other_words_are_refused(text):
    with pytest.raises(ValueError, match=r"^--seeds=.* is not allowed; allowed: how many seeds"):
        seeds_of(text)


@pytest.mark.parametrize(("word", "seeds"), [("--seeds=2", [1, 2]), ("--seeds=5,", [5]), ("--seeds=7,8", [7, 8])])
def test_reproduce_takes_the_same_words(word, seeds, monkeypatch):
    asked = []
    monkeypatch.setattr(reproduce, "reproduce", lambda *words: asked.append(words[3]) or [])
    monkeypatch.setattr(reproduce, "markdown", lambda *words: "")
    assert cli.main(["reproduce", "DiffRec", "ml-1m_clean", "--data=x", word]) == 0
    assert asked == [seeds]


@pytest.mark.parametrize(
    ("command", "word", "meant"),
    [
        ("compare", "worker", "; did you mean --workers? (RecBole's own key worker goes into a --config_files file)"),
        ("compare", "thread", "; did you mean --threads?"),
        ("compare", "trial", "; did you mean --tune?"),
        ("compare", "trials", "; did you mean --tune?"),
        ("compare", "executor", ""),
        ("compare", "refernce", "; did you mean --reference?"),
        ("tune", "worker", "; did you mean --workers? (RecBole's own key worker goes into a --config_files file)"),
        ("tune", "trial", "; did you mean --trials?"),
        ("tune", "scheduller", "; did you mean --scheduler?"),
        ("tune", "metric", ""),
        ("tune", "models", "; did you mean --model?"),
    ],
)
def test_a_slip_of_an_option_is_named(command, word, meant):
    with pytest.raises(ValueError, match="is not an option") as error:
        option_names.check(command, {"epochs": 1, word: 2}, ["DiffRec"])
    assert str(error.value) == f"--{word} is not an option of {command}{meant}"


@pytest.mark.parametrize("command", ["compare", "tune"])
def test_keys_of_models_and_of_recbole_pass(command):
    keys = ("epochs", "metrics", "topk", "steps", "gpu_id", "seed", "stopping_step", "valid_metric", "model_x_y_z")
    option_names.check(command, dict.fromkeys(keys, 1), ["DiffRec", "recbole:DiffRec", "DDRM:BPR", "no_such_model"])


@pytest.mark.parametrize(
    "words",
    [
        ["compare", "--models=EASE", "--dataset=board", "--worker=2"],
        ["compare", "--model=EASE", "--dataset=board"],
        ["tune", "--model=EASE", "--dataset=board", "--trial=5"],
    ],
)
def test_the_commands_refuse_slips_before_anything_is_made(words, checkerboard, capsys):
    assert cli.main(words) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "is not an option of" in line
    assert "did you mean --" in line
    assert not Path("outputs").exists()


@pytest.mark.parametrize(
    "command", [["compare", "--models=EASE,Pop", "--seeds=1"], ["tune", "--model=EASE", "--trials=2"]]
)
def test_a_data_set_that_cannot_be_read_is_one_line_and_code_two(command, capsys):
    """Nothing can be run, and no folder is left for it."""
    for name, text in (("gone", None), ("bare", "no header\n"), ("empty", "")):
        if text is not None:
            Path(f"dataset/{name}").mkdir(parents=True)
            Path(f"dataset/{name}/{name}.inter").write_text(text)
        words = [*command, *(["--executor=serial"] if command[0] == "tune" else [])]
        assert cli.main([*words, f"--dataset={name}", "--folder=here"]) == 2, name
        assert len(capsys.readouterr().err.strip().splitlines()) == 1, name
        assert not Path("here").exists()
