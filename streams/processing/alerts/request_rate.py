"""The rule `request_rate`: many events of a user in one hour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from state.vocabulary import VOCABULARY
from streams.processing.alerts.rule import (
    AlertRule,
    CountThresholds,
    JudgedStep,
    JudgedSteps,
    Levels,
    RuleSettings,
    levels_at_least,
)


class RequestRateSettings(RuleSettings):
    request_rate: CountThresholds = (600, 2000)
    """Rule `request_rate`: events in one hour."""


@dataclass(frozen=True, slots=True)
class RequestRate(AlertRule):
    """Events in an hour: those that the published measures count one by one."""

    name: ClassVar = "request_rate"
    slot: ClassVar = 0
    Settings: ClassVar = RequestRateSettings

    events: tuple[int, int] | None

    @classmethod
    def from_settings(cls, settings: RequestRateSettings) -> RequestRate:
        return cls(settings.request_rate)

    def levels(self, steps: JudgedSteps) -> Levels:
        return levels_at_least(steps.total("1h", *VOCABULARY.requests), self.events)

    def evidence(self, step: JudgedStep) -> dict[str, object]:
        return {"events_1h": step.total("1h", *VOCABULARY.requests)}

    def thresholds(self, step: JudgedStep) -> dict[str, object]:
        return {"events_1h": self.events}
