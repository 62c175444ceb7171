"""How numbers and names read: formatting, labels, the sentence above the figures and the numbers beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from math import degrees, floor, isfinite, log10

from rlviz.metrics import METRICS, Metric
from rlviz.result import PairResult
from rlviz.types import Lens, MetricParams

UNDEFINED = "–"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

LENS_WORDS: dict[Lens, str] = {
    Lens.STORED: "as stored",
    Lens.FP32: "in fp32",
    Lens.BF16: "in bf16",
    Lens.FP16: "in fp16",
    Lens.FP8_E4M3: "in fp8 (e4m3)",
    Lens.FP8_E5M2: "in fp8 (e5m2)",
}
LENS_SHORT: dict[Lens, str] = {lens: words.removeprefix("in ") for lens, words in LENS_WORDS.items()}


def percent(fraction: float) -> str:
    """A fraction for text: one decimal, more only where the distance to 0 or 100 % needs two digits.

    Never rounds to 0 or 100 % what is not exactly that.

    Examples
    --------
    >>> percent(0.5381726), percent(0.00612), percent(0.99996), percent(1.0), percent(0.0)
    ('53.8 %', '0.61 %', '99.996 %', '100 %', '0 %')
    """
    if not isfinite(fraction):
        return UNDEFINED
    if fraction in (0.0, 1.0):
        return f"{fraction * 100:.0f} %"
    small = min(abs(fraction), abs(1 - fraction)) * 100
    decimals = 1 if small >= 1 else min(12, 1 - floor(log10(small)))
    text = f"{fraction * 100:.{decimals}f}"
    return f"{text.rstrip('0').rstrip('.') if decimals > 1 else text} %"


def _scientific(x: float, digits: int) -> str:
    mantissa, exponent = f"{x:.{digits - 1}e}".split("e")
    return f"{mantissa}·10{str(int(exponent)).translate(_SUPERSCRIPT)}"


def number(x: float, digits: int = 2) -> str:
    """A plain number with `digits` significant digits; powers of ten outside 0.001 … 10 000.

    Examples
    --------
    >>> number(0.6934), number(3.72e-6), number(123456), number(1853.0)
    ('0.69', '3.7·10⁻⁶', '1.2·10⁵', '1900')
    """
    if not isfinite(x):
        return UNDEFINED
    if x == 0:
        return "0"
    exponent = floor(log10(abs(x)))
    if exponent < -3 or exponent >= 4 + max(0, digits - 2):
        return _scientific(x, digits)
    return f"{round(x, digits - 1 - exponent):.{max(0, digits - 1 - exponent)}f}"


def setting(x: float) -> str:
    """A slider's value, without digits it does not have.

    Examples
    --------
    >>> setting(1e-3), setting(1e-5), setting(1.12e-5)
    ('0.001', '10⁻⁵', '1.12·10⁻⁵')
    """
    text = f"{x:.3g}"
    if "e" not in text:
        return text
    mantissa, exponent = text.split("e")
    power = f"10{str(int(exponent)).translate(_SUPERSCRIPT)}"
    return power if mantissa == "1" else f"{mantissa}·{power}"


def count(n: float) -> str:
    """A whole number with thin spaces between thousands.

    Examples
    --------
    >>> count(2990000).replace(chr(0x202F), " ")
    '2 990 000'
    """
    return f"{round(n):,}".replace(",", "\u202f")


def times_chance(ratio: float) -> str:
    """A ratio to what chance gives: ``0.69× of chance``."""
    return f"{number(ratio)}× of chance" if isfinite(ratio) else UNDEFINED


def angle(radians: float, digits: int = 2) -> str:
    """An angle in degrees."""
    return f"{number(degrees(radians), digits)}°" if isfinite(radians) else UNDEFINED


def file_size(n: float) -> str:
    """Bytes in decimal units, as the hub shows them.

    Examples
    --------
    >>> file_size(3_086_000_000), file_size(512)
    ('3.1 GB', '512 B')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.2g} {unit}" if n < 10 else f"{n:.0f} {unit}"
        n /= 1000
    return f"{n:.2g} TB"


