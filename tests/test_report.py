"""The report: complete, self-contained, safe with hostile names. What the browser makes of it is in tests/browser."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from rlviz.cli import main
from rlviz.metrics import METRICS
from rlviz.report import report_html
from rlviz.report.html import MAX_ROWS, THEMES
from rlviz.types import MetricParams, Notice, Skipped
from tests.checkpoints import tiny_pair
from tests.views.pairs import result_of, tuned_weights

HOSTILE = 'org/<script>alert("x")</script><img src=x onerror=alert(1)>'
PARAMS = MetricParams(k=8)


class Elements(HTMLParser):
    """Every start tag with its attributes, and the text outside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.inside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.inside.append(tag)

    def handle_endtag(self, tag):
        if self.inside and tag == self.inside[-1]:
            self.inside.pop()

    def handle_data(self, data):
        if not self.inside:
            self.words.append(data)


@pytest.fixture(scope="module")
def result():
    found = result_of(HOSTILE, tuned_weights(step=2e-3))
    skipped = tuple(Skipped(f"t{i}<script>", "shape_mismatch", "shapes differ.") for i in range(MAX_ROWS + 5))
    return replace(found, skipped=skipped, notices=(Notice("swapped", "Perhaps <b>swapped</b>."),))


@pytest.fixture(scope="module")
def html(result):
    return report_html([result], PARAMS, link="https://acme.hf.space/?r=0123456789", remarks=["Part of it only."])


@pytest.fixture(scope="module")
def elements(html):
    return Elements(html)


def plots(html: str):
    return json.loads(re.search(r'<script type="application/json" id="plots">(.*?)</script>', html, re.S)[1])


def test_hostile_names_are_text(elements):
    assert sum(tag == "script" for tag, _ in elements.tags) == 3
    assert not [tag for tag, attributes in elements.tags if tag == "img" or "onerror" in attributes]
    assert not [tag for tag, _ in elements.tags if tag == "b"]
    assert any("<script>alert" in words for words in elements.words)


def test_nothing_is_fetched(elements):
    for tag, attributes in elements.tags:
        assert tag not in ("link", "iframe", "object", "embed")
        assert "src" not in attributes
    policy = next(a["content"] for tag, a in elements.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy


def test_every_figure_is_there_in_both_themes_with_the_library_once(html, elements):
    figures = plots(html)["figures"]
    assert len(figures) == sum(tag == "figure" for tag, _ in elements.tags) > 12
    for figure in figures:
        assert set(figure) == set(THEMES)
        assert all("template" not in figure[theme]["layout"] for theme in THEMES)
    assert plots(html)["config"]["showSendToCloud"] is False
    assert html.count("plotly.js v4") == 1
    assert all(a.get("aria-label") for _, a in elements.tags if a.get("role") == "img")


def test_numbers_remarks_notices_skipped_and_citation_are_said(result, elements):
    words = " ".join(elements.words)
    assert f"{100 * result.pooled('update_sparsity', PARAMS):.1f} %" in words
    assert "Part of it only." in words
    assert "Perhaps <b>swapped</b>." in words
    assert f"The first {MAX_ROWS} of {MAX_ROWS + 5} rows" in words
    assert result.tuned.commit in words
    assert "@misc" in words
    shown = [metric for metric in METRICS.values() if metric.parts and not metric.companion]
    assert all(metric.title in words or metric.meaning in words for metric in shown)


def test_a_link_that_is_no_web_address_is_not_one(result):
    assert "javascript:" not in str(
        [a.get("href") for _, a in Elements(report_html([result], PARAMS, link="javascript:alert(1)")).tags]
    )


def test_without_spectra_the_report_has_none(result):
    counted = tuple(replace(m, records={"coordinate": m.records["coordinate"]}) for m in result.measured)
    words = " ".join(Elements(report_html([replace(result, measured=counted)], PARAMS)).words)
    assert "Principal angles" not in words
    assert "Updates that rounding hides" in words


def test_command_writes_a_file_from_models_and_from_a_key(tmp_path, capsys):
    base, tuned = tiny_pair(tmp_path)
    store, first, second = str(tmp_path / "store"), tmp_path / "a.html", tmp_path / "b.html"
    assert main(["report", base, tuned, "-o", str(first), "--store", store, "--quiet"]) == 0
    key = next((tmp_path / "store" / "results").iterdir()).name
    assert main(["report", key[:12], "-o", str(second), "--store", store, "--k", "4"]) == 0
    assert plots(first.read_text()).keys() == plots(second.read_text()).keys()
    assert main(["report", "feedbeef", "-o", str(second), "--store", store]) == 3
    assert "no such result" in capsys.readouterr().err
    assert main(["report", key, "-o", str(tmp_path / "nowhere" / "x.html"), "--store", store]) == 2
