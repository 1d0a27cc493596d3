"""The rule `unusual`: features of a user that the encoder reconstructs badly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from streams.processing.alerts.rule import (
    AlertRule,
    JudgedStep,
    JudgedSteps,
    Levels,
    NumberThresholds,
    RuleSettings,
    levels_at_least,
)


class UnusualSettings(RuleSettings):
    unusual: NumberThresholds = None
    """Rule `unusual`: the encoder's reconstruction error; 1 is exceeded by one row in a hundred."""


@dataclass(frozen=True, slots=True)
class Unusual(AlertRule):
    """Off by default. Without an encoder there is no alert."""

    name: ClassVar = "unusual"
    slot: ClassVar = 3
    Settings: ClassVar = UnusualSettings

    error: tuple[float, float] | None  # in units that one row in a hundred exceeds

    @classmethod
    def from_settings(cls, settings: UnusualSettings) -> Unusual:
        return cls(settings.unusual)

    def levels(self, steps: JudgedSteps) -> Levels:
        if self.error is None or steps.reconstruction_error is None:  # the error is costly
            return steps.quiet()
        return levels_at_least(steps.reconstruction_error, self.error)

    def evidence(self, step: JudgedStep) -> dict[str, object]:
        error = None if self.error is None else step.reconstruction_error
        return {"reconstruction_error": round(error or 0.0, 6)}

    def thresholds(self, step: JudgedStep) -> dict[str, object]:
        return {"reconstruction_error": self.error}
