"""Share: a link, a report, the data, and how to cite what is on the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import streamlit as st

from rlviz.citation import cite
from rlviz.report import report_html
from rlviz.result import PairResult
from rlviz.ui.controls import chosen_metric
from rlviz.ui.loading import Pair, results, shelf
from rlviz.ui.permalink import long_link, short_link, view_of
from rlviz.ui.picker import nearest_matrix
from rlviz.ui.state import LINEAR, choice, params
from rlviz.ui.text import escaped
from rlviz.views.words import tuned_labels


def render_share(pairs: Sequence[Pair]) -> None:
    """A popover, whose content is made when it is opened."""
    popover = st.popover("Share", icon=":material/share:", key="share", on_change="rerun")
    if not popover.open:
        return
    with popover:
        link = _render_links(pairs)
        measured = [p.shown for p in pairs if p.shown is not None]
        if measured:
            _render_files(measured, link)
            _render_citation(measured, link)


def _render_links(pairs: Sequence[Pair]) -> str:
    """The links; returns the one to cite, empty where nobody else could open it."""
    view = view_of(pairs)
    short = short_link(view)
    st.markdown("**Link**")
    st.code(short, language=None)
    local = [identity.pinned_ref for identity in view.identities if not identity.shareable]
    if local:
        names = escaped(", ".join(dict.fromkeys(local)))
        st.caption(f"Local, not shareable: {names}. The link opens on this machine only.")
    else:
        st.caption("Holds commits, so it shows the same numbers after a branch has moved. Kept on this host.")
    with st.expander("Long link, for any host"):
        st.code(long_link(view), language=None, wrap_lines=True)
    return "" if local else short


def _render_files(measured: Sequence[PairResult], link: str) -> None:
    st.markdown("**Files**")
    with st.container(horizontal=True):
        shown, metric, chosen = results(), chosen_metric(), params()
        tensor = nearest_matrix(shown)
        remarks = ["Only the weight matrices of attention and MLP are covered here."] if _is_linear() else []
        st.download_button(
            "Report (HTML)",
            lambda: report_html(shown, chosen, metric=metric, tensor=tensor, link=link, remarks=remarks),
            f"rlviz-{measured[0].key[:12]}.html",
            "text/html",
            key="report",
            on_click="ignore",
            icon=":material/description:",
            help="One file with every figure, interactive, for reading offline.",
        )
        for result, label in zip(measured, tuned_labels(measured), strict=True):
            if result.complete:
                st.download_button(
                    f"Data of {label} (zip)" if len(measured) > 1 else "Data (zip)",
                    lambda key=result.key: _exported(key),
                    f"{result.key[:12]}.rlviz.zip",
                    "application/zip",
                    key=f"export_{result.key[:12]}",
                    on_click="ignore",
                    icon=":material/folder_zip:",
                    help="All records, for `python -m rlviz store import`.",
                )


def _render_citation(measured: Sequence[PairResult], link: str) -> None:
    citation = cite(measured, link)
    st.markdown("**Cite this**")
    st.code(citation.text, language=None, wrap_lines=True)
    with st.expander("BibTeX"):
        st.code(citation.bibtex, language=None)


def _is_linear() -> bool:
    return choice("coverage") == LINEAR


def _exported(key: str) -> bytes:
    with TemporaryDirectory() as folder:
        target = Path(folder) / "result.rlviz.zip"
        shelf().export(key, target)
        return target.read_bytes()
