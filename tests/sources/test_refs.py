from __future__ import annotations

import string
from pathlib import Path

import pytest
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from hypothesis import given, settings
from hypothesis import strategies as st

from rlviz.errors import InvalidInput
from rlviz.sources.demo import demos
from rlviz.sources.refs import DEMO_NAMES, ModelRef

HUB = [
    ("org/name", ("org/name", None, "")),
    ("gpt2", ("gpt2", None, "")),
    ("  org/name\n", ("org/name", None, "")),
    ("\u200borg/name\u00a0", ("org/name", None, "")),
    ("org/name/", ("org/name", None, "")),
    ("org/name@main", ("org/name", "main", "")),
    ("org/name@0123abc", ("org/name", "0123abc", "")),
    ("gpt2@v1.0", ("gpt2", "v1.0", "")),
    ("org/name@refs/pr/3", ("org/name", "refs/pr/3", "")),
    ("org/name@feature/x", ("org/name", "feature/x", "")),
    ("https://huggingface.co/org/name", ("org/name", None, "")),
    ("http://www.huggingface.co/org/name/", ("org/name", None, "")),
    ("HTTPS://HuggingFace.co/org/name", ("org/name", None, "")),
    ("huggingface.co/org/name", ("org/name", None, "")),
    ("hf.co/gpt2", ("gpt2", None, "")),
    ("https://huggingface.co/org/name?library=transformers#usage", ("org/name", None, "")),
    ("https://huggingface.co/org/name/tree/main", ("org/name", "main", "")),
    ("https://huggingface.co/org/name/tree/main/", ("org/name", "main", "")),
    ("https://huggingface.co/org/name/tree", ("org/name", None, "")),
    ("https://huggingface.co/org/name/tree/v1/a/b", ("org/name", "v1", "a/b")),
    ("https://huggingface.co/org/name/tree/v1/a%20b", ("org/name", "v1", "a b")),
    ("https://huggingface.co/org/name/tree/refs%2Fpr%2F3", ("org/name", "refs/pr/3", "")),
    ("https://huggingface.co/org/name/tree/refs%2Fpr%2F3/sub", ("org/name", "refs/pr/3", "sub")),
    ("https://huggingface.co/org/name/tree/refs/pr/3/sub", ("org/name", "refs/pr/3", "sub")),
    ("https://huggingface.co/org/name/blob/main/model.safetensors", ("org/name", "main", "")),
    ("https://huggingface.co/org/name/resolve/main/a/b.safetensors?download=true", ("org/name", "main", "a")),
    ("https://huggingface.co/org/name/commit/0123abc", ("org/name", "0123abc", "")),
    ("https://huggingface.co/org/name/commits/main", ("org/name", "main", "")),
    ("https://huggingface.co/gpt2/tree/main", ("gpt2", "main", "")),
    ("https://huggingface.co/gpt2/tree/main/onnx", ("gpt2", "main", "onnx")),
    ("https://huggingface.co/org/tree", ("org/tree", None, "")),
    ("https://huggingface.co/org/tree/tree/main", ("org/tree", "main", "")),
    ("hf://org/name", ("org/name", None, "")),
    ("hf://gpt2", ("gpt2", None, "")),
    ("hf://org/name@v1", ("org/name", "v1", "")),
    ("hf://org/name@v1/sub/folder", ("org/name", "v1", "sub/folder")),
    ("hf://org/name/sub/folder/", ("org/name", None, "sub/folder")),
    ("hf://org/name@refs%2Fpr%2F3/sub", ("org/name", "refs/pr/3", "sub")),
    ("hf://org/name@refs/pr/3/sub", ("org/name", "refs/pr/3", "sub")),
    ("hf://gpt2@/sub", ("gpt2", None, "sub")),
]


@pytest.mark.parametrize(("text", "expected"), HUB)
def test_hub_forms(text: str, expected: tuple[str, str | None, str]) -> None:
    ref = ModelRef.parse(text)
    assert ref.kind == "hub"
    assert (ref.repo_id, ref.revision, ref.subfolder) == expected
    assert ModelRef.parse(str(ref)) == ref


@pytest.mark.parametrize("text", ["./x", "../x", "~/x", "/abs/x", ".", "..", "~", "./a@b", "/", "./a b", "./x:y"])
def test_local_forms(text: str) -> None:
    ref = ModelRef.parse(f" {text} ")
    assert (ref.kind, str(ref)) == ("local", text)
    assert ModelRef.parse(str(ref)) == ref
    assert ref.pinned("0" * 40) == ref


def test_trailing_slash_and_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ModelRef.parse("~/models/").path == tmp_path / "models"
    assert str(ModelRef.parse("/abs/x//")) == "/abs/x"


@pytest.mark.parametrize("name", DEMO_NAMES)
def test_demos(name: str) -> None:
    ref = ModelRef.parse(f"demo:{name}")
    assert (ref.kind, ref.location, ModelRef.parse(str(ref))) == ("demo", name, ref)
    pinned = ref.pinned("0123456789")
    assert str(pinned) == f"demo:{name}@0123456789"
    assert ModelRef.parse(str(pinned)) == pinned


def test_demo_names_are_what_is_shipped() -> None:
    assert tuple(demo.name for demo in demos()) == DEMO_NAMES


def test_pinned_names_the_commit() -> None:
    assert str(ModelRef.parse("org/name@main").pinned("abc")) == "org/name@abc"
    assert str(ModelRef.parse("hf://org/name@main/sub").pinned("abc")) == "hf://org/name@abc/sub"


