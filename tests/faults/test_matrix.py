"""Every fault × plan, preview, compare × passing, lasting × while opening, while reading.

Each ends in the right numbers or in one clear sentence, in bounded time, and a second run finishes what the first
left.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from rlviz import api
from rlviz.errors import Offline, RlvizError, Unavailable
from tests.fakehub import FakeHub, Fault, Request
from tests.fakehub.rules import Rule, anywhere, every, weights
from tests.faults.conftest import MODELS, PASSING, STAYING, try_for

BOUND_S = 60  # a safety net: the patience of these tests ends within seconds
Action = Callable[[str, str, Path], Any]


def planned(base: str, tuned: str, store: Path) -> Any:
    made = api.plan(base, tuned, store=store)
    return [(step.match.name, step.probe.name, step.key) for step in made.steps], made.skipped, made.key


def compared(base: str, tuned: str, store: Path) -> Any:
    result = api.compare(base, tuned, probes=("coordinate",), store=store, workers=2)
    assert result.complete
    return result.rows(), result.summary()


def previewed(base: str, tuned: str, store: Path) -> Any:
    told = api.preview(base, tuned, budget="128KiB", target=0.0, store=store).to_dict()
    return told["summary"]["update_sparsity"], [(row["name"], row["update_sparsity"]) for row in told["tensors"]]


ACTIONS: dict[str, Action] = {"plan": planned, "preview": previewed, "compare": compared}
MOMENTS = {"opening": anywhere, "reading": weights}
# What a fault that stays ends in; None where it only delays, or concerns others.
LASTING: dict[str, type[RlvizError] | None] = {
    "latency": None,
    "bandwidth": None,
    "rate limit": Unavailable,
    "server error": Unavailable,
    "reset": Offline,
    "truncated": Offline,
    "wrong range": Unavailable,
    "range ignored": Unavailable,
    "link expired": Unavailable,
    "commit moved": None,
    "hub down": Offline,
}


class Case(NamedTuple):
    rule: str
    action: str
    moment: str
    passes: bool


CASES = [
    pytest.param(Case(rule, action, moment, passes), id=f"{rule}-{action}-{moment}-{'once' if passes else 'always'}")
    for rule in LASTING
    for action in ACTIONS
    for moment in MOMENTS
    for passes in (True, False)
    if not (action == "plan" and moment == "reading")  # a plan reads no weight
]


def bounded(action: Action, *arguments: Any) -> Any:
    thread = ThreadPoolExecutor(1)
    try:
        return thread.submit(action, *arguments).result(timeout=BOUND_S)
    finally:
        thread.shutdown(wait=False)  # to wait for an action that hangs would hang


@pytest.fixture(scope="session")
def truth(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each action says where nothing goes wrong."""
    with FakeHub() as quiet, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", quiet.endpoint)
        for model in MODELS:
            quiet.add_repo(model, folders[model.removeprefix("org/")])
        return {name: action(*MODELS, tmp_path_factory.mktemp(name)) for name, action in ACTIONS.items()}


def test_the_matrix_has_every_rule(folders: dict[str, Path]) -> None:
    assert [rule.name for rule in every(("org/tuned", folders["pushed"]))] == list(LASTING)


@pytest.fixture
def case(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Case:
    try_for(PASSING if request.param.passes else STAYING, monkeypatch)
    return request.param


@pytest.mark.parametrize("case", CASES, indirect=True)
def test_right_numbers_or_one_clear_sentence(
    hub: FakeHub, folders: dict[str, Path], truth: dict[str, Any], tmp_path: Path, case: Case
) -> None:
    act, expected_numbers = ACTIONS[case.action], truth[case.action]
    pinned = [f"{model}@{hub.repos[model].revisions['main']}" for model in MODELS]
    _called(case.rule, folders).strike(hub, MOMENTS[case.moment], passes=case.passes)
    expected = None if case.passes else LASTING[case.rule]
    if expected is None:
        assert bounded(act, *MODELS, tmp_path) == expected_numbers
    else:
        with pytest.raises(RlvizError) as error:
            bounded(act, *MODELS, tmp_path)
        assert type(error.value) is expected
        _check_sentence(str(error.value))
    assert hub.faults.hits, "the fault was never met"

    hub.faults.clear()
    if case.rule == "hub down" and not case.passes:
        hub.resume()
    assert bounded(act, *pinned, tmp_path) == expected_numbers


def _called(name: str, folders: dict[str, Path]) -> Rule:
    return next(rule for rule in every(("org/tuned", folders["pushed"])) if rule.name == name)


def _check_sentence(text: str) -> None:
    assert text.startswith("org/")
    assert text.endswith(".")
    assert len(text) < 300
    for secret in ("X-Amz", "http://127", "Traceback"):
        assert secret not in text


def test_a_branch_that_moves_between_two_questions_never_mixes_two_commits(
    hub: FakeHub, folders: dict[str, Path], truth: dict[str, Any], tmp_path: Path
) -> None:
    """A preview asks for the commit first and opens the model then; what it keeps is named after what it read."""
    before = hub.repos["org/tuned"].revisions["main"]
    asked = itertools.count(1)

    def second(request: Request) -> bool:
        return "/api/models/org/tuned" in request.path and next(asked) == 2

    hub.inject(second, Fault(then=lambda: hub.push("org/tuned", folders["pushed"])))
    found = api.preview(*MODELS, budget="128KiB", target=0.0, store=tmp_path)
    assert hub.faults.hits == 1
    assert found.tuned.commit == hub.repos["org/tuned"].revisions["main"] != before
    assert previewed("org/base", f"org/tuned@{before}", tmp_path) == truth["preview"]
    assert previewed(*MODELS, tmp_path) != truth["preview"]
