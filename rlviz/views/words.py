"""What figures and pages say: names of metrics, lenses and models, the headline sentence and its numbers.

The formats of `rlviz.views.formats` are offered here too: callers need one import for text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import TYPE_CHECKING

from rlviz.metrics import METRICS, Metric
from rlviz.published import published_range, published_values
from rlviz.result import PairResult
from rlviz.types import Lens, MetricParams
from rlviz.views.formats import (
    UNDEFINED,
    angle,
    count,
    duration,
    file_size,
    number,
    percent,
    safe,
    sentences,
    setting,
    shorten,
    times_chance,
)

if TYPE_CHECKING:
    from rlviz.sampling.result import Preview

LENS_WORDS: dict[Lens, str] = {
    Lens.STORED: "as stored",
    Lens.FP32: "in fp32",
    Lens.BF16: "in bf16",
    Lens.FP16: "in fp16",
    Lens.FP8_E4M3: "in fp8 (e4m3)",
    Lens.FP8_E5M2: "in fp8 (e5m2)",
}
LENS_SHORT: dict[Lens, str] = {lens: words.removeprefix("in ") for lens, words in LENS_WORDS.items()}


def value_text(metric: Metric, value: float, digits: int = 2) -> str:
    """A metric's value with its unit; four digits on hover, two in text."""
    if not isfinite(value):
        return UNDEFINED
    if metric.unit == "rad":
        return angle(value, digits)
    if metric.scale == "fraction":
        return percent(value) if digits <= 2 else f"{value * 100:.{digits}g} %"
    unit = "" if metric.unit in ("", "fraction") else f" {metric.unit}"
    return number(value, digits) + unit


_SAID = {"update_sparsity": "weights unchanged", "density": "weights changed", "nss": "NSS"}


def said(metric: Metric) -> str:
    """A metric's name inside a sentence or on an axis: readers say "unchanged", never "sparsity 0.54"."""
    return _SAID.get(metric.key, metric.title[:1].lower() + metric.title[1:])


def title_of(metric: Metric) -> str:
    """`said` with a capital, for the start of a sentence."""
    text = said(metric)
    return text[:1].upper() + text[1:]


def chance_sentence(metric: Metric) -> str:
    """What chance gives, as a caption says it; empty where the metric has no such value."""
    return f"Chance: {metric.chance_text}" if metric.chance_text else ""


def unit_of(metric: Metric) -> str:
    """The unit as an axis shows it."""
    if metric.scale == "fraction":
        return "%"
    return {"rad": "degrees", "": "dimensionless", "fraction": "dimensionless"}.get(metric.unit, metric.unit)


def tuned_labels(results: Sequence[PairResult | Preview]) -> tuple[str, ...]:
    """One short label per tuned model, unique; the commit is added only where names repeat. Not escaped."""
    names = [r.tuned.label.split(" @")[0] for r in results]
    repeated = {name for name, times in Counter(names).items() if times > 1}
    labels = [shorten(r.tuned.label if n in repeated else n) for r, n in zip(results, names, strict=True)]
    return tuple(f"{label} ({i + 1})" if labels.count(label) > 1 else label for i, label in enumerate(labels))


def provenance_line(result: PairResult) -> str:
    """What stands under every figure: both commits, what was read, when, by which version."""
    pair = f"{result.base.label} → {result.tuned.label}"
    p = result.provenance
    if p is None:
        return f"{pair} · run not finished"
    read = (
        f"{file_size(p.bytes_read)} read in {duration(p.wall_s)}" if p.bytes_read else "no weight read (stored result)"
    )
    return f"{pair} · {read} · {p.started} · rlviz {p.rlviz}, numpy {p.numpy}"


def masters_published(result: PairResult) -> bool:
    """True where a stored value is finer than bf16, so that a finer lens can reveal anything at all."""
    finer = {"F64", "F32", "F16"}
    return any({m.match.base.dtype, m.match.tuned.dtype} & finer for m in result.floats)


@dataclass(frozen=True, slots=True)
class Headline:
    """One headline number: its text, and what chance or a null gives, in the same breath."""

    label: str
    value: str
    null: str
    help: str


