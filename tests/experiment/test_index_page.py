"""index.html: one file, no address, names are inert, the script sorts and filters."""

from __future__ import annotations

import base64
import hashlib
import html
import html.parser
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from recbole_diffusion.experiment import report
from recbole_diffusion.experiment.jobs.store import Store
from recbole_diffusion.experiment.report import files, html_page, page_data, reading
from recbole_diffusion.experiment.report.analysis import analyse

EVIL = '</script><script>alert("1")</script><img src=x onerror=alert(2)>&amp;\'`'
LEVELS = {"EASE": 0.2, EVIL: 0.4, "Pop": 0.1}


@pytest.fixture
def svg(monkeypatch):
    """One plot that would run a script if it were markup of the page."""
    picture = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(3)</script></svg>"
    monkeypatch.setattr(files, "_draw_function", lambda: lambda *_: {"svg": picture, "png": b"x", "pdf": b"x"})


def made(finished=2):
    store = Store("study")
    for place, (label, level) in enumerate(LEVELS.items()):
        for seed in range(1, finished + 1):
            store.finish(
                f"{place}{seed}",
                {
                    "key": f"{place}{seed}", "label": label, "seed": seed, "trial": None, "status": "finished",
                    "test": {"ndcg@10": level + seed / 100, "giniindex@10": 1 - level}, "valid_score": level,
                    "timing": {"total_s": 100 * level, "parameters": 1000 * place, "best_epoch": 1}, "epochs": [],
                    "settings": {"note": EVIL, "data_path": "/home/me/data", "steps": 5}, "warnings": [EVIL],
                },
            )  # fmt: skip
    models = [
        {
            "label": label,
            "model": "X",
            "diffusion": label == EVIL,
            "settings": {"steps": 5, EVIL: EVIL},
            "runs": {EVIL: [f"{place}1", f"{place}2"]},
        }
        for place, label in enumerate(LEVELS)
    ]
    plan = {"models": models, "datasets": {EVIL: {"users": 3}}, "seeds": [1, 2], "command": EVIL, "notes": [EVIL]}
    store.write_plan({**plan, "metrics": ["ndcg@10", "giniindex@10"], "main_metric": "ndcg@10"})
    return store


class Parsed(html.parser.HTMLParser):
    """The elements of a page with their attributes, and the texts of scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts, self.inside = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.inside = tag
        if tag in ("script", "style"):
            self.texts.append("")

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside in ("script", "style"):
            self.texts[-1] += data


def page_of(folder="study"):
    report.write(folder)
    return Path(folder, "report", "index.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("svg")
def test_names_are_inert_and_no_address_is_called():
    made()
    text = page_of()
    page = Parsed(text)
    assert [attributes for tag, attributes in page.elements if tag == "script"] == [
        {"type": "application/json", "id": "data"},
        {},
    ]
    assert not any(name.startswith("on") or name == "style" for _, attributes in page.elements for name in attributes)
    images = [attributes for tag, attributes in page.elements if tag == "img"]
    assert images
    assert all(
        attributes["src"].startswith("data:image/svg+xml;base64,") and attributes["alt"] for attributes in images
    )
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
    assert "results.csv" in links
    assert all((Path("study/report") / link).is_file() for link in links)
    assert not {tag for tag, _ in page.elements} & {"link", "iframe", "object", "embed", "form", "base"}
    assert not re.search(r"https?://|url\(|@import|fetch\(|XMLHttp|innerHTML|eval\(", text)
    assert "alert(3)" not in text
    assert "<script>alert" not in text
    assert "/home/me" not in text


@pytest.mark.usefixtures("svg")
def test_the_policy_allows_this_script_and_style_alone():
    made()
    page = Parsed(page_of())
    policy = next(a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    style, _, script = page.texts
    for kind, text in (("style", style), ("script", script)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")


@pytest.mark.usefixtures("svg")
def test_the_data_of_the_page_are_the_results():
    made()
    content = json.loads(Parsed(page_of()).texts[1])
    assert content["datasets"] == [EVIL]
    best = content["rows"][0]
    assert (best["model"], best["diffusion"], best["settings"]) == (EVIL, True, {"steps": 5, EVIL: EVIL})
    assert best["metrics"]["ndcg@10"]["mean"] == pytest.approx(0.415)
    assert best["metrics"]["ndcg@10"]["sd"] == pytest.approx(0.01 / 2**0.5)
    assert best["metrics"]["giniindex@10"]["sd"] is None  # the seeds do not differ
    assert best["all_settings"] == {"note": EVIL, "steps": 5}
    assert [run["metrics"]["ndcg@10"] for run in best["runs"]] == pytest.approx([0.41, 0.42])
    assert content["metrics"]["giniindex@10"] == {"name": "Gini@10", "better": 0}
    assert [view["name"] for view in content["views"]] == [
        "Accuracy @10", "Beyond accuracy @10", "Cost", "NDCG@10 in detail",
    ]  # fmt: skip
    assert content["costs"]["total_s"] == {"name": "s in all", "kind": "cost"}


@pytest.mark.usefixtures("svg")
def test_an_unfinished_comparison_has_a_page():
    store = made(finished=1)
    store.fail("02", {"seed": 2, "status": "failed", "error": "out of <memory>"})
    text = page_of()
    assert "3 of 6 runs finished" in text
    content = json.loads(Parsed(text).texts[1])
    (ease,) = (row for row in content["rows"] if row["model"] == "EASE")
    assert ease["missing"] == [{"seed": 2, "reason": "out of <memory>"}]
    made(finished=0)
    shutil.rmtree("study/runs")
    assert "0 of 6 runs finished" in page_of()


def test_json_cannot_end_its_script():
    text = html_page._json({"a": EVIL, "b": float("nan")})
    assert not {*"<>&"} & {*text}
    assert json.loads(text) == {"a": EVIL, "b": None}


def test_tables_have_headers_for_columns_and_rows():
    made()
    comparison = reading.read("study")
    analyses = [analyse(comparison, EVIL, resamples=0)]
    text = html_page.page(comparison, analyses, {}, [])
    assert text.count("<th ") == text.count('scope="col"') + text.count('scope="row"')
    assert page_data.page_data(comparison, analyses)["references"] == [EVIL]


BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.processes
@pytest.mark.skipif(BROWSER is None, reason="no Chromium on the path")
@pytest.mark.usefixtures("svg")
@pytest.mark.parametrize(
    ("state", "order", "direction"),
    [
        ("", [EVIL, "EASE", "Pop"], "descending"),
        ("sort=total_s&dir=ascending", ["Pop", "EASE", EVIL], "ascending"),
        ("sort=parameters&dir=descending", ["Pop", EVIL, "EASE"], "descending"),
        ("q=eAs", ["EASE"], "descending"),
        ("rows=runs&view=cost&sort=ndcg@10", [EVIL, EVIL, "EASE", "EASE", "Pop", "Pop"], "descending"),
    ],
)
def test_a_browser_sorts_and_filters(tmp_path, state, order, direction):
    made()
    page_of()
    address = Path("study/report/index.html").absolute().as_uri() + "#" + state
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command = [str(BROWSER), *options, "--dump-dom", address]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    body = dom.split('id="results"')[-1].split("</table>")[0]
    buttons = re.findall(r'data-open="[^"]*"[^>]*>(.*?)</button>', body, re.S)
    names = [html.unescape(name) for name in buttons]
    assert names == order
    assert body.count(f'aria-sort="{direction}"') == body.count("aria-sort=") == 1
