"""`python -m rlviz`."""

from rlviz.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
