"""What a link chooses, in the words of the widgets; the links themselves are opened in tests/browser."""

from __future__ import annotations

import pytest

from rlviz.metrics import METRICS
from rlviz.ui.permalink import understood


def test_choices_become_what_widgets_display():
    texts, notes = understood(
        {"metric": "nss", "lens": "fp16", "k": "16", "eta": "0.01", "tensor": "a.b", "budget": "2 min"}
    )
    assert texts == {
        "metric": METRICS["nss"].title,
        "lens": "fp16",
        "k": "16",
        "eta": "0.01",
        "tensor": "a.b",
        "budget": "2 min",
    }
    assert notes == []


def test_a_metric_named_by_its_title_is_understood():
    title = METRICS["relative_update_norm"].title
    assert understood({"metric": title}) == ({"metric": title}, [])


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_every_metric_has_a_title_of_its_own(metric):
    assert [m.key for m in METRICS.values() if m.title == metric.title] == [metric.key]


@pytest.mark.parametrize(
    ("key", "value", "instead"),
    [
        ("metric", "gone", "Update sparsity"),
        ("lens", "fp4", "bf16"),
        ("k", "7", "64"),
        ("alpha", "0.4", "0.3"),
        ("metric", "overlap_principal_null", "Update sparsity"),
        ("eta", "0.3", "0.001"),
        ("tau", "x", "1e-05"),
        ("coverage", "half", "all"),
        ("budget", "3 min", "no limit"),
    ],
)
def test_an_unknown_value_is_said_with_what_is_shown_instead(key, value, instead):
    texts, [note] = understood({key: value})
    assert texts == {}
    assert value in note
    assert note.endswith(f"shown instead: {instead}.")


def test_masks_settings_travel_in_links():
    assert understood({"k": "256", "alpha": "0.05"}) == ({"k": "256", "alpha": "0.05"}, [])


def test_a_choice_of_a_later_release_is_said():
    texts, [note] = understood({"rotation": "on", "k": "8"})
    assert texts == {"k": "8"}
    assert "rotation" in note
