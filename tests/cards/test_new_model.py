"""Models of other packages: the page "Add a model" followed from an empty folder, and a package that is built."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "new_model.md"


def call(words, folder, site=None):
    """Output of a command, with the packages in ``site`` before all others."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([*([str(site)] if site else []), str(ROOT)]),
    }
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def install(what, site, folder):
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    call([*pip, "--disable-pip-version-check", "--target", str(site), str(what)], folder)


def contract(file, site, folder):
    """The counts of a run of the contract suite."""
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(folder)]
    text = call([*words, str(file)], folder, site)
    return {kind: int(number) for number, kind in re.findall(r"(\d+) (passed|failed|skipped|errors?)", text)}


def models(name, site, folder):
    return call([sys.executable, "-m", "recbole_diffusion", "models", name], folder, site)


def blocks():
    """The files of the page by name, and its commands."""
    files, commands = {}, []
    for title, language, text in re.findall(r"([^\n]*)\n\n```(\w*)\n(.*?)^```$", PAGE.read_text(), flags=re.S | re.M):
        if language:
            files[re.search(r"`([\w./]+)`", title)[1]] = text
        else:
            commands += text.splitlines()
    return files, commands


@pytest.mark.processes
def test_the_page_leads_from_an_empty_folder_to_the_contract_suite(tmp_path):
    files, commands = blocks()
    assert [*files] == [
        *("pyproject.toml", "blur_rec/__init__.py", "blur_rec/BlurRec.yaml", "blur_rec/keys.yaml", "blur_rec/model.py"),
        "test_blur_rec.py",
    ]
    assert commands == [
        "pip install --no-deps --no-build-isolation .",
        "recbole-diffusion models BlurRec",
        "recbole-diffusion run --model=BlurRec --dataset=ml-100k",
        "python -m pytest test_blur_rec.py",
    ]
    folder, site = tmp_path / "new", tmp_path / "site"
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    install(".", site, folder)
    shutil.rmtree(folder / "blur_rec")  # the installed one is meant
    assert "blur_rec.model:BlurRec" in models("BlurRec", site, folder)
    run = [sys.executable, "-m", "recbole_diffusion", "run", "--model=BlurRec", "--dataset=ml-100k", "--epochs=1"]
    assert "BlurRec on ml-100k" in call([*run, "--state=ERROR", "--show_progress=False"], folder, site)
    counts = contract("test_blur_rec.py", site, folder)
    assert counts.pop("skipped") == 2  # it has no search space, and its loss has one part
    assert [*counts] == ["passed"]
    assert counts["passed"] >= 18


@pytest.mark.processes
def test_a_second_package_is_built_installed_found_and_keeps_the_contract(tmp_path):
    pytest.importorskip("build.env", reason="pip install -e '.[test]'")
    source, site = tmp_path / "source", tmp_path / "site"
    shutil.copytree(ROOT / "tests" / "second_package", source, ignore=shutil.ignore_patterns("__pycache__"))
    call([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)], tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    install(wheel, site, tmp_path)
    text = models("NextFlow", site, tmp_path)
    assert "second_models.next_flow:NextFlow" in text
    assert "yes (flow)" in text
    assert str(site) in text  # the file of its keys
    shutil.copy(source / "contract_of_next_flow.py", tmp_path / "test_next_flow.py")
    counts = contract("test_next_flow.py", site, tmp_path)
    assert (
        counts.pop("skipped") == 5
    )  # no search space, no training row per user, and no ablation, which has three tests
    assert [*counts] == ["passed"]
    assert counts["passed"] >= 17
