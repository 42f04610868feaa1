"""Shared parts of models of users' rows of the interaction matrix (DiffRec and its variants)."""
