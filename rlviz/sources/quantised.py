"""Which weights are stored quantised, told from the tensors that stand beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rlviz.sources.wrappers import canonical_name
from rlviz.types import TensorMeta

# a one-byte `weight` beside one of these holds codes, not values (FP8 block scales, LLM.int8)
_SCALES = ("weight_scale", "weight_scale_inv", "weight_scale_2", "scale", "SCB")
# the presence of one of these alone says how the weight is stored
_PACKED = {"qweight": "GPTQ or AWQ", "weight_packed": "compressed-tensors"}
_PIECES = frozenset(
    # all `weight_…` too, see weight_of
    ("weight", "qweight", "qzeros", "scales", "g_idx", "SCB", "scale", "input_scale")
)
_BITSANDBYTES = (".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map")


def quantised_stems(tensors: Mapping[str, TensorMeta]) -> dict[str, str]:
    """Modules stored quantised: canonical module name to the tensor that shows it."""
    stems: dict[str, str] = {}
    for name, meta in tensors.items():
        stem, _, leaf = name.rpartition(".")
        if leaf in _PACKED:
            stems.setdefault(canonical_name(f"{stem}.weight"), name)
        elif name.endswith(_BITSANDBYTES):
            stems.setdefault(canonical_name(name.rpartition(".")[0]), name)
        elif leaf == "weight" and meta.nbytes == meta.n:
            scale = next((f"{stem}.{s}" for s in _SCALES if f"{stem}.{s}" in tensors), None)
            if scale:
                stems.setdefault(canonical_name(name), scale)
        elif leaf.endswith("_blocks") and name.removesuffix("_blocks") + "_scales" in tensors:  # MXFP4
            stems.setdefault(canonical_name(name.removesuffix("_blocks")), name)
    return stems


def weight_of(name: str) -> Iterable[str]:
    """Canonical names of the weights this tensor may be a piece of, itself included."""
    stem, _, leaf = name.rpartition(".")
    own = [name]
    if leaf in _PIECES or leaf.startswith("weight_"):
        own.append(f"{stem}.weight")
    if ".weight." in name:  # bitsandbytes: q_proj.weight.absmax, .quant_state.…
        own.append(name[: name.index(".weight.")] + ".weight")
    own += [name.removesuffix(end) for end in ("_blocks", "_scales") if name.endswith(end)]
    return [canonical_name(candidate) for candidate in own]
