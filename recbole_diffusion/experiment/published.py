"""Which published settings there are. Needs no RecBole, so that the command line can list them without it."""

from __future__ import annotations

from recbole_diffusion.support import yaml_files


def available() -> list[tuple[str, str]]:
    """(model, data set) of every setting, sorted."""
    files = (yaml_files.properties() / "paper").glob("*.yaml")
    pairs = (file.stem.partition("_") for file in files)
    return sorted((model, name) for model, _, name in pairs)
