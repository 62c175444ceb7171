"""What is asked of a host, what it allows, and what it says of a job: frozen values, no behaviour."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Literal

from rlviz.access import hosted
from rlviz.engine import Progress
from rlviz.engine.request import positive_int
from rlviz.errors import RlvizError
from rlviz.probes import PROBE_NAMES

Kind = Literal["compare", "preview"]
State = Literal["queued", "running", "waiting", "done", "failed", "cancelled"]
KINDS: tuple[Kind, ...] = ("compare", "preview")
UNDER_WAY: tuple[State, ...] = ("queued", "running")
ALIVE: tuple[State, ...] = (*UNDER_WAY, "waiting")

GB = 1_000_000_000
# A page asks for one preview per tuned model where it asks for one exact run: its own lane, and more of them.
PREVIEWS_AT_ONCE = 2
PREVIEWS_PER_JOB = 4
_KEY = re.compile(r"[0-9A-Za-z_-]{1,128}")


@dataclass(frozen=True, slots=True)
class Work:
    """One exact comparison or one preview, as the worker is told it. Equal keys mean equal work.

    Attributes
    ----------
    key : the name the result has in the store; hex, as `api.locate` and `api.locate_preview` give it
    base, tuned : references, pinned wherever possible, so that work resumed tomorrow is the same work
    nbytes : bytes of weights it will read, 0 where unknown; counted towards the visitor's day
    model_bytes : size of the larger of the two models, 0 where unknown
    expected_s : wall seconds it is expected to take, before anything was measured
    needs_token : whether it can be read with the visitor's own token only, which is never written down
    budget_minutes, probes, tensors, beside : of an exact run, see `engine.Request`
    budget, seed : of a preview
    """

    key: str
    base: str
    tuned: str
    kind: Kind = "compare"
    probes: tuple[str, ...] = PROBE_NAMES
    tensors: str = "*"
    budget_minutes: float | None = None
    budget: int | str = "64MiB"
    seed: int = 0
    nbytes: int = 0
    model_bytes: int = 0
    expected_s: float | None = None
    needs_token: bool = False
    beside: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _KEY.fullmatch(self.key):
            raise ValueError(f"{self.key!r} cannot name a job")

    @property
    def subject(self) -> str:
        """What sentences about the job begin with."""
        return f"{self.tuned} against {self.base}"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a host allows; None is no limit.

    Attributes
    ----------
    at_once : exact runs at the same time, over all visitors
    per_visitor : exact runs of one visitor, queued and running
    queued : exact runs queued on the whole host (and as many previews)
    bytes_per_day : weight bytes read for one visitor in 24 hours
    model_bytes : the larger model of an exact run
    """

    at_once: int = 1
    per_visitor: int | None = None
    queued: int | None = None
    bytes_per_day: int | None = None
    model_bytes: int | None = None

    @classmethod
    def from_environment(cls) -> Limits:
        """`RLVIZ_JOBS`, `RLVIZ_MAX_JOBS`, `RLVIZ_MAX_QUEUE`, `RLVIZ_MAX_GB_PER_DAY`, `RLVIZ_MAX_MODEL_GB`.

        A host that serves visitors has defaults for all; on one's own machine there are none.
        """
        per_day, model = _limit("RLVIZ_MAX_GB_PER_DAY", 400), _limit("RLVIZ_MAX_MODEL_GB", 200)
        return cls(
            at_once=positive_int("RLVIZ_JOBS", os.environ.get("RLVIZ_JOBS", "1")),
            per_visitor=_limit("RLVIZ_MAX_JOBS", 2),
            queued=_limit("RLVIZ_MAX_QUEUE", 20),
            bytes_per_day=None if per_day is None else per_day * GB,
            model_bytes=None if model is None else model * GB,
        )

    def slots(self, kind: Kind) -> int:
        """How many of a kind run at the same time."""
        return self.at_once if kind == "compare" else PREVIEWS_AT_ONCE

    def share(self, kind: Kind) -> int | None:
        """How many of a kind one visitor may have under way."""
        if self.per_visitor is None:
            return None
        return self.per_visitor * (1 if kind == "compare" else PREVIEWS_PER_JOB)


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A snapshot.

    Attributes
    ----------
    state : "waiting" where only its visitor's own token can read the models, and they are not here
    ahead : jobs to be finished before a queued one starts
    progress : of an exact run, once it has said something
    rounds : of a preview, those in the store so far
    error : why it failed
    watchers : pages that show it now
    stopping : it has been asked to stop, and has not yet
    """

    key: str
    kind: Kind
    state: State
    ahead: int = 0
    progress: Progress | None = None
    rounds: int = 0
    error: RlvizError | None = None
    expected_s: float | None = None
    watchers: int = 0
    stopping: bool = False

    @property
    def under_way(self) -> bool:
        """Whether it will still change by itself."""
        return self.state in UNDER_WAY

    @property
    def bytes_per_s(self) -> float:
        """Weight bytes read per second since the run began; 0 before it has."""
        progress = self.progress
        return progress.bytes_read / progress.elapsed_s if progress and progress.elapsed_s > 0 else 0.0

    @property
    def eta_s(self) -> float | None:
        """Seconds left: what was expected at first, what is measured once a fifth is done, between them a mixture.

        None where nothing was expected and nothing measured. The first steps are the cheap ones, and a run that
        extrapolates from them alone promises too much or too little by multiples.
        """
        elapsed = self.progress.elapsed_s if self.progress else 0.0
        measured = self.progress.eta_s if self.progress else None
        if self.expected_s is None:
            return measured
        left = max(self.expected_s - elapsed, 0.0)
        if measured is None:
            return left
        trust = min(1.0, 5 * elapsed / (elapsed + measured)) if elapsed > 0 else 0.0
        return trust * measured + (1 - trust) * left


def _limit(name: str, default: int) -> int | None:
    if text := os.environ.get(name):
        return positive_int(name, text)
    return default if hosted() else None
