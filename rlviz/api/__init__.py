"""The public calls. The command line and the dashboard ask these and nothing deeper."""

from rlviz.api.compare import compare, compare_pairing, locate, plan, request
from rlviz.api.kept import import_result, load_result, with_ancestor_notice
from rlviz.api.preview import locate_preview, preview

__all__ = [
    "compare",
    "compare_pairing",
    "import_result",
    "load_result",
    "locate",
    "locate_preview",
    "plan",
    "preview",
    "request",
    "with_ancestor_notice",
]
