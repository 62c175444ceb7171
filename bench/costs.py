"""What comparing large pairs takes, by the plan's own model: `python -m bench --only costs` writes it into the README.

No weight is read and none exists: headers are made from published shapes, and go through the same pairing and the same
plan as a real pair's. `--no-readme` prints the table only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory

from rlviz.engine import Plan, Request, plan
from rlviz.engine.batches import by_tensor
from rlviz.engine.executors.local import LOADERS
from rlviz.engine.feeds import ByteCount, RemoteFeed, Sizes
from rlviz.engine.memory import CancelCheck
from rlviz.engine.plan import ASSUMED_BYTES_PER_S
from rlviz.probes import PROBE_NAMES
from rlviz.sources import Pairing, pair
from rlviz.sources.checkpoint import Checkpoint
from rlviz.sources.header import HeaderEntry, tensor_metas
from rlviz.store import Store
from rlviz.types import ModelIdentity
from rlviz.views.formats import duration, file_size

GROUPS = {
    "coordinate": ("coordinate",),
    "and spectra, masks": ("coordinate", "spectrum", "masks"),
    "and nulls": ("coordinate", "spectrum", "masks", "nulls"),
}
CORES = (2, 64)
SHARD = "model.safetensors"
Shapes = Iterator[tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class Llama:
    """Shapes of a decoder with grouped queries and gated MLPs, by the fields of its config.json."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    kv_size: int  # num_key_value_heads × head_dim
    vocab_size: int
    qkv_bias: bool
    tie_word_embeddings: bool

    def shapes(self) -> Shapes:
        h = self.hidden_size
        yield "model.embed_tokens.weight", (self.vocab_size, h)
        for layer in range(self.num_hidden_layers):
            at = f"model.layers.{layer}."
            for name, width in (("q", h), ("k", self.kv_size), ("v", self.kv_size)):
                yield f"{at}self_attn.{name}_proj.weight", (width, h)
                if self.qkv_bias:
                    yield f"{at}self_attn.{name}_proj.bias", (width,)
            yield f"{at}self_attn.o_proj.weight", (h, h)
            yield from _gated(f"{at}mlp.", h, self.intermediate_size)
            yield f"{at}input_layernorm.weight", (h,)
            yield f"{at}post_attention_layernorm.weight", (h,)
        yield "model.norm.weight", (h,)
        if not self.tie_word_embeddings:
            yield "lm_head.weight", (self.vocab_size, h)


@dataclass(frozen=True)
class DeepSeek:
    """Shapes of DeepSeek-V3 by the fields of its config.json, without the multi-token prediction layer."""

    hidden_size: int = 7168
    intermediate_size: int = 18432
    moe_intermediate_size: int = 2048
    num_hidden_layers: int = 61
    first_k_dense_replace: int = 3
    n_routed_experts: int = 256
    num_attention_heads: int = 128
    q_lora_rank: int = 1536
    kv_lora_rank: int = 512
    qk_nope_head_dim: int = 128
    qk_rope_head_dim: int = 64
    v_head_dim: int = 128
    vocab_size: int = 129280

    def shapes(self) -> Shapes:
        h = self.hidden_size
        yield "model.embed_tokens.weight", (self.vocab_size, h)
        for layer in range(self.num_hidden_layers):
            at = f"model.layers.{layer}."
            yield from self._attention(f"{at}self_attn.")
            yield f"{at}input_layernorm.weight", (h,)
            yield f"{at}post_attention_layernorm.weight", (h,)
            if layer < self.first_k_dense_replace:
                yield from _gated(f"{at}mlp.", h, self.intermediate_size)
                continue
            yield f"{at}mlp.gate.weight", (self.n_routed_experts, h)
            yield f"{at}mlp.gate.e_score_correction_bias", (self.n_routed_experts,)
            yield from _gated(f"{at}mlp.shared_experts.", h, self.moe_intermediate_size)
            for expert in range(self.n_routed_experts):
                yield from _gated(f"{at}mlp.experts.{expert}.", h, self.moe_intermediate_size)
        yield "model.norm.weight", (h,)
        yield "lm_head.weight", (self.vocab_size, h)

    def _attention(self, at: str) -> Shapes:
        h, heads = self.hidden_size, self.num_attention_heads
        nope, rope = self.qk_nope_head_dim, self.qk_rope_head_dim
        yield f"{at}q_a_proj.weight", (self.q_lora_rank, h)
        yield f"{at}q_a_layernorm.weight", (self.q_lora_rank,)
        yield f"{at}q_b_proj.weight", (heads * (nope + rope), self.q_lora_rank)
        yield f"{at}kv_a_proj_with_mqa.weight", (self.kv_lora_rank + rope, h)
        yield f"{at}kv_a_layernorm.weight", (self.kv_lora_rank,)
        yield f"{at}kv_b_proj.weight", (heads * (nope + self.v_head_dim), self.kv_lora_rank)
        yield f"{at}o_proj.weight", (h, heads * self.v_head_dim)


def _gated(at: str, hidden: int, inner: int) -> Shapes:
    yield f"{at}gate_proj.weight", (inner, hidden)
    yield f"{at}up_proj.weight", (inner, hidden)
    yield f"{at}down_proj.weight", (hidden, inner)


