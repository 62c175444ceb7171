"""What figures and pages say about a preview: every number with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import floor, isfinite, log10

from rlviz.sampling.result import Estimate, Preview, Sampled, Stopped
from rlviz.types import LENSES, Lens
from rlviz.views.formats import UNDEFINED, count, duration, file_size, number, percent
from rlviz.views.words import LENS_SHORT, LENS_WORDS, Headline, listed, published_ranges, tuned_labels

APPROXIMATE: frozenset[Lens] = frozenset({Lens.FP8_E4M3, Lens.FP8_E5M2})
"""Lenses that scale by the largest magnitude of the whole tensor, which a sample does not know."""

STOPPED_WORDS: Mapping[Stopped, str] = {
    "budget": "stopped at its byte budget",
    "target": "stopped at the interval asked for",
    "asked": "stopped on request",
    "everything read": "everything was read",
    "under way": "more rounds to come",
}

HOW_ESTIMATED: tuple[str, ...] = (
    "Only the headers and a small random sample of the weights were read: blocks of whole neighbouring rows, the same "
    "byte ranges of both files, drawn from a seed so that the same sample can be drawn again.",
    "Every tensor is sampled on its own and spread over its length; small tensors are read whole and carry no error.",
    "Rows of one block resemble each other, so the 95 % interval comes from how much blocks differ, not from how many "
    "weights were read, and narrows with the share of the tensor that was read; where few blocks were read, or all of "
    "them agree, a wider interval is given that holds whatever the weights are.",
    "Reading goes on in rounds, where it narrows the intervals most, until the budget, the interval asked for, or you "
    "end it; about one interval in twenty misses the exact value, so expect a few among many cells.",
    "The fp8 lenses scale by the largest magnitude of a whole tensor, which a sample can only approximate; the exact "
    "run replaces every number here.",
)


def plus_minus(e: Estimate) -> str:
    """A share with its interval, as text says it.

    One ± where both sides are about equal, the interval itself where they are not; a bare number where everything was
    read.

    Examples
    --------
    >>> plus_minus(Estimate(0.538, 0.534, 0.542)), plus_minus(Estimate(0.02, 0.009, 0.052))
    ('53.8 ± 0.4 %', '2.0 % (0.9 to 5.2 %)')
    >>> plus_minus(Estimate(1.0, 0.951, 1.0)), plus_minus(Estimate(0.25, 0.25, 0.25))
    ('100 % (95.1 to 100 %)', '25.0 %')
    """
    if not isfinite(e.estimate):
        return UNDEFINED
    if e.low == e.high:
        return percent(e.estimate)
    if _lopsided(e):
        return f"{percent(e.estimate)} ({_interval(e)} %)"
    return f"{_points(e.estimate, e)} ± {_points(e.half_width, e)} %"


def margin(e: Estimate) -> str:
    """The interval alone, for a line below the number."""
    if not isfinite(e.estimate):
        return "not sampled yet"
    if e.low == e.high:
        return "exact, all was read"
    return f"{_interval(e)} %" if _lopsided(e) else f"± {_points(e.half_width, e)} points"


def in_cell(e: Estimate) -> str:
    """Short enough for a cell of a map whose colour bar says per cent.

    Examples
    --------
    >>> in_cell(Estimate(0.538, 0.529, 0.547)), in_cell(Estimate(1.0, 0.951, 1.0))
    ('53.8 ±0.9', '95.1–100')
    """
    if not isfinite(e.estimate) or e.low == e.high:
        return percent(e.estimate) if isfinite(e.estimate) else ""
    if _lopsided(e):
        return _interval(e).replace(" to ", "–")
    return f"{_points(e.estimate, e)} ±{_points(e.half_width, e)}"


def with_interval(e: Estimate) -> str:
    """A share in full, as hover says it: ``53.8 % ± 0.9 (95 % interval 52.9 to 54.7)``."""
    if not isfinite(e.estimate):
        return UNDEFINED
    if e.low == e.high:
        return f"{percent(e.estimate)}, exact"
    sides = "" if _lopsided(e) else f" ± {_points(e.half_width, e)}"
    value = percent(e.estimate) if _lopsided(e) else f"{_points(e.estimate, e)} %"
    return f"{value}{sides} (95 % interval {_interval(e)})"


def rows_read(sampled: Sampled) -> str:
    """How much an estimate rests on."""
    if sampled.n_rows_sampled == sampled.n_rows:
        return f"all {count(sampled.n_rows)} rows read"
    return f"{count(sampled.n_rows_sampled)} of {count(sampled.n_rows)} rows read"


def _lopsided(e: Estimate) -> bool:
    below, above = e.estimate - e.low, e.high - e.estimate
    return max(below, above) > 1.5 * min(below, above)


def _interval(e: Estimate) -> str:
    return f"{_points(e.low, e)} to {_points(e.high, e)}"


def _points(share: float, e: Estimate) -> str:
    """Percentage points with as many decimals as the interval gives a meaning to, one digit of it."""
    half = e.half_width * 100
    decimals = 0 if half >= 9.5 else 1 if half >= 0.095 else min(9, -floor(log10(half)))
    return f"{share * 100:.{0 if share in (0.0, 1.0) else decimals}f}"


def preview_headline(previews: Sequence[Preview], lens: Lens) -> str:
    """The computed sentence above a preview, e.g.

    "53.8 ± 0.4 % of weights are bit-identical in bf16, estimated from 0.3 % of the weights."
    """
    known = [(label, p) for label, p in zip(tuned_labels(previews), previews, strict=True) if p.pooled.n_sampled]
    if not known:
        return "Nothing has been sampled yet."
    about = "about " if lens in APPROXIMATE else ""
    how = "bit-identical as stored" if lens is Lens.STORED else f"bit-identical in {LENS_SHORT[lens]}"
    (label, first), *others = known
    where = f" in {label}" if others else ""
    parts = [
        f"{about}{plus_minus(first.pooled.sparsity(lens))} of weights are {how}{where}",
        *(f"{about}{plus_minus(p.pooled.sparsity(lens))} in {name}" for name, p in others),
    ]
    shares = list(dict.fromkeys(_share_read(p) for _, p in known))
    basis = "every weight was read" if shares == [percent(1)] else f"estimated from {listed(shares)} of the weights"
    sentence = f"{listed(parts)}, {basis}."
    return sentence[:1].upper() + sentence[1:]


def _share_read(preview: Preview) -> str:
    return percent(preview.pooled.n_sampled / preview.pooled.n)


def preview_numbers(preview: Preview, lens: Lens) -> tuple[Headline, ...]:
    """Share unchanged under every lens, the chosen one first, and the size of the update; margins as `null`."""
    numbers: list[Headline] = []
    for each in sorted(LENSES, key=lambda other: other is not lens):
        share = preview.pooled.sparsity(each)
        yardstick = published_ranges(each) if each is lens else ""
        about = "approximate" if each in APPROXIMATE else ""
        note = "; ".join(part for part in (margin(share), about, yardstick) if part)
        words = LENS_WORDS[each].replace("(", "").replace(")", "")
        label = f"Unchanged {words}" if each is lens else words[:1].upper() + words[1:]
        numbers.append(Headline(label, percent(share.estimate), note, _LENS_HELP))
    norm = preview.pooled.relative_update_norm
    numbers.append(Headline("Update norm", number(norm.estimate), _norm_margin(norm), _NORM_HELP))
    return tuple(numbers)


def _norm_margin(e: Estimate) -> str:
    """The interval of a norm, which is often narrower than the two digits that text gives a number."""
    if not isfinite(e.estimate):
        return "not sampled yet"
    if e.low == e.high:
        return "exact, all was read"
    return f"{number(e.low, 3)} to {number(e.high, 3)}" if isfinite(e.high) else f"at least {number(e.low, 3)}"


_LENS_HELP = "Share of weights that are equal after both sides are rounded to this format; below it the 95 % interval."
_NORM_HELP = "Relative update norm: length of the update over that of the base weights; below it the 95 % interval."


def preview_provenance(preview: Preview) -> str:
    """What stands under every figure of a preview."""
    p = preview
    return (
        f"{p.base.label} → {p.tuned.label} · estimate: {file_size(p.bytes_read)} read per model, "
        f"{_many(p.requests, 'request')}, {_many(p.rounds, 'round')}, {duration(p.wall_s)} · seed {p.seed} · "
        f"{STOPPED_WORDS[p.stopped]} · rlviz {p.rlviz}"
    )


def _many(n: int, what: str) -> str:
    return f"{count(n)} {what}{'' if n == 1 else 's'}"
