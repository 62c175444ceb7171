from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlviz.errors import NothingComparable
from rlviz.sources import Pairing, pair, resolve
from rlviz.sources.wrappers import canonical_name
from tests.sources.files import Shapes, checkpoint

Q, UP = "model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.up_proj.weight"
EMBED, HEAD, NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"
PLAIN: Shapes = {EMBED: ("BF16", (10, 4)), Q: ("BF16", (4, 4)), UP: ("BF16", (8, 4)), NORM: ("BF16", (4,))}


def paired(base: Shapes, tuned: Shapes, base_config: Mapping[str, object] | None = None, **kwargs: object) -> Pairing:
    tuned_config = kwargs.get("tuned_config", base_config)
    return pair(checkpoint(base, "org/base", base_config), checkpoint(tuned, "org/tuned", tuned_config))  # type: ignore[arg-type]


def names(pairing: Pairing) -> list[tuple[str, str]]:
    return [(m.base.name, m.tuned.name) for m in pairing.matched]


def reasons(pairing: Pairing) -> dict[str, str]:
    return {s.name: s.reason for s in pairing.skipped}


def codes(pairing: Pairing) -> list[str]:
    return [n.code for n in pairing.notices]


def test_equal_names_in_the_bases_order() -> None:
    pairing = paired(PLAIN, dict(reversed(PLAIN.items())))
    assert names(pairing) == [(name, name) for name in PLAIN]
    assert pairing.skipped == ()
    assert [m.shape for m in pairing.matched] == [shape for _, shape in PLAIN.values()]


WRAPPERS = [
    "module.",
    "_orig_mod.",
    "base_model.model.",
    "module._orig_mod.",
    "_orig_mod.module.",
    "module.base_model.model.",
    "_fsdp_wrapped_module._orig_mod.",
    "pretrained_model.",
]


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("side", ["base", "tuned"])
def test_wrapper_prefixes(wrapper: str, side: str) -> None:
    wrapped = {wrapper + name: spec for name, spec in PLAIN.items()}
    pairing = paired(wrapped, PLAIN) if side == "base" else paired(PLAIN, wrapped)
    assert len(pairing.matched) == len(PLAIN)
    assert all(b.removeprefix(wrapper) == t.removeprefix(wrapper) for b, t in names(pairing))
    assert codes(pairing).count("renamed") == 1
    assert pairing.skipped == ()


@pytest.mark.parametrize(
    ("base", "tuned"),
    [
        ("model.language_model.layers.0.mlp.up_proj.weight", UP),
        ("language_model.model.layers.0.mlp.up_proj.weight", UP),
        ("model.language_model.layers.0.mlp.up_proj.weight", "language_model.model.layers.0.mlp.up_proj.weight"),
        ("layers.0.mlp.up_proj.weight", UP),
        ("h.0.attn.c_attn.weight", "transformer.h.0.attn.c_attn.weight"),
        ("encoder.layer.0.attention.self.query.weight", "bert.encoder.layer.0.attention.self.query.weight"),
        ("decoder.layers.0.fc1.weight", "model.decoder.layers.0.fc1.weight"),
        ("model.layers.0._orig_mod.mlp.up_proj.weight", UP),
        ("bert.embeddings.LayerNorm.gamma", "bert.embeddings.LayerNorm.weight"),
        ("module.model.language_model.norm.weight", "_orig_mod.model.norm.weight"),
    ],
)
def test_same_tensor_under_two_names(base: str, tuned: str) -> None:
    spec = ("F32", (4, 4))
    assert names(paired({base: spec}, {tuned: spec})) == [(base, tuned)]
    assert names(paired({tuned: spec}, {base: spec})) == [(tuned, base)]


def test_towers_are_not_confused() -> None:
    spec = ("F32", (4, 4))
    vision = "model.visual.blocks.0.mlp.up_proj.weight"
    pairing = paired({vision: spec, UP: spec}, {"model.language_model.layers.0.mlp.up_proj.weight": spec})
    assert [b for b, _ in names(pairing)] == [UP]
    assert reasons(pairing) == {vision: "only_in_base"}


def test_two_names_for_one_tensor_are_ambiguous() -> None:
    spec = ("F32", (4, 4))
    pairing = paired(PLAIN | {"module.x.w": spec, "_orig_mod.x.w": spec}, PLAIN | {"x.w": spec})
    assert reasons(pairing) == dict.fromkeys(["module.x.w", "_orig_mod.x.w", "x.w"], "ambiguous")
    assert "base module.x.w and _orig_mod.x.w, tuned x.w" in pairing.skipped[0].detail
    # an exact partner settles it
    pairing = paired(PLAIN | {"module.x.w": spec, "x.w": spec}, PLAIN | {"x.w": spec})
    assert reasons(pairing) == {"module.x.w": "only_in_base"}


