"""A location that hosts share: data first, head last, verified on arrival, and never in the way of a run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlviz import api
from rlviz.errors import InvalidInput, Offline
from rlviz.result import PairResult, load
from rlviz.store import Store
from tests.checkpoints import tiny_pair
from tests.store.faulty import Faulty, faulty
from tests.store.pairs import compared

URL = "faulty://ada:s3cret@team/store"


@pytest.fixture
def far() -> Iterator[type[Faulty]]:
    with faulty() as location:
        yield location


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Opens the shared store as one of several hosts, each with a disk of its own."""

    def opened(name: str, **kwargs: int) -> Store:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        return Store(URL, **kwargs)

    return opened


def down(verb: str, path: str) -> None:
    raise ConnectionError(f"no route to {verb} {path} with key s3cret")


def objects(far: type[Faulty]) -> dict[str, bytes]:
    return {path.rsplit("/", 1)[-1]: file.getvalue() for path, file in far.store.items()}


def refuse_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    from rlviz.sources.checkpoint import Checkpoint

    def refuse(*_: object) -> None:
        raise AssertionError("a weight was read")

    monkeypatch.setattr(Checkpoint, "read_into", refuse)


def test_another_host_sees_the_same_numbers_and_reads_no_weight(far, hosts, first: PairResult, monkeypatch):
    made = compared(hosts("one"))
    assert made.notices == first.notices
    refuse_reading(monkeypatch)
    two = hosts("two")
    assert [(k.key, k.here, k.summary["n"]) for k in two.kept()] == [(first.key, False, first.summary()["n"])]
    assert api.load_result(first.key[:8], two).rows() == first.rows()
    assert [k.here for k in two.kept()] == [True]
    again = compared(hosts("three"))
    assert again.rows() == first.rows()
    assert again.provenance == made.provenance


def test_data_first_head_last_and_few_requests(far, hosts, first: PairResult):
    compared(hosts("one"))
    written = [name for verb, name in far.asked if verb == "write"]
    assert len(written) == 2
    assert written[0].endswith(".rlviz.zip")
    assert written[1] == f"{first.key}.json"
    assert len(far.asked) <= 6, far.asked  # not one for each record
    far.asked.clear()
    compared(hosts("one"))
    assert far.asked == []


def test_a_location_that_fails_leaves_the_numbers_and_says_so(far, hosts, first: PairResult):
    far.fault = down
    one = hosts("one")
    found = compared(one)
    assert found.rows() == first.rows()
    notice = found.notices[-1]
    assert notice.code == "not_shared"
    assert "faulty://team/store" in notice.detail
    assert "s3cret" not in notice.detail
    assert "s3cret" not in one.shown
    assert [k.key for k in one.kept()] == [first.key]
    assert one.trouble is not None
    assert "s3cret" not in str(one.trouble)
    far.fault = None
    assert compared(hosts("one")).notices == first.notices  # now it is uploaded
    assert api.load_result(first.key, hosts("two")).rows() == first.rows()


@pytest.mark.parametrize("failing", ["write", "read", "list"])
def test_each_kind_of_request_may_fail(far, hosts, first: PairResult, failing: str):
    def fault(verb: str, path: str) -> None:
        if verb == failing:
            raise PermissionError(path)

    far.fault = fault
    assert compared(hosts("one")).rows() == first.rows()
    far.fault = None
    assert compared(hosts("one")).notices == first.notices
    far.fault = fault
    assert compared(hosts("two")).rows() == first.rows()


def test_a_dead_network_is_asked_once_and_not_at_every_poll(far, hosts):
    far.fault = down
    store = hosts("one")
    for _ in range(20):
        assert store.read_json("0" * 64, "manifest") is None
    assert len(far.asked) == 1


