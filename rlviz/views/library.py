"""What a store holds and what papers report, as table rows: one row per kept result, one per published value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from rlviz.errors import InvalidInput
from rlviz.published import PublishedValue, published_values
from rlviz.shelf import Entry
from rlviz.sources import ModelRef
from rlviz.types import Lens, ModelIdentity

LENS = Lens.BF16  # the only one papers report
HEADLINES = ("relative_update_norm", "nss", "energy_principal_enrichment")


@dataclass(frozen=True, slots=True)
class LibraryRow:
    """A kept result as a list shows it. Shares are 0 to 1; None where not measured or not yet."""

    key: str
    base: str
    tuned: str
    unchanged_bf16: float | None
    unchanged_fp32: float | None
    relative_update_norm: float | None
    nss: float | None
    energy_principal_enrichment: float | None
    state: str
    measured: datetime
    tensors: int
    probes: str
    nbytes: int


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """A published value beside what this store measured. Shares are 0 to 1.

    `key` is the kept result of the same two repositories, empty where there is none; `difference` is measured minus
    published.
    """

    base: str
    tuned: str
    method: str
    data: str
    published: float
    measured: float | None
    difference: float | None
    source: str
    note: str
    key: str

    @property
    def has_pair(self) -> bool:
        """Whether both repositories are known."""
        return bool(self.base) and "/" in self.tuned


def library_rows(entries: Sequence[Entry], search: str = "") -> list[LibraryRow]:
    """The entries in which every word of `search` occurs, in names, key, probes or state; order kept."""
    rows = [_row(entry) for entry in entries]
    words = search.casefold().split()
    return [row for row in rows if all(word in _words(row) for word in words)]


def published_rows(entries: Sequence[Entry]) -> list[PublishedRow]:
    """Every published share unchanged in bf16, with the newest finished result of the same pair over all tensors."""
    measured: dict[tuple[str, str], Entry] = {}
    for entry in entries:
        if entry.complete and entry.tensors == "*" and _share(entry.summary, LENS) is not None:
            measured.setdefault((_repo(entry.base), _repo(entry.tuned)), entry)
    values = published_values(f"update_sparsity_{LENS.value}")
    return [_published(value, measured.get((value.base, value.tuned))) for value in values]


def _row(entry: Entry) -> LibraryRow:
    summary = entry.summary or {}
    return LibraryRow(
        key=entry.key,
        base=_named(entry.base),
        tuned=_named(entry.tuned),
        unchanged_bf16=_share(summary, LENS),
        unchanged_fp32=_share(summary, Lens.FP32),
        **{key: summary.get(key) for key in HEADLINES},  # pyright: ignore[reportArgumentType]
        state=_state(entry),
        measured=entry.made,
        tensors=entry.n_tensors,
        probes=", ".join(entry.probes),
        nbytes=entry.nbytes,
    )


def _state(entry: Entry) -> str:
    remarks = [
        "finished" if entry.complete else "unfinished",
        "pinned" if entry.pinned else "",
        "" if entry.base.shareable and entry.tuned.shareable else "local only",
        "" if entry.tensors == "*" else f"only {entry.tensors}",
        "" if entry.here else "elsewhere",
    ]
    return " · ".join(remark for remark in remarks if remark)


def _share(summary: Mapping[str, object] | None, lens: Lens) -> float | None:
    shares = (summary or {}).get("update_sparsity")
    share = shares.get(lens.value) if isinstance(shares, dict) else None
    return float(share) if isinstance(share, (int, float)) else None


def _named(identity: ModelIdentity) -> str:
    """The pinned reference with seven digits of its commit."""
    return identity.pinned_ref.replace(identity.commit, identity.commit[:7]) if identity.commit else identity.ref


def _words(row: LibraryRow) -> str:
    return f"{row.key} {row.base} {row.tuned} {row.state} {row.probes}".casefold()


def _repo(identity: ModelIdentity) -> str:
    """The hub repository, empty for anything else and for a folder inside a repository."""
    try:
        ref = ModelRef.parse(identity.pinned_ref, look_here=False)
    except InvalidInput:
        return ""
    return ref.repo_id if ref.kind == "hub" and not ref.subfolder else ""


def _published(value: PublishedValue, entry: Entry | None) -> PublishedRow:
    share = _share(entry.summary, LENS) if entry else None
    return PublishedRow(
        base=value.base,
        tuned=value.tuned or value.title,
        method=value.method,
        data=value.data,
        published=value.value,
        measured=share,
        difference=None if share is None else share - value.value,
        source=value.source,
        note=value.note,
        key=entry.key if entry else "",
    )
