"""The norm at which several runs from one base are compared: whose updates shrink, and by how much."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import sqrt

from rlviz.errors import InvalidInput
from rlviz.sources import Pairing
from rlviz.store import Store
from rlviz.store.load import measured_tensors
from rlviz.types import Measured


def update_energies(measured: Iterable[Measured]) -> dict[str, float]:
    """``‖ΔW‖²_F`` by name, of the matrices whose whole spectrum was measured."""
    spectra = {m.name: m.records["spectrum"].fields for m in measured if "spectrum" in m.records}
    whole = {name: fields for name, fields in spectra.items() if "singular_values_update" in fields}
    return {name: float(fields["update_energy"]) for name, fields in whole.items()}


def scales(own: Mapping[str, float], others: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """``c = min_runs ‖ΔW‖_F / ‖ΔW_own‖_F`` by matrix, in (0, 1].

    Parameters
    ----------
    own, others : mappings from name to ‖ΔW‖²_F
        Matrices that some run lacks, or leaves as they were, have no common norm and are left out.

    Examples
    --------
    >>> scales({"a": 4.0, "b": 1.0, "c": 9.0}, [{"a": 1.0, "b": 2.0, "c": 0.0}])
    {'a': 0.5, 'b': 1.0}
    """
    runs = [own, *others]
    shared = [name for name in own if all(run.get(name, 0.0) > 0 for run in runs)]
    return {name: sqrt(min(run[name] for run in runs) / own[name]) for name in shared}


def scales_beside(store: Store, pairing: Pairing, keys: Sequence[str]) -> dict[str, float]:
    """`scales` of this pair's update against those of the kept results `keys`, its own among them; below 1 only.

    Raises
    ------
    InvalidInput
        Where one of them is not in the store, or none is of this pair.
    """
    own: dict[str, float] | None = None
    others: list[dict[str, float]] = []
    this = tuple(side.identity.commit for side in (pairing.base, pairing.tuned))
    for key in keys:
        manifest = store.read_json(key, "manifest")
        if manifest is None or not manifest["complete"]:
            raise InvalidInput(key[:12], "is no finished result of this store", "Compare the models one by one first.")
        found = update_energies(measured_tensors(store, manifest)[0])
        if (manifest["base"]["commit"], manifest["tuned"]["commit"]) == this:
            own = found
        else:
            others.append(found)
    if own is None:
        problem = "is not among the results whose norms are to be matched"
        raise InvalidInput(pairing.tuned.identity.ref, problem, "Compare it with its base first.")
    return {name: scale for name, scale in scales(own, others).items() if scale < 1}
