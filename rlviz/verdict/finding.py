"""What a verdict is made of. A finding answers one question with one sentence, and names the figure it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Gate = Literal["I", "II", "III"]
Figure = Literal[
    "budget", "orders", "isotropic", "wedin", "ranks", "tightness", "published", "ulp", "flips", "overlaps", "odds"
]

GATES: Mapping[Gate, str] = {
    "I": "Gate I: the KL anchor keeps the step short",
    "II": "Gate II: geometry decides where a short step goes",
    "III": "Gate III: precision decides what of it is seen",
}

FIGURES: Mapping[Figure, str] = {
    "budget": "Length of the update and the budget it implies",
    "orders": "Rotation and spectral shift among published orders",
    "isotropic": "The update against isotropic noise of its length",
    "wedin": "Rotation against Wedin's bound",
    "ranks": "The same over k, in one matrix",
    "tightness": "How much of the perturbation bounds is used",
    "published": "The share unchanged among published ones",
    "ulp": "How far weights moved in bf16",
    "flips": "Which weights flipped",
    "overlaps": "Where changes lie, against rounding alone",
    "odds": "Where changes lie among weights of equal rounding",
}
"""Titles of the figures that findings rest on; the key is the anchor on the page."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is tested, the same for every pair.

    Attributes
    ----------
    gate : the gate it belongs to
    text : str
        Answered by yes or no.
    test : str
        What the number is held to: published range, bound or null, and the threshold.
    figure : str
        Key of `FIGURES`: where the numbers can be seen.
    """

    gate: Gate
    text: str
    test: str
    figure: Figure

    def open(self, why: str) -> Finding:
        """The finding where it cannot be told."""
        return Finding(self, why, None)


@dataclass(frozen=True, slots=True)
class Finding:
    """One test and its outcome on one pair.

    Attributes
    ----------
    asked : the question
    sentence : str
        The outcome with its numbers, and over how many matrices.
    holds : bool or None
        The answer; None where it cannot be told: not measured, undefined, or without a threshold.
    value : str
        The number that decides, for a table.
    beyond : str
        In what and by how much a null is exceeded, empty where none is.
    """

    asked: Question
    sentence: str
    holds: bool | None
    value: str = ""
    beyond: str = ""

    @property
    def gate(self) -> Gate:
        return self.asked.gate

    @property
    def question(self) -> str:
        return self.asked.text

    @property
    def figure(self) -> Figure:
        return self.asked.figure


@dataclass(frozen=True, slots=True)
class Clause:
    """A part of the answer, and the figure it rests on; None for what was not measured."""

    text: str
    figure: Figure | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one pair shows.

    `clauses` make up one sentence for the top of a page, after `prelude`; `limits` is what cannot be concluded from any
    of it, `method` says what "significantly" means in the findings.
    """

    clauses: tuple[Clause, ...]
    findings: tuple[Finding, ...] = ()
    limits: tuple[str, ...] = ()
    method: str = ""
    prelude: str = ""

    @property
    def answer(self) -> str:
        """The sentence."""
        return f"{self.prelude}{'; '.join(clause.text for clause in self.clauses)}."
