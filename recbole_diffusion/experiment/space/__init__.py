"""Search spaces of hyperparameters."""
