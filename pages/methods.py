"""Methods: every metric's formula, source and caveat, straight from the registry."""

import streamlit as st

from rlviz import ui

st.title("Methods")
ui.render_methods()
