"""Ranged reads of a hub file: the exact bytes or a sentence, whatever the hub and its storage do."""

from __future__ import annotations

import logging
import pickle
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rlviz.errors import Cancelled, Gated, InvalidInput, NotFound, Offline, Unavailable, UnsupportedCheckpoint
from rlviz.sources import transport
from rlviz.sources.parts import Landing, Part
from rlviz.sources.ranges import GAP_BYTES, HubReader
from rlviz.sources.refusals import HubModel
from rlviz.sources.transport import Patience
from tests.fakehub import FakeHub, Fault, Request
from tests.fakehub.server import Pace

QUICK = Patience(attempts=4, first_wait_s=0.002, longest_wait_s=0.01, connect_s=2.0, read_s=2.0)
PART = 64 * 1024
FILE = "model.safetensors"
CONTENT = np.random.default_rng(7).bytes(10 * PART + 123)
TOKEN = "hf_secret"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "repo"
    path.mkdir()
    (path / FILE).write_bytes(CONTENT)
    (path / "config.json").write_bytes(b'{"a": 1}')
    return path


@pytest.fixture
def hub(folder: Path) -> Iterator[FakeHub]:
    with FakeHub(tokens={TOKEN: ["org/name"]}) as hub:
        hub.add_repo("org/name", folder)
        yield hub


def reader_of(hub: FakeHub, *, token: str | None = None, cancel: threading.Event | None = None, **options) -> HubReader:
    repo = hub.repos["org/name"]
    commit = repo.revisions["main"]
    sizes = {name: blob.size for name, blob in repo.commits[commit].items()}
    model = HubModel("org/name", "org/name", None, hub.endpoint, token)
    return HubReader(model, commit, sizes, cancel=cancel, **{"patience": QUICK, "part_bytes": PART, **options})


def read(reader: HubReader, offset: int = 0, nbytes: int = len(CONTENT)) -> bytes:
    buffer = bytearray(nbytes)
    reader.read_into(FILE, offset, memoryview(buffer))
    return bytes(buffer)


def storage(request: Request) -> bool:
    return request.origin == "cdn"


def heads(hub: FakeHub) -> int:
    return sum(request.method == "HEAD" for request in hub.requests)


# --- the bytes --------------------------------------------------------------------------------------------------


def test_a_read_in_parts_is_the_file_and_asks_where_it_is_once(hub: FakeHub) -> None:
    reader = reader_of(hub)
    assert read(reader) == CONTENT
    assert heads(hub) == 1
    assert sum(storage(request) for request in hub.requests) == 11
    assert reader.bytes_read == len(CONTENT)


@pytest.mark.parametrize(("offset", "nbytes"), [(0, 1), (3, 17), (PART - 1, 2), (5, 3 * PART), (len(CONTENT) - 1, 1)])
def test_any_range_is_the_same_stretch_of_the_file(hub: FakeHub, offset: int, nbytes: int) -> None:
    assert read(reader_of(hub), offset, nbytes) == CONTENT[offset : offset + nbytes]


def test_no_more_bytes_are_sent_than_asked_for(hub: FakeHub) -> None:
    read(reader_of(hub), 1000, 5000)
    assert sum(request.nbytes for request in hub.requests) == 5000


def scatter(reader: HubReader, spans: list[tuple[int, int]]) -> list[bytes]:
    buffers = [bytearray(nbytes) for _, nbytes in spans]
    reader.read_ranges(FILE, [(offset, memoryview(buffer)) for (offset, _), buffer in zip(spans, buffers, strict=True)])
    return [bytes(buffer) for buffer in buffers]


def test_scattered_ranges_are_read_in_any_order_overlapping_or_empty(hub: FakeHub) -> None:
    rng = np.random.default_rng(1)
    spans = [(int(rng.integers(len(CONTENT) - 5000)), int(rng.integers(5000))) for _ in range(60)]
    spans += [(0, 3 * PART + 7), (len(CONTENT), 0), spans[0]]
    assert scatter(reader_of(hub), spans) == [CONTENT[offset : offset + nbytes] for offset, nbytes in spans]


