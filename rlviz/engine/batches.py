"""Which steps share one reading of the checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rlviz.engine.plan import Step, compared_bytes
from rlviz.types import Side, TensorMatch

BOTH: frozenset[Side] = frozenset({"base", "tuned"})
SMALL_S = 1.0  # of computing: a batch is worked off by one worker, and must not keep the others waiting


@dataclass(frozen=True, slots=True)
class Task:
    """Steps on one tensor, done one after the other."""

    steps: tuple[Step, ...]

    @property
    def match(self) -> TensorMatch:
        return self.steps[0].match

    @property
    def nbytes(self) -> int:
        """Bytes of both sides."""
        return compared_bytes(self.match)

    @property
    def rereads(self) -> frozenset[Side]:
        """Sides read more than once."""
        return self.steps[0].cost.rereads if len(self.steps) == 1 else BOTH

    @property
    def seconds(self) -> float:
        return sum(step.cost.seconds for step in self.steps)


Batch = tuple[Task, ...]


def one_by_one(pending: Iterable[Step]) -> list[Batch]:
    """Local files: each step reads for itself, in the plan's order; the page cache is shared anyway."""
    return [(Task((step,)),) for step in pending]


def by_tensor(pending: Iterable[Step], batch_bytes: int) -> list[Batch]:
    """Over a network: all steps of a tensor share its bytes, and small tensors that lie together share requests.

    The large ones come first and in the plan's order; small ones follow in file order.
    """
    steps: dict[str, list[Step]] = {}
    for step in pending:
        steps.setdefault(step.match.name, []).append(step)
    tasks = [Task(tuple(own)) for own in steps.values()]
    small = [task for task in tasks if task.nbytes <= batch_bytes and task.seconds <= SMALL_S]
    chosen = set(map(id, small))
    return [*((task,) for task in tasks if id(task) not in chosen), *_packed(small, batch_bytes)]


def _packed(small: Sequence[Task], batch_bytes: int) -> list[Batch]:
    batches: list[list[Task]] = []
    nbytes = seconds = float("inf")
    for task in sorted(small, key=lambda task: (task.match.tuned.shard, task.match.tuned.offset)):
        if nbytes + task.nbytes > batch_bytes or seconds + task.seconds > SMALL_S:
            batches.append([])
            nbytes = seconds = 0.0
        batches[-1].append(task)
        nbytes, seconds = nbytes + task.nbytes, seconds + task.seconds
    return [tuple(batch) for batch in batches]