def test_one_sided_tensors() -> None:
    pairing = paired(PLAIN | {"a.weight": ("F32", (2,))}, PLAIN | {"b.weight": ("F32", (3,))})
    assert reasons(pairing) == {"a.weight": "only_in_base", "b.weight": "only_in_tuned"}
    assert "F32 (3,)" in pairing.skipped[1].detail


TIED, UNTIED = {"tie_word_embeddings": True}, {"tie_word_embeddings": False}
CAUSAL = {"architectures": ["GemmaForCausalLM"]}
WITH_HEAD: Shapes = PLAIN | {HEAD: ("BF16", (10, 4))}


@pytest.mark.parametrize(
    ("base", "tuned", "base_config", "tuned_config", "reason"),
    [
        (WITH_HEAD, PLAIN, TIED, TIED, "tied"),
        (PLAIN, WITH_HEAD, TIED, TIED, "tied"),
        (PLAIN, WITH_HEAD, TIED, UNTIED, "tied"),
        (PLAIN, WITH_HEAD, CAUSAL, CAUSAL, "tied"),
        (PLAIN, WITH_HEAD, {"text_config": TIED}, {}, "tied"),
        (PLAIN, WITH_HEAD, {}, {}, "only_in_tuned"),
        (WITH_HEAD, PLAIN, UNTIED, UNTIED, "only_in_base"),
        (WITH_HEAD, WITH_HEAD, TIED, TIED, "tied"),
        (WITH_HEAD, WITH_HEAD, TIED, UNTIED, None),
        (WITH_HEAD, WITH_HEAD, UNTIED, UNTIED, None),
        (WITH_HEAD, WITH_HEAD, CAUSAL, CAUSAL, None),
        (WITH_HEAD, WITH_HEAD, {}, {}, None),
    ],
)
def test_tied_heads_count_once(
    base: Shapes, tuned: Shapes, base_config: dict[str, object], tuned_config: dict[str, object], reason: str | None
) -> None:
    pairing = paired(base, tuned, base_config, tuned_config=tuned_config)
    assert reasons(pairing).get(HEAD) == reason
    assert ((HEAD, HEAD) in names(pairing)) == (reason is None)


@pytest.mark.parametrize(("old", "new", "verb"), [(10, 13, "grew"), (13, 10, "shrank")])
def test_a_vocabulary_of_another_size(old: int, new: int, verb: str) -> None:
    def shapes(rows: int) -> Shapes:
        return PLAIN | {EMBED: ("BF16", (rows, 4)), HEAD: ("BF16", (rows, 4)), "lm_head.bias": ("BF16", (rows,))}

    pairing = paired(shapes(old), shapes(new))
    by_name = {m.name: m for m in pairing.matched}
    assert [by_name[n].rows for n in (EMBED, HEAD, "lm_head.bias")] == [10, 10, 10]
    assert by_name[EMBED].shape == (10, 4)
    assert by_name[EMBED].n == 40
    details = [n.detail for n in pairing.notices if n.code == "vocabulary"]
    assert details[0] == (
        f"{EMBED}: base ({old}, 4), tuned ({new}, 4): the vocabulary {verb}; the common 10 rows are compared."
    )
    assert len(details) == 3


@pytest.mark.parametrize(
    ("name", "base", "tuned", "reason"),
    [
        (Q, ("F32", (4, 4)), ("F32", (5, 4)), "shape_mismatch"),
        (Q, ("F32", (4, 4)), ("F32", (16,)), "shape_mismatch"),
        (EMBED, ("F32", (4, 4)), ("F32", (5, 3)), "shape_mismatch"),
        (EMBED, ("F32", (4, 4)), ("F32", (4,)), "shape_mismatch"),
        (EMBED, ("F32", (0, 4)), ("F32", (4, 4)), "shape_mismatch"),
        ("score.weight", ("F32", (2, 4)), ("F32", (3, 4)), "shape_mismatch"),
        (Q, ("F32", (4, 4)), ("I32", (4, 4)), "kind_mismatch"),
        (Q, ("BOOL", (4, 4)), ("BF16", (4, 4)), "kind_mismatch"),
        (Q, ("I64", (4, 4)), ("I32", (4, 4)), "kind_mismatch"),
        (Q, ("U8", (4, 4)), ("BOOL", (4, 4)), "kind_mismatch"),
        (Q, ("C64", (4, 4)), ("F32", (4, 4)), "unsupported_dtype"),
        (Q, ("F32", (4, 4)), ("F4", (4, 4)), "unsupported_dtype"),
        (Q, ("U32", (4, 4)), ("U32", (4, 4)), "unsupported_dtype"),
    ],
)
def test_mismatches(
    name: str, base: tuple[str, tuple[int, ...]], tuned: tuple[str, tuple[int, ...]], reason: str
) -> None:
    pairing = paired({NORM: ("F32", (4,)), name: base}, {NORM: ("F32", (4,)), name: tuned})
    assert reasons(pairing) == {name: reason}
    detail = pairing.skipped[0].detail
    assert f"base {base[0]} {base[1]}, tuned {tuned[0]} {tuned[1]}" in detail