def spoil(far: type[Faulty], suffix: str, how: str) -> None:
    path = next(path for path in far.store if path.endswith(suffix))
    content = bytearray(far.store[path].getvalue())
    if how == "flipped":
        content[len(content) // 2] ^= 1
    elif how == "cut":
        del content[len(content) // 2 :]
    elif how == "gone":
        far().rm_file(path)
        return
    far().pipe_file(path, bytes(content))


@pytest.mark.parametrize("suffix", [".rlviz.zip", ".json"])
@pytest.mark.parametrize("how", ["flipped", "cut", "gone"])
def test_damage_there_is_absence_and_is_mended(far, hosts, first: PairResult, suffix: str, how: str):
    compared(hosts("one"))
    spoil(far, suffix, how)
    two = hosts("two")
    assert load(two, first.key) is None
    assert compared(two).rows() == first.rows()
    assert api.load_result(first.key, hosts("three")).rows() == first.rows()
    if suffix == ".rlviz.zip":  # its head still names it: it is replaced
        assert sum(name.endswith(".rlviz.zip") for name in objects(far)) == 1


def test_what_is_evicted_here_stays_there_and_comes_back(far, hosts, first: PairResult, monkeypatch):
    compared(hosts("one"))
    one = hosts("one", max_bytes=1)
    assert one.evict().results == 1
    assert first.key in [k.key for k in one.kept()]
    refuse_reading(monkeypatch)
    assert api.load_result(first.key, hosts("one")).rows() == first.rows()


def test_a_record_lost_here_is_fetched(far, hosts, first: PairResult, monkeypatch):
    one = hosts("one")
    compared(one)
    for path in list((one.root / "records").rglob("*.safetensors"))[::2]:
        path.unlink()
    refuse_reading(monkeypatch)
    found = load(hosts("one"), first.key)
    assert found is not None
    assert found.complete
    assert found.rows() == first.rows()


def test_removed_by_hand_is_removed_for_everybody(far, hosts, first: PairResult):
    one = hosts("one")
    compared(one)
    one.remove(first.key)
    assert not objects(far)
    assert hosts("two").kept() == ()


def test_links_and_previews_travel(far, hosts):
    one, key = hosts("one"), "ab" * 32
    one.write_link("0123456789", {"page": "angles"})
    models = {side: {"shareable": True} for side in ("base", "tuned")}
    one.write_json(key, "preview", {"seed": 3, **models})
    assert one.land(key) is None
    two = hosts("two")
    assert two.read_link("0123456789") == {"page": "angles"}
    assert two.read_json(key, "preview") == {"seed": 3, **models}
    assert list(two.results()) == []
    assert two.read_link("9876543210") is None


def test_folders_of_this_host_are_not_uploaded(far, hosts, tmp_path: Path):
    base, tuned = tiny_pair(tmp_path)
    found = api.compare(base, tuned, probes=("coordinate",), store=hosts("one"))
    assert found.complete
    assert not objects(far)


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("s3://key:secret@bucket/x", "pip install s3fs"),
        ("gs://bucket/x", "pip install gcsfs"),
        ("nowhere://bucket/x", "fsspec"),
        ("reference://key:secret@bucket/x", "fsspec"),
    ],
)
def test_a_url_that_cannot_be_opened_says_what_to_do(url: str, match: str):
    with pytest.raises(InvalidInput, match=match) as caught:
        Store(url)
    assert "secret" not in str(caught.value)


def test_a_driver_that_connects_at_once_and_cannot_names_the_store():
    with pytest.raises(Offline, match=r"ftp://127\.0\.0\.1:1/x: the shared store cannot be opened"):
        Store("ftp://me:secret@127.0.0.1:1/x")


def test_store_from_the_environment_may_be_a_url(far, monkeypatch, tmp_path: Path):
    monkeypatch.setenv("RLVIZ_STORE", URL)
    assert Store().url == URL
    assert Store().root.is_relative_to(tmp_path)
    assert Store(f"file://{tmp_path}/a%20b").root == tmp_path / "a b"


EVICTING = """
import sys, time
from rlviz.store import Store

store = Store(sys.argv[1], max_bytes=1)
print("ready", flush=True)
ended = time.monotonic() + float(sys.argv[2])
while time.monotonic() < ended:
    store.evict()
"""


@pytest.mark.parametrize("where", ["local", "shared"])
def test_two_processes_one_evicts_what_the_other_reads(tmp_path: Path, first: PairResult, where: str):
    """Whatever is evicted in whichever moment, each reading gives right numbers, or says that they are not there."""
    url = str(tmp_path / "store") if where == "local" else f"local://{tmp_path}/bucket"
    compared(Store(url))
    evicting = subprocess.Popen(
        [sys.executable, "-c", EVICTING, url, "5"],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert evicting.stdout is not None
    evicting.stdout.readline()
    complete = 0
    while evicting.poll() is None:
        store = Store(url)
        found = load(store, first.key)
        if found is not None and found.complete:
            assert found.rows() == first.rows()
            complete += 1
        assert all(k.key == first.key for k in store.kept())
        if where == "local":
            assert compared(store).rows() == first.rows()
    assert evicting.returncode == 0
    assert where == "local" or complete > 0
    assert compared(Store(url)).rows() == first.rows()
    shutil.rmtree(tmp_path / "store", ignore_errors=True)
