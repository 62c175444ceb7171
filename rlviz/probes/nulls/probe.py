"""The `nulls` probe (metric specification, section 3): what chance alone does, simulated on these weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

from rlviz.probes.base import Cost, Fields, NotMeasurable, ProbeParams, TensorPair
from rlviz.probes.masks.probe import ALPHAS, MasksProbe, preset_ranks
from rlviz.probes.nulls.streams import Purpose, stream
from rlviz.probes.spectrum.blocks import HELD_ENTRIES
from rlviz.probes.spectrum.probe import SpectrumProbe
from rlviz.rounding import EXACT_IN_BF16
from rlviz.types import TensorMatch

SHUFFLES = 5
DRAWS = 3
SHUFFLED_ENTRIES = 32 << 20  # a shuffle holds the whole matrix
SIMULATED_ENTRIES = 64 << 20  # beyond it (vocabularies) the draws would cost more than all other spectra

# measured on one AVX2 core: histograms, and per entry the update, the levels of one k, one shuffle, one standard normal
HISTOGRAMS_S = 0.02
UPDATE_S_PER_ENTRY = 1.0e-8
LEVELS_S_PER_ENTRY = 1.2e-8
SHUFFLE_S_PER_ENTRY = 1.5e-8
NORMAL_S = 1.2e-8
NOISE_BYTES = 24 << 20  # one block of noise in both precisions, and with the base


class NullsProbe:
    """Seeded simulations of what chance does on this W0: the update's entries shuffled, and isotropic noise.

    *Shuffles*, where the tuned side is stored finer than bf16 (and holds values that bf16 does not) and the matrix has
    at most 32 Mi entries: the entries of ΔW permuted, added to W0 in float64 and rounded once to bf16. *Draws*, on a
    sample of matrices of at most 64 Mi entries, one per module and shape, from the middle layer: Gaussian noise of
    exactly ‖ΔW‖_F, through the spectrum probe's own comparison. Where neither applies a matrix is not measured.

    Parameters: `k_max` and `method` as of the spectrum probe, whose base record is shared ("leading" has no draws);
    `seed`; `shuffles` and `draws`, how many of each. The random numbers depend on seed and tensor name only.

    `run` fields of the shuffles (n of them; P ranks, A fractions as of the masks probe), absent where none were made:

    - `k` int64 ``[P]``, `alpha` float64 ``[A]``
    - `size_principal`, `size_principal_not_low` int64 ``[P, A]``, `size_low` int64 ``[A]``: entries of each mask
    - `observed_changed` int64, `observed_principal`, … : changed under the bf16 lens, altogether and in each mask
    - `shuffle_changed` int64 ``[n]``, `shuffle_principal`, `shuffle_principal_not_low` int64 ``[n, P, A]``,
      `shuffle_low` int64 ``[n, A]``: the same of each shuffle
    - `shuffle_dispersion_row`, `_column` float64 ``[n]``; NaN where none or all changed

    Fields of the draws (D of them; P' ranks: 1 to 128 in doublings, 96, `preset_k` of the spectrum probe, and last the
    largest that k is clamped to, K), absent where none were made:

    - `update_energy`, `base_energy` float64: ‖ΔW‖²_F and ‖W0‖²_F
    - `isotropic_shift` float64 ``[D]``: ``Σ (σ_i(W0 + ΔW') − σ_i(W0))²``
    - `isotropic_singular_values_update`, `isotropic_singular_values_tuned` float64 ``[D, r]``: σ(ΔW'), σ(W0 + ΔW')
    - `isotropic_angles_left`, `_right` float32 ``[D, P', K]``: all angles (rad), ascending, NaN beyond k
    - `isotropic_k` int64 ``[P']``; `isotropic_max_angle_left`, `isotropic_mean_angle_left` (rad),
      `isotropic_rotation_left` (mean sine), `isotropic_energy_principal`, `isotropic_energy_left`, and so on for the
      right side: float64 ``[D, P']``
    """

    name = "nulls"
    version = 1
    base_probe = "spectrum"

    def defaults(self) -> ProbeParams:
        """Those of the spectrum probe, seed 0, five shuffles and three draws."""
        return {"k_max": 128, "method": "exact", "seed": 0, "shuffles": SHUFFLES, "draws": DRAWS}

    def applies(self, match: TensorMatch) -> bool:
        """Floating-point matrices only."""
        return MasksProbe().applies(match)

    def tailored(self, matches: Iterable[TensorMatch], params: ProbeParams) -> Mapping[str, ProbeParams]:
        """Parameters by tensor name: draws on the sample only, and no tensor for which nothing is left to do."""
        matches = list(matches)
        chosen = sampled(matches)
        own = {m.name: {**params, "draws": params["draws"] if m.name in chosen else 0} for m in matches}
        return {m.name: own[m.name] for m in matches if own[m.name]["draws"] or shuffles(m)}

    def cost(self, match: TensorMatch, params: ProbeParams) -> Cost:
        """Shuffles hold the matrix; a draw costs a comparison of spectra, and its noise."""
        entries, ranks = match.n, preset_ranks(int(params["k_max"]), min(match.shape))
        seconds, memory = 1e-4, 1 << 20
        if int(params["shuffles"]) and shuffles(match):
            per_entry = LEVELS_S_PER_ENTRY * len(ranks) + SHUFFLE_S_PER_ENTRY * int(params["shuffles"])
            seconds += HISTOGRAMS_S + (UPDATE_S_PER_ENTRY + per_entry) * entries
            memory = max(memory, MasksProbe().cost(match, params).memory_bytes + entries * (14 + len(ranks)))
        if int(params["draws"]) and params["method"] == "exact":
            spectrum = SpectrumProbe().cost(match, params)
            seconds += int(params["draws"]) * (spectrum.seconds + 4 * NORMAL_S * entries)
            held = 8 * entries if entries <= HELD_ENTRIES else 0
            memory = max(memory, spectrum.memory_bytes + held + NOISE_BYTES)
        return Cost(memory, seconds)

    def run_base(self, pair: TensorPair, params: ProbeParams) -> Fields | None:
        """The spectrum probe's, see `base_probe`."""
        return None

    def run(self, pair: TensorPair, params: ProbeParams, base: Fields | None) -> Fields:
        """Simulate one pair. Raises `NotMeasurable` where a side holds NaN or infinity, or the base no direction."""
        if base is None:
            raise ValueError("the nulls probe starts from the spectrum probe's base record")
        ranks = preset_ranks(base["basis"].shape[1], min(pair.d_out, pair.d_in))
        if not ranks:
            raise NotMeasurable("no_directions", f"{pair.match.name}: the base is zero; it has no principal part.")
        named = partial(stream, int(params["seed"]), pair.match.name)
        fields: Fields = {}
        if int(params["shuffles"]) and shuffles(pair.match):
            from rlviz.probes.nulls import shuffle  # numba only where something is shuffled

            streams = [partial(named, Purpose.SHUFFLE, i) for i in range(int(params["shuffles"]))]
            fields |= shuffle.shuffled(pair, base["basis"], ranks, ALPHAS, streams)
        if int(params["draws"]) and params["method"] == "exact":
            from rlviz.probes.nulls import isotropic

            draws = [partial(named, Purpose.ISOTROPIC, i) for i in range(int(params["draws"]))]
            fields |= isotropic.simulated(pair, base, params, draws)
        return fields


def shuffles(match: TensorMatch) -> bool:
    """Whether a pair may hold an update that bf16 has not rounded, and is small enough to be held whole."""
    return match.tuned.dtype not in EXACT_IN_BF16 and match.n <= SHUFFLED_ENTRIES


def sampled(matches: Iterable[TensorMatch]) -> frozenset[str]:
    """Names of the matrices on which isotropic noise is simulated: of every module and shape the middle one by layer.

    Vocabulary-sized matrices (over 64 Mi entries) are left out.
    """
    alike: dict[tuple[str, tuple[int, ...]], list[TensorMatch]] = {}
    for match in matches:
        if match.n <= SIMULATED_ENTRIES:
            alike.setdefault((match.base.module, match.shape), []).append(match)
    return frozenset(sorted(group, key=_place)[len(group) // 2].name for group in alike.values())


def _place(match: TensorMatch) -> tuple[int, int, str]:
    layer, expert = match.base.layer, match.base.expert
    return (-1 if layer is None else layer, -1 if expert is None else expert, match.name)


PROBE = NullsProbe()