def test_floats_of_any_precision_and_equal_integers_match() -> None:
    base: Shapes = {"a.w": ("BF16", (2,)), "b.w": ("F8_E4M3", (2,)), "c.ids": ("I64", (2,)), "d.mask": ("BOOL", (2,))}
    tuned: Shapes = base | {"a.w": ("F64", (2,)), "b.w": ("F16", (2,))}
    assert len(paired(base, tuned).matched) == 4


def test_scalars_and_empty_tensors() -> None:
    shapes: Shapes = {"scale.weight": ("F32", ()), "empty.weight": ("F32", (0, 4)), "thin.weight": ("F32", (4, 0))}
    by_name = {m.name: m for m in paired(shapes, shapes).matched}
    scalar = by_name["scale.weight"]
    assert (scalar.rows, scalar.shape, scalar.n, scalar.is_matrix) == (1, (), 1, False)
    assert [by_name[n].n for n in ("empty.weight", "thin.weight")] == [0, 0]
    assert [by_name[n].shape for n in ("empty.weight", "thin.weight")] == [(0, 4), (4, 0)]


L = "model.layers.0.mlp.up_proj."
QUANTISED: dict[str, Shapes] = {
    "gptq": {
        L + "qweight": ("I32", (1, 8)),
        L + "qzeros": ("I32", (1, 1)),
        L + "scales": ("F16", (1, 8)),
        L + "g_idx": ("I32", (4,)),
    },
    "awq": {L + "qweight": ("I32", (4, 1)), L + "qzeros": ("I32", (1, 1)), L + "scales": ("F16", (1, 8))},
    "bitsandbytes 4 bit": {
        L + "weight": ("U8", (16, 1)),
        L + "weight.absmax": ("U8", (1,)),
        L + "weight.quant_map": ("F32", (16,)),
        L + "weight.nested_absmax": ("F32", (1,)),
        L + "weight.quant_state.bitsandbytes__nf4": ("U8", (9,)),
    },
    "bitsandbytes 8 bit": {
        L + "weight": ("I8", (8, 4)),
        L + "SCB": ("F32", (8,)),
        L + "weight_format": ("U8", ()),
    },
    "fp8 per tensor": {
        L + "weight": ("F8_E4M3", (8, 4)),
        L + "weight_scale": ("F32", ()),
        L + "input_scale": ("F32", ()),
    },
    "fp8 blocks": {L + "weight": ("F8_E4M3", (8, 4)), L + "weight_scale_inv": ("F32", (1, 1))},
    "compressed-tensors": {
        L + "weight_packed": ("I32", (8, 1)),
        L + "weight_scale": ("BF16", (8, 1)),
        L + "weight_shape": ("I64", (2,)),
    },
}
MXFP4: Shapes = {
    "model.layers.0.mlp.experts.up_proj_blocks": ("U8", (2, 8, 2)),
    "model.layers.0.mlp.experts.up_proj_scales": ("U8", (2, 8)),
}


@pytest.mark.parametrize("kind", list(QUANTISED))
@pytest.mark.parametrize("side", ["base", "tuned", "both", "wrapped"])
def test_quantised_weights_are_skipped_whole(kind: str, side: str) -> None:
    plain = PLAIN | {L + "bias": ("BF16", (8,))}
    packed = {n: s for n, s in plain.items() if n != UP} | QUANTISED[kind]
    if side == "wrapped":
        packed = {"base_model.model." + n: s for n, s in packed.items()}
    sides = {"base": (packed, plain), "tuned": (plain, packed), "both": (packed, packed), "wrapped": (plain, packed)}
    pairing = paired(*sides[side])
    assert set(reasons(pairing).values()) == {"quantised"}
    assert {m.base.module for m in pairing.matched} == {"embed_tokens", "q_proj", "norm", "up_proj.bias"}
    assert "save a dequantised copy" in pairing.skipped[0].detail


