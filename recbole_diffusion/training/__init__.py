"""One training: trainer, checkpoints, resume, ranks, the folder of a run."""

from recbole_diffusion.settings import recbole_config  # noqa: F401 - before recbole.evaluator, without scikit-learn
