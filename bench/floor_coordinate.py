#!/usr/bin/env python3
"""The floor of any comparison: read both files once and compare them, on one thread.

    python floor_coordinate.py BASE TUNED [--window-kib 1024] [--repeat 5]

Every pair of equally named .safetensors files of two folders, as 16-bit words, window by window and NumPy `!=`,
nothing else. Prints one JSON line, medians over the repeats with the files in the page cache: `seconds_pread`, a
fresh buffer for every `os.pread` (at the mercy of the allocator: 2.5× apart on one machine), and `seconds_preadv`,
the same into two reused buffers (the strictest floor).
"""

import argparse
import json
import os
import statistics
import time
from contextlib import closing
from pathlib import Path

import numpy as np


class Fresh:
    """`os.pread` into a new bytes object each time."""

    def __init__(self, path, window):
        self.file = os.open(path, os.O_RDONLY)

    def words(self, start, length):
        return np.frombuffer(os.pread(self.file, length, start), np.uint16)

    def close(self):
        os.close(self.file)


class Reused(Fresh):
    """`os.preadv` into one buffer."""

    def __init__(self, path, window):
        super().__init__(path, window)
        self.buffer = np.empty(window, np.uint8)

    def words(self, start, length):
        piece = self.buffer[:length]
        os.preadv(self.file, [memoryview(piece)], start)
        return piece.view(np.uint16)


def differing_words(reader, base, tuned, window):
    size = min(base.stat().st_size, tuned.stat().st_size) // 2 * 2
    differing = 0
    with closing(reader(base, window)) as left, closing(reader(tuned, window)) as right:
        for start in range(0, size, window):
            length = min(window, size - start)
            differing += int(np.count_nonzero(left.words(start, length) != right.words(start, length)))
    return differing


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("tuned", type=Path)
    parser.add_argument("--window-kib", type=int, default=1024)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    names = sorted(path.name for path in args.base.glob("*.safetensors") if (args.tuned / path.name).exists())
    if not names:
        parser.error(f"{args.base} and {args.tuned} share no .safetensors file")
    seconds = {Fresh: [], Reused: []}
    for _ in range(args.repeat + 1):  # the first fills the page cache; the two take turns
        for reader, times in seconds.items():
            started = time.perf_counter()
            differing = sum(
                differing_words(reader, args.base / name, args.tuned / name, args.window_kib << 10) for name in names
            )
            times.append(time.perf_counter() - started)
    fresh, reused = (statistics.median(times[1:]) for times in seconds.values())
    print(json.dumps({"seconds_pread": fresh, "seconds_preadv": reused, "differing_words": differing}))


if __name__ == "__main__":
    main()
