"""The rule `refund_burst`: many refunds of a user in 24 hours, and many beside the orders of the week."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from streams.processing.alerts.rule import (
    AlertRule,
    CountThresholds,
    JudgedStep,
    JudgedSteps,
    Levels,
    RuleSettings,
    levels_at_least,
)


class RefundBurstSettings(RuleSettings):
    refunds: CountThresholds = (3, 10)
    """Rule `refund_burst`: refunds in 24 hours."""
    refund_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Rule `refund_burst`: smallest share of refunds among refunds and orders of seven days."""


@dataclass(frozen=True, slots=True)
class RefundBurst(AlertRule):
    name: ClassVar = "refund_burst"
    slot: ClassVar = 2
    Settings: ClassVar = RefundBurstSettings

    refunds: tuple[int, int] | None
    share: float

    @classmethod
    def from_settings(cls, settings: RefundBurstSettings) -> RefundBurst:
        return cls(settings.refunds, settings.refund_share)

    def levels(self, steps: JudgedSteps) -> Levels:
        levels = levels_at_least(steps.total("24h", "refunds"), self.refunds)
        if levels.any():
            refunds, orders = steps.total("7d", "refunds"), steps.total("7d", "orders")
            levels[refunds < self.share * (refunds + orders)] = 0
        return levels

    def evidence(self, step: JudgedStep) -> dict[str, object]:
        return {"refunds_24h": step.total("24h", "refunds"), "orders_7d": step.total("7d", "orders")}

    def thresholds(self, step: JudgedStep) -> dict[str, object]:
        return {"refunds_24h": self.refunds, "share_7d": self.share}
