"""Shared parts of models on top of trained embeddings (DDRM, HDRM), and access to pretrained models."""
