"""The published table measured again, against stand-ins on the fake hub; and what its verdicts mean."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from rlviz.errors import Cancelled, InvalidInput, NotFound, Offline
from rlviz.published import PublishedValue, published_values
from rlviz.reproduce import METRIC, Outcome, Remeasured, by_preview, reproduce, reproduction_dict, rows_matching
from rlviz.sampling import Estimate
from rlviz.types import ModelIdentity
from tests.checkpoints import Arrays, write_checkpoint
from tests.fakehub import FakeHub

BASE = "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"
AGREES = "agentica-org/DeepScaleR-1.5B-Preview"  # published 0.538
DIFFERS = "agentica-org/DeepCoder-1.5B-Preview"  # published 0.455
GATED = "Fate-Zero/Archer-Code-1.5B"
TWICE = "nvidia/Nemotron-Research-Reasoning-Qwen-1.5B"  # published 0.384 and 0.363, in two rows
STAND_INS = {AGREES: 0.534, DIFFERS: 0.9, GATED: 0.5, TWICE: 0.377}  # share unchanged
ROWS = published_values(METRIC)


def base_weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        f"model.layers.{i}.self_attn.q_proj.weight": (0.02 * rng.standard_normal((256, 256))).astype(ml_dtypes.bfloat16)
        for i in range(4)
    }


def with_share_unchanged(base: Arrays, share: float) -> dict[str, np.ndarray]:
    """The last rows, which stand for `1 - share` of each tensor, one code away from the base."""
    tuned: dict[str, np.ndarray] = {}
    for name, values in base.items():
        codes = values.view(np.uint16).copy().reshape(-1)
        codes[round(share * codes.size) :] ^= 1
        tuned[name] = codes.view(ml_dtypes.bfloat16).reshape(values.shape)
    return tuned


def exact_share(share: float) -> float:
    n = 256 * 256
    return round(share * n) / n


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHub]:
    folder = tmp_path_factory.mktemp("stand-ins")
    base = base_weights()
    with FakeHub() as hub:
        hub.add_repo(BASE, write_checkpoint(folder / "base", base))
        for i, (repo_id, share) in enumerate(STAND_INS.items()):
            tuned = write_checkpoint(folder / str(i), with_share_unchanged(base, share))
            hub.add_repo(repo_id, tuned, gated=repo_id == GATED)
        yield hub


def run(hub: FakeHub | None, store: Path, *args: str) -> subprocess.CompletedProcess[str]:
    endpoint = hub.endpoint if hub else "http://127.0.0.1:9"
    env = {k: v for k, v in os.environ.items() if k not in {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"}}
    env |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(store / "hf"), "RLVIZ_STORE": str(store)}
    return subprocess.run(
        [sys.executable, "-m", "rlviz", "reproduce", *args], capture_output=True, text=True, env=env, check=False
    )


@pytest.fixture(scope="module")
def measured(hub: FakeHub, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    folder = tmp_path_factory.mktemp("all")
    done = run(hub, folder, "--json", str(folder / "out.json"))
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "out.json").read_text()), done.stdout


def rows_of(found: dict[str, Any], repo_id: str) -> list[dict[str, Any]]:
    return [row for row in found["rows"] if repo_id in (row["tuned"] or "")]


def test_every_row_is_listed_reached_or_not(measured: tuple[dict[str, Any], str]) -> None:
    found, text = measured
    assert found["schema"] == 1
    assert found["method"] == "preview"
    assert [(r["source"], r["published"]) for r in found["rows"]] == [(v.source, v.value) for v in ROWS]
    assert sum(found["summary"].values()) == len(ROWS)
    assert found["summary"] == {"within": 2, "outside": 2, "unclear": 0, "not reached": len(ROWS) - 4}
    assert all(row["reason"] for row in found["rows"] if row["verdict"] == "not reached")
    for value in ROWS:
        assert value.title in text
        assert value.source in text


def test_stand_ins_are_measured_and_judged(measured: tuple[dict[str, Any], str]) -> None:
    found, text = measured
    (agrees,), (differs,) = rows_of(found, AGREES), rows_of(found, DIFFERS)
    assert agrees["update_sparsity"]["bf16"]["estimate"] == pytest.approx(exact_share(0.534))
    assert agrees["difference_points"] == pytest.approx(100 * (exact_share(0.534) - 0.538))
    assert (agrees["verdict"], differs["verdict"]) == ("within", "outside")
    assert "@" in agrees["tuned"]  # pinned, so that whoever doubts it can read the same bytes
    assert f"✓ {AGREES}" in text
    assert f"✗ {DIFFERS}" in text
    assert "published 53.8 %" in text


def test_what_cannot_be_reached_says_why(measured: tuple[dict[str, Any], str]) -> None:
    found, _ = measured
    (gated,) = rows_of(found, GATED)
    assert "gated" in gated["reason"]
    assert gated["update_sparsity"]["bf16"] is gated["difference_points"] is None
    (missing,) = rows_of(found, "POLARIS-Project/Polaris-4B-Preview")
    assert "does not exist" in missing["reason"]
    (unnamed,) = [row for row in found["rows"] if row["tuned"] is None]
    assert "no repository" in unnamed["reason"]


def test_rows_of_one_pair_share_one_measurement(measured: tuple[dict[str, Any], str]) -> None:
    found, _ = measured
    first, second = rows_of(found, TWICE)
    assert first["update_sparsity"] == second["update_sparsity"]
    assert (first["verdict"], second["verdict"]) == ("within", "outside")


def test_what_is_known_beside_the_value_is_said(measured: tuple[dict[str, Any], str]) -> None:
    found, text = measured
    (again,) = rows_of(found, "POLARIS-Project/Polaris-4B-Preview")
    assert again["remeasured"] == {"value": 0.799, "source": "arXiv:2606.07082"}
    assert "re-measured 79.9 % in arXiv:2606.07082" in text
    other = [row for row in found["rows"] if row["tolerance"] == 1e-8]
    assert len(other) == 8
    assert text.count("another definition: the paper counts |tuned - base| <= 1e-08 as unchanged") == 8
    assert "0.9598 at 1e-5" in text


def test_a_small_budget_gives_an_interval_and_no_false_certainty(hub: FakeHub, tmp_path: Path) -> None:
    done = run(hub, tmp_path, "--only", "deepscaler*", "--budget", "64KiB", "--json", "-", "--quiet")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    (row,) = json.loads(done.stdout)["rows"]
    share = row["update_sparsity"]["bf16"]
    assert share["low"] < exact_share(0.534) < share["high"]
    assert share["high"] - share["low"] > 0.02  # stripes of rows, an eighth read
    assert row["verdict"] == "unclear"


def test_exact_reads_everything(hub: FakeHub, tmp_path: Path) -> None:
    done = run(hub, tmp_path, "--exact", "--only", f"*{DIFFERS[-20:]}", "--json", "-")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    (row,) = found["rows"]
    assert found["method"] == "exact"
    assert row["update_sparsity"]["bf16"] == dict.fromkeys(("estimate", "low", "high"), exact_share(0.9))


def test_exit_code_3_where_nothing_could_be_reached(tmp_path: Path) -> None:
    done = run(None, tmp_path, "--only", "*Polaris*", "--quiet")
    assert done.returncode == 3
    assert "– POLARIS-Project/Polaris-4B-Preview" in done.stdout
    assert "none of 2 rows could be measured" in done.stderr


@pytest.mark.parametrize("options", [("--only", "nothing*"), ("--budget", "a lot"), ("--json", "missing/out.json")])
def test_wrong_options_are_refused_before_anything_is_asked(tmp_path: Path, options: tuple[str, str]) -> None:
    done = run(None, tmp_path, *options)
    assert done.returncode == 2
    assert done.stdout == ""
    assert options[1] in done.stderr


def outcome(low: float, estimate: float, high: float, value: float) -> Outcome:
    who = ModelIdentity("org/m", "org/m@0", "0", 1, True)
    published = PublishedValue("paper", "org/b", "org/m", "GRPO", "math", METRIC, value, "")
    return Outcome(published, Remeasured(Estimate(estimate, low, high), who, who))


@pytest.mark.parametrize(
    ("interval", "value", "verdict"),
    [
        ((0.536, 0.54, 0.544), 0.538, "within"),
        ((0.548, 0.548, 0.548), 0.538, "within"),  # exactly one point away
        ((0.5481, 0.5481, 0.5481), 0.538, "outside"),
        ((0.546, 0.550, 0.554), 0.538, "unclear"),  # the lower end is still within a point
        ((0.40, 0.54, 0.68), 0.538, "unclear"),  # close, but nobody knows how close
        ((0.551, 0.60, 0.65), 0.538, "outside"),
    ],
)
def test_verdicts(interval: tuple[float, float, float], value: float, verdict: str) -> None:
    assert outcome(*interval, value).verdict == verdict


def test_each_pair_is_measured_once_and_a_silent_hub_is_not_asked_again() -> None:
    asked: list[tuple[str, str]] = []

    def silent(base: str, tuned: str) -> Remeasured:
        asked.append((base, tuned))
        raise Offline(base, "cannot be reached")

    found = list(reproduce(ROWS, silent))
    assert len(found) == len(ROWS)
    assert len(asked) == 2
    assert "not asked again" in found[-1].reason
    asked.clear()

    def missing(base: str, tuned: str) -> Remeasured:
        asked.append((base, tuned))
        raise NotFound(tuned, "there is no such model")

    assert all(o.verdict == "not reached" for o in reproduce(ROWS, missing))
    assert sorted(asked) == sorted({(v.base, v.tuned) for v in ROWS if v.tuned})


def test_stopping_stops_and_is_no_row() -> None:
    def stopped(base: str, tuned: str) -> Remeasured:
        raise Cancelled(base, "stopped on request")

    with pytest.raises(Cancelled):
        list(reproduce(ROWS, stopped))


def test_only_matches_either_name_without_its_owner() -> None:
    assert {v.tuned for v in rows_matching("klear-reasoner-8b")} == {"Kwai-Klear/Klear-Reasoner-8B"}
    assert len(rows_matching(BASE)) == 6  # five times the base, once tuned itself
    assert [v.title for v in rows_matching("UloRL*")] == ["UloRL-A3B"]
    assert rows_matching("*") == ROWS
    with pytest.raises(InvalidInput):
        by_preview("64 parsecs", None)


def test_undefined_is_null_in_json() -> None:
    json.dumps(reproduction_dict([Outcome(ROWS[0], None, "No network.")], "exact"), allow_nan=False)
