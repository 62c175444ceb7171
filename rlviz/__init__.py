"""rlviz: where did post-training change a model's weights?

>>> import rlviz
>>> result = rlviz.compare("demo:base", "demo:rl", probes=("coordinate",))
>>> f"{result.pooled('update_sparsity'):.3f}"
'0.404'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rlviz.version import __version__ as __version__

if TYPE_CHECKING:
    from rlviz.api import compare as compare
    from rlviz.api import load_result as load_result
    from rlviz.api import plan as plan
    from rlviz.api import preview as preview
    from rlviz.result import PairResult as PairResult
    from rlviz.sources import ModelRef as ModelRef
    from rlviz.types import Lens as Lens
    from rlviz.types import MetricParams as MetricParams

_HOME = {
    "compare": "rlviz.api",
    "load_result": "rlviz.api",
    "plan": "rlviz.api",
    "preview": "rlviz.api",
    "PairResult": "rlviz.result",
    "ModelRef": "rlviz.sources",
    "Lens": "rlviz.types",
    "MetricParams": "rlviz.types",
}
__all__ = ["Lens", "MetricParams", "ModelRef", "PairResult", "compare", "load_result", "plan", "preview"]


def __getattr__(name: str) -> Any:
    # Lazily, so that `import rlviz` and the command line's --help cost no pandas, numba or network client.
    if name not in _HOME:
        raise AttributeError(f"module 'rlviz' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)
