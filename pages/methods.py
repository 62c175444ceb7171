"""Methods: every metric's formula, source and caveat, straight from the registry."""

import streamlit as st

from rlviz import ui

ui.require_router()
st.title("Methods")
ui.render_methods()
