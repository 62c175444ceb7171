"""`PairResult`: the records of one base-tuned pair with their identities, and how metrics are asked of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import degrees, isfinite, nan
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rlviz.dtypes import ELEMENT_TYPES
from rlviz.errors import InvalidInput
from rlviz.metrics import METRICS, Metric
from rlviz.metrics.coordinate import n_changed, n_compared, n_nonfinite, n_overflow
from rlviz.metrics.spectrum import spectra
from rlviz.store import Store
from rlviz.store.load import measured_tensors
from rlviz.types import LENSES, Measured, MetricParams, ModelIdentity, Notice, Provenance, Skipped

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1
DEFAULTS = MetricParams()


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Singular values of one matrix, each descending, float64 ``[r]``."""

    base: NDArray[np.float64]
    tuned: NDArray[np.float64]
    update: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Grid:
    """A metric by module (rows) and layer (columns); NaN where nothing was compared.

    `names` holds, per cell, the tensors it pools; layer None is the column of tensors outside any layer.
    """

    layers: tuple[int | None, ...]
    modules: tuple[str, ...]
    values: NDArray[np.float64]
    names: Mapping[tuple[str, int | None], tuple[str, ...]]


@dataclass(frozen=True, eq=False)
class PairResult:
    """What a comparison returns: identities, records, what was skipped, and where it came from.

    Attributes
    ----------
    measured : tuple of Measured
        Compared tensors in checkpoint order; a tensor whose records have not landed yet has fewer records.
    skipped : tuple of Skipped
        Everything not compared, or not by one probe, with the reason.
    total : int
        Tensors in the union of both checkpoints, so that "291 of 310" can be said.
    complete : bool
        False while a run is under way or was interrupted.
    """

    key: str
    base: ModelIdentity
    tuned: ModelIdentity
    measured: tuple[Measured, ...]
    skipped: tuple[Skipped, ...]
    notices: tuple[Notice, ...]
    provenance: Provenance | None
    total: int
    complete: bool = True

    @cached_property
    def _index(self) -> dict[str, Measured]:
        return {m.name: m for m in self.measured}

    def by_name(self, name: str) -> Measured:
        """One tensor; raises `InvalidInput` with the closest names when there is none such."""
        if name in self._index:
            return self._index[name]
        from difflib import get_close_matches

        near = get_close_matches(name, self._index, 3)
        hint = f"Did you mean {', '.join(near)}?" if near else "`.table()` lists the names."
        raise InvalidInput(name, "no such tensor was compared", hint)

    def value(self, key: str, name: str, params: MetricParams = DEFAULTS) -> float:
        """One metric of one tensor; NaN where undefined."""
        return metric_called(key).of(self.by_name(name), params)

    def pooled(
        self, key: str, params: MetricParams = DEFAULTS, where: Callable[[Measured], bool] | None = None
    ) -> float:
        """One metric over all tensors (or those that `where` accepts): see `Metric.pooled`."""
        return metric_called(key).pooled((m for m in self.floats if where is None or where(m)), params)

    @cached_property
    def floats(self) -> tuple[Measured, ...]:
        """Tensors of floating-point type: integers and booleans are shown apart and never pooled."""
        return tuple(m for m in self.measured if is_float(m))

    @cached_property
    def counted(self) -> bool:
        """Whether the changes of every tensor are counted, though spectra may still be missing."""
        return self.complete or all("coordinate" in m.records for m in self.measured)

    def restricted(self, where: Callable[[Measured], bool]) -> PairResult:
        """The same result over fewer tensors: what linear layers alone say, for instance."""
        return replace(self, measured=tuple(m for m in self.measured if where(m)))

    def grid(self, key: str, params: MetricParams = DEFAULTS) -> Grid:
        """The metric on the module × layer grid; experts and other tensors sharing a cell are pooled."""
        cells: dict[tuple[str, int | None], list[Measured]] = {}
        for m in self.floats:
            cells.setdefault((m.module, m.layer), []).append(m)
        modules = tuple(dict.fromkeys(module for module, _ in cells))
        layers = tuple(sorted({layer for _, layer in cells}, key=lambda x: (x is None, x or 0)))
        metric = metric_called(key)
        values = np.full((len(modules), len(layers)), nan)
        for (module, layer), group in cells.items():
            values[modules.index(module), layers.index(layer)] = metric.pooled(group, params)
        return Grid(layers, modules, values, {cell: tuple(m.name for m in group) for cell, group in cells.items()})

    def spectrum(self, name: str) -> Spectrum:
        """Singular values of one matrix; raises `InvalidInput` where its spectrum was not measured in full."""
        measured = self.by_name(name)
        found = spectra(measured) if "spectrum" in measured.records else None
        if found is None:
            raise InvalidInput(name, "its full spectrum was not measured", "Run with --probes coordinate,spectrum.")
        return Spectrum(*found)

    def rows(self, params: MetricParams = DEFAULTS) -> list[dict[str, Any]]:
        """One dict per tensor: identity columns, counts per lens, then every metric (NaN as None)."""
        return [tensor_row(m, params) for m in self.measured]

    def table(self, params: MetricParams = DEFAULTS) -> pd.DataFrame:
        """One row per tensor, one column per metric (angles in degrees), counts per lens as own columns."""
        import pandas as pd

        return pd.DataFrame([flat_row(row) for row in self.rows(params)])

    def summary(self, params: MetricParams = DEFAULTS) -> dict[str, Any]:
        """Pooled numbers: counts, sparsity per lens, and each metric over all tensors it applies to."""
        counted = [m for m in self.floats if "coordinate" in m.records]
        n = sum(n_compared(m) for m in counted)
        changed = {lens.value: sum(n_changed(m, lens) for m in counted) for lens in LENSES}
        summary: dict[str, Any] = {
            "n": n,
            "n_changed": changed,
            "update_sparsity": {lens: 1 - c / n if n else None for lens, c in changed.items()},
            "tensors_compared": len(self.measured),
            "tensors_total": self.total,
            "tensors_skipped": len({s.name for s in self.skipped}),
            "skipped_reasons": dict(Counter(s.reason for s in self.skipped)),
            "complete": self.complete,
        }
        for metric in METRICS.values():
            if metric.key != "update_sparsity":
                summary[metric.column] = exported(metric, metric.pooled(self.floats, params))
        return summary

    def to_dict(self, params: MetricParams = DEFAULTS) -> dict[str, Any]:
        """The documented JSON object (schema 1); undefined numbers are None."""
        from dataclasses import asdict

        return {
            "schema": SCHEMA,
            "base": asdict(self.base),
            "tuned": asdict(self.tuned),
            "params": {
                "lens": params.lens.value,
                "k": params.k,
                "alpha": params.alpha,
                "eta": params.eta,
                "tau": params.tau,
            },
            "summary": self.summary(params),
            "tensors": self.rows(params),
            "skipped": [asdict(s) for s in self.skipped],
            "notices": [asdict(n) for n in self.notices],
            "provenance": asdict(self.provenance) if self.provenance else None,
        }


