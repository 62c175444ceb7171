"""Figures drawn once: a page is drawn again at every click, by every reader, and most of its figures are as before."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache, wraps
from typing import Any, ParamSpec, TypeVar

from rlviz.result import PairResult

P = ParamSpec("P")
T = TypeVar("T")
_KEPT = 24  # per kind of figure: both themes and some settings of a handful of comparisons


def remembered(draw: Callable[P, T]) -> Callable[P, T]:
    """The same function, which returns what it returned before where it is asked the same of the same results.

    Results are told apart by identity: one that was loaded again is another. Unfinished ones are drawn afresh, for
    there will be no second time. What is returned is shared, and must not be changed.
    """
    kept = lru_cache(_KEPT)(draw)

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> T:
        frozen = [_frozen(arg) for arg in args]
        named = {name: _frozen(arg) for name, arg in kwargs.items()}
        if any(_unfinished(arg) for arg in (*frozen, *named.values())):
            return draw(*args, **kwargs)
        return kept(*frozen, **named)

    return drawn


def _frozen(arg: Any) -> Hashable:
    return tuple(arg) if isinstance(arg, list) else arg  # pyright: ignore[reportUnknownArgumentType]


def _unfinished(arg: Any) -> bool:
    results: Sequence[Any] = arg if isinstance(arg, tuple) else (arg,)
    return any(isinstance(result, PairResult) and not result.complete for result in results)