def test_neighbours_share_a_request_and_distant_ranges_do_not(hub: FakeHub) -> None:
    reader = reader_of(hub, part_bytes=1 << 20)
    spans = [(1000, 500), (1500, 500), (2000 + GAP_BYTES, 10), (2011 + 2 * GAP_BYTES, 10)]
    assert scatter(reader, spans) == [CONTENT[offset : offset + nbytes] for offset, nbytes in spans]
    asked = sorted(request.range or "" for request in hub.requests if storage(request))
    last = 2011 + 2 * GAP_BYTES
    assert asked == sorted([f"bytes=1000-{2009 + GAP_BYTES}", f"bytes={last}-{last + 9}"])


@pytest.mark.parametrize("fault", [Fault(truncate=1500, times=2), Fault(reset=True, times=2)], ids=["cut", "reset"])
def test_a_broken_scatter_goes_on_and_fills_every_buffer(hub: FakeHub, fault: Fault) -> None:
    hub.inject(storage, fault)
    spans = [(100 + 700 * i, 600) for i in range(12)]
    assert scatter(reader_of(hub), spans) == [CONTENT[offset : offset + nbytes] for offset, nbytes in spans]


def test_requests_and_timings_are_counted(hub: FakeHub) -> None:
    hub.latency_s = 0.01
    hub.inject(storage, Fault(status=503, times=1))
    reader = reader_of(hub)
    read(reader, 0, 2 * PART)
    assert reader.requests == len(hub.requests) == 4  # where it is, two parts, one of them twice
    assert [nbytes for nbytes, _ in reader.timings] == [PART, PART]
    assert all(seconds >= 0.01 for _, seconds in reader.timings)


def test_a_typed_buffer_is_filled_as_bytes(hub: FakeHub) -> None:
    codes = np.zeros(100, dtype="<u2")
    reader_of(hub).read_into(FILE, 10, memoryview(codes))
    assert codes.tobytes() == CONTENT[10:210]


def test_an_empty_read_asks_nothing(hub: FakeHub) -> None:
    assert read(reader_of(hub), 5, 0) == b""
    assert hub.requests == []


def test_threads_share_a_reader(hub: FakeHub) -> None:
    reader = reader_of(hub)
    spans = [(i * 9000, 20_000) for i in range(30)]
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda span: read(reader, *span), spans))
    assert answers == [CONTENT[offset : offset + nbytes] for offset, nbytes in spans]
    assert heads(hub) == 1


def test_a_small_file_comes_from_the_hub_itself(hub: FakeHub) -> None:
    assert reader_of(hub).read_file("config.json") == b'{"a": 1}'
    assert {request.origin for request in hub.requests} == {"hub"}


def test_a_reader_survives_pickling_for_worker_processes(hub: FakeHub) -> None:
    copy = pickle.loads(pickle.dumps(reader_of(hub, token=TOKEN)))
    assert read(copy, 7, 1000) == CONTENT[7:1007]


def test_a_range_outside_the_file_is_refused_before_any_request(hub: FakeHub) -> None:
    with pytest.raises(UnsupportedCheckpoint, match=f"lie outside the file of {len(CONTENT)} bytes"):
        read(reader_of(hub), len(CONTENT) - 3, 4)
    with pytest.raises(UnsupportedCheckpoint, match="is not a file of this model"):
        reader_of(hub).read_into("other.safetensors", 0, memoryview(bytearray(1)))
    assert hub.requests == []


# --- the token and the link -------------------------------------------------------------------------------------


def test_the_token_goes_to_the_hub_and_never_to_its_storage(hub: FakeHub) -> None:
    hub.repos["org/name"].private = True
    assert read(reader_of(hub, token=TOKEN)) == CONTENT
    assert {request.authorization for request in hub.requests if request.origin == "hub"} == {f"Bearer {TOKEN}"}
    assert {request.authorization for request in hub.requests if storage(request)} == {None}


def test_an_expired_link_is_asked_for_again_in_the_middle_of_a_read(hub: FakeHub) -> None:
    reader = reader_of(hub)
    read(reader, 0, 100)
    hub.expire_links()
    assert read(reader) == CONTENT
    assert any(request.status == 403 for request in hub.requests)
    assert heads(hub) == 2


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_storage_that_refuses_every_link_ends_in_a_sentence(hub: FakeHub, status: int) -> None:
    hub.inject(storage, Fault(status=status))
    with pytest.raises(Unavailable) as error:
        read(reader_of(hub), 0, 10)
    assert str(error.value) == (
        f"org/name: {FILE}: the hub's storage refuses its own link ({status}). "
        "Try again, or fetch it with 'hf download org/name' and give the folder."
    )
    assert sum(storage(request) for request in hub.requests) == QUICK.attempts


