"""Spectra, angles and masks at matched norm: what a run would show had it moved as far as the shortest one.

Every run's update is rescaled, matrix by matrix, to the smallest Frobenius norm among the runs compared. The record has
the fields of the spectrum's, so these are the same metrics read off another record. A matrix's shares of
energy do not change with length; pooled ones do, since every matrix weighs in with its energy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from rlviz.metrics import alignment, spectrum, subspace
from rlviz.metrics.base import Metric, Parts
from rlviz.metrics.masks import MASKS
from rlviz.metrics.shuffle_null import FIELDS, observed_hits
from rlviz.types import Measured, MetricParams

PROBE = "matched"
SOURCE = "this tool"
_SPECTRAL = ("nss", "nss_median", "kappa_iso")
_WHERE = "Only where several tuned models are compared, on matrices that each of them changed."
_MASKS = "Only updates stored finer than bf16: one that bf16 has rounded, rescaled and rounded again is an artefact."

T = TypeVar("T")


def _rescaled(measured: Measured) -> Measured:
    return Measured(measured.match, {spectrum.PROBE: measured.records[PROBE]})


def _read_off(function: Callable[[Measured, MetricParams], T] | None) -> Callable[[Measured, MetricParams], T] | None:
    if function is None:
        return None
    return lambda measured, params: function(_rescaled(measured), params)


def _of(metric: Metric) -> Metric:
    return replace(
        metric,
        key=f"{metric.key}_matched",
        title=f"{metric.title}, at matched norm",
        source=SOURCE,
        meaning=f"{metric.meaning} With the update rescaled, per matrix, to the smallest norm among the runs compared.",
        probe=PROBE,
        parts=_read_off(metric.parts),
        value=_read_off(metric.value),
        chance=_read_off(metric.chance),
        caveat=f"{_WHERE} {metric.caveat}".strip(),
        companion=True,
    )


def _density(measured: Measured, _params: MetricParams) -> tuple[float, float] | None:
    fields = measured.records[PROBE].fields
    return (float(fields["observed_changed"]), float(measured.match.n)) if "observed_changed" in fields else None


def _overlap(mask: str) -> Parts:
    def parts(measured: Measured, params: MetricParams) -> tuple[float, float] | None:
        hits = observed_hits(measured, mask, params, PROBE)
        return None if hits is None else (float(hits[0]), float(hits[1]))

    return parts


_density_metric = Metric(
    key="density_matched",
    title="Changed in bf16, at matched norm",
    formula=r"|M_c|/n,\quad M_c=\{i:\mathrm{bf16}(w_{0,i}+c\,\Delta w_i)\ne\mathrm{bf16}(w_{0,i})\}",
    unit="fraction",
    source=SOURCE,
    meaning="Share of weights whose bf16 value would change, had the run moved as far as the shortest.",
    probe=PROBE,
    scale="fraction",
    parts=_density,
    caveat=f"{_WHERE} {_MASKS}",
    companion=True,
)

METRICS: tuple[Metric, ...] = (
    *(_of(metric) for metric in spectrum.METRICS if metric.key in _SPECTRAL),
    *(_of(metric) for metric in subspace.METRICS if metric.key.endswith(("_left", "_right"))),
    *(_of(metric) for metric in alignment.METRICS),
    _density_metric,
    *(
        Metric(
            key=f"overlap_{mask.key}_matched",
            title=f"Changes in {mask.words}, at matched norm",
            formula=rf"|{mask.symbol}\cap M_c|/|M_c|",
            unit="fraction",
            source=SOURCE,
            meaning=f"Share of the changes in {mask.words}, had the run moved as far as the shortest.",
            probe=PROBE,
            scale="fraction",
            parts=_overlap(mask.key),
            caveat=f"{_WHERE} {_MASKS}",
            uses=("k", "alpha"),
            companion=True,
        )
        for mask in MASKS
        if mask.key in FIELDS
    ),
)
