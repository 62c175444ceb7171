"""How a comparison is cited: every commit and version in it, hostile names harmless."""

from __future__ import annotations

from dataclasses import replace

from rlviz.citation import cite, measures, outdated
from rlviz.probes import PROBE_NAMES, probe_called
from tests.views.pairs import result_of, tuned_weights

LINK = "https://acme.hf.space/?r=0123456789"


def test_models_versions_date_and_link_are_in_both_forms():
    result = result_of("org/rl", tuned_weights(step=2e-3))
    citation = cite([result], LINK)
    for text in (citation.text, citation.bibtex):
        assert result.base.commit in text
        assert result.tuned.commit in text
        assert "rlviz 0.1.0" in text
        assert "coordinate v1" in text
        assert "2026-01-02" in text
        assert LINK in text
        assert "2511.08567" in text


def test_braces_balance_and_names_are_escaped():
    result = replace(result_of("./a_b{c%&#", tuned_weights(step=2e-3)), key="0" * 64)
    bibtex = cite([result]).bibtex
    assert r"a\_b\textbraceleft{}c\%\&\#" in bibtex
    assert bibtex.count("{") == bibtex.count("}")
    assert bibtex.count("@misc") == 1 + sum(paper.startswith("arXiv:") for paper in measures([result]))


def test_only_probes_that_ran_are_credited():
    both = result_of("org/rl", tuned_weights(step=2e-3))
    counted = replace(
        both,
        measured=tuple(replace(m, records={"coordinate": m.records["coordinate"]}) for m in both.measured),
    )
    assert "Roy and Vetterli 2007" in measures([both])
    assert "Roy and Vetterli 2007" not in measures([counted])
    assert "spectrum" not in cite([counted]).text


def test_records_of_another_release_are_told_apart():
    result = result_of("org/rl", tuned_weights(step=2e-3))
    assert outdated(result) == {}
    old = tuple(
        replace(m, records={name: replace(r, version=0) for name, r in m.records.items()}) for m in result.measured
    )
    found = outdated(replace(result, measured=old))
    assert found == {name: (0, probe_called(name).version) for name in PROBE_NAMES}
