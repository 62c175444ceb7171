"""The public calls. The command line and the dashboard ask these and nothing deeper."""

from rlviz.api.compare import compare, compare_pairing, locate, plan, request, rescale
from rlviz.api.kept import import_result, load_result, with_ancestor_notice
from rlviz.api.matched import matched_key, matched_request, with_matched
from rlviz.api.preview import locate_preview, preview

__all__ = [
    "compare",
    "compare_pairing",
    "import_result",
    "load_result",
    "locate",
    "locate_preview",
    "matched_key",
    "matched_request",
    "plan",
    "preview",
    "request",
    "rescale",
    "with_ancestor_notice",
    "with_matched",
]