def test_links_and_tokens_stay_out_of_logs_and_errors(hub: FakeHub, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    reader = reader_of(hub, token=TOKEN)
    read(reader)
    hub.inject(storage, Fault(reset=True))
    with pytest.raises(Offline) as error:
        read(reader, 0, 10)
    chain = f"{error.value!r} {error.value.__cause__!r} {error.value.__context__!r}"
    for secret in ("X-Amz", TOKEN):
        assert secret not in caplog.text
        assert secret not in chain
        assert secret not in repr(reader)
    assert "urllib3.connectionpool" in {record.name for record in caplog.records}  # the log was really watched


def test_a_renamed_model_is_followed_on_the_hub_with_the_token(hub: FakeHub) -> None:
    reader = reader_of(hub, token=TOKEN)
    hub.rename("org/name", "new/name")
    assert read(reader, 0, 100) == CONTENT[:100]
    assert all(request.authorization for request in hub.requests if request.method == "HEAD")


def test_an_answer_for_another_commit_is_refused(hub: FakeHub) -> None:
    location = {"Location": "http://localhost:1/x", "X-Repo-Commit": "b" * 40}
    hub.inject(lambda request: request.method == "HEAD", Fault(status=302, headers=location))
    with pytest.raises(Unavailable, match=r"asked for commit .*, the hub answers with b{40}"):
        read(reader_of(hub), 0, 10)


def test_a_file_of_another_size_than_listed_is_refused(hub: FakeHub) -> None:
    commit = hub.repos["org/name"].revisions["main"]
    headers = {"Location": "http://localhost:1/x", "X-Repo-Commit": commit, "X-Linked-Size": "5"}
    hub.inject(lambda request: request.method == "HEAD", Fault(status=302, headers=headers))
    with pytest.raises(UnsupportedCheckpoint, match=f"the hub lists {len(CONTENT)} bytes and offers 5"):
        read(reader_of(hub), 0, 10)


# --- answers that are not the range -----------------------------------------------------------------------------


def test_a_server_that_ignores_ranges_is_refused_without_reading_the_body(hub: FakeHub) -> None:
    hub.inject(storage, Fault(ignore_range=True))
    reader = reader_of(hub)
    with pytest.raises(Unavailable, match="the server ignores range requests"):
        read(reader, 0, 1000)
    assert reader.bytes_read == 0


@pytest.mark.parametrize(
    "told", [f"bytes 1-1000/{len(CONTENT)}", "bytes 0-999/99", f"bytes 0-999,5-6/{len(CONTENT)}", "nonsense"]
)
def test_a_wrong_content_range_is_refused(hub: FakeHub, told: str) -> None:
    hub.inject(storage, Fault(content_range=told))
    reader = reader_of(hub)
    with pytest.raises(Unavailable) as error:
        read(reader, 0, 1000)
    assert f"asked for bytes 0-999/{len(CONTENT)}, the server answers {told}" in str(error.value)
    assert reader.bytes_read == 0


def test_an_announced_length_that_is_too_short_is_refused(hub: FakeHub) -> None:
    hub.inject(storage, Fault(shorten=1, content_range=f"bytes 0-999/{len(CONTENT)}"))
    with pytest.raises(Unavailable, match="999 bytes announced where 1000 were asked for"):
        read(reader_of(hub), 0, 1000)


def test_a_compressed_answer_is_refused(hub: FakeHub) -> None:
    headers = {"Content-Range": f"bytes 0-9/{len(CONTENT)}", "Content-Encoding": "gzip"}
    hub.inject(storage, Fault(status=206, headers=headers, body=b"0123456789"))
    with pytest.raises(Unavailable, match="the answer is compressed"):
        read(reader_of(hub), 0, 10)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(ignore_range=True, times=1),
        Fault(content_range="bytes 0-1/2", times=1),
        Fault(truncate=1000, times=3),
        Fault(shorten=5, times=2),
        Fault(reset=True, times=2),
        Fault(status=408, times=1),
        Fault(status=429, times=2),
        Fault(status=500, times=1),
        Fault(status=503, times=3),
        Fault(status=403, times=1),
        Fault(status=418, times=1),
    ],
    ids=lambda fault: ", ".join(
        f"{name}={getattr(fault, name)}" for name in fault.__slots__ if name != "then" and getattr(fault, name)
    ),
)
@pytest.mark.parametrize("where", ["one part", "any part"])
def test_a_passing_fault_costs_a_retry_and_no_byte(hub: FakeHub, fault: Fault, where: str) -> None:
    hub.inject(
        lambda request: storage(request) and (where == "any part" or request.range == f"bytes=0-{PART - 1}"), fault
    )
    assert read(reader_of(hub)) == CONTENT


