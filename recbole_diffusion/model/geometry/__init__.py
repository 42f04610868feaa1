"""Spaces in which users and items are points."""
