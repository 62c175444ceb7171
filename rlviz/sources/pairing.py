"""Which tensor is compared with which, decided from two headers before any weight is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlviz.dtypes import ELEMENT_TYPES
from rlviz.errors import NothingComparable
from rlviz.sources import sanity
from rlviz.sources.checkpoint import Checkpoint
from rlviz.sources.json_types import is_list, is_table
from rlviz.sources.naming import is_vocabulary, module_group
from rlviz.sources.quantised import quantised_stems, weight_of
from rlviz.sources.wrappers import by_canonical_name
from rlviz.types import Notice, Skipped, TensorMatch, TensorMeta

SIDES = ("base", "tuned")
_LANGUAGE_MODELS = ("ForCausalLM", "LMHeadModel", "ForMaskedLM", "ForPreTraining", "ForConditionalGeneration")


@dataclass(frozen=True, slots=True, eq=False)
class Pairing:
    """Two checkpoints and what will be compared: every tensor of either is in `matched` or in `skipped`.

    `notices` are warnings about the pair as a whole: order, precision, architecture, vocabulary, renamed tensors.
    """

    base: Checkpoint
    tuned: Checkpoint
    matched: tuple[TensorMatch, ...]
    skipped: tuple[Skipped, ...]
    notices: tuple[Notice, ...]


def pair(base: Checkpoint, tuned: Checkpoint) -> Pairing:
    """Match the tensors of two checkpoints.

    Equal names first, then names that are equal without wrapper prefixes. Reasons to skip: ``only_in_base``,
    ``only_in_tuned``, ``ambiguous``, ``tied``, ``quantised``, ``unsupported_dtype``, ``kind_mismatch``,
    ``shape_mismatch``.

    Raises
    ------
    NothingComparable
        If no tensor is left to compare; says what each side has.
    """
    couples, ambiguous = _couples(base.tensors, tuned.tensors)
    rules = _Rules.of(base, tuned)
    matched: list[TensorMatch] = []
    skipped = list(ambiguous)
    for left, right in couples:
        outcome = rules.judge(left, right)
        if isinstance(outcome, TensorMatch):
            matched.append(outcome)
        else:
            skipped.append(outcome)
    taken = {left.name for left, _ in couples}, {right.name for _, right in couples}
    for side, tensors, used in zip(SIDES, (base.tensors, tuned.tensors), taken, strict=True):
        judged = used | {skip.name for skip in ambiguous}
        skipped += [rules.alone(meta, side) for name, meta in tensors.items() if name not in judged]
    if not matched:
        raise _nothing(base, tuned, skipped)
    notices = (*sanity.notices(base, tuned, matched), *_renamed(matched), *_grown(matched), *_adapters(base, tuned))
    return Pairing(base, tuned, tuple(matched), tuple(skipped), notices)


Tensors = Mapping[str, TensorMeta]
Couples = list[tuple[TensorMeta, TensorMeta]]


def _couples(base: Tensors, tuned: Tensors) -> tuple[Couples, list[Skipped]]:
    """Tensors that go by the same name, in the base's order, and those whose name means two tensors."""
    partner = {name: name for name in base if name in tuned}
    left = by_canonical_name(name for name in base if name not in tuned)
    right = by_canonical_name(name for name in tuned if name not in base)
    ambiguous: list[Skipped] = []
    for key in left:
        if key not in right:
            continue
        if len(left[key]) == len(right[key]) == 1:
            partner[left[key][0]] = right[key][0]
            continue
        detail = f"base {' and '.join(left[key])}, tuned {' and '.join(right[key])}: cannot tell which belong together"
        ambiguous += [Skipped(name, "ambiguous", detail) for name in dict.fromkeys(left[key] + right[key])]
    return [(base[name], tuned[partner[name]]) for name in base if name in partner], ambiguous


