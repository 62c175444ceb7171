from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlviz.sources.naming import GROUPS, describe, is_vocabulary, module_group, module_order

# name: layer, module, expert, group; real parameter names of each family
NAMES: dict[str, list[tuple[str, int | None, str, int | None, str]]] = {
    "llama, qwen2, mistral": [
        ("model.embed_tokens.weight", None, "embed_tokens", None, "embedding"),
        ("model.layers.0.input_layernorm.weight", 0, "input_layernorm", None, "norm"),
        ("model.layers.0.self_attn.q_proj.weight", 0, "q_proj", None, "attention"),
        ("model.layers.0.self_attn.q_proj.bias", 0, "q_proj.bias", None, "attention"),
        ("model.layers.11.self_attn.k_proj.weight", 11, "k_proj", None, "attention"),
        ("model.layers.11.self_attn.v_proj.bias", 11, "v_proj.bias", None, "attention"),
        ("model.layers.127.self_attn.o_proj.weight", 127, "o_proj", None, "attention"),
        ("model.layers.0.mlp.gate_proj.weight", 0, "gate_proj", None, "mlp"),
        ("model.layers.0.mlp.up_proj.weight", 0, "up_proj", None, "mlp"),
        ("model.layers.0.mlp.down_proj.weight", 0, "down_proj", None, "mlp"),
        ("model.layers.0.post_attention_layernorm.weight", 0, "post_attention_layernorm", None, "norm"),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", 0, "rotary_emb.inv_freq", None, "other"),
        ("model.norm.weight", None, "norm", None, "norm"),
        ("lm_head.weight", None, "lm_head", None, "head"),
        ("score.weight", None, "score", None, "head"),
    ],
    "qwen3": [
        ("model.layers.3.self_attn.q_norm.weight", 3, "q_norm", None, "norm"),
        ("model.layers.3.self_attn.k_norm.weight", 3, "k_norm", None, "norm"),
    ],
    "mixtures of experts": [
        ("model.layers.3.mlp.gate.weight", 3, "router", None, "mlp"),
        ("model.layers.3.mlp.experts.0.gate_proj.weight", 3, "experts.gate_proj", 0, "mlp"),
        ("model.layers.3.mlp.experts.127.down_proj.weight", 3, "experts.down_proj", 127, "mlp"),
        ("model.layers.3.mlp.experts.gate_up_proj", 3, "experts.gate_up_proj", None, "mlp"),
        ("model.layers.3.mlp.experts.down_proj_bias", 3, "experts.down_proj_bias", None, "mlp"),
        ("model.layers.3.mlp.shared_expert.up_proj.weight", 3, "shared_expert.up_proj", None, "mlp"),
        ("model.layers.3.mlp.shared_expert_gate.weight", 3, "shared_expert_gate", None, "mlp"),
        ("model.layers.3.mlp.shared_experts.up_proj.weight", 3, "shared_experts.up_proj", None, "mlp"),
        ("model.layers.3.block_sparse_moe.gate.weight", 3, "router", None, "mlp"),
        ("model.layers.3.block_sparse_moe.experts.7.w1.weight", 3, "experts.w1", 7, "mlp"),
        ("model.layers.3.mlp.router.weight", 3, "router", None, "mlp"),
        ("model.layers.3.mlp.router.bias", 3, "router.bias", None, "mlp"),
    ],
    "gemma": [
        ("model.layers.5.pre_feedforward_layernorm.weight", 5, "pre_feedforward_layernorm", None, "norm"),
        ("model.layers.5.post_feedforward_layernorm.weight", 5, "post_feedforward_layernorm", None, "norm"),
        ("model.language_model.layers.5.mlp.up_proj.weight", 5, "up_proj", None, "mlp"),
        ("language_model.model.layers.5.mlp.up_proj.weight", 5, "up_proj", None, "mlp"),
    ],
    "phi": [
        ("model.layers.1.self_attn.dense.weight", 1, "dense", None, "attention"),
        ("model.layers.1.self_attn.dense.bias", 1, "dense.bias", None, "attention"),
        ("model.layers.1.mlp.fc1.weight", 1, "fc1", None, "mlp"),
        ("model.layers.1.mlp.fc2.bias", 1, "fc2.bias", None, "mlp"),
        ("model.final_layernorm.weight", None, "final_layernorm", None, "norm"),
        ("model.layers.1.self_attn.qkv_proj.weight", 1, "qkv_proj", None, "attention"),
        ("model.layers.1.mlp.gate_up_proj.weight", 1, "gate_up_proj", None, "mlp"),
        ("lm_head.bias", None, "lm_head.bias", None, "head"),
    ],
    "gpt-2": [
        ("transformer.wte.weight", None, "wte", None, "embedding"),
        ("wpe.weight", None, "wpe", None, "embedding"),
        ("h.0.ln_1.weight", 0, "ln_1", None, "norm"),
        ("transformer.h.9.ln_2.bias", 9, "ln_2.bias", None, "norm"),
        ("transformer.h.9.attn.c_attn.weight", 9, "c_attn", None, "attention"),
        ("transformer.h.9.attn.c_proj.weight", 9, "attn.c_proj", None, "attention"),
        ("h.9.mlp.c_fc.bias", 9, "c_fc.bias", None, "mlp"),
        ("h.9.mlp.c_proj.weight", 9, "mlp.c_proj", None, "mlp"),
        ("transformer.ln_f.weight", None, "ln_f", None, "norm"),
        ("h.9.attn.bias", 9, "attn.bias", None, "attention"),
    ],
    "opt": [
        ("model.decoder.embed_tokens.weight", None, "embed_tokens", None, "embedding"),
        ("decoder.embed_positions.weight", None, "embed_positions", None, "embedding"),
        ("model.decoder.layers.4.self_attn.out_proj.bias", 4, "out_proj.bias", None, "attention"),
        ("model.decoder.layers.4.self_attn_layer_norm.weight", 4, "self_attn_layer_norm", None, "norm"),
        ("model.decoder.layers.4.fc1.weight", 4, "fc1", None, "mlp"),
        ("model.decoder.layers.4.final_layer_norm.bias", 4, "final_layer_norm.bias", None, "norm"),
        ("model.decoder.final_layer_norm.weight", None, "final_layer_norm", None, "norm"),
    ],
    "bert": [
        ("bert.embeddings.word_embeddings.weight", None, "word_embeddings", None, "embedding"),
        ("embeddings.token_type_embeddings.weight", None, "token_type_embeddings", None, "embedding"),
        ("bert.embeddings.LayerNorm.weight", None, "embeddings.LayerNorm", None, "norm"),
        ("bert.encoder.layer.3.attention.self.query.weight", 3, "query", None, "attention"),
        ("roberta.encoder.layer.3.attention.self.key.bias", 3, "key.bias", None, "attention"),
        ("encoder.layer.3.attention.self.value.weight", 3, "value", None, "attention"),
        ("bert.encoder.layer.3.attention.output.dense.weight", 3, "attention.output.dense", None, "attention"),
        ("bert.encoder.layer.3.attention.output.LayerNorm.bias", 3, "attention.output.LayerNorm.bias", None, "norm"),
        ("bert.encoder.layer.3.intermediate.dense.weight", 3, "intermediate.dense", None, "mlp"),
        ("bert.encoder.layer.3.output.dense.bias", 3, "output.dense.bias", None, "mlp"),
        ("bert.encoder.layer.3.output.LayerNorm.weight", 3, "output.LayerNorm", None, "norm"),
        ("bert.pooler.dense.weight", None, "pooler.dense", None, "head"),
        ("cls.predictions.decoder.weight", None, "cls.predictions.decoder", None, "head"),
        ("cls.predictions.bias", None, "cls.predictions.bias", None, "head"),
        ("cls.predictions.transform.dense.weight", None, "cls.predictions.transform.dense", None, "head"),
        ("classifier.weight", None, "classifier", None, "head"),
        ("distilbert.transformer.layer.2.attention.q_lin.weight", 2, "q_lin", None, "attention"),
        ("distilbert.transformer.layer.2.ffn.lin1.weight", 2, "lin1", None, "mlp"),
        ("distilbert.transformer.layer.2.sa_layer_norm.weight", 2, "sa_layer_norm", None, "norm"),
    ],
    "gpt-neox": [
        ("gpt_neox.embed_in.weight", None, "embed_in", None, "embedding"),
        ("gpt_neox.layers.0.attention.query_key_value.weight", 0, "query_key_value", None, "attention"),
        ("gpt_neox.layers.0.attention.dense.weight", 0, "dense", None, "attention"),
        ("gpt_neox.layers.0.mlp.dense_4h_to_h.weight", 0, "dense_4h_to_h", None, "mlp"),
        ("embed_out.weight", None, "embed_out", None, "head"),
    ],
    "two towers": [
        ("encoder.block.2.layer.0.SelfAttention.q.weight", 2, "encoder.q", None, "attention"),
        ("decoder.block.2.layer.0.SelfAttention.q.weight", 2, "q", None, "attention"),
        ("decoder.block.2.layer.1.EncDecAttention.q.weight", 2, "EncDecAttention.q", None, "attention"),
        ("model.decoder.layers.2.encoder_attn.q_proj.weight", 2, "encoder_attn.q_proj", None, "attention"),
        ("model.visual.blocks.3.attn.qkv.weight", 3, "visual.qkv", None, "attention"),
        ("visual.merger.mlp.0.weight", None, "visual.merger.mlp.0", None, "mlp"),
    ],
    "wrapped": [
        ("_orig_mod.model.layers.2.mlp.down_proj.weight", 2, "down_proj", None, "mlp"),
        ("base_model.model.model.layers.2.mlp.down_proj.weight", 2, "down_proj", None, "mlp"),
        ("module.lm_head.weight", None, "lm_head", None, "head"),
        ("module.model.norm.weight", None, "norm", None, "norm"),
    ],
    "anything else": [
        ("weight", None, "weight", None, "other"),
        ("layers.0", None, "layers.0", None, "other"),
        ("net.3.conv.weight", 3, "conv", None, "other"),
        ("foo.bar.baz.qux.a.b", None, "baz.qux.a.b", None, "other"),
        ("v_head.summary.weight", None, "v_head.summary", None, "head"),
    ],
}
ROWS = [row for rows in NAMES.values() for row in rows]


