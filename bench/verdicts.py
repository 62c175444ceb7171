"""Does the written verdict tell what is known of a pair? `python -m bench --only verdicts` answers into the README.

A model against itself, isotropic noise plus rounding, dense synthetic SFT, and the demo's really trained runs.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import ml_dtypes
from safetensors.numpy import load_file, save_file

import rlviz
from bench.process import HERE
from rlviz.result import PairResult
from rlviz.sources.demo import DEMO_FOLDER
from rlviz.types import MetricParams
from rlviz.verdict import Question, Verdict, verdict
from rlviz.verdict.movement import ROTATION, SHIFT
from rlviz.verdict.precision import UNCHANGED

PROBES = ("coordinate", "spectrum", "masks", "nulls")
LIKE_RL: Mapping[str, Question] = {"share unchanged": UNCHANGED, "angle": ROTATION, "shift": SHIFT}


def rounded_demo(name: str, folder: Path) -> Path:
    """A demo checkpoint as most are published: in bf16."""
    folder.mkdir(parents=True, exist_ok=True)
    source = DEMO_FOLDER / name
    arrays = load_file(source / "model.safetensors")
    save_file({k: a.astype(ml_dtypes.bfloat16) for k, a in arrays.items()}, folder / "model.safetensors")
    (folder / "config.json").write_bytes((source / "config.json").read_bytes())
    return folder


def controls(folder: Path, size: str = "small", layers: int = 3) -> Iterator[tuple[str, PairResult]]:
    """Pairs of which the truth is known, by what they are; noise and synthetic SFT in `make_pair.py`'s `size`."""
    arguments = ("--size", size, "--layers", str(layers), "--runs", "rl,sft")
    subprocess.run(
        [sys.executable, str(HERE / "make_pair.py"), str(folder), *arguments], check=True, capture_output=True
    )
    pairs = {
        "a model against itself": ("demo:base", "demo:base"),
        "isotropic noise, rounded to bf16": (folder / "base", folder / "rl"),
        "synthetic dense SFT: rank 16 and noise": (folder / "base", folder / "sft"),
        "SFT, new format (demo:sft)": ("demo:base", "demo:sft"),
        "SFT at RL's learning rate (demo:sft_same)": ("demo:base", "demo:sft_same"),
        "RL, GRPO (demo:rl)": ("demo:base", "demo:rl"),
        "the same RL run, published in bf16": ("demo:base", rounded_demo("rl", folder / "rl_bf16")),
    }
    for name, (base, tuned) in pairs.items():
        yield name, rlviz.compare(str(base), str(tuned), probes=PROBES, store=folder / "store")


def row(name: str, found: Verdict) -> str:
    """One pair: the answer, in what it is like published RL, and which nulls it exceeds."""
    return f"| {name} | {found.answer} | {listed_or_none(like_rl(found))} | {listed_or_none(beyond(found))} |"


def like_rl(found: Verdict) -> list[str]:
    """In what the pair is like published RL."""
    held = {f.asked for f in found.findings if f.holds}
    return [short for short, asked in LIKE_RL.items() if asked in held]


def beyond(found: Verdict) -> list[str]:
    """In what it exceeds a null, and by how much."""
    return [f.beyond for f in found.findings if f.beyond]


def listed_or_none(parts: list[str]) -> str:
    return ", ".join(parts) or "–"


def table(rows: list[str]) -> str:
    """With its heading."""
    head = ["| pair | verdict | like published RL in | beyond its null in |", "|---|---|---|---|"]
    return "\n".join([*head, *rows])


def measured() -> str:
    """The table, its pairs made and compared anew."""
    with tempfile.TemporaryDirectory(prefix="rlviz-verdicts-") as folder:
        return table([row(name, verdict(result, MetricParams())) for name, result in controls(Path(folder))])