def load(store: Store, key: str) -> PairResult | None:
    """The result kept under `key`, finished or partial; None where the store has none."""
    manifest = store.read_json(key, "manifest")
    if manifest is None:
        return None
    store.touch(key)
    measured, whole = measured_tensors(store, manifest)
    if manifest["complete"] and not whole and store.fetch(key):  # damaged or evicted here, and whole elsewhere
        measured, whole = measured_tensors(store, manifest)
    provenance = store.read_json(key, "provenance")
    return PairResult(
        key=key,
        base=ModelIdentity.kept(manifest["base"]),
        tuned=ModelIdentity.kept(manifest["tuned"]),
        measured=measured,
        skipped=tuple(Skipped(**s) for s in manifest["skipped"]),
        notices=tuple(Notice(**n) for n in manifest["notices"]),
        provenance=Provenance(**provenance) if provenance else None,
        total=manifest["total"],
        complete=manifest["complete"] and whole,
    )


def metric_called(key: str) -> Metric:
    """The metric of that name, or an `InvalidInput` that lists what there is."""
    if key not in METRICS:
        raise InvalidInput(key, "no such metric", f"There are: {', '.join(METRICS)}.")
    return METRICS[key]


def is_float(measured: Measured) -> bool:
    """Whether the tensor enters pooled numbers."""
    return ELEMENT_TYPES[measured.match.base.dtype].is_float


def exported(metric: Metric, value: float) -> float | None:
    """A value as tables and JSON hold it: degrees for angles, None where undefined."""
    if not isfinite(value):
        return None
    return degrees(value) if metric.unit == "rad" else value


def tensor_row(m: Measured, params: MetricParams) -> dict[str, Any]:
    """The export row of one tensor (see `PairResult.rows`)."""
    row: dict[str, Any] = {
        "name": m.name,
        "layer": m.layer,
        "module": m.module,
        "expert": m.match.base.expert,
        "shape": list(m.shape),
        "dtype_base": m.match.base.dtype,
        "dtype_tuned": m.match.tuned.dtype,
    }
    counted = "coordinate" in m.records
    row["n"] = n_compared(m) if counted else None
    row["n_changed"] = {lens.value: n_changed(m, lens) for lens in LENSES} if counted else None
    row["n_overflow"] = {lens.value: n_overflow(m, lens) for lens in LENSES} if counted and is_float(m) else None
    row["n_nonfinite"] = n_nonfinite(m) if counted else None
    for metric in METRICS.values():
        row[metric.column] = exported(metric, metric.of(m, params))
    return row


def flat_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row for a table: counts per lens become columns, the shape becomes text."""
    flat = {key: value for key, value in row.items() if key not in ("n_changed", "n_overflow", "shape")}
    flat["shape"] = "x".join(map(str, row["shape"]))
    for what in ("n_changed", "n_overflow"):
        counts: Mapping[str, int] = row[what] or {}
        flat |= {f"{what}_{lens}": counts.get(lens.value) for lens in LENSES}
    return flat
