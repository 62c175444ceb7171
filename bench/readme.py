"""Rewrites the generated parts of the README: `make docs` for the metric table, `make bench` for the figures."""

from __future__ import annotations

from pathlib import Path

UNITS = {"": "–", "rad": "deg"}  # exported columns hold angles in degrees
README = Path(__file__).parent.parent / "README.md"


def section(name: str) -> str:
    """What stands between the markers of a generated section now."""
    return README.read_text().split(f"<!-- {name}:begin -->")[1].split(f"<!-- {name}:end -->")[0].strip()


def write_section(name: str, content: str) -> None:
    """Replace it."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    text = README.read_text()
    head, tail = text.split(begin)[0], text.split(end)[1]
    README.write_text(f"{head}{begin}\n{content}\n{end}{tail}")


def metric_table() -> str:
    """One row per metric of the registry."""
    from rlviz.metrics import METRICS

    rows = [
        f"| `{m.column}` | {m.meaning} | {UNITS.get(m.unit, m.unit)} | {m.chance_text or '–'} | {m.source} |"
        for m in METRICS.values()
    ]
    return "\n".join(["| column | what it says | unit | chance | source |", "|---|---|---|---|---|", *rows])


if __name__ == "__main__":
    write_section("metrics", metric_table())
