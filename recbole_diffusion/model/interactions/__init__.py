"""Shared parts of models of (user, item) pairs: training triples, graph propagation and graph filters."""
