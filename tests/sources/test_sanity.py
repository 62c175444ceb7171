from __future__ import annotations

import math

import pytest

from rlviz.sources import pair, resolve
from rlviz.sources.card import base_models
from rlviz.sources.sanity import ancestor_notice, suggested_base
from rlviz.types import Notice
from tests.sources.files import Shapes, checkpoint


def shapes(dtype: str) -> Shapes:
    return {"model.layers.0.mlp.up_proj.weight": (dtype, (8, 4)), "model.norm.weight": ("F32", (4,))}


def noticed(
    base_ref: str = "org/base",
    tuned_ref: str = "org/tuned",
    dtypes: tuple[str, str] = ("F32", "F32"),
    configs: tuple[dict[str, object], dict[str, object]] = ({}, {}),
    cards: tuple[dict[str, object], dict[str, object]] = ({}, {}),
) -> dict[str, str]:
    base = checkpoint(shapes(dtypes[0]), base_ref, configs[0], cards[0])
    tuned = checkpoint(shapes(dtypes[1]), tuned_ref, configs[1], cards[1])
    notices: tuple[Notice, ...] = pair(base, tuned).notices
    return {notice.code: notice.detail for notice in notices}


def test_a_sound_pair_has_no_warning() -> None:
    card: dict[str, object] = {"base_model": "org/base"}
    assert noticed(cards=({}, card), configs=({"model_type": "qwen2"}, {"model_type": "qwen2"})) == {}


@pytest.mark.parametrize("named", ["org/tuned", ["x/y", "Org/Tuned"], "https://huggingface.co/org/tuned"])
@pytest.mark.parametrize("tuned_ref", ["org/tuned", "org/tuned@0123abc", "hf://org/tuned@main/sub", "./models/tuned"])
def test_swapped_order(named: object, tuned_ref: str) -> None:
    details = noticed(tuned_ref=tuned_ref, cards=({"base_model": named}, {}))
    assert list(details) == ["swapped"]
    assert details["swapped"] == (
        f"The order looks swapped: the card of org/base says that it was tuned from {tuned_ref}. Swap the two."
    )


def test_the_card_names_another_base() -> None:
    details = noticed(cards=({}, {"base_model": "org/other"}))
    assert "names org/other as its base, not org/base" in details["other_base"]
    assert noticed(base_ref="./base", cards=({}, {"base_model": "org/other"})) == {}  # a folder may be any model
    assert noticed(cards=({}, {"base_model": ["org/other", "ORG/base"]})) == {}


@pytest.mark.parametrize(
    ("dtypes", "code", "words"),
    [
        (("BF16", "F32"), "finer_tuned", "part of 'changed as stored' may be the base's own rounding"),
        (("F16", "F32"), "finer_tuned", "stored in fp32 and the base in fp16"),
        (("BF16", "F16"), "finer_tuned", "stored in fp16 and the base in bf16"),
        (("F32", "BF16"), "finer_base", "is the rounding of the tuned file"),
        (("BF16", "BF16"), "no_masters", "fp32 masters were not published"),
        (("F32", "F32"), None, ""),
        (("I32", "I32"), None, ""),
    ],
)
def test_precision(dtypes: tuple[str, str], code: str | None, words: str) -> None:
    details = noticed(dtypes=dtypes)
    assert list(details) == ([code] if code else [])
    assert words in details.get(code or "", "")


@pytest.mark.parametrize(
    ("base", "tuned", "expected"),
    [
        ({"model_type": "qwen2"}, {"model_type": "llama"}, "model types: base qwen2, tuned llama"),
        ({"architectures": ["A"]}, {"architectures": ["B"]}, "architectures: base A, tuned B"),
        ({"model_type": "qwen2"}, {}, None),
        ({}, {}, None),
    ],
)
def test_architecture(base: dict[str, object], tuned: dict[str, object], expected: str | None) -> None:
    details = noticed(configs=(base, tuned))
    assert (expected in details["architecture"]) if expected else (details == {})


def test_the_same_checkpoint_twice() -> None:
    base = resolve("demo:base")
    notices = pair(base, resolve("demo:base")).notices
    assert [n.code for n in notices] == ["same_checkpoint", "no_masters"]


def test_demo_cards() -> None:
    assert suggested_base(resolve("demo:rl")) == "demo:base"
    assert suggested_base(resolve("demo:base")) is None
    codes = [n.code for n in pair(resolve("demo:rl"), resolve("demo:base")).notices]
    assert codes == ["swapped", "finer_base"]
    codes = [n.code for n in pair(resolve("demo:sft"), resolve("demo:rl")).notices]
    assert codes == ["other_base"]


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ("org/base", "org/base"),
        ("https://huggingface.co/org/base", "org/base"),
        (["org/a", "org/b"], "org/a"),
        (["not a model", "org/b"], "org/b"),
        ("/etc/passwd", None),
        ("./here", None),
        (None, None),
        (3, None),
        ({"a": 1}, None),
        ("", None),
    ],
)
def test_suggested_base(named: object, expected: str | None) -> None:
    assert suggested_base(checkpoint(shapes("F32"), card={"base_model": named})) == expected


def test_base_models_ignores_what_is_no_text() -> None:
    assert base_models({"base_model": [" a/b ", 3, None, ""]}) == ("a/b",)


@pytest.mark.parametrize(("norm", "warned"), [(0.0, False), (0.02, False), (0.5, False), (0.51, True), (1.41, True)])
def test_ancestor(norm: float, warned: bool) -> None:
    notice = ancestor_notice(norm)
    assert (notice is not None) == warned
    if notice:
        assert "probably not the ancestor" in notice.detail


def test_ancestor_undefined_is_no_warning() -> None:
    assert ancestor_notice(math.nan) is None
    assert ancestor_notice(math.inf) is not None