REFUSED = [
    ("", "names no model"),
    ("   ", "names no model"),
    ("org/name/extra", "write hf://org/name/extra if extra is a subfolder"),
    ("org name", "is not a model id"),
    ("org//name", "is not a model id"),
    (".hidden", "is not a model id"),
    ("a--b", "is not a model id"),
    ("org/name.git", "is not a model id"),
    ("café", "is not a model id"),
    ("C:\\models", "is not a model id"),
    ("x" * 97, "is not a model id"),
    ("org/name@", "nothing after the @"),
    ("hf://org/name@", "nothing after the @"),
    ("org/name@a b", "illegal revision"),
    ("org/name@../x", "illegal revision"),
    ("org/name@-x", "illegal revision"),
    ("org/name@a%00b", "illegal revision"),
    ("org/name@%ff", "broken percent-encoding"),
    ("datasets/foo", "is a dataset, not a model"),
    ("hf://datasets/org/name", "is a dataset, not a model"),
    ("https://huggingface.co/datasets/org/name", "is a dataset, not a model"),
    ("https://huggingface.co/spaces/org/name", "is a Space, not a model"),
    ("https://huggingface.co/docs/hub", "is a page of the hub, not a model"),
    ("https://huggingface.co/", "names no model"),
    ("https://huggingface.co/org/name/discussions/3", "is not the page of a model's files: paste https://huggingface"),
    ("https://huggingface.co/org/name/tree/main/../../x", "illegal subfolder"),
    ("https://huggingface.co/org/name/tree/main/a%2F..%2Fb", "illegal subfolder"),
    ("https://example.com/org/name", "is not on huggingface.co"),
    ("https://huggingface.co.evil.com/org/name", "is not on huggingface.co"),
    ("https://huggingface.co@evil.com/org/name", "is not on huggingface.co"),
    ("https://huggingface.co:8080/org/name", "is not on huggingface.co"),
    ("ftp://huggingface.co/org/name", "is not on huggingface.co"),
    ("https://[::1/x", "is not a web address"),
    ("file:///data/x", "write the path itself, /data/x"),
    ("s3://bucket/x", "is not on huggingface.co"),
    ("demo:nope", "the demos are demo:base, demo:rl, demo:sft, demo:sft_same"),
    ("demo:", "is not a shipped demo"),
    ("demo:rl@main", "is not a version of a demo: write demo:rl"),
    ("model.safetensors", "write the path, as in ./folder/model.safetensors"),
    ("./a\x00b", "is not a path"),
    ("~user/x", "is not a model id"),
    ("a\x00b", "is not a model id"),
]


@pytest.mark.parametrize(("text", "words"), REFUSED)
def test_refused_in_one_sentence(text: str, words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        ModelRef.parse(text)
    sentence = str(caught.value)
    assert words in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert caught.value.next_step
    assert caught.value.exit_code == 2


def test_a_folder_here_is_never_taken_for_a_hub_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "np" / "base" / "deep").mkdir(parents=True)
    (tmp_path / "w.safetensors").touch()
    with pytest.raises(InvalidInput) as caught:
        ModelRef.parse("np/base")
    assert str(caught.value) == "np/base is a folder here: write ./np/base or hf://np/base for the hub."
    with pytest.raises(InvalidInput, match=r"np/base/deep is a folder here: write \./np/base/deep\."):
        ModelRef.parse("np/base/deep")
    with pytest.raises(InvalidInput, match=r"w.safetensors is a file here: write \./w.safetensors"):
        ModelRef.parse("w.safetensors")
    assert ModelRef.parse("hf://np/base").repo_id == "np/base"
    assert ModelRef.parse("np/base@main").repo_id == "np/base"


ID_LIKE = st.text(string.ascii_letters + string.digits + "-_./é ", min_size=1, max_size=30) | st.text(
    "ab-.", min_size=90, max_size=100
)


@given(ID_LIKE)
def test_repository_ids_follow_the_hub_library(text: str) -> None:
    def library_accepts() -> bool:
        try:
            validate_repo_id(text)
        except HFValidationError:
            return False
        return True

    def we_accept() -> bool:
        try:
            ModelRef("hub", text)
        except InvalidInput:
            return False
        return True

    assert we_accept() == library_accepts()


WORD = st.text(string.ascii_letters + string.digits + "_.-", min_size=1, max_size=12)
SEGMENT = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\"), min_size=1, max_size=12)
REVISION = st.none() | WORD | st.text("ab/%é@.-", min_size=1, max_size=10) | st.just("refs/pr/7")


@st.composite
def references(draw: st.DrawFn) -> ModelRef | None:
    """Anything that can be constructed; None where the parts are refused."""
    kind = draw(st.sampled_from(["hub", "local", "demo"]))
    try:
        if kind == "demo":
            version = draw(st.none() | st.text("0123456789abcdef", min_size=7, max_size=40))
            return ModelRef("demo", draw(st.sampled_from(DEMO_NAMES)), version)
        if kind == "local":
            start = draw(st.sampled_from(["/", "./", "../", "~/"]))
            return ModelRef("local", start + "/".join(draw(st.lists(SEGMENT, max_size=3))))
        name = "/".join(draw(st.lists(WORD, min_size=1, max_size=2)))
        return ModelRef("hub", name, draw(REVISION), "/".join(draw(st.lists(SEGMENT, max_size=3))))
    except InvalidInput:
        return None


@settings(max_examples=400)
@given(references())
def test_parse_undoes_str(ref: ModelRef | None) -> None:
    if ref is not None:
        assert ModelRef.parse(str(ref)) == ref
        assert ModelRef.parse(f" {ref}\n") == ref


@settings(max_examples=400)
@given(st.text(max_size=40) | st.text("hf:/@%.~ab-demo", max_size=30) | WORD.map("https://huggingface.co/{}".format))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        ref = ModelRef.parse(text)
    except InvalidInput:
        return
    assert ModelRef.parse(str(ref), look_here=False) == ref  # `README.md` is a file where the suite runs
