"""How to cite a comparison: which models at which commits, measured when and by what, and whose measures are shown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rlviz.metrics import METRICS
from rlviz.probes import probe_called
from rlviz.published import published_values
from rlviz.result import PairResult
from rlviz.version import __version__

_ARXIV = re.compile(r"arXiv:\d{4}\.\d{5}")
_NAMED = re.compile(r"[A-Z]\w+ and [A-Z]\w+ \d{4}")
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "{": r"\textbraceleft{}",  # BibTeX counts braces, escaped ones too
    "}": r"\textbraceright{}",
    **{c: f"\\{c}" for c in "$&#_%"},
}


@dataclass(frozen=True, slots=True)
class Citation:
    """The same citation twice: as a paragraph, and as BibTeX."""

    text: str
    bibtex: str


def cite(results: Sequence[PairResult], link: str = "") -> Citation:
    """How to cite these results of one base; `link` is the page or permalink that shows them."""
    return Citation(_text(results, link), _bibtex(results, link))


def measures(results: Sequence[PairResult]) -> tuple[str, ...]:
    """The papers whose measures or published values these results are shown with, in order of first use.

    arXiv identifiers as ``arXiv:2511.08567``, older work as authors and year.
    """
    probes = {probe for r in results for m in r.measured for probe in m.records}
    texts = [metric.source for metric in METRICS.values() if metric.probe in probes]
    texts += [value.source for value in published_values("update_sparsity_bf16")]
    found = (match for text in texts for match in (*_ARXIV.findall(text), *_NAMED.findall(text)))
    return tuple(dict.fromkeys(found))


def measured_by(result: PairResult) -> dict[str, int]:
    """Version of each probe whose records the result holds."""
    return {name: record.version for m in result.measured for name, record in m.records.items()}


def outdated(result: PairResult) -> dict[str, tuple[int, int]]:
    """Probes whose records another release made: version of the record, version of this release."""
    versions = ((name, version, probe_called(name).version) for name, version in measured_by(result).items())
    return {name: (then, now) for name, then, now in versions if then != now}


def _made(result: PairResult) -> tuple[str, str]:
    """The release that measured a result and the day it did; the release may differ from the present one."""
    p = result.provenance
    return (p.rlviz, p.started[:10]) if p else (__version__, "unfinished")


def _instrument(result: PairResult) -> str:
    versions = ", ".join(f"{name} v{version}" for name, version in measured_by(result).items())
    release, day = _made(result)
    return f"rlviz {release} (probes: {versions or 'none'}), {day}"


def _text(results: Sequence[PairResult], link: str) -> str:
    base = results[0].base.pinned_ref
    lines = [f"{r.tuned.pinned_ref} compared with {base}, measured by {_instrument(r)}." for r in results]
    lines += [link] if link else []
    lines.append(f"Measures and published values: {', '.join(measures(results))}.")
    return "\n".join(lines)


def _bibtex(results: Sequence[PairResult], link: str) -> str:
    entries = [_comparison_entry(r, link) for r in results]
    entries += [_paper_entry(paper) for paper in measures(results) if _ARXIV.fullmatch(paper)]
    return "\n\n".join(entries)


def _comparison_entry(result: PairResult, link: str) -> str:
    release, day = _made(result)
    tuned, base = (_latex(identity.pinned_ref) for identity in (result.tuned, result.base))
    fields = {
        "title": f"{{Weight update from {base} to {tuned}}}",
        "note": f"{{Measured by {_latex(_instrument(result))}; result {result.key[:12]}}}",
        "version": f"{{{release}}}",
        **({"year": f"{{{day[:4]}}}"} if day[:4].isdecimal() else {}),
        # \url{} takes the characters of an address as they are; braces and backslashes are encoded in one
        **({"howpublished": f"{{\\url{{{link}}}}}"} if link else {}),
    }
    return _entry("misc", f"rlviz:{result.key[:12]}", fields)


def _paper_entry(paper: str) -> str:
    number = paper.removeprefix("arXiv:")
    fields = {
        "eprint": f"{{{number}}}",
        "archivePrefix": "{arXiv}",
        "url": f"{{https://arxiv.org/abs/{number}}}",
    }
    return _entry("misc", paper, fields)


def _entry(kind: str, key: str, fields: dict[str, str]) -> str:
    body = ",\n".join(f"  {name} = {value}" for name, value in fields.items())
    return f"@{kind}{{{key},\n{body}\n}}"


def _latex(text: str) -> str:
    return "".join(_LATEX.get(c, c) for c in text)