@dataclass(frozen=True, slots=True)
class _Rules:
    """What the pair as a whole says about its tensors."""

    quantised: Mapping[str, str]  # canonical weight name to what shows it
    tied: tuple[bool, bool]  # base, tuned: the output head shares the embedding's weights

    @classmethod
    def of(cls, base: Checkpoint, tuned: Checkpoint) -> _Rules:
        stems = {
            stem: f"{side} stores it quantised ({evidence})"
            for side, checkpoint in zip(SIDES, (base, tuned), strict=True)
            for stem, evidence in quantised_stems(checkpoint.tensors).items()
        }
        return cls(stems, (_is_tied(base), _is_tied(tuned)))

    def judge(self, base: TensorMeta, tuned: TensorMeta) -> TensorMatch | Skipped:
        """A match, or why these two are not compared."""
        obstacle = self._obstacle(base, tuned)
        if obstacle:
            reason, detail = obstacle
            other_name = "" if base.name == tuned.name else f" (tuned name {tuned.name})"
            return Skipped(base.name, reason, detail + other_name)
        if base.shape == tuned.shape:
            return TensorMatch(base, tuned, base.shape[0] if base.shape else 1)
        return TensorMatch(base, tuned, min(base.shape[0], tuned.shape[0]))

    def alone(self, meta: TensorMeta, side: str) -> Skipped:
        """Why a tensor of one side has no partner."""
        quantised = self._quantised(meta.name)
        if quantised:
            return Skipped(meta.name, "quantised", quantised)
        if _is_head(meta) and any(self.tied):
            other = SIDES[1 - SIDES.index(side)]
            return Skipped(meta.name, "tied", f"the {other} ties it to the embedding, which is compared once")
        return Skipped(meta.name, f"only_in_{side}", f"{_describe(meta)} has no partner on the other side")

    def _quantised(self, name: str) -> str:
        evidence = next((self.quantised[key] for key in weight_of(name) if key in self.quantised), "")
        return f"{evidence}; save a dequantised copy to compare it" if evidence else ""

    def _obstacle(self, base: TensorMeta, tuned: TensorMeta) -> tuple[str, str] | None:
        quantised = self._quantised(base.name) or self._quantised(tuned.name)
        if quantised:
            return "quantised", quantised
        if _is_head(base) and all(self.tied):
            return "tied", "both configs tie it to the embedding, which is compared once"
        sides = f"base {_describe(base)}, tuned {_describe(tuned)}"
        unsupported = [meta.dtype for meta in (base, tuned) if meta.dtype not in ELEMENT_TYPES]
        if unsupported:
            return "unsupported_dtype", f"{sides}: {unsupported[0]} cannot be compared yet"
        left, right = ELEMENT_TYPES[base.dtype], ELEMENT_TYPES[tuned.dtype]
        # integers of different types are different kinds of buffer, not two precisions of one weight
        if left.is_float != right.is_float or (not left.is_float and left.code != right.code):
            return "kind_mismatch", f"{sides}: not the same kind of number"
        if base.shape != tuned.shape and not _has_common_rows(base, tuned):
            return "shape_mismatch", f"{sides}: the shapes differ"
        return None


def _describe(meta: TensorMeta) -> str:
    return f"{meta.dtype} {meta.shape}"


def _has_common_rows(base: TensorMeta, tuned: TensorMeta) -> bool:
    """A vocabulary of another size: same width, other number of rows."""
    same_width = len(base.shape) == len(tuned.shape) and base.shape and base.shape[1:] == tuned.shape[1:]
    return bool(same_width and is_vocabulary(base.module) and min(base.shape[0], tuned.shape[0]) > 0)


def _is_head(meta: TensorMeta) -> bool:
    return is_vocabulary(meta.module) and module_group(meta.module) == "head" and not meta.module.endswith(".bias")


def _is_tied(checkpoint: Checkpoint) -> bool:
    """Whether the output head is the embedding.

    Many configs leave the key to the model class's default; a language model saved without a head can only be
    tied.
    """
    config = checkpoint.config
    for part in (config, config.get("text_config")):
        if is_table(part) and isinstance(part.get("tie_word_embeddings"), bool):
            return part["tie_word_embeddings"]
    return _makes_text(config) and not any(_is_head(meta) for meta in checkpoint.tensors.values())


def _makes_text(config: Mapping[str, Any]) -> bool:
    names = config.get("architectures")
    return is_list(names) and any(str(name).endswith(_LANGUAGE_MODELS) for name in names)


def _renamed(matched: Sequence[TensorMatch]) -> Iterable[Notice]:
    renamed = [match for match in matched if match.base.name != match.tuned.name]
    if renamed:
        first = renamed[0]
        yield Notice(
            "renamed",
            f"{len(renamed)} tensors were matched without their wrapper prefixes, "
            f"for example {first.base.name} with {first.tuned.name}.",
        )


def _grown(matched: Sequence[TensorMatch]) -> Iterable[Notice]:
    for match in matched:
        base, tuned = match.base.shape, match.tuned.shape
        if base != tuned:
            verb = "grew" if tuned[0] > base[0] else "shrank"
            yield Notice(
                "vocabulary",
                f"{match.name}: base {base}, tuned {tuned}: the vocabulary {verb}; "
                f"the common {match.rows} rows are compared.",
            )


def _adapters(base: Checkpoint, tuned: Checkpoint) -> Iterable[Notice]:
    for side, checkpoint in zip(SIDES, (base, tuned), strict=True):
        count = sum(".lora_" in name for name in checkpoint.tensors)
        if count:
            yield Notice(
                "unmerged_adapter",
                f"The {side} holds {count} LoRA tensors that are not merged, so its weights lack that update. "
                "Merge them (merge_and_unload) and compare again.",
            )


def _nothing(base: Checkpoint, tuned: Checkpoint, skipped: Sequence[Skipped]) -> NothingComparable:
    has = "; ".join(
        f"{side} has {len(checkpoint.tensors)} tensors, such as {', '.join(list(checkpoint.tensors)[:2])}"
        for side, checkpoint in zip(SIDES, (base, tuned), strict=True)
    )
    reasons = Counter(skip.reason for skip in skipped)
    why = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    example = next((s for s in skipped if not s.reason.startswith("only_in")), None)
    shown = f" ({example.name}: {example.detail})" if example else ""
    subject = f"{base.identity.ref} and {tuned.identity.ref}"
    problem = f"no tensor can be compared: {has}. Skipped: {why}{shown}"
    return NothingComparable(subject, problem, "Check that both are the same architecture, unquantised and merged.")
