"""One training: trainer, checkpoints, resume, processes, the folder of a run."""
