"""Shared parts of models of (user, item) pairs: training triples and graph propagation."""