# config.json of Qwen/Qwen2.5-1.5B, meta-llama/Llama-3.1-8B, meta-llama/Llama-3.1-70B and deepseek-ai/DeepSeek-V3
MODELS: dict[str, tuple[str, Llama | DeepSeek]] = {
    "1.5 B": ("Qwen2.5-1.5B", Llama(1536, 8960, 28, 256, 151936, qkv_bias=True, tie_word_embeddings=True)),
    "8 B": ("Llama-3.1-8B", Llama(4096, 14336, 32, 1024, 128256, qkv_bias=False, tie_word_embeddings=False)),
    "70 B": ("Llama-3.1-70B", Llama(8192, 28672, 80, 1024, 128256, qkv_bias=False, tie_word_embeddings=False)),
    "671 B MoE": ("DeepSeek-V3", DeepSeek()),
}


class _Unread:
    """The reader of a checkpoint that has a header and nothing else."""

    def read_into(self, shard: str, offset: int, buffer: memoryview) -> None:
        raise AssertionError("a plan reads no weight")

    def read_ranges(self, shard: str, ranges: object) -> None:
        raise AssertionError("a plan reads no weight")

    def close(self) -> None:
        """Nothing is open."""


def checkpoint(name: str, model: Llama | DeepSeek, side: int) -> Checkpoint:
    """A hub checkpoint of those shapes in bf16, of one file."""
    entries: dict[str, HeaderEntry] = {}
    end = 0
    for tensor, shape in model.shapes():
        begin, end = end, end + 2 * prod(shape)
        entries[tensor] = HeaderEntry("BF16", shape, begin, end)
    commit = str(side) * 40
    ref = f"published/{name}-{side}"
    identity = ModelIdentity(ref, f"{ref}@{commit}", commit, end, shareable=True)
    return Checkpoint(identity, tensor_metas(entries, SHARD), {SHARD: f"{name}-{side}"}, _Unread())


@dataclass(frozen=True, eq=False)
class Costs:
    """One pair under one group of probes."""

    planned: Plan

    @property
    def core_seconds(self) -> float:
        return sum(step.cost.seconds for step in self.planned.steps)

    def seconds(self, cores: int) -> float:
        """Computing alone: ``max(Σ s_i / cores, max s_i)`` over steps, each on one core."""
        of = replace(self.planned, request=replace(self.planned.request, workers=cores))
        return of.seconds() - of.reading_seconds

    @cached_property
    def worker_bytes(self) -> int:
        """The most that one worker holds at once: its dearest step, and what the feed holds of that tensor."""
        sizes = Sizes.within(Request().memory_bytes, Request().workers + LOADERS)
        feed = RemoteFeed(self.planned.pairing, sizes, Path(), None, ByteCount(), CancelCheck(""))  # type: ignore[arg-type]
        batches = by_tensor(self.planned.steps, sizes.small_bytes)
        return max(max(s.cost.memory_bytes for t in b for s in t.steps) + feed.memory_bytes(b) for b in batches)


def planned_whole(pairing: Pairing, store: Store) -> Plan:
    """The plan of all probes, where no cap on memory leaves anything out."""
    planned = plan(pairing, store, replace(Request(), probes=PROBE_NAMES, memory_bytes=1 << 50))
    left_out = {skip.reason for skip in planned.skipped}
    if left_out:
        raise AssertionError(f"the plan leaves tensors out: {left_out}")
    return planned


def of_probes(planned: Plan, names: tuple[str, ...]) -> Costs:
    """The part of a plan that some probes have in it; what a probe costs does not depend on the others."""
    return Costs(replace(planned, steps=tuple(step for step in planned.steps if step.probe.name in names)))


def rows(sizes: Iterable[str] = tuple(MODELS)) -> Iterator[str]:
    """A line of the table for each pair and group of probes."""
    with TemporaryDirectory(prefix="rlviz-costs-") as folder:
        for size in sizes:
            name, model = MODELS[size]
            pairing = pair(checkpoint(name, model, 0), checkpoint(name, model, 1))
            planned = planned_whole(pairing, Store(Path(folder)))
            about = [f"{size} ({name})", file_size(planned.bytes_to_read / 2), duration(planned.reading_seconds)]
            for group, names in GROUPS.items():
                found = of_probes(planned, names)
                times = [hours(found.core_seconds), *(duration(found.seconds(cores)) for cores in CORES)]
                yield f"| {' | '.join([*about, group, *times, file_size(found.worker_bytes)])} |"
                about = [""] * len(about)


def hours(seconds: float) -> str:
    """Time of one core.

    Examples
    --------
    >>> hours(90), hours(36000)
    ('1 min 30 s', '10 core-h')
    """
    return duration(seconds) if seconds < 3600 else f"{seconds / 3600:.2g} core-h"


def table(sizes: Iterable[str] = tuple(MODELS)) -> str:
    """The table, with what it rests on."""
    of_cores = (f"{cores} cores" for cores in CORES)
    columns = ["pair", "bytes of a side", "reading both", "probes", "one core", *of_cores, "memory of a worker"]
    rate = ASSUMED_BYTES_PER_S["remote"] / 1e6
    note = (
        "By the plan's model; nothing was run. Both sides in bf16 on the hub, each tensor read once for all its "
        f"probes. Reading: over one link of {rate:.0f} MB/s; nodes with links of their own share it. Cores: computing "
        "alone, a tensor on one core. Memory: the most that one worker holds, beside the 0.3 GB of its process; a "
        "matrix that needs more than `RLVIZ_MEMORY_MB` (default 2048) gets its leading directions only. "
        "`python -m rlviz plan` says the same of your pair."
    )
    return "\n".join([f"| {' | '.join(columns)} |", "|---" * len(columns) + "|", *rows(sizes), "", note])
