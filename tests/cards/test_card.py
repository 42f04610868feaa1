"""Cards: what a field may be, the registry's entry, and the texts that are made from them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from recbole_diffusion import cli, registry
from recbole_diffusion.cards import card, documents
from recbole_diffusion.cards.model_spec import ModelSpec, Paper

ROOT = Path(__file__).parents[2]
CARD = """
class: some.module:Some
task: sequential
diffusion: true
process: flow
needs: [time]
nfe: {default: 7, note: few}
paper: {title: T, authors: ["A, B"], venue: V, year: 2020, link: https://doi.org/10.1/2}
code: {repository: a/b, commit: abc, licence: MIT}
parity: {tolerance: 1e-5, test: tests/test_it.py}
tags: [quick]
page: docs/some.md
properties: keys.yaml
contract: {quick: {epochs: 3}, noisy: [{noise: true}]}
ablation: {no diffusion: {noise: 0}}
"""


def write(text, name="Some"):
    Path("keys.yaml").write_text("width: 3\n")
    Path(f"{name}.yaml").write_text(text)
    return Path(f"{name}.yaml")


def test_a_spec_is_read_from_a_card():
    spec = ModelSpec.from_card(write(CARD))
    assert (spec.name, spec.path, spec.task, spec.diffusion) == ("Some", "some.module:Some", "sequential", True)
    assert (spec.needs, spec.tags, spec.loader) == (("time",), ("quick",), None)
    assert spec.defaults == Path("keys.yaml").absolute()
    assert spec.paper == Paper("T", "V", "https://doi.org/10.1/2", ("A, B",), 2020)
    assert (spec.paper.where, str(spec.code)) == ("V 2020", "https://github.com/a/b @ abc")
    assert (spec.card.nfe.default, spec.card.parity.tolerance, spec.card.process) == (7, 1e-5, "flow")
    assert spec.card.contract == card.Contract({"epochs": 3}, ({"noise": True},))
    assert spec.card.ablation == {"no diffusion": {"noise": 0}}


def test_a_card_needs_its_class_only():
    spec = ModelSpec.from_card(write("class: some.module:Some\n"))
    assert spec == ModelSpec("Some", "some.module:Some", card=spec.card)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("tag: [x]", "tag is no field of a card; did you mean tags?"),
        ("difusion: true", "difusion is no field of a card; did you mean diffusion?"),
        ("colour: red", "colour is no field of a card; allowed: name, class, task, diffusion"),
        ("task: ranking", "task='ranking' is not allowed; allowed: general, sequential"),
        ("process: gauss", "process='gauss' is not allowed; allowed: gaussian, flow, discrete, graph, none"),
        ("loader: users", "loader='users' is not allowed; allowed: null, user"),
        ("needs: [clock]", "needs='clock' is not allowed; allowed: time, base_model, item_embeddings"),
        ("needs: time", "needs='time' is not allowed; allowed: a list of texts"),
        ("tags: [1]", "tags=[1] is not allowed; allowed: a list of texts"),
        ("diffusion: 1", "diffusion=1 is not allowed; allowed: true or false"),
        ("class: nocolon", "class='nocolon' is not allowed; allowed: package.module:Class"),
        ("nfe: 3", "nfe must hold 'field: value', got 3"),
        ("nfe: {default: -1}", "nfe.default=-1 is not allowed; allowed: int >= 0"),
        ("nfe: {defualt: 1}", "nfe.defualt is no field of a card; did you mean nfe.default?"),
        ("nfe: {note: x}", "nfe.default is missing"),
        ("paper: {title: T, venue: V}", "paper.link is missing"),
        ("paper: {title: T, venue: V, link: L, authors: [Me]}", "paper.authors is not allowed; allowed: each as"),
        ("paper: {title: T, venue: V, link: L, journal: {nam: J}}", "did you mean paper.journal.name?"),
        ("contract: {noisy: [1]}", "contract.noisy=[1] is not allowed; allowed: a list of mappings of settings"),
        ("ablation: [noise]", "ablation=['noise'] is not allowed; allowed: settings by label"),
        ("ablation: {no noise: {}}", "ablation.no noise={} is not allowed; allowed: a label of letters"),
        ("ablation: {a/b: {noise: 0}}", "ablation.a/b={'noise': 0} is not allowed; allowed: a label of letters"),
        ("name: Other", "name='Other' is not the file's name, 'Some'"),
        ("class:", "class is missing"),
        ("properties: none.yaml", "properties='none.yaml' is no file beside it"),
    ],
)
def test_a_wrong_field_is_one_line(line, message):
    text = line if line.startswith("class") else f"class: some.module:Some\n{line}"
    with pytest.raises(ValueError, match=r"^card 'Some.yaml': [^\n]*$") as caught:
        ModelSpec.from_card(write(text))
    assert message in str(caught.value)


def test_a_card_without_its_class_is_refused():
    with pytest.raises(ValueError, match=r"card 'Some.yaml': class is missing"):
        ModelSpec.from_card(write("task: general\n"))


def test_the_older_arguments_of_a_spec_are_accepted():
    old = ModelSpec(name="A", path="a:A", needs_time=True, abilities=("x",))
    assert old == ModelSpec(name="A", path="a:A", needs=("time",), tags=("x",))
    assert replace(old, needs_time=False).needs == ()
    assert replace(old, diffusion=True).needs == ("time",)
    assert Paper("T", "SIGIR 2023", "link").where == "SIGIR 2023"


@pytest.fixture
def clone(tmp_path):
    """The files that the check reads."""
    for name in ("README.md", "CITATION.cff", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    for folder in ("properties", "docs/models", "recbole_diffusion/model", "tests/model"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def specs(root):
    return [ModelSpec.from_card(file) for file in sorted((root / "properties" / "card").glob("*.yaml"))]


def test_everything_in_the_repository_agrees_with_the_cards(clone):
    assert documents.drifts(ROOT, registry.ours()) == []
    assert documents.write(clone, specs(clone)) == []


def changed(root, name, old, new):
    file = root / name
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("name", "old", "new", "parts"),
    [
        ("README.md", "| 1e-5 at", "| 1e-6 at", ["README.md: models"]),
        ("README.md", "Nemo-1024/ADRec (MIT)", "Nemo-1024/ADRec", ["README.md: licences"]),
        ("README.md", "<!-- licences: end -->", "", ["README.md: no markers"]),
        ("CITATION.cff", "Xu, given-names: Yiyan", "Xu, given-names: Y.", ["CITATION.cff: models"]),
        ("docs/models/README.md", "base model", "a base", ["docs/models/README.md: models"]),
        ("docs/models/ddrm.md", "ad4034c", "1234567", ["docs/models/ddrm.md: does not name Polaris-JZ/DDRM's commit"]),
        ("properties/card/DDRM.yaml", "default: 62", "default: 61", ["README.md: models", "docs/models/README.md"]),
        ("properties/card/HGCF.yaml", "licence: none", "licence: BSD", ["README.md: licences"]),
        ("properties/card/DDRM.yaml", "test_parity_ddrm", "test_nothing", ["parity.test: tests/model/test_nothing.py"]),
    ],
)
def test_a_drift_is_a_line_and_write_mends_what_is_made(name, old, new, parts, clone):
    changed(clone, name, old, new)
    lines = documents.drifts(clone, specs(clone))
    assert len(lines) == len(parts)
    assert all(part in line for part, line in zip(parts, lines))
    if "no markers" in lines[0]:
        with pytest.raises(ValueError, match=r"README.md has no markers"):
            documents.write(clone, specs(clone))
    elif "differs from the cards" in lines[0]:
        documents.write(clone, specs(clone))
        assert documents.drifts(clone, specs(clone)) == []


def test_what_a_new_model_lacks_is_named_line_by_line(clone):
    (clone / "properties" / "card" / "NewRec.yaml").write_text(
        "class: recbole_diffusion.model.general_recommender.newrec:NewRec\npage: docs/models/newrec.md\n"
    )
    lines = documents.drifts(clone, specs(clone))
    assert [line.partition("NewRec.yaml: ")[2] for line in lines if "NewRec.yaml" in line] == [
        "paper is missing",
        "nfe is missing",
        "tags is missing",
        "contract.quick is missing; the contract suite trains with it",
        "class: recbole_diffusion/model/general_recommender/newrec.py is not there",
        "page: docs/models/newrec.md is not there",
        "keys: properties/model/NewRec.yaml is not there",
        "search space: properties/hyper/NewRec.yaml is not there",
    ]


def test_the_citation_is_yaml_with_each_paper_once_and_all_of_its_authors():
    entries = yaml.safe_load((ROOT / "CITATION.cff").read_text())["references"]
    titles = [entry["title"] for entry in entries]
    papers = {spec.card.paper.url for spec in registry.ours() if spec.card.paper}
    assert len(titles) == len(set(titles)) == 1 + len(papers)  # and RecBole's
    article = next(entry for entry in entries if entry["type"] == "article")
    assert article["authors"][0] == {"family-names": "Li", "given-names": "Zihao"}
    assert (article["journal"], article["volume"], article["issue"], article["year"]) == (
        *("ACM Transactions on Information Systems", 42, 3),
        2023,
    )


def test_the_command_lists_filters_and_prints_one(capsys):
    assert cli.main(["models", "--task=sequential"]) == 0
    text = capsys.readouterr().out
    names = [line.split()[0] for line in text.splitlines()[::2]]
    assert names == ["ADRec", "CDDRec", "DiffuRec", "DreamRec", "FMRec", "PreferDiff", "Transitions"]
    assert cli.main(["models", "LTDiffRec"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(
        "LTDiffRec\n  class           recbole_diffusion.model.general_recommender.ltdiffrec:LTDiffRec\n"
    )
    for part in ("yes (gaussian)", "time, item embeddings", "one per user", "SIGIR 2023", "d35a6c6", "1e-05"):
        assert part in text
    assert cli.main(["models", "--check"]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--task=other"], "--task=other is not allowed; allowed: general, sequential"),
        (["--tsak=general"], "--tsak is not an option of models"),
        (["DifRec"], "did you mean DiffRec"),
        (["LightGCN"], "LightGCN is RecBole's and has no card"),
    ],
)
def test_a_slip_of_the_command_is_one_line(words, message, capsys):
    assert cli.main(["models", *words]) == 2
    assert message in capsys.readouterr().err


def test_the_check_ends_with_1_and_needs_a_clone(clone, monkeypatch, capsys):
    from recbole_diffusion.support import yaml_files

    changed(clone, "README.md", "| 1e-5 at", "| 1e-6 at")
    monkeypatch.setattr(yaml_files, "properties", lambda: clone / "properties")
    assert cli.main(["models", "--check"]) == 1
    assert capsys.readouterr().err.startswith("README.md: models differs from the cards at '| [")
    assert cli.main(["models", "--write"]) == 0
    assert capsys.readouterr().out == "written: README.md\n"
    (clone / "pyproject.toml").unlink()
    assert cli.main(["models", "--check"]) == 2
    assert "need a clone of the repository" in capsys.readouterr().err


def test_every_diffusion_model_that_is_trained_names_its_training_without_diffusion():
    diffusion = [spec for spec in registry.specs().values() if spec.card is not None and spec.card.diffusion]
    lacking = [spec.name for spec in diffusion if card.NO_DIFFUSION not in spec.card.ablation]
    assert lacking == ["BSPM"]  # which is not trained
