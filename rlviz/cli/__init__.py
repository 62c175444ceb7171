"""`python -m rlviz COMMAND`: the API from a shell. Results on stdout, progress on stderr."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rlviz.cli import compare, preview, report, reproduce, store
from rlviz.errors import InvalidInput, RlvizError

CANCELLED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (0, 2, 3, 4, 5 or 130, see the README)."""
    args = _parser().parse_args(argv)
    try:
        args.command(args)
    except RlvizError as error:
        print(f"rlviz: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("rlviz: cancelled; what had landed is kept. Run the same command to go on.", file=sys.stderr)
        return CANCELLED
    except BrokenPipeError:  # the reader of our output left, as `| head` does
        sys.stderr.close()
        return 0
    except OSError as error:  # a full disk, a missing permission: the object is in the error
        print(
            f"rlviz: {error.filename or 'file'}: {error.strerror or error}. Free it or give another path.",
            file=sys.stderr,
        )
        return InvalidInput.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rlviz",
        description="Where did post-training change a model's weights? BASE and TUNED are Hugging Face ids, URLs, "
        "demo:base|rl|sft|sft_same, or folders written ./folder.",
    )
    commands = parser.add_subparsers(required=True, metavar="plan | compare | preview | report | reproduce | store")
    for module in (compare, preview, report, reproduce, store):
        module.add_commands(commands)
    return parser
