"""Permalinks: names made from content, documents that outlive the release that wrote them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rlviz import links
from rlviz.errors import InvalidInput
from rlviz.links import View
from rlviz.store import Store
from rlviz.types import ModelIdentity

COMMIT = "0123456789abcdef" * 2 + "01234567"


def model(name: str, access: str = "public") -> ModelIdentity:
    return ModelIdentity(name, f"{name}@{COMMIT}", COMMIT, 10, True, access)  # type: ignore[arg-type]


@pytest.fixture
def view() -> View:
    return View("angles", model("acme/base"), (model("acme/rl"),), ("a" * 64,), {"metric": "nss", "k": "16"})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_a_kept_view_comes_back_whole(store, view):
    name = links.keep(store, view)
    assert len(name) == links.SHORTEST
    assert links.find(store, name) == view


def test_the_same_view_has_the_same_name_anywhere(store, view, tmp_path):
    assert links.keep(store, view) == links.keep(store, view) == links.keep(Store(tmp_path / "other"), view)
    assert links.keep(store, replace(view, choices={"k": "32"})) != links.keep(store, view)


def test_a_name_taken_by_another_view_gets_longer(store, view):
    name = links.keep(store, view)
    other = replace(view, page="compare")
    store.write_link(name, {"schema": 1, **links.asdict(other)})  # as if both had these ten digits
    longer = links.keep(store, view)
    assert longer[: len(name)] == name
    assert len(longer) == len(name) + 1
    assert links.find(store, longer) == view
    assert links.find(store, name) == other


@pytest.mark.parametrize("name", ["", "xyz", "../../secret", "0123456789abcdeg", "0" * 65, "0123456789"])
def test_what_is_no_name_is_not_found(store, name):
    assert links.find(store, name) is None


def test_a_link_of_a_later_release_is_refused_in_a_sentence(store, view):
    store.write_link("0" * 10, {"schema": 2, "rlviz": "9.0.0"})
    with pytest.raises(InvalidInput, match=r"rlviz 9\.0\.0.*Update rlviz"):
        links.find(store, "0" * 10)


@pytest.mark.parametrize(
    "document",
    [{}, {"schema": 1}, {"schema": "one"}, {"schema": 1, "page": "x", "base": 3, "tuned": 4, "results": 5}],
)
def test_a_damaged_document_is_refused_in_a_sentence(store, document):
    store.write_link("0" * 10, document)
    with pytest.raises(InvalidInput, match="damaged"):
        links.find(store, "0" * 10)


def test_a_document_that_does_not_say_who_may_read_is_not_believed_to_be_public(store, view):
    document = {"schema": 1, **links.asdict(view)}
    del document["base"]["access"]
    store.write_link("0" * 10, document)
    found = links.find(store, "0" * 10)
    assert found is not None
    assert found.base.access != "public"
    assert found.tuned[0].access == "public"
