"""What a parameter name says: layer, module, expert. Tables of words, no model code.

A module keeps the words of the Hugging Face name (``q_proj``, ``attention.output.dense``), just enough of them
to tell it from its neighbours; a bias is its weight's module plus ``.bias``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Literal

ModuleGroup = Literal["attention", "mlp", "norm", "embedding", "head", "other"]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# the number after one of these is the layer
_LAYER_CONTAINERS = frozenset({"layers", "layer", "h", "blocks", "block", "decoder_layers", "encoder_layers"})
# wrappers of the whole model: never part of a module
_ROOTS = frozenset(
    _words(
        "model transformer bert roberta xlm_roberta distilbert electra albert deberta gpt_neox language_model "
        "text_model base_model backbone module _orig_mod decoder encoder"
    )
)
# other towers of a multimodal model: their layer 3 is not the language model's layer 3
_TOWERS = frozenset(_words("visual vision_tower vision_model vision_encoder audio_tower audio_encoder audio_model"))
# containers that say nothing their contents do not say
_WRAPPERS = frozenset(
    _words(
        "self_attn self_attention attn attention self mlp feed_forward ffn block_sparse_moe SelfAttention "
        "DenseReluDense moe temporal_block base_layer embeddings"
    )
)
# what the same words mean elsewhere, so they stay
_QUALIFIERS = frozenset(
    _words(
        "experts shared_expert shared_experts shared_mlp encoder_attn cross_attn crossattention EncDecAttention "
        "linear_attn"
    )
)
# words that need their parents to be understood
_AMBIGUOUS = frozenset(
    _words("dense c_proj LayerNorm layer_norm proj linear gate out fc decoder weight output out_layer")
)
# the few names worth rewriting: the router of a mixture of experts, and the attention output of Phi and GPT-NeoX
_ALIASES = {
    "mlp.gate": "router",
    "block_sparse_moe.gate": "router",
    "mlp.router": "router",
    "feed_forward.router": "router",
    "router.gate": "router",
    "self_attn.dense": "dense",
    "attention.dense": "dense",
    "self_attention.dense": "dense",
    "self_attn.proj": "proj",
}
_EXPERT_LISTS = frozenset({"experts", "local_experts"})
_VALUES = frozenset({"weight"})
_MAX_WORDS = 4  # of a name no table knows


def describe(name: str) -> tuple[int | None, str, int | None]:
    """Layer index, module and expert index of a parameter name; None where the name carries none.

    Examples
    --------
    >>> describe("model.layers.11.self_attn.q_proj.bias")
    (11, 'q_proj.bias', None)
    >>> describe("model.layers.3.mlp.experts.17.down_proj.weight")
    (3, 'experts.down_proj', 17)
    >>> describe("transformer.wte.weight")
    (None, 'wte', None)
    """
    words = [word for word in name.split(".") if word] or [name]
    at = _layer_position(words)
    layer = int(words[at]) if at is not None else None
    before = words[: at + 1] if at is not None else []
    rest = words[len(before) :] or words[-1:]
    expert = _expert(rest)
    return layer, _tower(before or words) + _module(rest, in_layer=at is not None), expert


def _is_index(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) <= 9


def _layer_position(words: list[str]) -> int | None:
    """Position of the layer number: after a known container, or else the first number that holds several things.

    ``merger.mlp.0.weight`` has no layer: its number only counts the pieces of a small stack.
    """
    numbers = [i for i, word in enumerate(words[:-1]) if i and _is_index(word)]
    for i in numbers:
        if words[i - 1] in _LAYER_CONTAINERS:
            return i
    return next((i for i in numbers if words[i - 1] not in _EXPERT_LISTS and i < len(words) - 2), None)


def _expert(words: list[str]) -> int | None:
    for word, following in pairwise(words):
        if word in _EXPERT_LISTS and _is_index(following):
            return int(following)
    return None


def _tower(words: list[str]) -> str:
    tower = next((word for word in words[:-1] if word in _TOWERS), None)
    if tower:
        return f"{tower}."
    # an encoder beside a decoder (T5, BART, Whisper); BERT's `encoder.layer` stands alone
    if any(pair in (("encoder", "layers"), ("encoder", "block")) for pair in pairwise(words)):
        return "encoder."
    return ""


def _module(words: list[str], *, in_layer: bool) -> str:
    words = _without_numbers(words) if in_layer else _without_roots(words)
    words = [word for word in words[:-1] if word not in _TOWERS] + words[-1:]
    suffix = ""
    if len(words) > 1 and words[-1] in _VALUES:
        words = words[:-1]
    elif len(words) > 1 and words[-1] == "bias":
        words, suffix = words[:-1], ".bias"
    path = ".".join(words)
    if path in _ALIASES:
        return _ALIASES[path] + suffix
    leaf, parents = words[-1], words[:-1]
    if leaf in _AMBIGUOUS or _is_index(leaf):
        return ".".join(words[-_MAX_WORDS:]) + suffix
    return ".".join([*_kept(parents), leaf]) + suffix


def _without_numbers(words: list[str]) -> list[str]:
    """Inside a layer, numbers count experts or T5's sublayers, whose contents have names of their own."""
    return [word for word in words if not _is_index(word) and word not in _LAYER_CONTAINERS] or words


def _without_roots(words: list[str]) -> list[str]:
    start = next((i for i, word in enumerate(words[:-1]) if word not in _ROOTS), len(words) - 1)
    # `model.norm.weight` must not lose `norm`, nor `decoder.weight` its only word
    return words[start:] if words[start:] not in (["weight"], ["bias"]) else words[max(0, start - 1) :]


