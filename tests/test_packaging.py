"""The wheel: every yaml in it, nothing top-level beside the package, and it works from outside the checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("packaging")  # one wheel for all
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built without isolation, from a copy, so that neither a network nor the checkout is touched."""
    build = pytest.importorskip("build.env", reason="pip install -e '.[test]'")
    assert build
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    tracked = [ROOT / name for name in ("pyproject.toml", "README.md", "LICENSE")]
    for part in ("recbole_diffusion", "properties"):
        tracked += [each for each in (ROOT / part).rglob("*") if each.suffix in {".py", ".yaml", ".typed"}]
    for file in tracked:
        target = source / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)],
        check=True,
        capture_output=True,
    )
    (found,) = folder.glob("*.whl")
    return found


def test_the_wheel_holds_every_module_and_yaml_and_no_top_level_properties(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for file in (ROOT / "recbole_diffusion").rglob("*.py"):
        assert file.relative_to(ROOT).as_posix() in names
    for file in (ROOT / "properties").rglob("*.yaml"):
        assert f"recbole_diffusion/{file.relative_to(ROOT).as_posix()}" in names
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"recbole_diffusion"}
    assert "recbole_diffusion/py.typed" in names


@pytest.mark.processes
def test_installed_elsewhere_it_finds_its_properties_and_its_command_runs(wheel, tmp_path):
    target = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(target)
    code = (
        "import sys, recbole_diffusion as r; from recbole_diffusion import cli;"
        "from recbole_diffusion.support import yaml_files;"
        f"assert r.__file__.startswith({str(target)!r}), r.__file__;"
        f"assert str(yaml_files.properties()).startswith({str(target)!r});"
        "files = sorted(yaml_files.properties().rglob('*.yaml')); assert len(files) >= 4;"
        "[yaml_files.load_yaml(f) for f in files];"
        "sys.exit(cli.main(['run', '--model=DiffRec', '--dataset=ml-100k', '--dry-run']))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(target)}, capture_output=True
    )
    assert run.returncode == 0, run.stderr
    metadata = zipfile.ZipFile(wheel).read(next(n for n in zipfile.ZipFile(wheel).namelist() if n.endswith("METADATA")))
    assert b"recbole==1.2.1" in metadata
    entry = zipfile.ZipFile(wheel).read(
        next(n for n in zipfile.ZipFile(wheel).namelist() if n.endswith("entry_points.txt"))
    )
    assert b"recbole-diffusion = recbole_diffusion.cli:main" in entry


def test_every_bound_in_pyproject_carries_its_reason():
    """Each dependency line, or the comment above its group, says why."""
    text = (ROOT / "pyproject.toml").read_text()
    for block in re.findall(r"^(?:dependencies|pins) = \[\n(.*?)^\]", text, flags=re.S | re.M):
        for line in block.splitlines():
            if re.search(r'"[^"]*(==|<)[^"]*"', line) and "python_version >= '3.12'" not in line:
                above = block[: block.index(line)].rstrip().splitlines()[-1:] or [""]
                assert "#" in line or above[0].strip().startswith("#"), line


def test_citation_and_changelog_name_this_version():
    import recbole_diffusion

    assert f"version: {recbole_diffusion.__version__}" in (ROOT / "CITATION.cff").read_text()
    assert f"## {recbole_diffusion.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_no_file_names_a_path_of_this_machine():
    places = {str(ROOT), str(Path.home()), sys.prefix} - {"/", "/root"}
    files = [file for file in tracked() if file.suffix in {".py", ".md", ".toml", ".yaml", ".txt", ".cff", ""}]
    assert {"pyproject.toml", "test_packaging.py", "run"} <= {file.name for file in files}
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert not [place for place in places if place in text], file


def tracked():
    """Files that git knows or would know with the next commit; all but hidden folders where this is no checkout."""
    words = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(words, capture_output=True, text=True) if shutil.which("git") else None
    if listed and listed.returncode == 0:
        return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    parts = [part for part in ROOT.iterdir() if not part.name.startswith(".") or part.name == ".ci"]
    return [file for part in parts for file in ([part] if part.is_file() else part.rglob("*")) if file.is_file()]
