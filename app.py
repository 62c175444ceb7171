"""Router of the dashboard: page names and the frame around them. `make app` starts it."""

import streamlit as st

from rlviz import ui

st.set_page_config(page_title="rlviz: where post-training changed the weights", page_icon="🧭", layout="wide")

pages = [
    st.Page("pages/compare.py", title="Compare", default=True),
    st.Page("pages/sparsity.py", title="Sparsity"),
    st.Page("pages/precision.py", title="Precision"),
    st.Page("pages/spectra.py", title="Spectra"),
    st.Page("pages/angles.py", title="Angles"),
    st.Page("pages/masks.py", title="Masks"),
    st.Page("pages/gates.py", title="Gates"),
    st.Page("pages/library.py", title="Library"),
    st.Page("pages/methods.py", title="Methods"),
]
page = st.navigation(pages, position="top")
with ui.sentences_for_errors(), ui.routed():
    ui.open_link(pages, page)
    ui.render_frame(page.title)
    page.run()