def _kept(parents: list[str]) -> list[str]:
    """The parents that tell this module from another of the same name."""
    known = [word for word in parents if word in _QUALIFIERS]
    if known or all(word in _WRAPPERS or word in _ROOTS for word in parents):
        return known
    return [word for word in parents if word not in _WRAPPERS and word not in _ROOTS][-(_MAX_WORDS - 1) :]


_ATTENTION_ORDER = _words(
    "q_proj k_proj v_proj qkv_proj q_lin k_lin v_lin query key value query_key_value c_attn Wqkv qkv q k v o "
    "o_proj out_lin out_proj dense attn.c_proj attention.output.dense q_a_proj q_b_proj "
    "kv_a_proj_with_mqa kv_b_proj sinks"
)
_MLP_ORDER = _words(
    "gate_proj up_proj gate_up_proj down_proj lin1 lin2 fc1 fc2 c_fc mlp.c_proj intermediate.dense output.dense "
    "dense_h_to_4h dense_4h_to_h w1 w3 w2 wi wi_0 wi_1 wo router shared_expert_gate"
)
_NORM_ORDER = _words(
    "input_layernorm ln_1 q_norm k_norm self_attn_layer_norm attention.output.LayerNorm post_attention_layernorm "
    "pre_feedforward_layernorm post_feedforward_layernorm ln_2 output.LayerNorm final_layer_norm norm ln_f"
)
_EMBEDDING_ORDER = _words(
    "embed_tokens wte word_embeddings embed_in tok_embeddings shared wpe embed_positions position_embeddings "
    "token_type_embeddings"
)
_HEAD_ORDER = _words("lm_head embed_out cls.predictions.decoder cls.predictions score classifier v_head qa_outputs")
_ORDER: dict[ModuleGroup, tuple[str, ...]] = {
    "attention": _ATTENTION_ORDER,
    "mlp": _MLP_ORDER,
    "norm": _NORM_ORDER,
    "embedding": _EMBEDDING_ORDER,
    "head": _HEAD_ORDER,
    "other": (),
}
GROUPS: tuple[ModuleGroup, ...] = tuple(_ORDER)
_GROUP_OF: dict[str, ModuleGroup] = {module: group for group in GROUPS for module in _ORDER[group]}
# tried in this order on the words no table has
_HINTS: tuple[tuple[ModuleGroup, re.Pattern[str]], ...] = (
    ("norm", re.compile(r"norm(\d|$)|(^|[._])ln([._\d]|$)|rms", re.IGNORECASE)),
    ("head", re.compile(r"(^|\.)(lm_head|cls|score|classifier|v_head|value_head|pooler|predictions|\w+_head)(\.|$)")),
    ("embedding", re.compile(r"embed|(^|\.)w[tp]e(\.|$)", re.IGNORECASE)),
    ("mlp", re.compile(r"(^|\.)(\w*experts?|mlp|ffn|moe|router|\w*gate)(\.|_|$)", re.IGNORECASE)),
    ("attention", re.compile(r"att(e)?n|(^|[._])(qkv|kv|q|k|v|o)(_|$)|query|key|value|qkv", re.IGNORECASE)),
    ("mlp", re.compile(r"(^|[._])(gate|up|down)_|(^|\.)(fc\d?|w[123i])(\.|$)")),
)
_VOCABULARY = frozenset(
    _words(
        "embed_tokens wte word_embeddings embed_in tok_embeddings shared lm_head embed_out "
        "cls.predictions.decoder cls.predictions lm_head.decoder"
    )
)


def module_group(module: str) -> ModuleGroup:
    """The family a module belongs to, for colours, filters and column order.

    Examples
    --------
    >>> [module_group(m) for m in ("k_proj.bias", "experts.down_proj", "q_norm", "wte", "lm_head", "rope")]
    ['attention', 'mlp', 'norm', 'embedding', 'head', 'other']
    """
    plain = module.removesuffix(".bias")
    if plain in _GROUP_OF:
        return _GROUP_OF[plain]
    by_hint: ModuleGroup | None = next((group for group, words in _HINTS if words.search(plain)), None)
    # an unknown path ending in a known word: `encoder_attn.q_proj`, `visual.fc1`
    leaf = plain.rpartition(".")[2]
    known = _GROUP_OF.get(leaf) if leaf not in _AMBIGUOUS else None
    group = known or by_hint
    return group or "other"


def module_order(modules: Iterable[str]) -> tuple[str, ...]:
    """Distinct modules in reading order: attention, MLP, norms, embeddings, head; q before k before v before o.

    A bias stands after its weight; what no table knows is sorted by name at the end of its group.

    Examples
    --------
    >>> module_order(["lm_head", "down_proj", "v_proj", "q_proj.bias", "q_proj"])
    ('q_proj', 'q_proj.bias', 'v_proj', 'down_proj', 'lm_head')
    """
    return tuple(sorted(set(modules), key=_order_key))


def _order_key(module: str) -> tuple[int, int, int, str]:
    group = module_group(module)
    plain, words = module.removesuffix(".bias"), _ORDER[group]
    prefix, _, leaf = plain.rpartition(".")
    rank = words.index(plain) if plain in words else words.index(leaf) if leaf in words else len(words)
    plainness = 0 if plain in words or not prefix else 1  # dense modules first, then experts, then towers
    return GROUPS.index(group), plainness, rank, module


def is_vocabulary(module: str) -> bool:
    """True where rows are tokens, so that they may grow or be padded in tuning."""
    return module.removesuffix(".bias") in _VOCABULARY
