"""Helpers that do not depend on RecBole: atomic files, installed versions, terminal, random state."""
