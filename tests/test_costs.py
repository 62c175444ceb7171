"""The cost table: its models are those that were published, and its numbers the plan's."""

from __future__ import annotations

from itertools import pairwise
from math import prod

import pytest

from bench import costs
from rlviz.sources import pair
from rlviz.store import Store


@pytest.mark.parametrize(
    ("size", "parameters"),
    # as their model cards and safetensors indices count them; DeepSeek-V3 without its prediction layer
    [("1.5 B", 1_543_714_304), ("8 B", 8_030_261_248), ("70 B", 70_553_706_496), ("671 B MoE", 671_026_419_200)],
)
def test_shapes_are_those_of_the_published_models(size: str, parameters: int):
    _, model = costs.MODELS[size]
    shapes = dict(model.shapes())
    assert sum(map(prod, shapes.values())) == parameters
    assert len(shapes) == sum(1 for _ in model.shapes())


def test_numbers_are_the_plans(tmp_path):
    name, model = costs.MODELS["1.5 B"]
    planned = costs.planned_whole(pair(*(costs.checkpoint(name, model, side) for side in (0, 1))), Store(tmp_path))
    assert not planned.skipped
    assert planned.remote
    assert planned.bytes_to_read == 2 * 2 * 1_543_714_304
    groups = [costs.of_probes(planned, names) for names in costs.GROUPS.values()]
    assert groups[-1].planned.steps == planned.steps
    for one, next_one in pairwise(groups):
        assert one.core_seconds < next_one.core_seconds
        assert one.worker_bytes <= next_one.worker_bytes
    for group in groups:
        longest = max(step.cost.seconds for step in group.planned.steps)
        assert group.seconds(2) == pytest.approx(max(group.core_seconds / 2, longest))
        assert group.seconds(1 << 20) == pytest.approx(longest)
        assert group.worker_bytes > max(step.cost.memory_bytes for step in group.planned.steps)


def test_rows_fill_the_columns():
    header, line, *_ = costs.table(("1.5 B",)).splitlines()
    rows = list(costs.rows(("1.5 B",)))
    assert len(rows) == len(costs.GROUPS)
    assert {row.count("|") for row in (header, line, *rows)} == {9}
