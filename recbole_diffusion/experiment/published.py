"""The list of published settings. It imports no RecBole, so that the help of the command line can show it."""

from __future__ import annotations

from recbole_diffusion.support import yaml_files


def available() -> list[tuple[str, str]]:
    """Return (model, data set) of every file in properties/paper, sorted."""
    files = (yaml_files.properties() / "paper").glob("*.yaml")
    pairs = (file.stem.partition("_") for file in files)
    return sorted((model, name) for model, _, name in pairs)