@pytest.mark.parametrize(("name", "layer", "module", "expert", "group"), ROWS, ids=[row[0] for row in ROWS])
def test_real_names(name: str, layer: int | None, module: str, expert: int | None, group: str) -> None:
    assert describe(name) == (layer, module, expert)
    assert module_group(module) == group


@given(
    st.text(max_size=40)
    | st.lists(st.sampled_from(["a", "layers", "0", "7", "h", "weight", "bias", "experts"])).map(".".join)
)
def test_any_name_is_described(name: str) -> None:
    layer, module, expert = describe(name)
    assert module or not name
    assert layer is None or layer >= 0
    assert expert is None or expert >= 0
    assert module_group(module) in GROUPS


def test_within_a_layer_no_two_weights_share_a_cell() -> None:
    for family in ("gpt-2", "bert", "opt", "phi", "gemma", "gpt-neox", "llama, qwen2, mistral"):
        seen: dict[tuple[int | None, str], str] = {}
        for name, layer, module, *_ in NAMES[family]:
            plain = name.removeprefix("model.language_model.").removeprefix("language_model.model.")
            assert seen.setdefault((layer, module), plain) == plain


def test_order_reads_like_the_network() -> None:
    qwen = (
        "lm_head norm down_proj up_proj gate_proj o_proj v_proj k_proj q_proj.bias q_proj input_layernorm embed_tokens"
    )
    assert " ".join(module_order(qwen.split())) == (
        "q_proj q_proj.bias k_proj v_proj o_proj gate_proj up_proj down_proj input_layernorm norm embed_tokens lm_head"
    )
    moe = module_order(["experts.down_proj", "router", "experts.gate_proj", "down_proj", "unknown", "unknown"])
    assert moe == ("down_proj", "router", "experts.gate_proj", "experts.down_proj", "unknown")


@given(st.lists(st.sampled_from([row[2] for row in ROWS])), st.randoms(use_true_random=False))
def test_order_depends_on_the_set_alone(modules: list[str], rng: object) -> None:
    shuffled = modules * 2
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert module_order(shuffled) == module_order(modules)
    assert set(module_order(modules)) == set(modules)


def test_vocabulary_rows_are_tokens() -> None:
    assert all(map(is_vocabulary, ["embed_tokens", "wte", "lm_head", "lm_head.bias", "cls.predictions.bias"]))
    assert not any(map(is_vocabulary, ["q_proj", "wpe", "embed_positions", "score", "classifier", "norm"]))
