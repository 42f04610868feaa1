"""A model under a model: trained on the same split, cached, or from a file."""
