"""Library: what the store holds, searchable, and published values beside measured ones."""

from rlviz import ui

ui.require_router()
ui.render_library()