def listed(parts: Sequence[str]) -> str:
    """``a, b and c``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def headline(results: Sequence[PairResult], params: MetricParams) -> str:
    """The computed sentence of the answer band, e.g.

    "40.4 % of weights are unchanged (bf16) in rl and 3.5 % in sft; in fp32 nearly every weight moved (0.39 % and
    0.34 % unchanged)."
    """
    known = [
        (label, share, r)
        for label, r in zip(tuned_labels(results), results, strict=True)
        if isfinite(share := r.pooled("update_sparsity", params))
    ]
    if not known:
        return "Nothing has been counted yet."
    (label, share, _), *others = known
    lens = LENS_SHORT[params.lens]
    first = f"{percent(share)} of weights are unchanged ({lens}) in {label}"
    sentence = listed([first, *(f"{percent(s)} in {name}" for name, s, _ in others)])
    return f"{sentence}{_in_fp32([(s, r) for _, s, r in known], params)}."


def _in_fp32(known: Sequence[tuple[float, PairResult]], params: MetricParams) -> str:
    """The second half of the headline: whether the gap closes where rounding hides nothing."""
    if params.lens in (Lens.STORED, Lens.FP32):
        return ""
    silent = [not masters_published(r) for _, r in known]
    if any(silent):
        return "; fp32 masters were not published" + ("" if all(silent) else " for all of them")
    finer = [r.pooled("update_sparsity", replace(params, lens=Lens.FP32)) for _, r in known]
    shares = listed([percent(f) for f in finer])
    if max(finer) < 0.02 and max(s for s, _ in known) > 0.1:
        return f"; in fp32 nearly every weight moved ({shares} unchanged)"
    return f"; in fp32 it is {shares}"


# Where the metric's own title is too long to stand above a number.
_HEADLINE_LABELS = {"energy_principal_enrichment": "Principal enrichment"}


def headline_numbers(result: PairResult, params: MetricParams) -> tuple[Headline, ...]:
    """Up to four headline numbers of one tuned model, each with its null or yardstick beside it."""
    numbers = [_unchanged(result, params)]
    yardsticks = {
        "relative_update_norm": "one bf16 ULP is 0.39 to 0.78 % of a weight",
        "nss": f"κ_iso {number(result.pooled('kappa_iso', params))}; noise gives 1 to first order, more where tall",
        "energy_principal_enrichment": f"× isotropic at k = {params.k}; chance gives 1",
    }
    for key, yardstick in yardsticks.items():
        metric, value = METRICS[key], result.pooled(key, params)
        if isfinite(value):
            label = _HEADLINE_LABELS.get(key, title_of(metric))
            numbers.append(Headline(label, value_text(metric, value), yardstick, metric.meaning))
    return tuple(numbers)


def _unchanged(result: PairResult, params: MetricParams) -> Headline:
    metric = METRICS["update_sparsity"]
    share, stored = (result.pooled(metric.key, replace(params, lens=lens)) for lens in (params.lens, Lens.STORED))
    against = published_ranges(params.lens) or f"{percent(stored)} as stored"
    return Headline(f"Unchanged ({LENS_SHORT[params.lens]})", percent(share), against, metric.meaning)


def published_ranges(lens: Lens) -> str:
    """The ranges of published shares unchanged under a lens; empty where nobody published any."""
    published = published_values(f"update_sparsity_{lens.value}")
    ranges = [
        f"{kind} {percent(low)} to {percent(high)}"
        for kind in ("RL", "SFT")
        for low, high in [published_range([v for v in published if v.kind == kind]) or (0.0, 0.0)]
        if high
    ]
    return f"published {', '.join(ranges)}" if ranges else ""


def param_words(metric: Metric, params: MetricParams) -> str:
    """The parameters that a metric's value depends on, as figures state them; empty where there are none."""
    words = {
        "lens": LENS_WORDS[params.lens],
        "k": f"k = {params.k}",
        "alpha": f"α = {setting(params.alpha)}",
        "eta": f"η = {setting(params.eta)}",
        "tau": f"τ = {setting(params.tau)}",
    }
    return ", ".join(words[name] for name in metric.uses if name in words)


__all__ = [
    "LENS_SHORT",
    "LENS_WORDS",
    "UNDEFINED",
    "Headline",
    "angle",
    "chance_sentence",
    "count",
    "duration",
    "file_size",
    "headline",
    "headline_numbers",
    "listed",
    "masters_published",
    "number",
    "param_words",
    "percent",
    "provenance_line",
    "published_ranges",
    "safe",
    "said",
    "sentences",
    "setting",
    "shorten",
    "times_chance",
    "title_of",
    "tuned_labels",
    "unit_of",
    "value_text",
]
