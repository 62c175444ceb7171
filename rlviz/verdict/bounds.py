"""Gate II: what the length of the step allows, by perturbation bounds, and how much of that is used."""

from __future__ import annotations

from math import nan

import numpy as np

from rlviz.metrics.gates import largest_sine
from rlviz.result import PairResult
from rlviz.types import MetricParams
from rlviz.verdict.finding import Finding, Question
from rlviz.verdict.matrices import each, matrices
from rlviz.verdict.missing import no_spectrum
from rlviz.views.words import listed, number, percent

HALF = 0.5
"""Wedin's bound limits where it is below 1 in half the matrices; Weyl's is reached where half of it is used."""

WEDIN = Question(
    "II",
    "Does the step's length limit how far directions turn?",
    "Wedin's bound on sin θₘₐₓ(k) in its rigorous form, ‖ΔW‖₂/(γₖ − ‖ΔW‖₂). Limits where it is below 1 in half the "
    "matrices, for no sine is above 1.",
    "wedin",
)
WEYL = Question(
    "II",
    "Do singular values move as far as the step's length allows?",
    "Bounds of Weyl, Hoffman-Wielandt and Ky Fan. Counts where half of Weyl's is used in the median.",
    "tightness",
)


def wedin(result: PairResult, params: MetricParams) -> Finding:
    """In how many matrices the rigorous bound says anything at k, and how far below it the observed sines stay."""
    group = matrices(result)
    printed, rigorous = each("wedin_printed", group, params), each("wedin_rigorous", group, params)
    n = int(np.isfinite(printed).sum())
    if not n:
        return WEDIN.open(no_spectrum(result))
    sines = np.array([largest_sine(m, params) for m in group])
    telling = rigorous < 1
    used = float(np.median(sines[telling] / rigorous[telling])) if telling.any() else nan
    broken = int(np.sum((printed < 1) & (sines > printed)))
    said = f"At k = {params.k} the rigorous bound is below 1 in {int(telling.sum())} of {n} matrices"
    if telling.any():
        said += f", where the observed sine is {number(used)} of it in the median"
    if telling.sum() < n:
        said += f"; {'elsewhere it' if telling.any() else 'it'} says nothing of how far directions may turn"
    if broken:
        said += f". The printed bound, which is no theorem, is exceeded in {broken}"
    return Finding(WEDIN, f"{said}.", bool(telling.sum() >= HALF * n), f"{int(telling.sum())} of {n} matrices")


def tightness(result: PairResult, params: MetricParams) -> Finding:
    """How much of Weyl's, Hoffman-Wielandt's and Ky Fan's bounds is used."""
    group = matrices(result)
    names = {"weyl_ratio": "Weyl's", "hoffman_wielandt_ratio": "Hoffman-Wielandt's", "ky_fan_ratio": "Ky Fan's"}
    values = {key: (v := each(key, group, params))[np.isfinite(v)] for key in names}
    n = values["weyl_ratio"].size
    if not n:
        return WEYL.open(no_spectrum(result))
    medians = {key: float(np.median(v)) for key, v in values.items()}
    used = listed([f"{percent(medians[key])} of {name}" for key, name in names.items()])
    reached = medians["weyl_ratio"] >= HALF
    meaning = "the bounds leave little room" if reached else "the bounds would allow much more"
    sentence = f"In the median of {n} matrices they use {used} bound: {meaning}."
    return Finding(WEYL, sentence, reached, f"{percent(medians['weyl_ratio'])} of Weyl's bound")
