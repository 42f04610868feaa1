"""Base models, whose embeddings another model starts from: trained on the same split, cached, or read from a file."""
