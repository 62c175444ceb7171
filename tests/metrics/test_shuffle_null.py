"""The shuffle null and the isotropic null as metrics: the demo's known numbers, pooling, and what is undefined."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

import rlviz
from rlviz.metrics import METRICS
from rlviz.metrics.shuffle_null import beyond_shuffles, shuffled_hits
from rlviz.types import Measured, MetricParams, Record, TensorMatch, TensorMeta
from rlviz.views.masks_remarks import masks_remarks

PARAMS = MetricParams(k=64, alpha=0.3)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return rlviz.compare(
        "demo:base", "demo:rl", probes=("spectrum", "masks", "nulls"), store=tmp_path_factory.mktemp("s")
    )


def pooled(key, measured, params=PARAMS):
    return METRICS[key].pooled(measured, params)


@pytest.mark.parametrize(("mask", "enrichment"), [("principal", 0.69), ("low_magnitude", 1.47)])
def test_shuffling_reproduces_the_raw_overlaps_of_the_demo(demo, mask, enrichment):
    baseline = pooled(f"overlap_{mask}_baseline", demo.measured)
    assert pooled(f"overlap_{mask}", demo.measured) / baseline == pytest.approx(enrichment, abs=0.005)
    assert pooled(f"overlap_{mask}_shuffle", demo.measured) / baseline == pytest.approx(enrichment, abs=0.005)
    assert abs(pooled(f"overlap_{mask}_shuffle_z", demo.measured)) < 5


def test_the_update_of_the_demo_is_stored_finer_than_bf16(demo):
    assert {m.match.tuned.dtype for m in demo.measured} == {"F32"}
    assert {m.match.base.dtype for m in demo.measured} == {"BF16"}


def test_and_the_page_says_so(demo):
    [said, _] = masks_remarks([demo], PARAMS)
    assert "principal weights take 0.69× of chance (0.69× as it is)" in said
    assert "low-magnitude weights take 1.47× of chance (1.47× as it is)" in said
    assert "(5 shuffles of 30 matrices)" in said
    assert "Shuffling reproduces the raw overlaps" in said
    assert said.endswith("pooled over matrices they are rounding, not geometry.")


def test_the_demo_has_real_stripes(demo):
    rows = [m for m in demo.measured if "nulls" in m.records]
    assert METRICS["row_dispersion_shuffle"].pooled(rows, PARAMS) == pytest.approx(1.5, abs=0.3)


def test_the_demos_spectrum_moves_more_than_noise_of_its_norm(demo):
    sample = [m for m in demo.measured if METRICS["nss_isotropic"].parts(m, PARAMS)]
    assert len(sample) == 9
    ratio = pooled("nss_over_isotropic", demo.measured)
    assert ratio == pytest.approx(pooled("nss", sample) / pooled("nss_isotropic", sample), rel=1e-9)
    assert ratio > 2
    assert pooled("kappa_iso_isotropic", sample) == pytest.approx(1, abs=0.1)
    assert pooled("stable_rank_update_isotropic", sample) > 10 * pooled("stable_rank_update", sample)
    for kind in ("principal", "left", "right"):
        by_chance = np.mean([METRICS[f"energy_{kind}"].chance_of(m, PARAMS) for m in sample])
        found = np.mean([METRICS[f"energy_{kind}_isotropic"].of(m, PARAMS) for m in sample])
        assert found == pytest.approx(by_chance, rel=0.1), kind


def test_a_null_at_another_rank_than_the_observed_one_is_not_shown(demo):
    sample = [m for m in demo.measured if METRICS["nss_isotropic"].parts(m, PARAMS)]
    for key in ("energy_principal_isotropic", "max_principal_angle_left_isotropic"):
        assert math.isfinite(pooled(key, sample, MetricParams(k=16)))
        assert math.isnan(pooled(key, sample, MetricParams(k=17)))
        # a matrix with fewer directions is shown at the rank that k is clamped to
        small = [m for m in sample if min(m.shape) == 64]
        assert small
        assert math.isfinite(pooled(key, small, MetricParams(k=128)))


def planted(observed, shuffles, size=30, n=100, **more):
    """A record of one rank and one fraction: hits and changes, as they are and in each shuffle."""
    hits, changed = np.array(shuffles).T
    fields = {"k": np.array([64]), "alpha": np.array([0.3]), "observed_changed": np.array(observed[1])}
    for mask in ("principal", "principal_not_low"):
        fields[f"observed_{mask}"], fields[f"size_{mask}"] = np.array([[observed[0]]]), np.array([[size]])
        fields[f"shuffle_{mask}"] = hits.reshape(-1, 1, 1)
    fields |= {"observed_low": np.array([observed[0]]), "size_low": np.array([size]), "shuffle_low": hits[:, None]}
    fields |= {"shuffle_changed": changed} | more
    meta = TensorMeta("w", "F32", (10, n // 10), "s", 0, 0, 0, "q_proj")
    return Measured(TensorMatch(meta, meta, 10), {"nulls": Record("w", "nulls", 1, {}, fields)})


SHUFFLES = [(4, 20), (6, 20), (5, 20), (7, 20), (3, 20)]


class TestPooling:
    @pytest.mark.parametrize("mask", ["principal", "low_magnitude", "principal_not_low"])
    def test_counts_are_summed_never_ratios(self, mask):
        group = [planted((8, 20), SHUFFLES), planted((30, 40), [(9, 40), (10, 40), (12, 40), (8, 40), (11, 40)])]
        assert pooled(f"overlap_{mask}_shuffle", group) == (25 + 50) / (100 + 200)
        overlaps = np.array([13, 16, 17, 15, 14]) / 60
        z = (38 / 60 - overlaps.mean()) / overlaps.std(ddof=1)
        assert pooled(f"overlap_{mask}_shuffle_z", group) == pytest.approx(z, rel=1e-12)

    def test_of_one_tensor_is_the_brute_force_z(self):
        overlaps = np.array([4, 6, 5, 7, 3]) / 20
        z = (8 / 20 - overlaps.mean()) / overlaps.std(ddof=1)
        assert pooled("overlap_principal_shuffle_z", [planted((8, 20), SHUFFLES)]) == pytest.approx(z, rel=1e-12)


class TestUndefined:
    @pytest.mark.parametrize(
        "measured",
        [planted((0, 0), SHUFFLES), planted((30, 100), SHUFFLES), planted((20, 20), SHUFFLES, size=100)],
        ids=["nothing changed", "all changed", "a full mask"],
    )
    def test_where_an_overlap_says_nothing(self, measured):
        assert shuffled_hits(measured, "principal", PARAMS) is None
        for key in ("overlap_principal_shuffle", "overlap_principal_shuffle_z"):
            assert math.isnan(METRICS[key].of(measured, PARAMS))

    def test_where_shuffles_agree_or_change_nothing(self):
        assert math.isnan(beyond_shuffles([8, 20, 5, 20, 5, 20]))
        assert math.isnan(beyond_shuffles([8, 20, 5, 20]))
        assert math.isnan(beyond_shuffles([8, 20, 0, 0, 5, 20]))

    def test_where_nothing_was_simulated(self, demo):
        measured = next(m for m in demo.measured if "nulls" in m.records)
        empty = replace(measured.records["nulls"], fields={})
        bare = replace(measured, records={**measured.records, "nulls": empty})
        without = replace(measured, records={"nulls": measured.records["nulls"]})
        for key, metric in METRICS.items():
            if metric.probe == "nulls":
                assert math.isnan(metric.of(bare, PARAMS)), key
        assert math.isnan(METRICS["nss_over_isotropic"].of(without, PARAMS))
