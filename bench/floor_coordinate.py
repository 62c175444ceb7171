#!/usr/bin/env python3
"""The floor of any comparison: read both files once and compare them, on one thread.

    python floor_coordinate.py BASE TUNED [--window-kib 1024] [--repeat 5]

Every pair of equally named .safetensors files of two folders, as 16-bit words, `pread` window by window and NumPy
`!=`, nothing else. Prints one JSON line: seconds (median over the repeats, the files in the page cache), the number
of differing words and of bytes.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import numpy as np


def differing_words(base, tuned, window):
    """Differing 16-bit words of two files of equal length, and the bytes read."""
    files = [os.open(path, os.O_RDONLY) for path in (base, tuned)]
    try:
        size = min(os.fstat(file).st_size for file in files) // 2 * 2
        differing = 0
        for start in range(0, size, window):
            length = min(window, size - start)
            left, right = (np.frombuffer(os.pread(file, length, start), np.uint16) for file in files)
            differing += int(np.count_nonzero(left != right))
        return differing, 2 * size
    finally:
        for file in files:
            os.close(file)


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
    seconds = []
    for _ in range(args.repeat + 1):  # the first fills the page cache
        started = time.perf_counter()
        found = [differing_words(args.base / name, args.tuned / name, args.window_kib << 10) for name in names]
        seconds.append(time.perf_counter() - started)
    differing, read = (sum(column) for column in zip(*found, strict=True))
    print(json.dumps({"seconds": statistics.median(seconds[1:]), "differing_words": differing, "bytes": read}))


if __name__ == "__main__":
    main()