def test_mxfp4_experts() -> None:
    dense: Shapes = {"model.layers.0.mlp.experts.up_proj": ("BF16", (2, 8, 4))}
    pairing = paired(PLAIN | MXFP4, PLAIN | dense)
    assert set(reasons(pairing)) == {*MXFP4, *dense}
    assert set(reasons(pairing).values()) == {"quantised"}


def test_an_unscaled_fp8_weight_and_a_learned_scale_are_compared() -> None:
    shapes: Shapes = {
        UP: ("F8_E5M2", (8, 4)),
        Q: ("BF16", (4, 4)),
        Q + "_scale": ("BF16", (4,)),
        "a.scale": ("F32", (2,)),
    }
    assert len(paired(shapes, shapes).matched) == 4


def test_unmerged_adapters_are_named() -> None:
    lora = {"base_model.model." + UP.replace(".weight", ".lora_A.weight"): ("F32", (2, 4))}
    assert "unmerged_adapter" in codes(paired(PLAIN, PLAIN | lora))


def test_nothing_comparable_explains_itself() -> None:
    with pytest.raises(NothingComparable) as caught:
        paired({Q: ("F32", (4, 4)), UP: ("F32", (8, 4))}, {"h.0.attn.c_attn.weight": ("F32", (4, 12))})
    sentence = str(caught.value)
    assert "org/base and org/tuned: no tensor can be compared" in sentence
    assert f"base has 2 tensors, such as {Q}, {UP}" in sentence
    assert "tuned has 1 tensors, such as h.0.attn.c_attn.weight" in sentence
    assert "2 only_in_base, 1 only_in_tuned" in sentence
    assert caught.value.exit_code == 5
    with pytest.raises(NothingComparable, match="the shapes differ"):
        paired({Q: ("F32", (4, 4))}, {Q: ("F32", (8, 8))})


NAME = st.sampled_from(
    [Q, UP, EMBED, HEAD, NORM, "layers.0.mlp.up_proj.weight", L + "qweight", L + "weight_scale", "x"]
)
WRAPPED = st.tuples(st.sampled_from(["", *WRAPPERS]), NAME).map("".join)
SPEC = st.tuples(st.sampled_from(["F32", "BF16", "F8_E4M3", "I32", "U32"]), st.sampled_from([(4, 4), (8, 4), (4,), ()]))
TABLES = st.dictionaries(WRAPPED, SPEC, max_size=6)


@given(TABLES, TABLES)
def test_nothing_vanishes(base: Shapes, tuned: Shapes) -> None:
    """Every tensor of either side ends in exactly one list, whatever the names."""
    anchor: Shapes = {"anchor.weight": ("F32", (2,))}
    pairing = paired(base | anchor, tuned | anchor)
    matched_base, matched_tuned = ([n for n, _ in names(pairing)], [n for _, n in names(pairing)])
    assert len(set(matched_base)) == len(matched_base)
    assert len(set(matched_tuned)) == len(matched_tuned)
    # a couple that is skipped goes by the base's name; a different tuned name is in the detail
    judged = {s.name for s in pairing.skipped} | {s.detail.partition("(tuned name ")[2][:-1] for s in pairing.skipped}
    assert base.keys() <= judged | set(matched_base)
    assert tuned.keys() <= judged | set(matched_tuned)
    assert all(canonical_name(b) == canonical_name(t) for b, t in names(pairing))
    for match in pairing.matched:
        assert match.base.shape[1:] == match.tuned.shape[1:]
        assert match.n <= min(match.base.n, match.tuned.n)


@given(TABLES)
def test_a_checkpoint_pairs_with_itself(shapes: Shapes) -> None:
    table = shapes | {"anchor.weight": ("F32", (2,))}
    pairing = paired(table, table)
    assert all(b == t for b, t in names(pairing))
    assert set(reasons(pairing).values()) <= {"quantised", "unsupported_dtype"}
    assert len(pairing.matched) + len(pairing.skipped) == len(table)


def test_the_shipped_demo_pairs_completely() -> None:
    with resolve("demo:base") as base:
        for tuned_name in ("rl", "sft", "sft_same"):
            with resolve(f"demo:{tuned_name}") as tuned:
                pairing = pair(base, tuned)
                assert (len(pairing.matched), pairing.skipped) == (51, ())
                assert codes(pairing) == ["finer_tuned"]
