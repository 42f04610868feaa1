"""What models on top of trained embeddings share."""
