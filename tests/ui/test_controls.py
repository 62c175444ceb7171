"""What the controls offer: every metric that a map can be drawn of, and the ranks that the page at hand answers."""

from __future__ import annotations

from streamlit.testing.v1 import AppTest

from rlviz.metrics import METRICS


def page() -> None:
    from rlviz.ui.controls import chosen_metric, render_controls
    from rlviz.ui.state import params

    render_controls(("metric", "k", "alpha"), ("16", "32", "64"))
    import streamlit as st

    st.text(f"{chosen_metric().key} {params().k} {params().alpha}")


def opened(**query: str) -> AppTest:
    app = AppTest.from_function(page, default_timeout=60)
    for key, value in query.items():
        app.query_params[key] = value
    return app.run()


def test_a_map_is_offered_of_every_metric_but_nulls_limits_and_intervals():
    offered = set(opened().selectbox(key="metric").options)
    assert offered == {m.title for m in METRICS.values() if not m.companion}
    assert METRICS["overlap_principal_null"].title not in offered


def test_k_offers_what_the_page_answers_and_keeps_the_rank_of_a_link():
    assert opened().select_slider(key="k").options == ["16", "32", "64"]
    app = opened(k="96", alpha="0.05")
    assert app.select_slider(key="k").options == ["16", "32", "64", "96"]
    assert app.text[0].value == "update_sparsity 96 0.05"
    app.select_slider(key="k").set_value("32").run()
    assert app.text[0].value == "update_sparsity 32 0.05"
    assert app.select_slider(key="k").options == ["16", "32", "64"]


def test_an_alpha_that_nothing_was_counted_at_is_the_default():
    assert opened(alpha="0.25").text[0].value == "update_sparsity 64 0.3"
