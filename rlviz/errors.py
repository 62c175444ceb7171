"""One error type per next step. Each names its object; `str(error)` is the sentence a user reads."""

from __future__ import annotations


class RlvizError(Exception):
    """Base of all errors that are the input's or the world's fault, never a bug of ours.

    Parameters
    ----------
    subject : str
        The model, file or tensor it is about.
    problem : str
        What is wrong, without the subject.
    next_step : str
        What the reader can do now; may be empty.
    """

    exit_code = 1

    def __init__(self, subject: str, problem: str, next_step: str = "") -> None:
        super().__init__(subject, problem, next_step)
        self.subject = subject
        self.problem = problem
        self.next_step = next_step

    def __str__(self) -> str:
        sentence = f"{self.subject}: {self.problem}".rstrip(".") + "."
        return f"{sentence} {self.next_step}".strip()


class InvalidInput(RlvizError):
    """The words given are wrong: a reference, an option, a file name."""

    exit_code = 2


class Unavailable(RlvizError):
    """The checkpoint cannot be reached; the subclasses say why."""

    exit_code = 3


class NotFound(Unavailable):
    """No such model, revision, file or folder (or private: the hub does not tell them apart)."""


class Gated(Unavailable):
    """The model exists, and its licence must be accepted first."""


class Offline(Unavailable):
    """The hub cannot be reached, or offline mode is on."""


class UnsupportedCheckpoint(RlvizError):
    """The bytes are not a checkpoint we can read: hostile, truncated, or of another format."""

    exit_code = 4


class NothingComparable(RlvizError):
    """Both checkpoints were read, and no tensor of one matches a tensor of the other."""

    exit_code = 5


class OverLimit(RlvizError):
    """A host's limit stands in the way; the sentence names it."""

    exit_code = 2


class Cancelled(RlvizError):
    """Stopped on request; what had landed in the store stays there."""

    exit_code = 130
