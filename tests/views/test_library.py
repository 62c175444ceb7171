"""Rows of the Library: from what a store holds, without a record being read."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from rlviz.published import published_values
from rlviz.shelf import Entry
from rlviz.types import ModelIdentity
from rlviz.views.library import library_rows, published_rows

COMMIT = "0123456789abcdef" * 2 + "01234567"
BASE, TUNED = "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", "agentica-org/DeepScaleR-1.5B-Preview"


def model(ref: str, shareable: bool = True) -> ModelIdentity:
    return ModelIdentity(ref, f"{ref}@{COMMIT}" if shareable else ref, COMMIT, 10, shareable)


def entry(base: str = BASE, tuned: str = TUNED, share: float = 0.53, **changed: object) -> Entry:
    made = Entry(
        key="a" * 64,
        base=model(base),
        tuned=model(tuned),
        complete=True,
        n_tensors=3,
        probes=("coordinate", "spectrum"),
        tensors="*",
        made=datetime(2026, 1, 2, tzinfo=UTC),
        nbytes=5,
        pinned=False,
        here=True,
        summary={
            "update_sparsity": {"bf16": share, "fp32": 0.004, "fp16": None},
            "relative_update_norm": 0.01,
            "nss": None,
        },
    )
    return replace(made, **changed)  # type: ignore[arg-type]


def test_a_row_holds_the_headline_numbers():
    [row] = library_rows([entry()])
    assert (row.unchanged_bf16, row.unchanged_fp32, row.relative_update_norm, row.nss) == (0.53, 0.004, 0.01, None)
    assert row.tuned == f"{TUNED}@0123456"
    assert row.state == "finished"


def test_states_are_said():
    local = replace(entry(complete=False, pinned=True, summary=None), tuned=model("./rl", shareable=False))
    [row] = library_rows([local])
    assert row.state == "unfinished · pinned · local only"
    assert row.unchanged_bf16 is None


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("", 2),
        ("deepscaler", 2),
        ("DEEPSCALER other", 1),
        ("pinned", 1),
        ("aaaa", 2),
        ("coordinate", 2),
        ("nothing", 0),
    ],
)
def test_search_wants_every_word(search, found):
    entries = [entry(), entry(base="acme/other", pinned=True)]
    assert len(library_rows(entries, search)) == found


def test_published_values_stand_beside_the_newest_measurement_of_the_whole_pair():
    newest = entry(share=0.54, key="b" * 64)
    part = entry(share=0.99, tensors="*q_proj*")
    unfinished = entry(share=0.98, complete=False)
    older = entry(share=0.50, made=newest.made - timedelta(days=1))
    rows = published_rows([part, unfinished, newest, older])
    assert len(rows) == len(published_values("update_sparsity_bf16"))
    [row] = [r for r in rows if r.tuned == TUNED]
    assert (row.published, row.measured, row.key) == (0.538, 0.54, newest.key)
    assert row.difference == pytest.approx(0.002)
    assert all(r.measured is None and r.difference is None for r in rows if r.tuned != TUNED)


def test_every_published_row_says_its_source_and_whether_a_pair_is_known():
    rows = published_rows([])
    assert all(row.source.startswith("arXiv:") for row in rows)
    unknown = [row for row in rows if not row.has_pair]
    assert [row.tuned for row in unknown] == ["UloRL-A3B"]


def test_a_folder_inside_a_repository_is_not_the_repository():
    inside = replace(entry(), tuned=replace(model(TUNED), pinned_ref=f"hf://{TUNED}@{COMMIT}/step-10"))
    assert not [row for row in published_rows([inside]) if row.key]
