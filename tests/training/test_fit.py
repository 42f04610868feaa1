"""What is kept of a training."""

import pytest

from recbole_diffusion.training.fit import RunOptions, fit_and_evaluate


class DecisionTrees:
    """A trainer of RecBole's that takes no mixin: those of decision trees."""

    def __init__(self, file):
        self.saved_model_file = str(file)

    def fit(self, train, valid, saved, **options):
        if saved:
            with open(self.saved_model_file, "w") as file:
                file.write("weights")
        return 0.5, {"auc": 0.5}

    def evaluate(self, data, load_best_model, show_progress):
        return {"loaded": load_best_model}


@pytest.mark.parametrize("saved", [True, False])
def test_a_trainer_without_the_mixin_writes_a_checkpoint_where_one_is_asked_for(saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trainer = DecisionTrees(tmp_path / "trees.pth")
    options = RunOptions(saved, resume=None, trust=False, callback=None, test=True)
    config = {"show_progress": False, "keep_lists": None}
    *_, test, file = fit_and_evaluate(config, trainer, (None, None, None), options)
    assert test == {"loaded": saved}
    assert file == (trainer.saved_model_file if saved else None)
    assert (tmp_path / "trees.pth").exists() == saved
