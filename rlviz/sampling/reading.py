"""Units from both files into counts: all ranges of a round in flight together, both models side by side."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlviz.dtypes import ELEMENT_TYPES, to_float64
from rlviz.sampling.sample import Sample
from rlviz.sources import Checkpoint, Pairing
from rlviz.sources.ranges import GAP_BYTES, HubReader
from rlviz.types import LENSES, LinkSpeed, Side, TensorMeta

IN_FLIGHT_BYTES = 32 << 20
"""Of both models, per piece of a round; one piece is counted while the next is on its way."""

_SIDES: tuple[Side, Side] = ("base", "tuned")
_READS_AT_ONCE = 64  # one thread waits per shard and side; the connections have a ceiling of their own


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """One unit to be read: entries ``start … stop - 1`` of a tensor."""

    sample: Sample
    stratum: int
    start: int
    stop: int

    def nbytes(self, side: Side) -> int:
        """Bytes on one side."""
        return (self.stop - self.start) * ELEMENT_TYPES[_meta(self, side).dtype].itemsize

    def offset(self, side: Side) -> int:
        """First byte in the shard file."""
        meta = _meta(self, side)
        return meta.offset + self.start * ELEMENT_TYPES[meta.dtype].itemsize


def _meta(draw: Draw, side: Side) -> TensorMeta:
    match = draw.sample.grid.match
    return match.base if side == "base" else match.tuned


class Traffic:
    """What has been read since it was made: weight bytes per model, requests of both.

    A hub's reader counts for itself, gaps between units and retries included; for other readers units are counted.
    """

    def __init__(self, pairing: Pairing) -> None:
        self._hubs = {side: hub for side in _SIDES if (hub := _hub_reader(_checkpoint(pairing, side)))}
        self._before = {side: (hub.bytes_read, hub.requests) for side, hub in self._hubs.items()}
        self._counted: dict[Side, tuple[int, int]] = dict.fromkeys(_SIDES, (0, 0))

    def add(self, draw: Draw) -> None:
        """Note that a unit was read of both models."""
        for side, (nbytes, requests) in self._counted.items():
            self._counted[side] = nbytes + draw.nbytes(side), requests + 1

    def _of(self, side: Side) -> tuple[int, int]:
        if side not in self._hubs:
            return self._counted[side]
        hub, (nbytes, requests) = self._hubs[side], self._before[side]
        return hub.bytes_read - nbytes, hub.requests - requests

    @property
    def nbytes(self) -> int:
        """Bytes of the model of which more were read."""
        return max(self._of(side)[0] for side in _SIDES)

    @property
    def requests(self) -> int:
        """Requests for weights of both models."""
        return sum(self._of(side)[1] for side in _SIDES)

    @property
    def timings(self) -> list[tuple[int, float]]:
        """Bytes and seconds of the latest requests over a network."""
        return [timing for hub in self._hubs.values() for timing in hub.timings]


def _hub_reader(checkpoint: Checkpoint) -> HubReader | None:
    return checkpoint.reader if isinstance(checkpoint.reader, HubReader) else None


def merged_bytes(draws: Sequence[Draw], side: Side, remote: bool) -> int:
    """Bytes that reading these units takes: over a network neighbours share a request, the gap between included."""
    if not remote:
        return sum(draw.nbytes(side) for draw in draws)
    by_shard: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for draw in draws:
        by_shard[_meta(draw, side).shard].append((draw.offset(side), draw.nbytes(side)))
    total = 0
    for ranges in by_shard.values():
        end = -GAP_BYTES - 1
        for offset, nbytes in sorted(ranges):
            gap = offset - end
            total += nbytes + (max(gap, -nbytes) if gap <= GAP_BYTES else 0)
            end = max(end, offset + nbytes)
    return total


def read(pairing: Pairing, draws: Sequence[Draw], traffic: Traffic) -> Callable[[], None]:
    """Put the units in flight; the call returned waits for them and counts each into its sample, in the order given."""
    pieces = list(_pieces(draws))
    threads = ThreadPoolExecutor(_READS_AT_ONCE, thread_name_prefix="rlviz-preview")
    first = _start(threads, pairing, pieces[0])

    def finish() -> None:
        with _shut_after(threads):
            under_way = [first]
            for i, piece in enumerate(pieces):
                if i + 1 < len(pieces):
                    under_way.append(_start(threads, pairing, pieces[i + 1]))
                codes, futures = under_way.pop(0)
                for future in futures:
                    future.result()
                _count(piece, codes)
                for draw in piece:
                    traffic.add(draw)

    return finish


@contextmanager
def _shut_after(threads: ThreadPoolExecutor) -> Generator[None]:
    """After an error nobody waits for the other reads, which end when the reader is closed."""
    try:
        yield
    except BaseException:
        threads.shutdown(wait=False, cancel_futures=True)
        raise
    threads.shutdown()


def _pieces(draws: Sequence[Draw]) -> Iterator[list[Draw]]:
    piece: list[Draw] = []
    nbytes = 0
    for draw in draws:
        size = draw.nbytes("base") + draw.nbytes("tuned")
        if piece and nbytes + size > IN_FLIGHT_BYTES:
            yield piece
            piece, nbytes = [], 0
        piece.append(draw)
        nbytes += size
    if piece:
        yield piece


Codes = list[tuple[NDArray[np.generic], NDArray[np.generic]]]


def _start(threads: ThreadPoolExecutor, pairing: Pairing, draws: Sequence[Draw]) -> tuple[Codes, list[Future[None]]]:
    """Put all ranges in flight; the codes are there once every future is done."""
    codes: Codes = []
    for draw in draws:
        base, tuned = (np.empty(draw.stop - draw.start, ELEMENT_TYPES[_meta(draw, s).dtype].codes) for s in _SIDES)
        codes.append((base, tuned))
    futures: list[Future[None]] = []
    ranges: dict[tuple[Side, str], list[tuple[int, memoryview]]] = defaultdict(list)
    for draw, pair in zip(draws, codes, strict=True):
        for side, own in zip(_SIDES, pair, strict=True):
            if own.size:
                ranges[side, _meta(draw, side).shard].append((draw.offset(side), own.data.cast("B")))
    for (side, shard), wanted in ranges.items():
        futures.append(threads.submit(_checkpoint(pairing, side).reader.read_ranges, shard, wanted))
    return codes, futures


def _checkpoint(pairing: Pairing, side: Side) -> Checkpoint:
    return pairing.base if side == "base" else pairing.tuned


def _count(draws: Sequence[Draw], codes: Codes) -> None:
    """Add the exact counts of each unit to its sample."""
    from rlviz.probes.coordinate import count  # numba only where something is counted
    from rlviz.probes.coordinate.lenses import rounding_table

    _scale(draws, codes)
    for draw, (base, tuned) in zip(draws, codes, strict=True):
        sample, match = draw.sample, draw.sample.grid.match
        table = rounding_table(sample.amax)
        fields = count.count_piece(base, tuned, (match.base.dtype, match.tuned.dtype), table)
        sample.strata.append(draw.stratum)
        sample.entries.append(int(fields["n"]))
        changed = fields["n_changed"][: len(LENSES)]
        sample.counts.append(np.concatenate([changed, fields["ulp_counts"]]).astype(np.int64))
        sample.squares.append((float(fields["update_norm_sq"]), float(fields["base_norm_sq"])))
        sample.read += base.size
        sample.rows += -(-base.size // max(sample.grid.width, 1))


def _scale(draws: Sequence[Draw], codes: Codes) -> None:
    """Fix the scale of the fp8 lenses where it is not known yet.

    The lenses are scaled by the largest magnitude of the base tensor, which a sample does not know; the largest of
    the first units read stands in for it, and stays, since counts under different scales do not add up. Between two
    powers of two the scale only moves the grid along the mantissa, so the share of changed entries hardly depends
    on it; entries above the stand-in count as unchanged.
    """
    found: dict[int, float] = defaultdict(float)
    for draw, (base, _) in zip(draws, codes, strict=True):
        if draw.sample.amax == 0.0 and base.size:
            magnitudes = np.abs(to_float64(base, draw.sample.grid.match.base.dtype))
            finite = magnitudes[np.isfinite(magnitudes)]
            found[id(draw.sample)] = max(found[id(draw.sample)], float(finite.max(initial=0.0)))
    for draw in draws:
        draw.sample.amax = draw.sample.amax or found.get(id(draw.sample), 0.0)


def fitted_speed(timings: Sequence[tuple[int, float]], assumed: LinkSpeed, connections: int) -> LinkSpeed | None:
    """Latency and speed from ``(bytes, seconds)`` of requests, by least squares; None where there are too few.

    Small requests of much the same size hardly tell the two apart: where the slope is less than twice its standard
    error, the speed is the assumed one, and the rest of the time is latency.
    """
    if len(timings) < 8:
        return None
    nbytes, seconds = np.array(timings, float).T
    spread = nbytes - nbytes.mean()
    squares = float(spread @ spread)
    slope = float(spread @ seconds) / squares if squares else 0.0
    left = seconds - seconds.mean() - slope * spread
    error = float(np.sqrt(left @ left / (len(timings) - 2) / squares)) if squares else 0.0
    if slope <= 2 * error:
        slope = 1 / assumed.bytes_per_s
    return LinkSpeed(max(float(seconds.mean() - slope * nbytes.mean()), 0.0), 1 / slope, connections)