def duration(seconds: float) -> str:
    """A time span for text.

    Examples
    --------
    >>> duration(0.43), duration(8.2), duration(130), duration(7300)
    ('0.4 s', '8 s', '2 min 10 s', '2 h 2 min')
    """
    if seconds < 2:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


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


def safe(text: str) -> str:
    """Escaped for Plotly, which renders a subset of HTML in every label: model ids come from outside."""
    return escape(text, quote=False)


def shorten(text: str, width: int = 26) -> str:
    """Middle-elided to `width` characters, so that both family and variant stay readable."""
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def tuned_labels(results: Sequence[PairResult]) -> tuple[str, ...]:
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


def _listed(parts: Sequence[str]) -> str:
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
    sentence = _listed([first, *(f"{percent(s)} in {name}" for name, s, _ in others)])
    return f"{sentence}{_in_fp32([(s, r) for _, s, r in known], params)}."


def _in_fp32(known: Sequence[tuple[float, PairResult]], params: MetricParams) -> str:
    """The second half of the headline: whether the gap closes where rounding hides nothing."""
    if params.lens in (Lens.STORED, Lens.FP32):
        return ""
    silent = [not masters_published(r) for _, r in known]
    if any(silent):
        return "; fp32 masters were not published" + ("" if all(silent) else " for all of them")
    finer = [r.pooled("update_sparsity", replace(params, lens=Lens.FP32)) for _, r in known]
    shares = _listed([percent(f) for f in finer])
    if max(finer) < 0.02 and max(s for s, _ in known) > 0.1:
        return f"; in fp32 nearly every weight moved ({shares} unchanged)"
    return f"; in fp32 it is {shares}"


def headline_numbers(result: PairResult, params: MetricParams) -> tuple[Headline, ...]:
    """Up to four headline numbers of one tuned model, each with its null or yardstick beside it."""
    numbers = [_unchanged(result, params)]
    yardsticks = {
        "relative_update_norm": "one bf16 ULP is 0.39 to 0.78 % of a weight",
        "nss": f"κ_iso {number(result.pooled('kappa_iso', params))}; isotropic noise of this size gives about 1",
        "energy_principal_enrichment": f"× isotropic at k = {params.k}; chance gives 1",
    }
    for key, yardstick in yardsticks.items():
        metric, value = METRICS[key], result.pooled(key, params)
        if isfinite(value):
            numbers.append(Headline(title_of(metric), value_text(metric, value), yardstick, metric.meaning))
    return tuple(numbers)


def _unchanged(result: PairResult, params: MetricParams) -> Headline:
    metric = METRICS["update_sparsity"]
    share, stored = (result.pooled(metric.key, replace(params, lens=lens)) for lens in (params.lens, Lens.STORED))
    published = published_values(f"update_sparsity_{params.lens.value}")
    ranges = [
        f"{kind} {percent(low)} to {percent(high)}"
        for kind in ("RL", "SFT")
        for low, high in [published_range([v for v in published if v.kind == kind]) or (0.0, 0.0)]
        if high
    ]
    against = f"published {', '.join(ranges)}" if ranges else f"{percent(stored)} as stored"
    return Headline(f"Unchanged ({LENS_SHORT[params.lens]})", percent(share), against, metric.meaning)


def param_words(metric: Metric, params: MetricParams) -> str:
    """The parameters that a metric's value depends on, as figures state them; empty where there are none."""
    words = {
        "lens": LENS_WORDS[params.lens],
        "k": f"k = {params.k}",
        "eta": f"η = {setting(params.eta)}",
        "tau": f"τ = {setting(params.tau)}",
    }
    return ", ".join(words[name] for name in metric.uses if name in words)


def sentences(*parts: str) -> str:
    """Non-empty parts as sentences in a row, each with one full stop."""
    return " ".join(f"{p.strip().rstrip('.')}." for p in parts if p.strip())
