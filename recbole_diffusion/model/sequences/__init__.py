"""Shared parts of sequential models."""