def test_a_truncated_part_goes_on_where_it_broke_off(hub: FakeHub) -> None:
    hub.inject(storage, Fault(truncate=1000, times=1))
    assert read(reader_of(hub), 0, 5000) == CONTENT[:5000]
    assert [request.range for request in hub.requests if storage(request)] == ["bytes=0-4999", "bytes=1000-4999"]


def test_a_body_that_always_breaks_off_ends_in_a_sentence(hub: FakeHub) -> None:
    hub.inject(storage, Fault(truncate=0))
    with pytest.raises(Offline, match=r"localhost cannot be reached \(ProtocolError\)"):
        read(reader_of(hub))


def test_an_answer_that_trickles_counts_as_stalled(hub: FakeHub) -> None:
    hub.bytes_per_s = PART / 0.2
    impatient = replace(QUICK, attempts=1, read_s=1.0, slowest_bytes_per_s=1e9)
    with pytest.raises(Unavailable, match="the answer stalled"):
        read(reader_of(hub, patience=impatient, part_bytes=1 << 20))


# --- refusals, rate limits, an absent hub -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"RateLimit": '"resolvers";r=0;t=1', "RateLimit-Policy": '"fixed window";"resolvers";q=500;w=300'},
        {"Retry-After": "1"},
    ],
    ids=["RateLimit", "Retry-After"],
)
def test_a_rate_limit_is_waited_for(hub: FakeHub, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(HubReader, "_pause", lambda self, seconds, landing: waits.append(seconds))
    hub.inject(storage, Fault(status=429, headers=headers, times=2))
    assert read(reader_of(hub), 0, 100) == CONTENT[:100]
    assert waits == [1.0, 1.0]


def test_a_rate_limit_beyond_patience_is_told_at_once(hub: FakeHub) -> None:
    hub.inject(lambda request: request.method == "HEAD", Fault(status=429, headers={"Retry-After": "4000"}))
    with pytest.raises(Unavailable) as error:
        read(reader_of(hub), 0, 100)
    assert str(error.value) == (
        "org/name: the hub limits the rate of requests (429). "
        "Try again in 4000 s, or set HF_TOKEN: with a token the limit is higher."
    )
    assert heads(hub) == 1


def test_a_broken_hub_ends_in_a_sentence(hub: FakeHub) -> None:
    hub.inject(lambda request: True, Fault(status=502))
    with pytest.raises(Unavailable, match=r"the hub keeps answering 502\. Try again in a few minutes"):
        read(reader_of(hub), 0, 100)
    assert heads(hub) == QUICK.attempts


def test_a_gated_model_says_where_the_licence_is(hub: FakeHub) -> None:
    hub.repos["org/name"].gated = True
    with pytest.raises(Gated, match=f"Accept the licence at {hub.endpoint}/org/name and set HF_TOKEN"):
        read(reader_of(hub), 0, 100)
    assert heads(hub) == 1
    assert read(reader_of(hub, token=TOKEN), 0, 100) == CONTENT[:100]


def test_a_model_that_vanishes_while_it_is_read(hub: FakeHub) -> None:
    reader = reader_of(hub)
    read(reader, 0, 10)
    hub.repos.clear()
    hub.expire_links()
    with pytest.raises(NotFound, match="does not exist on the hub, or is private"):
        read(reader, 0, 10)


def test_a_hub_that_is_down_is_offline_after_bounded_tries(folder: Path) -> None:
    with FakeHub() as hub:
        hub.add_repo("org/name", folder)
        reader = reader_of(hub)
        read(reader, 0, 10)
    started = time.monotonic()
    with pytest.raises(Offline) as error:
        read(reader)
    assert str(error.value) == (
        "org/name: localhost cannot be reached (NewConnectionError). "
        "Check the connection and try again, or give a local folder."
    )
    assert time.monotonic() - started < QUICK.attempts * (QUICK.connect_s + QUICK.longest_wait_s) + 5


def test_an_outage_is_sat_out_by_a_lasting_patience(hub: FakeHub) -> None:
    hub.inject(storage, Fault(status=503, times=QUICK.attempts + 3))
    with pytest.raises(Unavailable, match="the hub keeps answering 503"):
        read(reader_of(hub), 0, 10)
    assert read(reader_of(hub, patience=replace(QUICK, outage_s=30.0)), 0, 10) == CONTENT[:10]


def test_waiting_does_not_mend_a_wrong_answer(hub: FakeHub) -> None:
    hub.inject(storage, Fault(ignore_range=True))
    with pytest.raises(Unavailable, match="the server ignores range requests"):
        read(reader_of(hub, patience=replace(QUICK, outage_s=3600.0)), 0, 10)


def test_the_patience_of_a_run_is_set_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert transport.lasting_patience().outage_s == 300
    monkeypatch.setenv("RLVIZ_PATIENCE", "12")
    assert transport.lasting_patience().outage_s == 12
    monkeypatch.setenv("RLVIZ_PATIENCE", "forever")
    with pytest.raises(InvalidInput, match="RLVIZ_PATIENCE: 'forever' is not a number of seconds"):
        transport.lasting_patience()


# --- cancelling -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["cancel", "close"])
def test_a_stalled_read_ends_when_cancelled_and_writes_no_more(hub: FakeHub, how: str) -> None:
    hub.inject(lambda request: storage(request) and request.range != "bytes=0-9", Fault(delay_s=1.0))
    cancel = threading.Event()
    reader = reader_of(hub, cancel=cancel)
    read(reader, 0, 10)
    buffer = bytearray(3 * PART)
    threading.Timer(0.1, cancel.set if how == "cancel" else reader.close).start()
    with pytest.raises(Cancelled, match="org/name: reading was cancelled"):
        reader.read_into(FILE, 0, memoryview(buffer))
    assert not any(storage(request) and request.nbytes > 10 for request in hub.requests)
    transport.pool().workers.submit(lambda: None).result()
    time.sleep(1.2)  # the late answers arrive, and find the buffer shut
    assert bytes(buffer) == bytes(3 * PART)
    with pytest.raises(Cancelled):
        read(reader, 0, 10)


def test_a_shut_door_lets_no_late_bytes_in() -> None:
    buffer, landing = bytearray(4), Landing()
    part = Part(FILE, 0, 4, [(0, memoryview(buffer))])
    landing.write(part, b"ab")
    landing.shut()
    landing.write(part, b"cd")
    assert (bytes(buffer), part.done) == (b"ab\0\0", 2)


def test_one_failing_part_ends_the_read(hub: FakeHub) -> None:
    hub.inject(lambda request: request.range == f"bytes={PART}-{2 * PART - 1}", Fault(status=418))
    with pytest.raises(Unavailable, match="the server answers 418 to a range request"):
        read(reader_of(hub))


# --- the ceiling ------------------------------------------------------------------------------------------------


def test_connections_have_one_ceiling_for_all_readers(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLVIZ_CONNECTIONS", "3")
    monkeypatch.setattr(transport, "_pool", None)
    hub.latency_s = 0.01
    running, most, lock = 0, 0, threading.Lock()

    class Counted(Pace):
        def wait(self, sent: int) -> None:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.01)
            with lock:
                running -= 1

    monkeypatch.setattr(hub, "pace", Counted)
    readers = [reader_of(hub) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        assert all(content == CONTENT for content in threads.map(read, readers))
    assert most <= 3
    transport.pool().workers.shutdown()
    transport.pool().direct.clear()


@pytest.mark.parametrize("text", ["0", "-1", "many"])
def test_a_nonsensical_ceiling_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLVIZ_CONNECTIONS", text)
    with pytest.raises(InvalidInput, match=r"RLVIZ_CONNECTIONS: .* is not a positive number"):
        transport.connection_ceiling()


# --- proxies ----------------------------------------------------------------------------------------------------


def test_the_proxy_of_the_environment_is_used_but_for_hosts_it_exempts(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr(transport, "_pool", None)
    with pytest.raises(Offline, match=r"\(ProxyError\)"):
        read(reader_of(hub), 0, 10)
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    assert read(reader_of(hub), 0, 10) == CONTENT[:10]


def test_a_proxy_of_another_kind_is_refused_by_name(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:9")
    monkeypatch.setattr(transport, "_pool", None)
    with pytest.raises(InvalidInput, match="http_proxy: this is not the address of an HTTP proxy"):
        read(reader_of(hub), 0, 10)
