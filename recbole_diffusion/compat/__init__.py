"""Faults of RecBole 1.2.1 with their repairs, and the diagnosis of an installation."""
