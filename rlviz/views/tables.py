"""Small tables: every tensor of a result, one tensor across models, and what was skipped. Rows are plain dicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rlviz.metrics import METRICS, Metric
from rlviz.result import PairResult, flat_row
from rlviz.types import LENSES, MetricParams
from rlviz.views.words import (
    LENS_SHORT,
    chance_sentence,
    percent,
    sentences,
    title_of,
    tuned_labels,
    unit_of,
    value_text,
)

HEADLINES = ("update_sparsity", "relative_update_norm", "nss", "energy_principal_enrichment")


def main_metrics() -> tuple[Metric, ...]:
    """The metrics that tables on pages show: all but those that stand beside another one."""
    return tuple(metric for metric in METRICS.values() if not metric.companion)


def companions(metric: Metric) -> tuple[Metric, ...]:
    """What stands beside a metric: the companions whose key begins with its key, and with no longer one's."""
    keys = [m.key for m in main_metrics()]
    return tuple(
        m
        for m in METRICS.values()
        if m.companion and max((k for k in keys if m.key.startswith(f"{k}_")), key=len, default="") == metric.key
    )


def tensor_table(results: Sequence[PairResult], params: MetricParams) -> list[dict[str, Any]]:
    """One row per tensor and tuned model: identity, counts per lens, every metric; undefined is None.

    Columns are the exported ones (`Metric.column`, angles in degrees), after `model`, the pinned tuned reference.
    """
    return [{"model": r.tuned.pinned_ref} | flat_row(row) for r in results for row in r.rows(params)]


def column_help() -> dict[str, str]:
    """What each metric column holds, with unit, chance and caveat, for tooltips."""
    return {
        metric.column: sentences(
            f"{title_of(metric)} ({unit_of(metric)}): {metric.meaning}", chance_sentence(metric), metric.caveat
        )
        for metric in METRICS.values()
    }


def tensor_card(results: Sequence[PairResult], name: str, params: MetricParams) -> list[dict[str, str]]:
    """All metrics of one tensor as text: one row per metric, one column per tuned model, chance last."""
    members = [
        (label, m)
        for label, r in zip(tuned_labels(results), results, strict=True)
        for m in r.measured
        if m.name == name
    ]
    rows: list[dict[str, str]] = []
    for metric in main_metrics():
        measured = [(label, m) for label, m in members if metric.probe in m.records]
        if measured:
            texts = {label: value_text(metric, metric.of(m, params), 4) for label, m in measured}
            chance = value_text(metric, metric.chance_of(measured[0][1], params), 4)
            rows.append({"metric": title_of(metric), **texts, "chance": chance})
    return rows


def skipped_table(results: Sequence[PairResult]) -> list[dict[str, str]]:
    """Everything that was not compared, or not by one probe, and why."""
    return [
        {"model": label, "tensor": s.name, "reason": s.reason, "detail": s.detail}
        for label, r in zip(tuned_labels(results), results, strict=True)
        for s in r.skipped
    ]


def lens_table(results: Sequence[PairResult], params: MetricParams) -> list[dict[str, str]]:
    """Share unchanged under every lens as text, one row per tuned model."""
    return [
        {"model": label}
        | {LENS_SHORT[ls]: percent(r.pooled("update_sparsity", replace(params, lens=ls))) for ls in LENSES}
        for r, label in zip(results, tuned_labels(results), strict=True)
    ]


def measure_table(results: Sequence[PairResult], params: MetricParams) -> list[dict[str, str]]:
    """Every metric over all tensors as text, with how groups are summarised, chance and source."""
    labels = tuned_labels(results)
    return [
        {"measure": title_of(metric)}
        | {la: value_text(metric, r.pooled(metric.key, params), 4) for r, la in zip(results, labels, strict=True)}
        | {"over tensors": metric.pooling, "chance": metric.chance_text or "–", "source": metric.source}
        for metric in main_metrics()
    ]


def headline_table(results: Sequence[PairResult], params: MetricParams) -> list[dict[str, str]]:
    """The headline metrics of every tensor as text, one row per tensor and tuned model."""
    shown = [METRICS[key] for key in HEADLINES]
    return [
        {
            "model": label,
            "tensor": m.name,
            "shape": "\u00a0×\u00a0".join(map(str, m.shape)),  # not broken over two lines
            "base": m.match.base.dtype,
            "tuned": m.match.tuned.dtype,
        }
        | {title_of(metric): value_text(metric, metric.of(m, params), 4) for metric in shown}
        for r, label in zip(results, tuned_labels(results), strict=True)
        for m in r.measured
    ]
