"""Data sets on the disk: described, exported, and split into files."""
