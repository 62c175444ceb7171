"""Every metric and probe is complete: one file over the registries."""

from __future__ import annotations

import math

import numpy as np
import pytest

import rlviz
from rlviz.dtypes import ELEMENT_TYPES
from rlviz.metrics import METRICS
from rlviz.probes import AFTERWARDS, PROBE_NAMES, probe_called
from rlviz.types import Lens, MetricParams
from tests.checkpoints import write_checkpoint


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The first of two runs, so that there is a common norm too."""
    return rlviz.compare("demo:base", ["demo:rl", "demo:sft"], store=tmp_path_factory.mktemp("store"))[0]


@pytest.fixture(scope="module")
def tensors(demo, tmp_path_factory):
    """Real tensors, and integer ones, which the demo does not have."""
    folder, base = tmp_path_factory.mktemp("integers"), np.arange(60, dtype=np.int32).reshape(6, 10)
    tuned = base.copy()
    tuned[2, 3] += 1
    for name, array in (("base", base), ("tuned", tuned)):
        write_checkpoint(folder / name, {"model.layers.0.steps": array})
    integers = rlviz.compare(str(folder / "base"), str(folder / "tuned"), store=folder / "store")
    return (*demo.measured, *integers.measured)


@pytest.fixture(scope="module")
def identity(tmp_path_factory):
    return rlviz.compare("demo:base", "demo:base", store=tmp_path_factory.mktemp("store"))


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
class TestMetric:
    def test_is_declared_in_full(self, metric):
        assert metric.title
        assert metric.formula
        assert metric.meaning.endswith(".")
        assert metric.source
        assert metric.unit in ("fraction", "rad", "entries", "bytes", "")
        assert metric.scale in ("fraction", "log", "linear", "angle")
        assert sum(kind is not None for kind in (metric.parts, metric.sums, metric.value)) == 1
        assert (metric.sums is None) == (metric.from_sums is None)
        assert metric.probe in (*PROBE_NAMES, *AFTERWARDS)
        assert set(metric.uses) <= {"lens", "k", "alpha", "eta", "tau"}
        if metric.chance is not None:
            assert metric.chance_text

    def test_is_a_number_or_nan_on_real_tensors(self, metric, tensors):
        values = [metric.of(m, MetricParams(k=16)) for m in tensors]
        known = [v for v in values if not math.isnan(v)]
        assert known, "defined on no tensor"
        assert all(math.isfinite(v) for v in known)
        if metric.scale == "fraction":
            assert all(-1e-12 <= v <= 1 + 1e-12 for v in known)
        if metric.unit == "rad":
            assert all(-1e-12 <= v <= math.pi / 2 + 1e-9 for v in known)
        if metric.chance is not None:
            assert any(math.isfinite(metric.chance_of(m, MetricParams(k=16))) for m in tensors)

    def test_pooled_over_one_tensor_is_that_tensor(self, metric, demo):
        for measured in demo.floats[:20]:
            one, pooled = metric.of(measured, MetricParams()), metric.pooled([measured], MetricParams())
            assert one == pooled or (math.isnan(one) and math.isnan(pooled))

    def test_ratio_is_pooled_by_sums(self, metric, tensors):
        if metric.parts is None:
            return
        params = MetricParams()
        parts = [p for m in tensors if metric.probe in m.records and (p := metric.parts(m, params)) is not None]
        numerator, denominator = (math.fsum(p[i] for p in parts) for i in (0, 1))
        assert metric.pooled(tensors, params) == pytest.approx(metric.finish(numerator / denominator), rel=1e-9)

    def test_reads_no_more_than_it_declares(self, metric, demo):
        # A parameter that is not declared must not move the value: views hide its control.
        changed = {"lens": Lens.STORED, "k": 8, "alpha": 0.05, "eta": 1e-2, "tau": 1e-4}
        others = MetricParams(**{k: v for k, v in changed.items() if k not in metric.uses})
        for measured in demo.floats[:12]:
            a, b = metric.of(measured, MetricParams()), metric.of(measured, others)
            assert a == b or (math.isnan(a) and math.isnan(b))

    def test_undefined_without_its_record(self, metric, demo):
        from dataclasses import replace

        assert math.isnan(metric.of(replace(demo.floats[0], records={}), MetricParams()))


def test_titles_are_unique():
    # The dashboard's links hold them.
    titles = [metric.title for metric in METRICS.values()]
    assert len(set(titles)) == len(titles)


def test_identity_pair_has_no_update(identity):
    assert identity.pooled("update_sparsity") == 1
    assert identity.pooled("relative_update_norm") == 0
    assert identity.pooled("nss") == 0
    assert identity.pooled("max_principal_angle_left") < 1e-7
    for key in ("energy_principal", "energy_principal_enrichment", "stable_rank_update", "effective_rank_update"):
        assert math.isnan(identity.pooled(key)), f"{key} of no update is undefined, not a number"


@pytest.mark.parametrize("name", [*PROBE_NAMES, *AFTERWARDS])
def test_probe_is_declared_in_full(name, demo):
    probe = probe_called(name)
    assert probe.name == name
    assert probe.version >= 1
    measured = [m for m in demo.measured if name in m.records]
    assert measured
    for m in measured:
        assert probe.applies(m.match)
        cost = probe.cost(m.match, probe.defaults())
        assert cost.memory_bytes > 0
        assert cost.seconds > 0
        assert all(isinstance(np.asarray(a), np.ndarray) for a in m.records[name].fields.values())


def test_every_dtype_has_a_code_view():
    for code, element in ELEMENT_TYPES.items():
        assert element.codes.itemsize == element.values.itemsize == element.itemsize, code
