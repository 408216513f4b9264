"""Record which method, or which sum of heads, was chosen and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lort_hub.heads.search import Selection

SHOWN = 0.005
"""Least weight of the log prior, and least slope of the scales, that are written."""


@dataclass(frozen=True)
class Choice:
    """Chosen method, with the scores of all candidates on the same held-out samples.

    Attributes:
        method: Name of the chosen method in `METHODS`.
        scorer: Name of the scorer, one of `SCORERS`.
        selections: Chosen settings of each method, by name.
        scores: Score of each method with its chosen settings, on the same samples.
        errors: Standard error of each score's difference to the best one, by name.
        weights: Weight of each member of a sum of heads, by name; empty for a single method.
        tau: Weight of the negative log prior in that sum.
        slope: Change of each class's scale in it by the log of its training images.
        scales: Factor that calibrates the logits of each candidate of a sum, by name.
        validation: Source of the held-out predictions, from `Validator.describe_folds`.
    """

    method: str
    scorer: str
    selections: dict[str, Selection]
    scores: dict[str, float]
    errors: dict[str, float]
    weights: dict[str, float] = field(default_factory=dict)
    tau: float = 0.0
    slope: float = 0.0
    scales: dict[str, float] = field(default_factory=dict)
    validation: str = ""

    @property
    def reason(self) -> str:
        """Reason for the choice, in one sentence."""
        if self.weights:
            return self._reason_for_sum()
        best = max(self.scores, key=lambda name: self.scores[name])
        score = self._format(self.scores[self.method])
        text = f"{self.method} has {score} {self._place}"
        if best == self.method:
            return f"{text}, the best of {len(self.scores)} methods"
        error = self._format(self.errors[self.method])
        return (
            f"{text}, the simplest of {len(self.scores)} methods within one standard error ({error}) of the "
            f"best, {best}, which has {self._format(self.scores[best])}"
        )

    def _reason_for_sum(self) -> str:
        single = {name: score for name, score in self.scores.items() if name != self.method}
        best = max(single, key=lambda name: single[name])
        members = " + ".join(f"{weight:.2f} {name}" for name, weight in self.weights.items())
        if abs(self.slope) >= SHOWN:
            members = f"(1 {'-' if self.slope < 0 else '+'} {abs(self.slope):.2f} log n) ({members})"
        members += f" - {self.tau:.2f} log prior" if self.tau >= SHOWN else ""
        return (
            f"{members} has {self._format(self.scores[self.method])} {self._place}, with weights found on "
            f"the same images; the best of {len(single)} methods alone, {best}, has "
            f"{self._format(single[best])}"
        )

    @property
    def _place(self) -> str:
        return "on held-out training images" + (f" ({self.validation})" if self.validation else "")

    def to_dict(self) -> dict[str, Any]:
        """Return the choice as JSON-ready values, without predictions."""
        selections = {name: selection.to_dict() for name, selection in self.selections.items()}
        return {**vars(self), "selections": selections}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Choice:
        """Restore a choice from the values of `to_dict`."""
        selections = {
            name: Selection.from_dict(selection) for name, selection in values["selections"].items()
        }
        return cls(**{**values, "selections": selections})

    def _format(self, score: float) -> str:
        return f"NLL {abs(score):.3f}" if self.scorer == "nll" else f"{self.scorer} {100 * score:.1f}"
