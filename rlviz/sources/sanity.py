"""Does the pair make sense? Warnings from headers, configs and cards; none of them stops a comparison."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import ml_dtypes

from rlviz.dtypes import ELEMENT_TYPES
from rlviz.errors import InvalidInput
from rlviz.sources.card import base_models
from rlviz.sources.checkpoint import Checkpoint
from rlviz.sources.json_types import is_list
from rlviz.sources.refs import ModelRef
from rlviz.types import Notice, TensorMatch, TensorMeta

# Published RL and SFT updates have relative norms of 1e-4 to 5e-2; two unrelated initialisations have about √2.
UNRELATED_NORM = 0.5


def notices(base: Checkpoint, tuned: Checkpoint, matched: Sequence[TensorMatch]) -> tuple[Notice, ...]:
    """What the reader should know about the pair before believing a number."""
    return (*_lineage(base, tuned), *_architecture(base.config, tuned.config), *_precision(matched))


def ancestor_notice(relative_update_norm: float) -> Notice | None:
    """Warn where the update is as large as the base itself: then the base is not what the tuned model started from.

    Examples
    --------
    >>> ancestor_notice(0.003), ancestor_notice(float("nan"))
    (None, None)
    >>> ancestor_notice(1.38).code
    'not_ancestor'
    """
    if not relative_update_norm > UNRELATED_NORM:
        return None
    detail = (
        f"The base is probably not the ancestor: the update is {relative_update_norm:.2g} times as large as the base. "
        "Check which model was tuned."
    )
    return Notice("not_ancestor", detail)


def suggested_base(tuned: Checkpoint) -> str | None:
    """The base that the tuned model's card names first, if it is a reference that can be opened."""
    for name in base_models(tuned.card):
        try:
            ref = ModelRef.parse(name)
        except InvalidInput:
            continue
        if ref.kind != "local":  # a card is someone else's text: it must not point into this disk
            return str(ref)
    return None


def _lineage(base: Checkpoint, tuned: Checkpoint) -> Iterator[Notice]:
    base_ref, tuned_ref = base.identity.ref, tuned.identity.ref
    if base.identity.commit == tuned.identity.commit:
        yield Notice("same_checkpoint", f"Base and tuned are the same checkpoint, {base_ref}: every update is zero.")
        return
    if any(_is_same_model(name, tuned) for name in base_models(base.card)):
        yield Notice(
            "swapped",
            f"The order looks swapped: the card of {base_ref} says that it was tuned from {tuned_ref}. Swap the two.",
        )
        return
    named = base_models(tuned.card)
    # a folder may hold any model under any name, so only a hub or demo base can contradict the card
    if named and _ref(base).kind != "local" and not any(_is_same_model(name, base) for name in named):
        yield Notice(
            "other_base",
            f"The card of {tuned_ref} names {', '.join(named)} as its base, not {base_ref}. Compare with that one.",
        )


def _ref(checkpoint: Checkpoint) -> ModelRef:
    return ModelRef.parse(checkpoint.identity.pinned_ref)


def _is_same_model(name: str, checkpoint: Checkpoint) -> bool:
    """Whether a card's name means this checkpoint: hub ids without case; a folder by its last part."""
    ref = _ref(checkpoint)
    name = name.strip().lower().removeprefix("https://huggingface.co/").split("@")[0].rstrip("/")
    if ref.kind == "local":
        return name.rpartition("/")[2] == ref.path.name.lower()
    return name == (f"demo:{ref.location}" if ref.kind == "demo" else ref.location.lower())


def _architecture(base: Mapping[str, Any], tuned: Mapping[str, Any]) -> Iterator[Notice]:
    for key, words in (("model_type", "model types"), ("architectures", "architectures")):
        left, right = _words(base.get(key)), _words(tuned.get(key))
        if left and right and left != right:
            detail = f"The configs name different {words}: base {left}, tuned {right}. Check that the pair is meant."
            yield Notice("architecture", detail)
            return


def _words(value: object) -> str:
    return ", ".join(str(item) for item in value) if is_list(value) else str(value or "")


def _precision(matched: Sequence[TensorMatch]) -> Iterator[Notice]:
    base, tuned = _main_dtype(m.base for m in matched), _main_dtype(m.tuned for m in matched)
    if base is None or tuned is None:
        return
    if _fineness(tuned) > _fineness(base):
        yield Notice(
            "finer_tuned",
            f"The tuned weights are stored in {_label(tuned)} and the base in {_label(base)}: part of 'changed as "
            "stored' may be the base's own rounding. Read the bf16 lens.",
        )
    elif _fineness(tuned) < _fineness(base):
        yield Notice(
            "finer_base",
            f"The base is stored in {_label(base)} and the tuned weights in {_label(tuned)}: part of 'changed as "
            "stored' is the rounding of the tuned file. Read the bf16 lens.",
        )
    elif base == tuned and base in ("BF16", "F16"):
        yield Notice(
            "no_masters",
            f"Both files are {_label(base)}: fp32 masters were not published, so the fp32 lens reveals nothing more.",
        )


def _main_dtype(metas: Iterable[TensorMeta]) -> str | None:
    """The float type that most entries have; None without floats."""
    entries: dict[str, int] = {}
    for meta in metas:
        if ELEMENT_TYPES[meta.dtype].is_float:
            entries[meta.dtype] = entries.get(meta.dtype, 0) + meta.n
    return max(entries, key=lambda dtype: entries[dtype], default=None)


def _fineness(dtype: str) -> int:
    """Bits of the mantissa."""
    return int(ml_dtypes.finfo(ELEMENT_TYPES[dtype].values).nmant)  # pyright: ignore


def _label(dtype: str) -> str:
    return {"F64": "fp64", "F32": "fp32", "F16": "fp16", "BF16": "bf16"}.get(dtype, dtype.lower())
