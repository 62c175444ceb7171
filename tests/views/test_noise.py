"""Spectra and angles beside isotropic noise: marks where the numbers are, and what is missing said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rlviz import views
from rlviz.metrics import METRICS
from rlviz.metrics.isotropic_null import noise_angles, noise_update_values
from rlviz.result import PairResult
from rlviz.types import MetricParams, Skipped
from rlviz.views.noise import ANGLES, ENERGIES, NOISE, SPECTRA, sample_of
from tests.views.pairs import LAYERS, Q0

PARAMS = MetricParams(k=8)


def without(result: PairResult, *names: str, probe: str = "nulls") -> PairResult:
    """The same without a probe's record of some tensors, all by default."""
    kept = [
        replace(m, records={p: r for p, r in m.records.items() if p != probe or (names and m.name not in names)})
        for m in result.measured
    ]
    return replace(result, measured=tuple(kept))


@pytest.mark.parametrize("keys", [SPECTRA, ANGLES, ENERGIES])
def test_marks_are_where_value_and_noise_are(results: list[PairResult], keys: tuple[str, ...]) -> None:
    plot = views.plot_beside_noise(results, keys, PARAMS, "light")
    dots = [t for t in plot.figure.data if t.mode == "markers"]
    strokes = [t for t in plot.figure.data if t.name == NOISE]
    assert len(dots) == len(strokes) == len(keys) * len(results)
    assert sum(bool(t.showlegend) for t in strokes) == 1
    for nth, key in enumerate(keys):
        for i, result in enumerate(results):
            at = nth * len(results) + i
            for trace, metric in ((dots[at], METRICS[key]), (strokes[at], METRICS[f"{key}_isotropic"])):
                values = np.array([metric.of(m, PARAMS) for m in sample_of(result)])
                scale = 100 if metric.scale == "fraction" else np.degrees(1) if metric.unit == "rad" else 1
                np.testing.assert_allclose(trace.x[:: 1 if trace is dots[at] else 3], scale * values)
    assert {row["draws"] for row in plot.table} == {3}
    assert {row["metric"] for row in plot.table} == {METRICS[key].column for key in keys}
    assert "mean of 3 seeded draws" in plot.caption
    assert "the matrix in the middle layer" in plot.caption
    for result in results:
        noise = METRICS[f"{keys[0]}_isotropic"].pooled(sample_of(result), PARAMS)
        assert np.isfinite(noise)
    assert plot.caption.count("(noise ") == len(keys) * len(results)


def test_lines_of_noise_are_drawn_on_the_chosen_matrix(sft: PairResult) -> None:
    angles = views.plot_angle_curves([sft], Q0, 8, "light")
    for side, trace in zip(("left", "right"), [t for t in angles.figure.data if t.name == NOISE], strict=True):
        np.testing.assert_allclose(trace.y, np.degrees(noise_angles(sft.by_name(Q0), side, 8)))
        assert trace.line.dash == "dash"
    values = views.plot_update_singular_values([sft], Q0, "light")
    np.testing.assert_allclose(
        next(t for t in values.figure.data if t.name == NOISE).y, noise_update_values(sft.by_name(Q0))
    )
    shift = views.plot_singular_values([sft], Q0, "light")
    assert [t.name for t in shift.figure.data].count(NOISE) == 1
    over_k = views.plot_max_angle_over_k([sft], Q0, 8, "light")
    noise = next(t for t in over_k.figure.data if t.name == NOISE)
    at = list(noise.x).index(16)
    largest = max(
        METRICS[f"max_principal_angle_{s}_isotropic"].of(sft.by_name(Q0), MetricParams(k=16)) for s in ("left", "right")
    )
    assert noise.y[at] == pytest.approx(np.degrees(largest))
    for plot in (angles, values, shift, over_k):
        assert "mean of 3 seeded draws" in plot.caption


def test_a_matrix_outside_the_sample_names_one_inside(sft: PairResult) -> None:
    result = without(sft, Q0)
    other = f"model.layers.{LAYERS - 1}.self_attn.q_proj.weight"
    for draw in (
        lambda: views.plot_angle_curves([result], Q0, 8, "light"),
        lambda: views.plot_singular_values([result], Q0, "light"),
        lambda: views.plot_update_singular_values([result], Q0, "light"),
    ):
        plot = draw()
        assert NOISE not in {t.name for t in plot.figure.data}
        assert f"not simulated on this matrix, but on {other}" in plot.caption


def test_what_is_missing_is_said_with_what_to_do(sft: PairResult) -> None:
    def said(result: PairResult, k: int = 8) -> str:
        return views.plot_beside_noise([result], ANGLES, MetricParams(k=k), "light").alt

    assert "--probes coordinate,spectrum,masks,nulls" in said(without(sft))
    assert "has not been simulated yet" in said(replace(without(sft), complete=False))
    left_out = Skipped(Q0, "budget", "nulls: needs about 40 s; raise --budget-minutes")
    assert "raise --budget-minutes" in said(replace(without(sft), skipped=(left_out,)))
    assert "not kept at k = 7. Choose one of 1, 2, " in said(sft, 7)
