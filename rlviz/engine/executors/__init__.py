"""Where the steps of a plan are measured: in threads of this process, or as tasks on a Ray cluster."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec

from rlviz.engine.executors.base import Executor, Tally
from rlviz.engine.executors.local import LOCAL
from rlviz.errors import InvalidInput

__all__ = ["LOCAL", "Executor", "Tally", "executor_for"]


def executor_for(backend: str | None) -> AbstractContextManager[Executor]:
    """The executor of that name, let go of when the block ends.

    Parameters
    ----------
    backend : str, optional
        ``local``, ``ray`` (see `rlviz.engine.executors.ray`) or ``ray://HOST:PORT``; default `RLVIZ_BACKEND`,
        then ``local``.

    Raises
    ------
    InvalidInput
        For any other word, and where Ray is asked for and not installed.
    """
    asked = backend or os.environ.get("RLVIZ_BACKEND") or "local"
    if asked == "local":
        return nullcontext(LOCAL)
    scheme, separator, address = asked.partition("://")
    if scheme != "ray" or bool(separator) != bool(address):
        raise InvalidInput(f"backend {asked}", "is none that there is", "Write local, ray or ray://HOST:PORT.")
    if find_spec("ray") is None:
        raise InvalidInput(f"backend {asked}", "needs Ray", "Install it: pip install -r requirements-ray.txt")
    from rlviz.engine.executors.ray import RayExecutor

    return RayExecutor(address)
