from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from rlviz.dtypes import ELEMENT_TYPES
from rlviz.errors import InvalidInput, NotFound, RlvizError, UnsupportedCheckpoint
from rlviz.sources import Checkpoint, ModelRef, resolve
from rlviz.sources.demo import DEMO_FOLDER, Demo, demos, open_demo
from rlviz.sources.local import LocalReader, open_local
from tests.sources.files import Shapes, safetensors_bytes, write_shapes

SHAPES: Shapes = {"model.norm.weight": ("F32", (5,)), "model.layers.0.mlp.up_proj.weight": ("BF16", (4, 5))}
TORCH_TYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "I64": torch.int64, "I32": torch.int32,
    "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


def opened(path: Path) -> Checkpoint:
    return open_local(ModelRef.parse(str(path)))


def sharded(folder: Path, shards: dict[str, dict[str, torch.Tensor]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for shard, tensors in shards.items():
        save_file(tensors, folder / shard)
    weight_map = {name: shard for shard, tensors in shards.items() for name in tensors}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def two_shards(folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    rng = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randint(0, 256, (*shape, torch.empty(0, dtype=dtype).itemsize), generator=rng).to(torch.uint8)

    def tensor(*shape: int) -> torch.Tensor:
        raw = draw(*shape) % 2 if dtype is torch.bool else draw(*shape)
        return raw.view(dtype).reshape(shape)

    return sharded(folder, {
        "model-00001-of-00002.safetensors": {"a.weight": tensor(7, 3), "scalar": tensor()},
        "model-00002-of-00002.safetensors": {"b.weight": tensor(2, 3, 4), "empty": tensor(0, 4)},
    })  # fmt: skip


@pytest.mark.parametrize("layout", ["sharded", "folder", "file"])
@pytest.mark.parametrize("dtype", list(TORCH_TYPES))
def test_bytes_equal_the_safetensors_library(tmp_path: Path, dtype: str, layout: str) -> None:
    folder = two_shards(tmp_path / "m", TORCH_TYPES[dtype])
    files = sorted(folder.glob("*.safetensors"))
    path = folder
    if layout != "sharded":
        (folder / "model.safetensors.index.json").unlink()
        files[1].unlink()
        files = files[:1]
        path = folder if layout == "folder" else files[0]
    with opened(path) as checkpoint:
        expected = {}
        for file in files:
            with safe_open(file, "pt") as library:
                expected |= {name: library.get_tensor(name) for name in library.keys()}  # noqa: SIM118
        assert checkpoint.tensors.keys() == expected.keys()
        for name, tensor in expected.items():
            meta = checkpoint.tensors[name]
            assert (meta.dtype, meta.shape) == (dtype, tuple(tensor.shape))
            codes = checkpoint.read(meta, 0, meta.n)
            assert codes.dtype == ELEMENT_TYPES[dtype].codes
            assert codes.tobytes() == tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            half = checkpoint.read(meta, meta.n // 3, meta.n // 2)
            np.testing.assert_array_equal(half, codes[meta.n // 3 : meta.n // 2])
    assert checkpoint.identity.nbytes == sum(t.nbytes for t in expected.values())


def test_identity_follows_the_files(tmp_path: Path) -> None:
    path = write_shapes(tmp_path / "m" / "model.safetensors", SHAPES)
    first, again = opened(path.parent), opened(path.parent)
    assert first.identity == again.identity
    assert first.identity.shareable is False
    assert len(first.identity.commit) == 40
    assert "norm" in first.tensors["model.norm.weight"].module
    os.utime(path, ns=(1, 1))
    touched = opened(path.parent)
    assert touched.identity.commit != first.identity.commit
    meta = first.tensors["model.norm.weight"]
    assert touched.tensor_id(meta) != first.tensor_id(meta)
    write_shapes(tmp_path / "copy" / "model.safetensors", SHAPES)
    os.utime(tmp_path / "copy" / "model.safetensors", ns=(1, 1))
    assert opened(tmp_path / "copy").identity.commit != touched.identity.commit


def test_a_relative_reference_is_pinned_to_its_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shapes(tmp_path / "m" / "model.safetensors", SHAPES)
    monkeypatch.chdir(tmp_path)
    identity = resolve("./m").identity
    assert (identity.ref, identity.pinned_ref) == ("./m", str(tmp_path / "m"))
    monkeypatch.chdir("/")
    assert resolve(identity.pinned_ref).identity.commit == identity.commit


def test_a_plain_file_wins_over_an_index(tmp_path: Path) -> None:
    folder = two_shards(tmp_path / "m")
    write_shapes(folder / "model.safetensors", SHAPES)
    assert opened(folder).tensors.keys() == SHAPES.keys()


def test_files_without_an_index_are_joined(tmp_path: Path) -> None:
    folder = two_shards(tmp_path / "m")
    (folder / "model.safetensors.index.json").unlink()
    assert opened(folder).tensors.keys() == {"a.weight", "scalar", "b.weight", "empty"}
    shutil.copy(folder / "model-00001-of-00002.safetensors", folder / "other.safetensors")
    with pytest.raises(UnsupportedCheckpoint, match=r"is in model-00001-of-00002.safetensors and in other.safetensors"):
        opened(folder)


def test_the_index_decides_between_two_copies(tmp_path: Path) -> None:
    extra = {"extra": torch.ones(2), "b.weight": torch.ones(1)}
    folder = sharded(
        tmp_path / "m", {"s1.safetensors": {"a": torch.zeros(3)} | extra, "s2.safetensors": {"c": torch.ones(1)}}
    )
    index = folder / "model.safetensors.index.json"
    save_file({"b.weight": torch.ones(4), "c": torch.ones(1)}, folder / "s2.safetensors")
    weight_map = {"a": "s1.safetensors", "b.weight": "s2.safetensors", "c": "s2.safetensors"}
    index.write_text(json.dumps({"weight_map": weight_map}))
    tensors = opened(folder).tensors
    assert tensors["b.weight"].shape == (4,)
    assert tensors["extra"].shard == "s1.safetensors"  # not in the index, and yet not lost


BAD_INDEX = [
    ({"weight_map": {"a": "../secret.safetensors"}}, "which is not a file beside it"),
    ({"weight_map": {"a": "/etc/x.safetensors"}}, "which is not a file beside it"),
    ({"weight_map": {"a": "sub/x.safetensors"}}, "which is not a file beside it"),
    ({"weight_map": {"a": "config.json"}}, "which is not a file beside it"),
    ({"weight_map": {"a": 3}}, "which is not a file beside it"),
    ({"weight_map": {"a": "gone.safetensors"}}, "names gone.safetensors, which is not there"),
    ({"weight_map": {"zzz": "model-00001-of-00002.safetensors"}}, "lacks zzz"),
    ({"weight_map": {}}, "has no weight_map"),
    ({"weight_map": []}, "has no weight_map"),
    ([], "has no weight_map"),
]


@pytest.mark.parametrize(("index", "words"), BAD_INDEX)
def test_bad_index(tmp_path: Path, index: object, words: str) -> None:
    folder = two_shards(tmp_path / "m")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UnsupportedCheckpoint) as caught:
        opened(folder)
    assert words in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "\ud800".encode("utf-8", "surrogatepass")])
def test_index_that_is_no_json(tmp_path: Path, text: str | bytes) -> None:
    folder = two_shards(tmp_path / "m")
    (folder / "model.safetensors.index.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UnsupportedCheckpoint, match="is not valid JSON"):
        opened(folder)


@pytest.mark.parametrize(
    ("names", "error", "words"),
    [
        ([], NotFound, "holds no .safetensors file"),
        (["config.json", "tokenizer.json"], NotFound, "holds no .safetensors file"),
        (["adapter_model.safetensors", "adapter_config.json"], UnsupportedCheckpoint, "is an adapter"),
        (["pytorch_model.bin", "config.json"], UnsupportedCheckpoint, "PyTorch pickle files only"),
        (["model.gguf"], UnsupportedCheckpoint, "GGUF files only"),
        (["tf_model.h5"], UnsupportedCheckpoint, "TensorFlow or Flax files only"),
    ],
)
def test_folders_without_weights(tmp_path: Path, names: list[str], error: type[RlvizError], words: str) -> None:
    for name in names:
        (tmp_path / name).write_text("{}")
    with pytest.raises(error) as caught:
        opened(tmp_path)
    assert words in str(caught.value)
    assert caught.value.next_step


def test_weights_one_folder_deeper(tmp_path: Path) -> None:
    write_shapes(tmp_path / "checkpoint-100" / "model.safetensors", SHAPES)
    with pytest.raises(NotFound) as caught:
        opened(tmp_path)
    assert f"write {tmp_path}/checkpoint-100." in str(caught.value)


def test_no_such_path(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no such folder or file"):
        opened(tmp_path / "nope")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UnsupportedCheckpoint, match=r"is not a \.safetensors file"):
        opened(tmp_path / "notes.txt")


def test_truncated_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors_bytes(SHAPES)[:-1])
    with pytest.raises(UnsupportedCheckpoint, match=r"model\.safetensors: is truncated"):
        opened(tmp_path)


def test_truncated_after_opening(tmp_path: Path) -> None:
    path = write_shapes(tmp_path / "model.safetensors", SHAPES)
    unread, reading = opened(tmp_path), opened(tmp_path)
    meta = reading.tensors["model.layers.0.mlp.up_proj.weight"]
    reading.read(meta, 0, 1)
    os.truncate(path, path.stat().st_size - 10)
    for checkpoint in (unread, reading):
        last = max(checkpoint.tensors.values(), key=lambda m: m.offset)
        with pytest.raises(UnsupportedCheckpoint, match="is truncated: it ends at byte"):
            checkpoint.read(last, 0, last.n)


def test_replaced_after_opening(tmp_path: Path) -> None:
    path = write_shapes(tmp_path / "model.safetensors", SHAPES)
    checkpoint = opened(tmp_path)
    meta = checkpoint.tensors["model.norm.weight"]
    write_shapes(tmp_path / "new", SHAPES)
    (tmp_path / "new").replace(path)
    with pytest.raises(UnsupportedCheckpoint, match="changed while it was being compared"):
        checkpoint.read(meta, 0, 1)
    path.unlink()
    with pytest.raises(NotFound, match="no such file any more"):
        checkpoint.read(meta, 0, 1)


def test_many_threads_read_the_same_bytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2**16, 50_000).astype(np.uint16)
    save_file({"w": torch.from_numpy(values.view(np.int16))}, tmp_path / "model.safetensors")
    with opened(tmp_path) as checkpoint:
        meta = checkpoint.tensors["w"]
        spans = [
            (int(a), int(a + b))
            for a, b in zip(rng.integers(0, 40_000, 200), rng.integers(0, 10_000, 200), strict=True)
        ]

        def same(span: tuple[int, int]) -> bool:
            if span[0] % 7 == 0:
                checkpoint.reader.close()  # must not pull the file from under another reader
            return np.array_equal(checkpoint.read(meta, *span).view(np.uint16), values[slice(*span)])

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(same, spans))


def test_files_are_closed(tmp_path: Path) -> None:
    two_shards(tmp_path / "m")

    def descriptors() -> int:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    before = descriptors()
    with opened(tmp_path / "m") as checkpoint:
        assert descriptors() == before  # opened at the first read
        for meta in checkpoint.tensors.values():
            checkpoint.read(meta, 0, meta.n)
        assert descriptors() == before + 2
    assert descriptors() == before


def test_reader_travels_to_another_process(tmp_path: Path) -> None:
    write_shapes(tmp_path / "model.safetensors", SHAPES)
    checkpoint = opened(tmp_path)
    meta = checkpoint.tensors["model.norm.weight"]
    there = pickle.loads(pickle.dumps(checkpoint))
    assert isinstance(there.reader, LocalReader)
    np.testing.assert_array_equal(there.read(meta, 0, 5), checkpoint.read(meta, 0, 5))


def test_config_and_card(tmp_path: Path) -> None:
    write_shapes(tmp_path / "model.safetensors", SHAPES)
    assert opened(tmp_path).config == {}
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    (tmp_path / "README.md").write_text("---\nlicense: mit\nbase_model:\n- org/base\n---\n# Title\n")
    checkpoint = opened(tmp_path / "model.safetensors")
    assert checkpoint.config == {"model_type": "qwen2"}
    assert checkpoint.card["base_model"] == ["org/base"]


@pytest.mark.parametrize(
    "card", ["---\nbase_model: [\n---\n", "---\nbase_model\n---\n", "base_model: x", "\xff---base_model"]
)
def test_a_broken_card_says_nothing(tmp_path: Path, card: str) -> None:
    write_shapes(tmp_path / "model.safetensors", SHAPES)
    (tmp_path / "README.md").write_bytes(card.encode("latin-1"))
    assert opened(tmp_path).card == {}


@pytest.mark.parametrize("config", ["{", "[1]", "[" * 100_000])
def test_a_broken_config_is_an_error(tmp_path: Path, config: str) -> None:
    write_shapes(tmp_path / "model.safetensors", SHAPES)
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(UnsupportedCheckpoint, match=r"config\.json"):
        opened(tmp_path)


def test_a_host_opens_no_local_files(tmp_path: Path) -> None:
    write_shapes(tmp_path / "model.safetensors", SHAPES)
    with pytest.raises(InvalidInput, match="opens no local files"):
        resolve(str(tmp_path), allow_local=False)
    assert resolve("demo:base", allow_local=False).tensors


def test_planning_imports_nothing_heavy() -> None:
    code = (
        "import sys; from rlviz.sources import pair, resolve;"
        "pair(resolve('demo:base'), resolve('demo:rl'));"
        "heavy = {'torch', 'pandas', 'scipy', 'numba', 'huggingface_hub', 'yaml', 'streamlit', 'plotly'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("demo", demos(), ids=lambda demo: demo.name)
def test_demos_are_what_the_manifest_records(demo: Demo) -> None:
    content = (DEMO_FOLDER / demo.name / "model.safetensors").read_bytes()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (demo.size, demo.sha256)
    checkpoint = resolve(str(demo.ref))
    assert checkpoint.identity.shareable
    assert checkpoint.identity.commit == demo.commit
    assert len(checkpoint.tensors) == 51
    again = resolve(checkpoint.identity.pinned_ref)
    assert again.identity.commit == demo.commit


def test_demo_identity_is_its_content_not_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = resolve("demo:rl")
    shutil.copytree(DEMO_FOLDER, tmp_path / "demo", copy_function=shutil.copyfile)
    monkeypatch.setattr("rlviz.sources.demo.DEMO_FOLDER", tmp_path / "demo")
    there = resolve("demo:rl")
    assert there.identity == here.identity
    meta = here.tensors["model.norm.weight"]
    assert there.tensor_id(there.tensors[meta.name]) == here.tensor_id(meta)


def test_another_demo_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFound, match=r"ships another version of the demo\. Write demo:rl"):
        resolve("demo:rl@0123456789")
    shutil.copytree(DEMO_FOLDER, tmp_path / "demo")
    write_shapes(tmp_path / "demo" / "rl" / "model.safetensors", SHAPES)
    monkeypatch.setattr("rlviz.sources.demo.DEMO_FOLDER", tmp_path / "demo")
    with pytest.raises(UnsupportedCheckpoint, match="is not the one that was shipped"):
        open_demo(ModelRef.parse("demo:rl"))
