"""Names come from outside: what a page writes around them must not turn them into Markdown."""

from __future__ import annotations

import re

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~$:^-])")


def escaped(text: str) -> str:
    """The text as Markdown that shows exactly this text.

    Examples
    --------
    >>> print(escaped("org/a_b_c: *x*"))
    org/a\\_b\\_c\\: \\*x\\*
    """
    return _SPECIAL.sub(r"\\\1", text)
