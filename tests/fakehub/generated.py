"""A pair of very large models whose bytes are made when they are asked for, and whose changed share is known.

Every entry is a function of the seed and its place: the base draws a bf16 code from a normal table by a hash of the
place, the tuned model moves it by one code where a second hash lies below the row's rate. Nothing is stored.

``python -m tests.fakehub.generated --latency-s 0.06`` serves a Llama of 70 B parameters until interrupted.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, cast

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from tests.fakehub.repos import Blob, Repo
from tests.fakehub.server import FakeHub

BASE, TUNED = "acme/llama-70b", "acme/llama-70b-rl"
Uints = NDArray[np.uint64]


def _mixed(x: Uints) -> Uints:
    """The finaliser of SplitMix64: neighbours become unrelated."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _normal_codes() -> NDArray[np.uint16]:
    """65536 bf16 codes of a normal distribution of standard deviation 0.02, by quantile."""
    return (0.02 * ndtri((np.arange(65536) + 0.5) / 65536)).astype(ml_dtypes.bfloat16).view(np.uint16)


_CODES = _normal_codes()


@dataclass(frozen=True)
class Tensor:
    """One tensor: where its entries begin in the model's numbering, and how much of each row changes."""

    name: str
    shape: tuple[int, ...]
    first: int
    share: float

    @property
    def n(self) -> int:
        return prod(self.shape)

    @property
    def width(self) -> int:
        return self.shape[-1]

    def rates(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Changed share per row: a quarter of the rows changes 1.8 times as much as the others.

        Row shares then scatter by 29 % of their mean. An assumption, not taken from a real pair: rows must differ, or
        whole rows would be no harder to sample than single entries.
        """
        strong = _mixed(rows.astype(np.uint64) + np.uint64(self.first)) % np.uint64(4) == 0
        return self.share * np.where(strong, 1.5, 5 / 6)

    @property
    def changed(self) -> float:
        """Expected number of changed entries."""
        return float(self.rates(np.arange(self.n // self.width)).sum()) * self.width


@dataclass(frozen=True)
class Llama:
    """Names and shapes of a Llama; every fifth layer is frozen, the others change by 5 to 35 %."""

    layers: int = 80
    hidden: int = 8192
    mlp: int = 28672
    kv: int = 1024
    vocabulary: int = 128256
    shards: int = 30
    seed: int = 0

    @cached_property
    def tensors(self) -> tuple[Tensor, ...]:
        found: list[Tensor] = []
        first = 0
        for name, shape, share in self._shapes():
            found.append(Tensor(name, shape, first, share))
            first += prod(shape)
        return tuple(found)

    def _shapes(self) -> Iterator[tuple[str, tuple[int, ...], float]]:
        yield "model.embed_tokens.weight", (self.vocabulary, self.hidden), 0.02
        for layer in range(self.layers):
            share = 0.0 if layer % 5 == 4 else 0.05 + 0.3 * layer / self.layers
            prefix = f"model.layers.{layer}."
            yield prefix + "input_layernorm.weight", (self.hidden,), 0.0
            yield prefix + "mlp.down_proj.weight", (self.hidden, self.mlp), share
            yield prefix + "mlp.gate_proj.weight", (self.mlp, self.hidden), share
            yield prefix + "mlp.up_proj.weight", (self.mlp, self.hidden), share
            yield prefix + "post_attention_layernorm.weight", (self.hidden,), 0.0
            yield prefix + "self_attn.k_proj.weight", (self.kv, self.hidden), share / 2
            yield prefix + "self_attn.o_proj.weight", (self.hidden, self.hidden), share
            yield prefix + "self_attn.q_proj.weight", (self.hidden, self.hidden), share / 2
            yield prefix + "self_attn.v_proj.weight", (self.kv, self.hidden), share
        yield "model.norm.weight", (self.hidden,), 0.0
        yield "lm_head.weight", (self.vocabulary, self.hidden), 0.02

    @property
    def density(self) -> float:
        """The true changed share, to the scatter of 70 billion draws."""
        return sum(t.changed for t in self.tensors) / sum(t.n for t in self.tensors)

    def shard_tensors(self) -> list[list[Tensor]]:
        """Tensors by shard, in order, of about equal bytes."""
        total = sum(t.n for t in self.tensors)
        shards: list[list[Tensor]] = [[] for _ in range(self.shards)]
        for tensor in self.tensors:
            shards[min(tensor.first * self.shards // total, self.shards - 1)].append(tensor)
        return [shard for shard in shards if shard]


@dataclass(frozen=True, eq=False)
class Shard:
    """One safetensors file, opened as a `Path` is."""

    tensors: list[Tensor]
    tuned: bool
    seed: int

    @cached_property
    def header(self) -> bytes:
        first = self.tensors[0].first
        entries = {
            t.name: {
                "dtype": "BF16",
                "shape": list(t.shape),
                "data_offsets": [2 * (t.first - first), 2 * (t.first + t.n - first)],
            }
            for t in self.tensors
        }
        text = json.dumps(entries).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text

    @property
    def size(self) -> int:
        return len(self.header) + 2 * sum(t.n for t in self.tensors)

    def open(self, _: str = "rb") -> Reading:
        return Reading(self)

    def content(self, start: int, stop: int) -> bytes:
        """Bytes of the file."""
        head = self.header[start:stop]
        start, stop = max(start - len(self.header), 0), max(stop - len(self.header), 0)
        if stop == 0:
            return head
        first, last = start // 2, -(-stop // 2)
        codes = self.codes(self.tensors[0].first + first, self.tensors[0].first + last)
        return head + codes.tobytes()[start - 2 * first : stop - 2 * first]

    def codes(self, first: int, last: int) -> NDArray[np.uint16]:
        """Codes of the model's entries ``first … last - 1``."""
        place = np.arange(first, last, dtype=np.uint64)
        mixed = _mixed(place + np.uint64(self.seed * 0x9E3779B97F4A7C15 % 2**63))
        codes = _CODES[mixed & np.uint64(0xFFFF)]
        if not self.tuned:
            return codes
        draw = (mixed >> np.uint64(32)).astype(np.float64) / 2**32
        for tensor in self.tensors:
            begin, end = max(first, tensor.first), min(last, tensor.first + tensor.n)
            if begin < end:
                inside = slice(begin - first, end - first)
                rows = np.arange(begin - tensor.first, end - tensor.first) // tensor.width
                low = int(rows[0])
                rates = tensor.rates(np.arange(low, int(rows[-1]) + 1))
                codes[inside] += draw[inside] < rates[rows - low]
        return codes


class Reading(io.RawIOBase):
    """An open `Shard`."""

    def __init__(self, shard: Shard) -> None:
        self._shard, self._at = shard, 0

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset
        return offset

    def read(self, size: int = -1) -> bytes:
        stop = self._shard.size if size < 0 else min(self._at + size, self._shard.size)
        content = self._shard.content(self._at, stop)
        self._at = stop
        return content


@dataclass(frozen=True, eq=False)
class Small:
    """A small file held in memory, opened as a `Path` is."""

    content: bytes = field(repr=False)

    def open(self, _: str = "rb") -> io.BytesIO:
        return io.BytesIO(self.content)


def add_generated(hub: FakeHub, repo_id: str, llama: Llama, *, tuned: bool) -> None:
    """Serve one side of the pair."""
    files: dict[str, Blob] = {}
    weight_map: dict[str, str] = {}
    shards = llama.shard_tensors()
    for number, tensors in enumerate(shards, 1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        shard = Shard(tensors, tuned, llama.seed)
        digest = hashlib.sha256(f"{repo_id}/{name}/{llama}".encode()).hexdigest()
        files[name] = Blob(cast(Path, shard), shard.size, digest[:40], digest, lfs=True)
        weight_map |= dict.fromkeys((t.name for t in tensors), name)
    config: dict[str, Any] = {"model_type": "llama", "tie_word_embeddings": False, "num_hidden_layers": llama.layers}
    for name, value in (("model.safetensors.index.json", {"weight_map": weight_map}), ("config.json", config)):
        content = json.dumps(value).encode()
        digest = hashlib.sha256(content).hexdigest()
        files[name] = Blob(cast(Path, Small(content)), len(content), digest[:40], digest, lfs=False)
    commit = hashlib.sha1(f"{repo_id}/{llama}".encode()).hexdigest()
    hub.repos[repo_id] = Repo(repo_id, commits={commit: files}, revisions={"main": commit})


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.fakehub.generated", description=__doc__)
    parser.add_argument("--latency-s", type=float, default=0.0)
    parser.add_argument("--bytes-per-s", type=float, default=None)
    options = parser.parse_args()
    with FakeHub(latency_s=options.latency_s, bytes_per_s=options.bytes_per_s) as hub:
        add_generated(hub, BASE, Llama(), tuned=False)
        add_generated(hub, TUNED, Llama(), tuned=True)
        print(hub.endpoint, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
