"""The Library: what the store holds, and what papers report beside it. A ticked row is what every page then shows."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from rlviz.probes import AFTERWARDS
from rlviz.shelf import Entry
from rlviz.ui.loading import shelf
from rlviz.ui.permalink import opening, take_over, view_of_result
from rlviz.ui.state import models
from rlviz.ui.text import escaped
from rlviz.views.library import LibraryRow, PublishedRow, library_rows, published_rows
from rlviz.views.words import file_size

_COMMIT = re.compile(r"\b([0-9a-f]{7})[0-9a-f]{33}\b")
_PERCENT: dict[str, Any] = {"format": "%.1f %%"}


def render_library() -> None:
    """Both tables; a ticked row becomes what every page compares."""
    # What was measured at matched norm is shown with the results that it extends.
    entries = [e for e in shelf().entries() if e.probes != AFTERWARDS]
    st.title("Library")
    _render_way_on()
    if entries:
        _render_kept(entries)
    else:
        st.info(
            "Nothing is kept here yet. Open Compare, choose a base and a tuned model (or the demo) and press "
            "Exact run; `python -m rlviz store import FILE` brings a colleague's result."
        )
    _render_published(entries)


def _render_kept(entries: Sequence[Entry]) -> None:
    search = st.text_input(
        "Search",
        key="q",
        bind="query-params",
        type="search",
        placeholder="model, key, probe, pinned, unfinished …",
        width=480,
    )
    rows = library_rows(entries, search)
    if not rows:
        st.info("No result has all of these words. Clear the search to see every one.")
        return
    column = st.column_config
    st.caption(f"{len(rows)} of {len(entries)} results. Tick a row to show it on every page.")
    _table(
        [_kept_cells(row) for row in rows],
        "library",
        lambda i: _take_result(rows[i].key),
        {
            "unchanged (bf16)": column.NumberColumn(**_PERCENT, help="Weights unchanged when both are read as bf16."),
            "unchanged (fp32)": column.NumberColumn(**_PERCENT, help="The same in fp32."),
            "relative norm": column.NumberColumn(format="%.2g", help="‖ΔW‖ / ‖W0‖, pooled."),
            "NSS": column.NumberColumn(format="%.2g", help="Normalised spectral shift, pooled."),
            "enrichment": column.NumberColumn(
                "enrichment (×)", format="%.2f", help="Update energy in the principal block over chance, which gives 1."
            ),
            "measured": column.DatetimeColumn(format="YYYY-MM-DD HH:mm"),
        },
    )


def _render_published(entries: Sequence[Entry]) -> None:
    rows = published_rows(entries)
    known = sum(row.measured is not None for row in rows)
    st.header("Published values")
    column = st.column_config
    st.caption(
        f"Share of weights unchanged (bf16) as papers report it, beside what was measured here "
        f"({known} of {len(rows)}). Tick a row to show the result or, where there is none yet, to preview the pair."
    )
    _table(
        [_published_cells(row) for row in rows],
        "published",
        lambda i: _take_published(rows[i]),
        {
            "published": column.NumberColumn(**_PERCENT),
            "measured": column.NumberColumn(**_PERCENT),
            "difference": column.NumberColumn(format="%+.1f", help="Measured minus published, in points."),
        },
    )


def _render_way_on() -> None:
    """Once models are chosen, the way to what there is to see of them."""
    base, tuned = models()
    if base and tuned:
        names = [escaped(_COMMIT.sub(r"\1", name)) for name in (base, *tuned)]
        with st.container(horizontal=True, vertical_alignment="center", key="way_on"):
            st.markdown(f"Chosen: {names[0]} :material/arrow_right_alt: **{', '.join(names[1:])}**", width="content")
            st.page_link("pages/compare.py", label="Open Compare", icon=":material/compare_arrows:")


def _take_result(key: str) -> None:
    result = shelf().result(key)
    if result is not None:  # otherwise it was removed meanwhile, and the table drawn next no longer has it
        take_over(opening(view_of_result(result)))


def _take_published(row: PublishedRow) -> None:
    if row.key:
        _take_result(row.key)
    elif row.has_pair:
        take_over([("base", row.base), ("tuned", row.tuned)])


def _kept_cells(row: LibraryRow) -> dict[str, Any]:
    return {
        "base": row.base,
        "tuned": row.tuned,
        "unchanged (bf16)": _percent(row.unchanged_bf16),
        "unchanged (fp32)": _percent(row.unchanged_fp32),
        "relative norm": row.relative_update_norm,
        "NSS": row.nss,
        "enrichment": row.energy_principal_enrichment,
        "state": row.state,
        "measured": row.measured,
        "tensors": row.tensors,
        "probes": row.probes,
        "size": file_size(row.nbytes),
        "key": row.key[:12],
    }


def _published_cells(row: PublishedRow) -> dict[str, Any]:
    opens = "result" if row.key else "preview" if row.has_pair else "repository not known"
    return {
        "tuned": row.tuned,
        "published": _percent(row.published),
        "measured": _percent(row.measured),
        "difference": _percent(row.difference),
        "base": row.base,
        "method": row.method,
        "data": row.data,
        "opens": opens,
        "source": row.source,
        "note": row.note,
    }


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _table(rows: list[dict[str, Any]], key: str, take: Callable[[int], None], columns: dict[str, Any]) -> None:
    """A table that hands the index of a ticked row to `take`."""

    def ticked() -> None:
        picked: list[int] = st.session_state[key].selection.rows
        if picked:
            take(picked[0])

    st.dataframe(
        rows,
        key=key,
        hide_index=True,
        on_select=ticked,
        selection_mode="single-row",
        column_config=columns,
        placeholder="–",
    )
