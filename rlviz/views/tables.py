"""Small tables: every tensor of a result, one tensor across models, and what was skipped. Rows are plain dicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlviz.metrics import METRICS
from rlviz.result import PairResult, flat_row
from rlviz.types import MetricParams
from rlviz.views.words import chance_sentence, sentences, title_of, tuned_labels, unit_of, value_text


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
    for metric in METRICS.values():
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
