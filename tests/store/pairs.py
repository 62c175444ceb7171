"""Finished results to store, evict, share and carry about: made once, copied by each test that spoils one."""

from __future__ import annotations

from pathlib import Path

from rlviz import api
from rlviz.result import PairResult
from rlviz.store import Store

TUNED = ("demo:rl", "demo:sft", "demo:sft_same")
TENSORS = "*layers.0.*[qk]*"  # of the demo: two matrices and what else matches, enough for every kind of record


def compared(store: Store, tuned: str = "demo:rl") -> PairResult:
    """A small result in that store, spectra included."""
    return api.compare("demo:base", tuned, tensors=TENSORS, store=store, workers=2)


def record_files(store: Store) -> list[Path]:
    """Every record in the local folder, in order of name."""
    return sorted((store.root / "records").rglob("*.safetensors"))
