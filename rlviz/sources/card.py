"""The model card: of its front matter rlviz wants to know which model this one was tuned from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from rlviz.sources.json_types import is_list, is_table

MAX_CARD_BYTES = 4 << 20


def read_card(path: Path) -> dict[str, Any]:
    """Front matter of a README.md, empty where there is none.

    A card is advice: a broken one says nothing and does not keep the weights from being compared.
    """
    try:
        with path.open("rb") as file:
            head = file.read(MAX_CARD_BYTES)
    except OSError:  # absent, mostly
        return {}
    # the YAML reader costs a third of a second to import; most cards of local folders are not worth it
    if not head.lstrip(b"\xef\xbb\xbf \r\n").startswith(b"---") or b"base_model" not in head:
        return {}
    return _front_matter(path)


def _front_matter(path: Path) -> dict[str, Any]:
    from huggingface_hub.repocard import metadata_load  # pyright: ignore[reportUnknownVariableType]
    from yaml import YAMLError

    try:
        card = cast(object, metadata_load(path))
    except (ValueError, YAMLError, RecursionError):
        return {}
    return card if is_table(card) else {}


def base_models(card: Mapping[str, Any]) -> tuple[str, ...]:
    """What the card names as `base_model`: none, one or several ids.

    Examples
    --------
    >>> base_models({"base_model": "org/name"}), base_models({"base_model": ["a/b", "c/d"]}), base_models({})
    (('org/name',), ('a/b', 'c/d'), ())
    """
    named: object = card.get("base_model")
    names = named if is_list(named) else [named]
    return tuple(name.strip() for name in names if isinstance(name, str) and name.strip())
