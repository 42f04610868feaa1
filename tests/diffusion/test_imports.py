"""The mathematics needs torch only."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import recbole_diffusion.diffusion

FILES = sorted(Path(recbole_diffusion.diffusion.__file__).parent.glob("*.py"))
# Names of the standard library; Python 3.9 has no list of them.
STANDARD = getattr(sys, "stdlib_module_names", {"__future__", "collections", "math", "typing"})


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_diffusion_imports_torch_and_itself_alone(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            assert name.startswith("recbole_diffusion.diffusion") or name.split(".")[0] in {"torch", *STANDARD}, name
